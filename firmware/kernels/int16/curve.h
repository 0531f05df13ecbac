/* int16/curve.h: a function of int16 as 513 points, 128 steps apart, with straight lines between them. */
#ifndef EAR_INT16_CURVE_H
#define EAR_INT16_CURVE_H

#include "../../ear.h"

EAR_KERNEL int32_t ear_curve_at(int32_t x, const int16_t *points) {
    const int16_t *const point = points + 256 + (x >> 7);
    const int32_t slope = (int16_t)(point[1] - point[0]); /* wraps, as TFLM's does */
    return (int16_t)(point[0] + ((slope * (x & 127) + 64) >> 7));
}

EAR_KERNEL void ear_curve(const int16_t *x, int16_t *y, int32_t count, const int16_t *points) {
    for (int32_t i = 0; i < count; ++i)
        y[i] = (int16_t)ear_curve_at(x[i], points);
}

#endif
