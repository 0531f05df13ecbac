/* float_math.h: float functions from plain operations only, so that every core and numpy give the same bits. */
#ifndef EAR_FLOAT_MATH_H
#define EAR_FLOAT_MATH_H

#include "../ear.h"

/* No fused multiply-add: one core has it, another has not. gcc has it off with -std=c11. */
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#endif

/* Before a loop over floats: Helium flushes the smallest numbers to zero, the scalar unit does not. */
#if EAR_MVE && defined(__clang__)
#define EAR_FLOAT_LOOP _Pragma("clang loop vectorize(disable)")
#else
#define EAR_FLOAT_LOOP
#endif

#define EAR_ROUNDER 12582912.0f /* 1.5 * 2^23: x + it - it is x rounded to the nearest integer, |x| < 2^22 */

EAR_KERNEL uint32_t ear_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return bits;
}

EAR_KERNEL float ear_of_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

EAR_KERNEL float ear_float_abs(float x) {
    return ear_of_bits(ear_bits(x) & 0x7FFFFFFFu);
}

/* low where x is not above it, a NaN stays */
EAR_KERNEL float ear_float_clamp(float x, float low, float high) {
    x = x < low ? low : x;
    return x > high ? high : x;
}

/* 2^k for k in -126..127 */
EAR_KERNEL float ear_power_of_two(int32_t k) {
    return ear_of_bits((uint32_t)(k + 127) << 23);
}

/* Cephes: exp(r) for |r| <= ln(2) / 2, times 2^k in two steps that cannot overflow early. 21 operations. */
EAR_KERNEL float ear_float_exp(float x) {
    if (x != x)
        return x;
    const float near = ear_float_clamp(x, -104.0f, 89.0f);
    const float k = (near * 1.44269504f + EAR_ROUNDER) - EAR_ROUNDER;
    const float r = (near - k * 0.693359375f) - k * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    const float y = (p * (r * r) + r) + 1.0f;
    const int32_t whole = (int32_t)k, half = whole >> 1;
    return (y * ear_power_of_two(half)) * ear_power_of_two(whole - half);
}

/* Cephes: log(m) for m in [sqrt(1/2), sqrt(2)) plus e log(2). 25 operations. */
EAR_KERNEL float ear_float_log(float x) {
    if (!(x > 0.0f))
        return x == 0.0f ? -EAR_INFINITY : EAR_NAN;
    if (x == EAR_INFINITY)
        return x;
    const int small = x < 1.17549435e-38f;
    const uint32_t bits = ear_bits(small ? x * 8388608.0f : x);
    float m = ear_of_bits((bits & 0x7FFFFFu) | 0x3F000000u); /* in [1/2, 1) */
    float e = (float)((int32_t)(bits >> 23) - (small ? 149 : 126));
    const int low = m < 0.707106781f;
    e = low ? e - 1.0f : e;
    m = (low ? m + m : m) - 1.0f;
    const float z = m * m;
    float p = 7.0376836292e-2f;
    p = p * m + -1.1514610310e-1f;
    p = p * m + 1.1676998740e-1f;
    p = p * m + -1.2420140846e-1f;
    p = p * m + 1.4249322787e-1f;
    p = p * m + -1.6668057665e-1f;
    p = p * m + 2.0000714765e-1f;
    p = p * m + -2.4999993993e-1f;
    p = p * m + 3.3333331174e-1f;
    float y = (p * m) * z;
    y = y + e * -2.12194440e-4f;
    y = y - 0.5f * z;
    return (m + y) + e * 0.693359375f;
}

/* Cephes: the sine of x + quarter * pi / 2. Right to 1e-7 for |x| <= 5e4; 0 beyond 1e6, where
   neighbouring floats are a sixteenth of a radian apart. */
