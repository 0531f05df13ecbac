/* mul.h: y = a * b, requantised. */
#ifndef EAR_MUL_H
#define EAR_MUL_H

#include "broadcast.h"

struct ear_mul {
    int32_t zero_a, zero_b, zero_y, multiplier, shift, low, high;
    int32_t width; /* bytes of a value */
};

EAR_KERNEL int32_t ear_mul_element(int32_t a, int32_t b, const struct ear_mul *p) {
    const int32_t product = (a - p->zero_a) * (b - p->zero_b);
    if (p->width == 2) /* a product may be 2^30, too large for ear_scale */
        return ear_clamp(ear_requantise(product, p->multiplier, p->shift), p->low, p->high);
    return ear_narrow(ear_scale(product, p->multiplier, p->shift) + p->zero_y, p->low, p->high);
}

#if EAR_MVE
#include "mve/mul.h"
#endif

EAR_KERNEL void ear_mul(const void *a, const void *b, void *y, struct ear_broadcast s, struct ear_mul p) {
#if EAR_MVE
    if (p.width == 1 && p.shift <= 0) {
        EAR_BROADCAST_4(s, (const int8_t *)a, (const int8_t *)b, (int8_t *)y, ear_mul_4, p);
        return;
    }
#endif
    EAR_BROADCAST_WIDTH(p.width, s, a, b, y, ear_mul_element, p);
}

#endif
