/* normalise.h: rows of int8 brought to length 1, and log-softmax, both in TFLM's fixed point. */
#ifndef EAR_NORMALISE_H
#define EAR_NORMALISE_H

#include "softmax.h"

/* 1 / sqrt(value) as multiplier / 2^31 * 2^*shift, value below 2^29: five Newton steps from 1, about 60 instructions. */
EAR_KERNEL int32_t ear_inverse_length(int32_t value, int32_t *shift) {
    *shift = 0;
    if (value <= 1)
        return INT32_MAX;
    const int32_t pairs = (__builtin_clz((uint32_t)value) - 1) / 2 - 1, right = 11 - pairs;
    const int32_t scaled = (value << (2 * pairs)) >> 1, half = ear_divide_by_power(scaled, 1);
    int32_t x = 1 << 28;
    for (int i = 0; i < 5; ++i) {
        const int32_t cube =
            ear_saturating_left(ear_doubling_high_mul(ear_doubling_high_mul(x, x), x), 6);
        x = ear_saturating_left(ear_doubling_high_mul(x, 3 << 27) - ear_doubling_high_mul(half, cube), 3);
    }
    x = ear_doubling_high_mul(x, 1518500250);
    *shift = right < 0 ? 0 : -right;
    return right < 0 ? ear_shift_left(x, -right) : x;
}

EAR_KERNEL void ear_l2_normalise(const int8_t *x, int8_t *y, int32_t rows, int32_t depth, int32_t zero) {
    for (int32_t row = 0; row < rows; ++row, x += depth, y += depth) {
        int32_t sum = 0, shift;
        for (int32_t i = 0; i < depth; ++i)
            sum += (x[i] - zero) * (x[i] - zero);
        const int32_t multiplier = ear_inverse_length(sum, &shift);
        for (int32_t i = 0; i < depth; ++i)
            y[i] = (int8_t)ear_clamp(ear_requantise(x[i] - zero, multiplier, shift + 7), -128, 127);
    }
}

/* log(x) in Q5 for x >= 1 in Q12: the better of two normal forms, then a rational function around it. */
EAR_KERNEL int32_t ear_log(int32_t x) {
    const int32_t log_2 = 1488522236, root = 1805811301, half_root = 1518500250, quarter = 8388608;
    const int32_t zeros_a = __builtin_clz((uint32_t)x);
    const int32_t scaled_a = ear_saturating_left(x, zeros_a - 1);
    const int32_t a = ear_saturating_left(ear_doubling_high_mul(scaled_a, half_root), 1);
    const int32_t zeros_b = __builtin_clz((uint32_t)ear_doubling_high_mul(x, half_root)) - 1;
    const int32_t b = ear_saturating_left(x, zeros_b);
    const int32_t r = ear_min(a, b);
    const int32_t power = ear_max((12 - zeros_a) * (1 << 25) + quarter, (12 - zeros_b) * (1 << 25) - quarter);
    const int32_t p = (int32_t)(((int64_t)r + root + 1) / 2), q = 2 * (r - root);
    const int32_t square = ear_doubling_high_mul(q, q);
    const int32_t above = ear_doubling_high_mul(q, r) +
                          ear_doubling_high_mul(ear_doubling_high_mul(q, square), 117049297);
    const int32_t below = ear_doubling_high_mul(p, 1057819769 + q + ear_doubling_high_mul(127690142, square)) +
                          ear_doubling_high_mul(638450708, q);
    const int32_t ratio =
        ear_doubling_high_mul(ear_divide_by_power(above, 6), ear_reciprocal_of_one_plus(below));
    return ear_saturating_left(ear_doubling_high_mul(power, log_2) + ratio, 1);
}

struct ear_log_softmax {
    int32_t rows, depth, differences; /* differences: entries of the table of exponentials */
    int32_t multiplier, shift;        /* a difference of 1 in Q5 */
    int32_t divisor, right;           /* and back */
};

EAR_KERNEL void ear_log_softmax(const int8_t *x, int8_t *y, const int32_t *exponentials, struct ear_log_softmax s) {
    for (int32_t row = 0; row < s.rows; ++row, x += s.depth, y += s.depth) {
        int32_t greatest = -128, sum = 0;
        for (int32_t i = 0; i < s.depth; ++i)
            greatest = ear_max(greatest, x[i]);
        for (int32_t i = 0; i < s.depth; ++i)
            if (greatest - x[i] < s.differences)
                sum += ear_divide_by_power(exponentials[greatest - x[i]], 12);
        const int32_t log = ear_log(sum);
        const int32_t least = ear_max(-s.differences, ear_requantise(log + INT32_MIN, s.divisor, s.right));
        for (int32_t i = 0; i < s.depth; ++i) {
            const int32_t difference = x[i] - greatest;
            int32_t value = -128;
            if (difference > least)
                value = ear_divide_by_power(ear_requantise(difference, s.multiplier, s.shift) - log, 22) + 127;
            y[i] = (int8_t)ear_clamp(value, -128, 127);
        }
    }
}

#endif
