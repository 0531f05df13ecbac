/* int16/softmax.h: softmax over rows, int16 to int16, with TFLM's two curves: exp, and 1 / (1 + x). */
#ifndef EAR_INT16_SOFTMAX_H
#define EAR_INT16_SOFTMAX_H

#include "curve.h"

struct ear_softmax_int16 {
    int32_t rows, depth, multiplier, shift; /* the factor brings 10 to 65535 */
};

EAR_KERNEL void ear_softmax_int16_row(struct ear_softmax_int16 s, const int16_t *x, int16_t *y,
                                      const int16_t *exponential, const int16_t *reciprocal) {
    int32_t greatest = INT16_MIN, sum = 0;
    for (int32_t i = 0; i < s.depth; ++i)
        greatest = ear_max(greatest, x[i]);
    for (int32_t i = 0; i < s.depth; ++i) {
        const int32_t scaled = ear_requantise(x[i] - greatest, s.multiplier, s.shift);
        y[i] = (int16_t)ear_curve_at(ear_clamp(ear_max(scaled, -70000) + 32767, INT16_MIN, INT16_MAX), exponential);
        sum += y[i];
    }
    const int32_t headroom = __builtin_clz((uint32_t)sum);
    const int32_t normal = (int32_t)((((uint32_t)sum << (headroom - 1)) + (1u << 13)) >> 14);
    const int32_t inverse = ear_curve_at(ear_clamp(normal - (1 << 15) - (1 << 16), INT16_MIN, INT16_MAX), reciprocal);
    const int32_t right = 31 - headroom;
    for (int32_t i = 0; i < s.depth; ++i)
        y[i] = (int16_t)ear_clamp((y[i] * inverse + ((int32_t)1 << (right - 1))) >> right, 0, INT16_MAX);
}

/* x, y: (rows, depth) */
EAR_KERNEL void ear_softmax_int16(struct ear_softmax_int16 s, const int16_t *x, int16_t *y, const int16_t *exponential,
                                  const int16_t *reciprocal) {
    for (int32_t i = 0; i < s.rows; ++i)
        ear_softmax_int16_row(s, x + i * s.depth, y + i * s.depth, exponential, reciprocal);
}

#endif
