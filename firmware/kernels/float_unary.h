/* float_unary.h: functions of one float, element by element. About 30 operations each, calls without an FPU. */
#ifndef EAR_FLOAT_UNARY_H
#define EAR_FLOAT_UNARY_H

#include "float_math.h"

EAR_KERNEL float ear_map_abs(float x, float a) {
    (void)a;
    return ear_float_abs(x);
}

EAR_KERNEL float ear_map_floor(float x, float a) {
    (void)a;
    if (!(ear_float_abs(x) < 8388608.0f))
        return x;
    const float whole = (float)(int32_t)x;
    return whole > x ? whole - 1.0f : whole;
}

EAR_KERNEL float ear_map_ceil(float x, float a) {
    return ear_float_abs(x) < 8388608.0f ? -ear_map_floor(-x, a) : x;
}

EAR_KERNEL float ear_map_round(float x, float a) {
    (void)a;
    if (!(ear_float_abs(x) < 8388608.0f))
        return x;
    const float size = (ear_float_abs(x) + 8388608.0f) - 8388608.0f;
    return x < 0.0f ? -size : size;
}

EAR_KERNEL float ear_map_exp(float x, float a) {
    (void)a;
    return ear_float_exp(x);
}

EAR_KERNEL float ear_map_log(float x, float a) {
    (void)a;
    return ear_float_log(x);
}

EAR_KERNEL float ear_map_sin(float x, float a) {
    (void)a;
    return ear_float_sine(x, 0);
}

EAR_KERNEL float ear_map_cos(float x, float a) {
    (void)a;
    return ear_float_sine(x, 1);
}

EAR_KERNEL float ear_map_tanh(float x, float a) {
    (void)a;
    return ear_float_tanh(x);
}

EAR_KERNEL float ear_map_logistic(float x, float a) {
    (void)a;
    return ear_float_logistic(x);
}

EAR_KERNEL float ear_map_sqrt(float x, float a) {
    (void)a;
    return ear_float_sqrt(x);
}

EAR_KERNEL float ear_map_rsqrt(float x, float a) {
    (void)a;
    return 1.0f / ear_float_sqrt(x);
}

EAR_KERNEL float ear_map_square(float x, float a) {
    (void)a;
    return x * x;
}

EAR_KERNEL float ear_map_neg(float x, float a) {
    (void)a;
    return -x;
}

EAR_KERNEL float ear_map_relu(float x, float a) {
    (void)a;
    return ear_float_clamp(x, 0.0f, EAR_INFINITY);
}

EAR_KERNEL float ear_map_relu6(float x, float a) {
    (void)a;
    return ear_float_clamp(x, 0.0f, 6.0f);
}

EAR_KERNEL float ear_map_relu_0_to_1(float x, float a) {
    (void)a;
    return ear_float_clamp(x, 0.0f, 1.0f);
}

EAR_KERNEL float ear_map_relu_n1_to_1(float x, float a) {
    (void)a;
    return ear_float_clamp(x, -1.0f, 1.0f);
}

EAR_KERNEL float ear_map_leaky_relu(float x, float a) {
    return x < 0.0f ? x * a : x;
}

EAR_KERNEL float ear_map_elu(float x, float a) {
    (void)a;
    return x < 0.0f ? ear_float_exp(x) - 1.0f : x;
}

EAR_KERNEL float ear_map_hard_swish(float x, float a) {
    (void)a;
    return (x * ear_float_clamp(x + 3.0f, 0.0f, 6.0f)) / 6.0f;
}

EAR_KERNEL float ear_map_gelu(float x, float a) {
    (void)a;
    return (0.5f * x) * (1.0f + ear_float_erf(x * 0.707106781f));
}

EAR_KERNEL float ear_map_gelu_tanh(float x, float a) {
    (void)a;
    return (0.5f * x) * (1.0f + ear_float_tanh(0.797884561f * (x + 0.044715f * ((x * x) * x))));
}

/* y = f(x, a), may be the same memory */
EAR_KERNEL void ear_float_unary(const float *x, float *y, int32_t count, float (*f)(float, float), float a) {
    EAR_FLOAT_LOOP
    for (int32_t i = 0; i < count; ++i)
        y[i] = f(x[i], a);
}

#endif
