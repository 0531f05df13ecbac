/* int16/sigmoid.h: logistic and tanh of int16, by straight lines between 256 points of the logistic function. */
#ifndef EAR_INT16_SIGMOID_H
#define EAR_INT16_SIGMOID_H

#include "../../ear.h"

struct ear_sigmoid {
    int32_t multiplier, shift; /* bring x to steps of 1 / 12288, rounded */
    int32_t hyperbolic;        /* 1: tanh */
};

/* 65536 / (1 + exp(-x)) with `fraction` more bits, for x >= 0; points are 2^fraction steps apart. */
EAR_KERNEL int32_t ear_sigmoid_at(uint32_t x, int32_t fraction, const uint16_t *points) {
    const uint32_t point = x >> fraction;
    const uint32_t a = points[point], b = points[point + 1];
    return (int32_t)((a << fraction) + (x & ((1u << fraction) - 1)) * (b - a));
}

EAR_KERNEL int32_t ear_tanh_int16(int32_t x, const uint16_t *points) {
    const uint32_t magnitude = (uint32_t)(x < 0 ? -x : x);
    const int32_t twice = magnitude >> 8 >= 255 ? 0xFFFF << 8 : ear_sigmoid_at(magnitude, 8, points);
    const int32_t y = x >= 0 ? twice - (1 << 23) + (1 << 7) : (1 << 23) - twice + (1 << 7) - 1;
    return y >> 8;
}

EAR_KERNEL int32_t ear_logistic_int16(int32_t x, const uint16_t *points) {
    const uint32_t magnitude = (uint32_t)(x < 0 ? -x : x);
    const int32_t half = magnitude >> 9 >= 255 ? 0x7FFF << 10 : ear_sigmoid_at(magnitude, 9, points);
    return (x >= 0 ? half + (1 << 9) : (1 << 25) - half + (1 << 9) - 1) >> 10;
}

EAR_KERNEL void ear_sigmoid(const int16_t *x, int16_t *y, int32_t count, struct ear_sigmoid p,
                            const uint16_t *points) {
    const int32_t half = p.shift > 0 ? (int32_t)1 << (p.shift - 1) : 0;
    for (int32_t i = 0; i < count; ++i) {
        const int32_t at = (x[i] * p.multiplier + half) >> p.shift;
        y[i] = (int16_t)(p.hyperbolic ? ear_tanh_int16(at, points) : ear_logistic_int16(at, points));
    }
}

#endif
