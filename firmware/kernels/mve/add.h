/* mve/add.h: four sums or differences of add.h: 19 instructions, 17 with a ReLU, 4.8 an element.
 * The floor is 3 for four: two loads, one store; the rest is TFLM's three requantisations. */
#ifndef EAR_MVE_ADD_H
#define EAR_MVE_ADD_H

#include "elementwise.h"

/* sum + x on the common scale, where zero is the input's and sum has not yet lost it; see ear_add_more. */
EAR_KERNEL int32x4_t ear_add_input(int32x4_t sum, int32x4_t x, int32_t zero, int32_t multiplier, int32_t shift,
                                   int32_t sign) {
    if (multiplier == 1 << 30 && shift == 0)
        return vmlaq_n_s32(sum, x, sign * (1 << 19));
    const int32x4_t wide = vmlasq_n_s32(x, vdupq_n_s32(1 << 20), -zero * (1 << 20));
    const int32x4_t scaled = ear_scale_4(wide, multiplier, shift, 0, 1);
    return sign > 0 ? vaddq_s32(sum, scaled) : vsubq_s32(sum, scaled);
}

/* What an input of the larger scale takes off the sum for its zero-point. */
EAR_KERNEL int32_t ear_add_more(int32_t zero, int32_t multiplier, int32_t shift, int32_t sign) {
    return multiplier == 1 << 30 && shift == 0 ? -sign * zero * (1 << 19) : 0;
}

EAR_KERNEL int32x4_t ear_add_4(int32x4_t a, int32x4_t b, struct ear_add p) {
    const int32_t sign = p.minus ? -1 : 1;
    const int32_t more = ear_add_more(p.zero_a, p.multiplier_a, p.shift_a, 1) +
                         ear_add_more(p.zero_b, p.multiplier_b, p.shift_b, sign);
    int32x4_t sum = vdupq_n_s32(more);
    sum = ear_add_input(sum, b, p.zero_b, p.multiplier_b, p.shift_b, sign);
    sum = ear_add_input(sum, a, p.zero_a, p.multiplier_a, p.shift_a, 1);
    return ear_clamp_4(ear_scale_4(sum, p.multiplier_y, p.shift_y, p.zero_y, p.low < p.zero_y), p.low, p.high);
}

#endif
