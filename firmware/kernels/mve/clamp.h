/* mve/clamp.h: the ends of a requantisation that all kernels for MVE share. */
#ifndef EAR_MVE_CLAMP_H
#define EAR_MVE_CLAMP_H

#include "../../ear.h"

/* Halves move away from zero: one less for negative values, before a rounding that takes them up. */
EAR_KERNEL int32x4_t ear_away(int32x4_t x) {
    return vaddq_s32(x, vshrq_n_s32(x, 31));
}

/* x clamped, in the lowest byte of each lane. */
EAR_KERNEL int32x4_t ear_clamp_4(int32x4_t x, int32_t low, int32_t high) {
    if (low == -128 && high == 127) {
        const int16x8_t halves = vqmovnbq_s32(vreinterpretq_s16_s32(x), x);
        return vreinterpretq_s32_s8(vqmovnbq_s16(vreinterpretq_s8_s16(halves), halves));
    }
    return vminq_s32(vmaxq_s32(x, vdupq_n_s32(low)), vdupq_n_s32(high));
}

#endif
