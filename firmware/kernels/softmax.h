/* softmax.h: softmax over rows, int8 to int8, with TFLM's fixed point; exponentials come from a table. */
#ifndef EAR_SOFTMAX_H
#define EAR_SOFTMAX_H

#include "../ear.h"

struct ear_softmax {
    int32_t rows, depth;
};

/* What a row's exponentials are multiplied by: y = round(round(exponential * scale / 2^31) / 2^down) - 128. */
struct ear_softmax_factor {
    int32_t scale, down;
};

EAR_KERNEL int32_t ear_saturating_left(int32_t x, int32_t bits) {
    const int32_t limit = INT32_MAX >> bits;
    return x > limit ? INT32_MAX : x < -limit - 1 ? INT32_MIN : ear_shift_left(x, bits);
}

/* 1 / (1 + x) in Q0 for x in Q0: three Newton steps on Q2. */
EAR_KERNEL int32_t ear_reciprocal_of_one_plus(int32_t x) {
    const int32_t half = (int32_t)(((int64_t)x + INT32_MAX + 1) >> 1);
    int32_t guess = 1515870810 + ear_doubling_high_mul(half, -1010580540);
    for (int i = 0; i < 3; ++i) {
        const int32_t rest = (1 << 29) - ear_doubling_high_mul(half, guess);
        guess += ear_saturating_left(ear_doubling_high_mul(guess, rest), 2);
    }
    return ear_saturating_left(guess, 1);
}

#if EAR_DSP
#include "dsp/softmax.h"
#elif EAR_MVE
#include "mve/softmax.h"
#else
EAR_KERNEL int32_t ear_greatest(int32_t depth, const int8_t *x) {
    int32_t greatest = -128;
    for (int32_t i = 0; i < depth; ++i)
        greatest = ear_max(greatest, x[i]);
    return greatest;
}

/* Of exponentials rounded / 2^12. */
EAR_KERNEL int32_t ear_softmax_sum(int32_t depth, const int8_t *x, const int32_t *exponentials, int32_t greatest) {
    int32_t sum = 0;
    for (int32_t i = 0; i < depth; ++i)
        sum += ((exponentials[greatest - x[i]] >> 11) + 1) >> 1;
    return sum;
}

EAR_KERNEL void ear_softmax_results(int32_t depth, const int8_t *x, const int32_t *exponentials, int32_t greatest,
                                    struct ear_softmax_factor factor, int8_t *y) {
    const uint32_t half = (uint32_t)1 << (factor.down - 1);
    for (int32_t i = 0; i < depth; ++i) {
        const uint64_t product = (uint64_t)(2 * (uint32_t)factor.scale) * (uint32_t)exponentials[greatest - x[i]];
        const uint32_t high = (uint32_t)((product + ((uint64_t)1 << 31)) >> 32);
        y[i] = (int8_t)ear_min((int32_t)((high + half) >> factor.down) - 128, 127);
    }
}
#endif

/* exponentials: 256, of the differences from the greatest; 4095 of their sum's 2^19 fit. About 24 instructions an
   element: 4 to find the greatest, 6 for the sum, 12 for a result, the rest loops. */
EAR_KERNEL void ear_softmax_row(int32_t depth, const int8_t *x, const int32_t *exponentials, int8_t *y) {
    const int32_t greatest = ear_greatest(depth, x), sum = ear_softmax_sum(depth, x, exponentials, greatest);
    const int32_t headroom = __builtin_clz((uint32_t)sum);
    const int32_t scale = ear_reciprocal_of_one_plus((int32_t)(((uint32_t)sum << headroom) - 0x80000000u));
    const int32_t down = 12 - headroom + 31 - 8; /* 23 at least, as the greatest alone makes the sum 2^19 */
    if (down > 31) /* every result is less than a half */
        memset(y, -128, (size_t)depth);
    else
        ear_softmax_results(depth, x, exponentials, greatest, (struct ear_softmax_factor){ scale, down }, y);
}

/* x, y: (rows, depth), may be the same memory. */
EAR_KERNEL void ear_softmax(struct ear_softmax s, const int8_t *x, const int32_t *exponentials, int8_t *y) {
    for (int32_t i = 0; i < s.rows; ++i)
        ear_softmax_row(s.depth, x + i * s.depth, exponentials, y + i * s.depth);
}

#endif
