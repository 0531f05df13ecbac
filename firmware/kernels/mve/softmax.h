/* mve/softmax.h: a row of softmax.h on cores with MVE: 14 instructions for four elements, 3.5 each: 6 for the sum, 8
 * for the results; and about 110 for a row's reciprocal. What limits it are two gathers of four exponentials. */
#ifndef EAR_MVE_SOFTMAX_H
#define EAR_MVE_SOFTMAX_H

#include "clamp.h"

EAR_KERNEL int32_t ear_greatest(int32_t depth, const int8_t *x) {
    int8_t greatest = -128;
    EAR_ROLLED
    for (int32_t i = 0; i < depth; i += 16) {
        const mve_pred16_t some = vctp8q((uint32_t)(depth - i));
        greatest = vmaxvq_p_s8(greatest, vldrbq_z_s8(x + i, some), some);
    }
    return greatest;
}

/* The exponentials of four values, of fewer with zeros for those that are not there. */
EAR_KERNEL int32x4_t ear_exponentials_4(const int8_t *x, const int32_t *exponentials, int32x4_t greatest) {
    const uint32x4_t index = (uint32x4_t)vsubq_s32(greatest, vldrbq_s32(x));
    return vldrwq_gather_shifted_offset_s32(exponentials, index);
}

EAR_KERNEL int32x4_t ear_exponentials_some(const int8_t *x, const int32_t *exponentials, int32x4_t greatest,
                                           mve_pred16_t some) {
    const uint32x4_t index = (uint32x4_t)vsubq_s32(greatest, vldrbq_z_s32(x, some));
    return vldrwq_gather_shifted_offset_z_s32(exponentials, index, some);
}

EAR_KERNEL int32_t ear_softmax_sum(int32_t depth, const int8_t *x, const int32_t *exponentials, int32_t greatest) {
    const int32x4_t top = vdupq_n_s32(greatest);
    const int32_t whole = depth & ~3;
    int32_t sum = 0;
    for (int32_t i = 0; i < whole; i += 4)
        sum = vaddvaq_s32(sum, vrshrq_n_s32(ear_exponentials_4(x + i, exponentials, top), 12));
    if (whole < depth) {
        const mve_pred16_t some = vctp32q((uint32_t)(depth - whole));
        sum = vaddvaq_s32(sum, vrshrq_n_s32(ear_exponentials_some(x + whole, exponentials, top, some), 12));
    }
    return sum;
}

EAR_KERNEL int32x4_t ear_softmax_4(int32x4_t exponentials, struct ear_softmax_factor factor) {
    const int32x4_t high = vqrdmulhq_n_s32(exponentials, factor.scale), power = vdupq_n_s32(1 << (31 - factor.down));
    return vminq_s32(vqrdmlashq_n_s32(high, power, -128), vdupq_n_s32(127));
}

EAR_KERNEL void ear_softmax_results(int32_t depth, const int8_t *x, const int32_t *exponentials, int32_t greatest,
                                    struct ear_softmax_factor factor, int8_t *y) {
    const int32x4_t top = vdupq_n_s32(greatest);
    const int32_t whole = depth & ~3;
    for (int32_t i = 0; i < whole; i += 4)
        vstrbq_s32(y + i, ear_softmax_4(ear_exponentials_4(x + i, exponentials, top), factor));
    if (whole < depth) {
        const mve_pred16_t some = vctp32q((uint32_t)(depth - whole));
        const int32x4_t last = ear_exponentials_some(x + whole, exponentials, top, some);
        vstrbq_p_s32(y + whole, ear_softmax_4(last, factor), some);
    }
}

#endif
