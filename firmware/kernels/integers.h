/* integers.h: arithmetic of int32 values without a scale: indices and counters; sums and products wrap. */
#ifndef EAR_INTEGERS_H
#define EAR_INTEGERS_H

#include "broadcast.h"

enum ear_integer_op { EAR_ADD, EAR_SUB, EAR_MUL, EAR_MAXIMUM, EAR_MINIMUM };

struct ear_integers {
    enum ear_integer_op op;
    int32_t low, high;
};

EAR_KERNEL int32_t ear_integer_element(int32_t a, int32_t b, const struct ear_integers *p) {
    switch (p->op) {
    case EAR_ADD:
        return ear_clamp((int32_t)((uint32_t)a + (uint32_t)b), p->low, p->high);
    case EAR_SUB:
        return ear_clamp((int32_t)((uint32_t)a - (uint32_t)b), p->low, p->high);
    case EAR_MUL:
        return ear_clamp((int32_t)((uint32_t)a * (uint32_t)b), p->low, p->high);
    case EAR_MAXIMUM:
        return ear_max(a, b);
    default:
        return ear_min(a, b);
    }
}

EAR_KERNEL void ear_integers(const int32_t *a, const int32_t *b, int32_t *y, struct ear_broadcast s,
                             struct ear_integers p) {
    EAR_BROADCAST_OF(int32_t, s, a, b, y, ear_integer_element, p);
}

#endif
