/* integers.h: arithmetic of int32 values without a scale: indices and counters; sums and products wrap. */
#ifndef EAR_INTEGERS_H
#define EAR_INTEGERS_H

#include "broadcast.h"

enum ear_integer_op { EAR_ADD, EAR_SUB, EAR_MUL, EAR_MAXIMUM, EAR_MINIMUM };

EAR_KERNEL int32_t ear_integer_element(int32_t a, int32_t b, const enum ear_integer_op *op) {
    switch (*op) {
    case EAR_ADD:
        return (int32_t)((uint32_t)a + (uint32_t)b);
    case EAR_SUB:
        return (int32_t)((uint32_t)a - (uint32_t)b);
    case EAR_MUL:
        return (int32_t)((uint32_t)a * (uint32_t)b);
    case EAR_MAXIMUM:
        return ear_max(a, b);
    default:
        return ear_min(a, b);
    }
}

EAR_KERNEL void ear_integers(const int32_t *a, const int32_t *b, int32_t *y, struct ear_broadcast s,
                             enum ear_integer_op op) {
    EAR_BROADCAST_OF(int32_t, s, a, b, y, ear_integer_element, op);
}

#endif
