/* cumsum.h: running sums along an axis, and the sum of several tensors: one addition an element, and on int8 one
 * multiplication of 64 bits to bring it to the scale of the output. */
#ifndef EAR_CUMSUM_H
#define EAR_CUMSUM_H

#include "../ear.h"

struct ear_sum {
    int32_t zero_x, multiplier, shift, zero_y; /* shift at most 0 */
};

/* TFLM's 20 more bits without its overflow: sum * 2^19 * multiplier / 2^31, rounded, then / 2^-shift, rounded. */
EAR_KERNEL int8_t ear_sum_narrow(int32_t sum, const struct ear_sum *p) {
    const int64_t high = ((int64_t)sum * p->multiplier + (1 << 11)) >> 12;
    const int64_t half = p->shift ? ((int64_t)1 << (-p->shift - 1)) + (high >> 63) : 0;
    const int64_t y = ((high + half) >> -p->shift) + p->zero_y;
    return (int8_t)(y < -128 ? -128 : y > 127 ? 127 : y);
}

struct ear_cumsum {
    int32_t outer, length, inner;
    int32_t exclusive, reverse;
};

EAR_KERNEL void ear_cumsum(const int8_t *x, int8_t *y, struct ear_cumsum s, struct ear_sum p) {
    for (int32_t i = 0; i < s.outer; ++i)
        for (int32_t j = 0; j < s.inner; ++j) {
            int32_t sum = 0;
            for (int32_t k = 0; k < s.length; ++k) {
                const int32_t at = (i * s.length + (s.reverse ? s.length - 1 - k : k)) * s.inner + j;
                const int32_t value = x[at] - p.zero_x;
                y[at] = ear_sum_narrow(s.exclusive ? sum : sum + value, &p);
                sum += value;
            }
        }
}

EAR_KERNEL void ear_cumsum_int32(const int32_t *x, int32_t *y, struct ear_cumsum s) {
    for (int32_t i = 0; i < s.outer; ++i)
        for (int32_t j = 0; j < s.inner; ++j) {
            uint32_t sum = 0;
            for (int32_t k = 0; k < s.length; ++k) {
                const int32_t at = (i * s.length + (s.reverse ? s.length - 1 - k : k)) * s.inner + j;
                const uint32_t value = (uint32_t)x[at];
                y[at] = (int32_t)(s.exclusive ? sum : sum + value);
                sum += value;
            }
        }
}

EAR_KERNEL void ear_add_n(const int8_t *const *x, int8_t *y, int32_t inputs, int32_t count, struct ear_sum p) {
    for (int32_t i = 0; i < count; ++i) {
        int32_t sum = 0;
        for (int32_t k = 0; k < inputs; ++k)
            sum += x[k][i] - p.zero_x;
        y[i] = ear_sum_narrow(sum, &p);
    }
}

EAR_KERNEL void ear_add_n_int32(const int32_t *const *x, int32_t *y, int32_t inputs, int32_t count) {
    for (int32_t i = 0; i < count; ++i) {
        uint32_t sum = 0;
        for (int32_t k = 0; k < inputs; ++k)
            sum += (uint32_t)x[k][i];
        y[i] = (int32_t)sum;
    }
}

EAR_KERNEL void ear_add_n_float32(const float *const *x, float *y, int32_t inputs, int32_t count) {
    for (int32_t i = 0; i < count; ++i) {
        float sum = x[0][i];
        for (int32_t k = 1; k < inputs; ++k)
            sum += x[k][i];
        y[i] = sum;
    }
}

#endif