EAR_KERNEL float ear_float_sine(float x, int32_t quarter) {
    if (!(ear_float_abs(x) < 1e6f))
        return x - x;
    const float k = (x * 0.636619772f + EAR_ROUNDER) - EAR_ROUNDER;
    const float r = ((x - k * 1.5703125f) - k * 4.8351287841796875e-4f) - k * 3.13855707645416259765625e-7f;
    const float s = r - k * 6.07710050359346e-11f;
    const float z = s * s;
    float p = -1.9515295891e-4f;
    p = p * z + 8.3321608736e-3f;
    p = p * z + -1.6666654611e-1f;
    const float sine = (p * z) * s + s;
    p = 2.443315711809948e-5f;
    p = p * z + -1.388731625493765e-3f;
    p = p * z + 4.166664568298827e-2f;
    const float cosine = ((p * z) * z - 0.5f * z) + 1.0f;
    const int32_t turn = (int32_t)k + quarter;
    const float y = turn & 1 ? cosine : sine;
    return turn & 2 ? -y : y;
}

/* Cephes: a polynomial below 0.625, exp above. */
EAR_KERNEL float ear_float_tanh(float x) {
    const float size = ear_float_abs(x);
    if (size >= 0.625f) {
        const float y = 1.0f - 2.0f / (ear_float_exp(size + size) + 1.0f);
        return x < 0.0f ? -y : y;
    }
    const float z = x * x;
    float p = -5.70498872745e-3f;
    p = p * z + 2.06390887954e-2f;
    p = p * z + -5.37397155531e-2f;
    p = p * z + 1.33314422036e-1f;
    p = p * z + -3.33332819422e-1f;
    return (p * z) * x + x;
}

EAR_KERNEL float ear_float_logistic(float x) {
    const float e = ear_float_exp(-ear_float_abs(x));
    const float y = 1.0f / (1.0f + e);
    return x < 0.0f ? e * y : y;
}

/* The error function: x P(x^2) / Q(x^2), 1 at +-4. */
EAR_KERNEL float ear_float_erf(float x) {
    const float near = ear_float_clamp(x, -4.0f, 4.0f), z = near * near;
    float p = -2.72614225801306e-10f;
    p = p * z + 2.77068142495902e-08f;
    p = p * z + -2.10102402082508e-06f;
    p = p * z + -5.69250639462346e-05f;
    p = p * z + -7.34990630326855e-04f;
    p = p * z + -2.95459980854025e-03f;
    p = p * z + -1.60960333262415e-02f;
    float q = -1.45660718464996e-05f;
    q = q * z + -2.13374055278905e-04f;
    q = q * z + -1.68282697438203e-03f;
    q = q * z + -7.37332916720468e-03f;
    q = q * z + -1.42647390514189e-02f;
    return (near * p) / q;
}

/* The correctly rounded root: one instruction on an FPU, 24 steps of long-hand without. */
EAR_KERNEL float ear_float_sqrt(float x) {
#if defined(__aarch64__)
    float root;
    __asm("fsqrt %s0, %s1" : "=w"(root) : "w"(x));
    return root;
#elif defined(__ARM_FP) && (__ARM_FP & 4)
    float root;
    __asm("vsqrt.f32 %0, %1" : "=t"(root) : "t"(x));
    return root;
#else
    if (!(x > 0.0f) || x == EAR_INFINITY)
        return x == 0.0f || x == EAR_INFINITY ? x : EAR_NAN;
    const int small = x < 1.17549435e-38f;
    const uint32_t bits = ear_bits(small ? x * 16777216.0f : x);
    const int32_t e = (int32_t)(bits >> 23) - (small ? 151 : 127);
    const uint32_t m = ((bits & 0x7FFFFFu) | 0x800000u) << (e & 1);
    const uint64_t whole = (uint64_t)m << 25; /* m 2^25 = (root 2^24)^2 */
    uint32_t root = 0;
    uint64_t square = 0;
    for (uint32_t bit = 1u << 24; bit; bit >>= 1) {
        const uint64_t tried = square + ((uint64_t)root * 2 + bit) * bit;
        if (tried <= whole) {
            square = tried;
            root += bit;
        }
    }
    const uint32_t rounded = (root >> 1) + (root & 1u); /* never a tie: an odd root has an odd square */
    return ear_of_bits(((uint32_t)(((e - (e & 1)) / 2) + 127) << 23) + (rounded - 0x800000u));
#endif
}

#endif
