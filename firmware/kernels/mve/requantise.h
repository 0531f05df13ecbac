/* mve/requantise.h: sums to int8, four at a time, with TFLM's double rounding. */
#ifndef EAR_MVE_REQUANTISE_H
#define EAR_MVE_REQUANTISE_H

#include "../matmul.h"
#include "clamp.h"

/* sum * multiplier / 2^31 / 2^right + zero. narrow: power holds 2^(31 - right), so that one multiplication shifts,
 * rounds and adds; halves below zero vanish below a ReLU. Otherwise power holds the shift to the left, -31..31. */
EAR_KERNEL int32x4_t ear_scaled_4(struct ear_output out, int32x4_t sum, int32x4_t multiplier, int32x4_t power) {
    if (out.narrow) {
        const int32x4_t high = vqrdmulhq_s32(sum, multiplier);
        return vqrdmlashq_n_s32(out.low < out.zero ? ear_away(high) : high, power, out.zero);
    }
    const int32x4_t none = vdupq_n_s32(0), left = vmaxq_s32(power, none), right = vminq_s32(power, none);
    const int32x4_t high = vqrdmulhq_s32(vshlq_s32(sum, left), multiplier);
    const int32x4_t negative = vshrq_n_s32(vandq_s32(high, right), 31);
    return vaddq_n_s32(vrshlq_s32(vqaddq_s32(high, negative), right), out.zero);
}

#endif
