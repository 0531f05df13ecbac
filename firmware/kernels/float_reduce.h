/* float_reduce.h: sums, extremes, running sums and softmax of floats along one axis, element by element in order. */
#ifndef EAR_FLOAT_REDUCE_H
#define EAR_FLOAT_REDUCE_H

#include "float_math.h"

struct ear_axis {
    int32_t outer, count, inner; /* x is (outer, count, inner); count is walked */
};

/* y[o][i] = f(... f(f(x[o][0][i], x[o][1][i]), x[o][2][i]) ...) */
EAR_KERNEL void ear_float_fold(const float *x, float *y, struct ear_axis s, float (*f)(float, float)) {
    for (int32_t o = 0; o < s.outer; ++o, x += s.count * s.inner)
        for (int32_t i = 0; i < s.inner; ++i) {
            float total = x[i];
            EAR_FLOAT_LOOP
            for (int32_t n = 1; n < s.count; ++n)
                total = f(total, x[n * s.inner + i]);
            *y++ = total;
        }
}

EAR_KERNEL float ear_float_plus(float a, float b) {
    return a + b;
}

EAR_KERNEL float ear_float_times(float a, float b) {
    return a * b;
}

EAR_KERNEL float ear_float_greater(float a, float b) {
    return b > a || b != b ? b : a;
}

EAR_KERNEL float ear_float_lesser(float a, float b) {
    return b < a || b != b ? b : a;
}

EAR_KERNEL void ear_float_sum(const float *x, float *y, struct ear_axis s) {
    ear_float_fold(x, y, s, ear_float_plus);
}

EAR_KERNEL void ear_float_mean(const float *x, float *y, struct ear_axis s) {
    ear_float_fold(x, y, s, ear_float_plus);
    EAR_FLOAT_LOOP
    for (int32_t i = 0; i < s.outer * s.inner; ++i)
        y[i] = y[i] / (float)s.count;
}

EAR_KERNEL void ear_float_reduce_prod(const float *x, float *y, struct ear_axis s) {
    ear_float_fold(x, y, s, ear_float_times);
}

EAR_KERNEL void ear_float_reduce_max(const float *x, float *y, struct ear_axis s) {
    ear_float_fold(x, y, s, ear_float_greater);
}

EAR_KERNEL void ear_float_reduce_min(const float *x, float *y, struct ear_axis s) {
    ear_float_fold(x, y, s, ear_float_lesser);
}

EAR_KERNEL void ear_float_cumsum(const float *x, float *y, struct ear_axis s, int32_t reverse, int32_t exclusive) {
    for (int32_t o = 0; o < s.outer; ++o, x += s.count * s.inner, y += s.count * s.inner)
        for (int32_t i = 0; i < s.inner; ++i) {
            float total = 0.0f;
            EAR_FLOAT_LOOP
            for (int32_t n = 0; n < s.count; ++n) {
                const int32_t at = (reverse ? s.count - 1 - n : n) * s.inner + i;
                const float next = n ? total + x[at] : x[at];
                y[at] = exclusive ? total : next;
                total = next;
            }
        }
}

EAR_KERNEL float ear_float_greatest(const float *x, int32_t count) {
    float greatest = x[0];
    EAR_FLOAT_LOOP
    for (int32_t i = 1; i < count; ++i)
        greatest = ear_float_greater(greatest, x[i]);
    return greatest;
}

/* Along the last axis; x and y may be the same memory. */
EAR_KERNEL void ear_float_softmax(const float *x, float *y, struct ear_axis s, float beta) {
    for (int32_t o = 0; o < s.outer; ++o, x += s.count, y += s.count) {
        const float greatest = ear_float_greatest(x, s.count);
        float sum = 0.0f;
        EAR_FLOAT_LOOP
        for (int32_t i = 0; i < s.count; ++i) {
            y[i] = ear_float_exp((x[i] - greatest) * beta);
            sum += y[i];
        }
        EAR_FLOAT_LOOP
        for (int32_t i = 0; i < s.count; ++i)
            y[i] = y[i] / sum;
    }
}

EAR_KERNEL void ear_float_log_softmax(const float *x, float *y, struct ear_axis s) {
    for (int32_t o = 0; o < s.outer; ++o, x += s.count, y += s.count) {
        const float greatest = ear_float_greatest(x, s.count);
        float sum = 0.0f;
        EAR_FLOAT_LOOP
        for (int32_t i = 0; i < s.count; ++i)
            sum += ear_float_exp(x[i] - greatest);
        const float log = ear_float_log(sum);
        EAR_FLOAT_LOOP
        for (int32_t i = 0; i < s.count; ++i)
            y[i] = (x[i] - greatest) - log;
    }
}

EAR_KERNEL void ear_float_l2_normalization(const float *x, float *y, struct ear_axis s) {
    for (int32_t o = 0; o < s.outer; ++o, x += s.count, y += s.count) {
        float sum = 0.0f;
        EAR_FLOAT_LOOP
        for (int32_t i = 0; i < s.count; ++i)
            sum += x[i] * x[i];
        const float norm = ear_float_sqrt(sum);
        EAR_FLOAT_LOOP
        for (int32_t i = 0; i < s.count; ++i)
            y[i] = x[i] / (norm < 1e-6f ? 1e-6f : norm);
    }
}

#endif
