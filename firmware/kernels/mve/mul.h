/* mve/mul.h: four products of mul.h: 13 instructions, 3.3 an element; the floor is 3 for four: two loads, one store. */
#ifndef EAR_MVE_MUL_H
#define EAR_MVE_MUL_H

#include "elementwise.h"

EAR_KERNEL int32x4_t ear_mul_4(int32x4_t a, int32x4_t b, struct ear_mul p) {
    const int32x4_t product = vmulq_s32(vsubq_n_s32(a, p.zero_a), vsubq_n_s32(b, p.zero_b));
    return ear_clamp_4(ear_scale_4(product, p.multiplier, p.shift, p.zero_y, p.low < p.zero_y), p.low, p.high);
}

#endif
