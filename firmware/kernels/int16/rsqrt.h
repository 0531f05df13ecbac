/* int16/rsqrt.h: 1 / sqrt(x) of int16 by five Newton steps, as TFLM takes them; the greatest value for x <= 0. */
#ifndef EAR_INT16_RSQRT_H
#define EAR_INT16_RSQRT_H

#include "../../ear.h"

EAR_KERNEL int32_t ear_left_saturated(int32_t x, int32_t bits) {
    const int64_t wide = (int64_t)x * ((int64_t)1 << bits);
    return (int32_t)(wide < INT32_MIN ? INT32_MIN : wide > INT32_MAX ? INT32_MAX : wide);
}

/* 1 / sqrt(value) with 20 bits after the point, for value > 0. */
EAR_KERNEL int32_t ear_inverse_sqrt(int32_t value) {
    if (value == 1)
        return ear_requantise(1, INT32_MAX, 20);
    const int32_t pairs = (__builtin_clz((uint32_t)value) - 1) / 2 - 1, shift = 11 - pairs;
    const int32_t half = ear_divide_by_power(ear_shift_left(value, 2 * pairs - 1), 1);
    int32_t x = 1 << 28;
    for (int32_t i = 0; i < 5; ++i) {
        const int32_t cube = ear_left_saturated(ear_doubling_high_mul(ear_doubling_high_mul(x, x), x), 6);
        x = ear_left_saturated(ear_doubling_high_mul(x, 3 << 27) - ear_doubling_high_mul(half, cube), 3);
    }
    x = ear_doubling_high_mul(x, 1518500250);
    return ear_requantise(1, ear_shift_left(x, ear_max(-shift, 0)), ear_min(-shift, 0) + 20);
}

EAR_KERNEL void ear_rsqrt(const int16_t *x, int16_t *y, int32_t count, int32_t multiplier, int32_t shift) {
    for (int32_t i = 0; i < count; ++i) {
        int32_t value = INT16_MAX;
        if (x[i] > 0)
            value = ear_requantise(ear_inverse_sqrt(x[i]), multiplier, shift);
        y[i] = (int16_t)ear_clamp(value, INT16_MIN, INT16_MAX);
    }
}

#endif
