/* mul.h: y = a * b on int8, requantised. */
#ifndef EAR_MUL_H
#define EAR_MUL_H

#include "broadcast.h"

struct ear_mul {
    int32_t zero_a, zero_b, zero_y, multiplier, shift, low, high;
};

EAR_KERNEL int32_t ear_mul_element(int32_t a, int32_t b, const struct ear_mul *p) {
    const int32_t product = (a - p->zero_a) * (b - p->zero_b);
    return ear_narrow(ear_scale(product, p->multiplier, p->shift) + p->zero_y, p->low, p->high);
}

EAR_KERNEL void ear_mul(const int8_t *a, const int8_t *b, int8_t *y, struct ear_broadcast s, struct ear_mul p) {
    EAR_BROADCAST(s, a, b, y, ear_mul_element, p);
}

#endif
