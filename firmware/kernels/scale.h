/* scale.h: requantise with a factor known when compiling, for values below 2^30, and narrow to int8. */
#ifndef EAR_SCALE_H
#define EAR_SCALE_H

#include "../ear.h"
#if EAR_SCALAR
#include "scalar/product.h"
#endif

/* round(2 * x * multiplier / 2^32), halves up */
EAR_KERNEL int32_t ear_scale_high(int32_t x, int32_t multiplier) {
    const int32_t twice = 2 * x;
#if EAR_DSP
    int32_t high;
    __asm("smmulr %0, %1, %2" : "=r"(high) : "r"(twice), "r"(multiplier));
    return high;
#elif EAR_SCALAR
    return ear_high_product(twice, multiplier);
#else
    return (int32_t)(((int64_t)twice * multiplier + ((int64_t)1 << 31)) >> 32);
#endif
}

/* Equals ear_requantise(x, multiplier, shift) for |x| < 2^30; four instructions on cores with SMMULR. */
EAR_KERNEL int32_t ear_scale(int32_t x, int32_t multiplier, int32_t shift) {
    if (shift > 0)
        return ear_requantise(x, multiplier, shift);
    const int32_t high = ear_scale_high(x, multiplier);
    return shift == 0 ? high : (high + ((int32_t)1 << (-shift - 1)) + (high >> 31)) >> -shift;
}

EAR_KERNEL int32_t ear_narrow(int32_t x, int32_t low, int32_t high) {
#if EAR_DSP
    if (low == -128 && high == 127) {
        int32_t narrow;
        __asm("ssat %0, #8, %1" : "=r"(narrow) : "r"(x) : "cc");
        return narrow;
    }
#endif
    return ear_clamp(x, low, high);
}

#endif
