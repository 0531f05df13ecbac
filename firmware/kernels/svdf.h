/* svdf.h: a layer that keeps the last answers of each filter and weighs them over time, rank by rank. */
#ifndef EAR_SVDF_H
#define EAR_SVDF_H

#include "ear.h"

struct ear_svdf {
    int32_t batches, inputs, units, rank, memory;
    int32_t feature_multiplier, feature_shift, state_zero, low, high; /* of what enters the memory */
    int32_t multiplier, shift, zero;                                  /* of the output */
};

/* The product of an input with the weights of a filter, as it enters the memory; the multiplication of bytes costs
 * what ear_dot costs: this is where the time goes. */
EAR_KERNEL int32_t ear_svdf_feature(struct ear_svdf s, const int8_t *x, const int8_t *weights, int32_t bias) {
    int32_t sum = bias;
    for (int32_t i = 0; i < s.inputs; ++i)
        sum += x[i] * weights[i];
    return ear_clamp(ear_requantise(sum, s.feature_multiplier, s.feature_shift), s.low, s.high) + s.state_zero;
}

/* The sum of a unit's filters, requantised; sums wrap at 32 bits. */
EAR_KERNEL int8_t ear_svdf_answer(struct ear_svdf s, uint32_t sum) {
    return (int8_t)ear_clamp(ear_requantise((int32_t)sum, s.multiplier, s.shift) + s.zero, -128, 127);
}

/* x: (batches, inputs); features: rows of inputs; past and next: (batches, units * rank, memory), may be one memory;
 * feature_bias, a value a filter, and bias, a value a unit: the zero-points folded in; y: (batches, units). */
#define EAR_SVDF(name, type)                                                                                           \
    EAR_KERNEL void name(struct ear_svdf s, const int8_t *x, const int8_t *features, const int32_t *feature_bias,      \
                         const type *weights, const int32_t *bias, const type *past, type *next, int8_t *y) {          \
        const int32_t filters = s.units * s.rank, count = s.batches * filters * s.memory;                              \
        memmove(next, past + 1, (size_t)(count - 1) * sizeof *next);                                                   \
        for (int32_t batch = 0; batch < s.batches; ++batch, x += s.inputs, y += s.units)                               \
            for (int32_t unit = 0; unit < s.units; ++unit) {                                                           \
                uint32_t sum = (uint32_t)bias[unit];                                                                   \
                for (int32_t filter = unit * s.rank; filter < (unit + 1) * s.rank; ++filter, next += s.memory) {       \
                    next[s.memory - 1] =                                                                               \
                        (type)ear_svdf_feature(s, x, features + filter * s.inputs, feature_bias[filter]);              \
                    for (int32_t i = 0; i < s.memory; ++i)                                                             \
                        sum += (uint32_t)(next[i] * weights[filter * s.memory + i]);                                   \
                }                                                                                                      \
                y[unit] = ear_svdf_answer(s, sum);                                                                     \
            }                                                                                                          \
    }

EAR_SVDF(ear_svdf_int16, int16_t)
EAR_SVDF(ear_svdf_int8, int8_t)

#endif
