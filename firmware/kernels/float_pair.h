/* float_pair.h: y = f(a, b) on floats of which either may repeat, clamped. Two loads, f and a store an element. */
#ifndef EAR_FLOAT_PAIR_H
#define EAR_FLOAT_PAIR_H

#include "broadcast.h"
#include "float_math.h"

EAR_KERNEL float ear_float_add(float a, float b) {
    return a + b;
}

EAR_KERNEL float ear_float_sub(float a, float b) {
    return a - b;
}

EAR_KERNEL float ear_float_mul(float a, float b) {
    return a * b;
}

EAR_KERNEL float ear_float_div(float a, float b) {
    return a / b;
}

EAR_KERNEL float ear_float_floor_div(float a, float b) {
    const float ratio = a / b;
    if (!(ear_float_abs(ratio) < 8388608.0f))
        return ratio;
    const float whole = (float)(int32_t)ratio;
    return whole > ratio ? whole - 1.0f : whole;
}

EAR_KERNEL float ear_float_maximum(float a, float b) {
    return a > b ? a : b;
}

EAR_KERNEL float ear_float_minimum(float a, float b) {
    return a < b ? a : b;
}

EAR_KERNEL float ear_float_squared_difference(float a, float b) {
    return (a - b) * (a - b);
}

EAR_KERNEL float ear_float_prelu(float a, float b) {
    return a < 0.0f ? a * b : a;
}

EAR_KERNEL float ear_float_pow(float a, float b) {
    const float size = ear_float_abs(b);
    if (!(size <= 8.0f) || (float)(int32_t)b != b)
        return ear_float_exp(b * ear_float_log(a));
    float result = 1.0f;
    for (int32_t step = 0; step < (int32_t)size; ++step)
        result = result * a;
    return b < 0.0f ? 1.0f / result : result;
}

EAR_KERNEL void ear_float_pair(const float *a, const float *b, float *y, struct ear_broadcast s,
                               float (*f)(float, float), float low, float high) {
    for (int32_t i = 0; i < s.size[0]; ++i)
        for (int32_t j = 0; j < s.size[1]; ++j)
            for (int32_t k = 0; k < s.size[2]; ++k)
                for (int32_t l = 0; l < s.size[3]; ++l) {
                    const float *a_row = a + i * s.a[0] + j * s.a[1] + k * s.a[2] + l * s.a[3];
                    const float *b_row = b + i * s.b[0] + j * s.b[1] + k * s.b[2] + l * s.b[3];
                    EAR_FLOAT_LOOP
                    for (int32_t n = 0; n < s.size[4]; ++n)
                        *y++ = ear_float_clamp(f(a_row[n * s.a[4]], b_row[n * s.b[4]]), low, high);
                }
}

#endif
