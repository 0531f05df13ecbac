/* dsp/softmax.h: a row of softmax.h on cores with SMMLAR: 14 instructions an element: 1 to find the greatest, 4.5
 * for the sum, 8.5 for a result. */
#ifndef EAR_DSP_SOFTMAX_H
#define EAR_DSP_SOFTMAX_H

#include "../scale.h"

/* more + round(a * b / 2^32) */
EAR_KERNEL int32_t ear_high_add(int32_t a, int32_t b, int32_t more) {
    int32_t made;
    __asm("smmlar %0, %1, %2, %3" : "=r"(made) : "r"(a), "r"(b), "r"(more));
    return made;
}

EAR_KERNEL int32_t ear_greatest(int32_t depth, const int8_t *x) {
    uint32_t four = 0x80808080u;
    int32_t greatest = -128, i = 0;
    for (; i + 4 <= depth; i += 4) {
        uint32_t next, difference;
        memcpy(&next, x + i, 4);
        __asm volatile("ssub8 %[d], %[four], %[next]\n"
                       "sel %[four], %[four], %[next]\n"
                       : [four] "+r"(four), [d] "=&r"(difference)
                       : [next] "r"(next));
    }
    for (; i < depth; ++i)
        greatest = ear_max(greatest, x[i]);
    for (int32_t bits = 0; bits < 32; bits += 8)
        greatest = ear_max(greatest, (int8_t)(four >> bits));
    return greatest;
}

/* Of exponentials rounded / 2^12. */
EAR_KERNEL int32_t ear_softmax_sum(int32_t depth, const int8_t *x, const int32_t *exponentials, int32_t greatest) {
    int32_t sum = 0;
    EAR_BY_FOUR
    for (int32_t i = 0; i < depth; ++i)
        sum = ear_high_add(exponentials[greatest - x[i]], 1 << 20, sum);
    return sum;
}

/* Twice a scale of 2^30 or more, less 2^32, is a factor of 32 bits; the rest is an addition. */
EAR_KERNEL void ear_softmax_results(int32_t depth, const int8_t *x, const int32_t *exponentials, int32_t greatest,
                                    struct ear_softmax_factor factor, int8_t *y) {
    const int32_t twice = (int32_t)(2 * (uint32_t)factor.scale);
    const int32_t power = ear_shift_left(1, 32 - factor.down);
    EAR_BY_FOUR
    for (int32_t i = 0; i < depth; ++i) {
        const int32_t exponential = exponentials[greatest - x[i]];
        const int32_t high = ear_high_add(exponential, twice, exponential & twice >> 31);
        const int32_t result = ear_high_add(high, power, -128);
        y[i] = (int8_t)ear_narrow(result, -128, 127);
    }
}

#endif
