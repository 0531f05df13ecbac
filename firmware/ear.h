/* ear.h: what every kernel shares: fixed point with TFLM's double rounding, clamps, the calling hook. */
#ifndef EAR_H
#define EAR_H

#include <stddef.h>
#include <stdint.h>

/* The unit that model.c was lowered to: at most one of them is 1; none is portable C. */
#ifndef EAR_SCALAR
#define EAR_SCALAR 0 /* cores whose widest multiplication is 32 bits: M0+, M3 */
#endif
#ifndef EAR_DSP
#define EAR_DSP 0 /* SMLAD: M4, M7, M33 */
#endif
#ifndef EAR_MVE
#define EAR_MVE 0 /* Helium: M55 */
#endif
#ifndef EAR_SIMD
#define EAR_SIMD 0 /* AVX2 or later, or wasm's simd128 */
#endif

#if EAR_DSP
#if !defined(__ARM_FEATURE_DSP) || !__ARM_FEATURE_DSP
#error "this model was compiled for a core with the DSP extension"
#endif
#include <arm_acle.h>
#endif
#if EAR_MVE
#if !defined(__ARM_FEATURE_MVE) || !__ARM_FEATURE_MVE
#error "this model was compiled for a core with MVE"
#endif
#include <arm_mve.h>
#endif

/* A kernel is inlined into its one call, so that the literal shapes of the call specialise it. */
#define EAR_KERNEL static inline __attribute__((always_inline, unused))

/* Before a loop that is not worth its unrolled size; before one of a few instructions, of which the loop's are many. */
#if defined(__clang__)
#define EAR_ROLLED _Pragma("clang loop unroll(disable)")
#define EAR_BY_FOUR _Pragma("clang loop unroll_count(4)")
#else
#define EAR_ROLLED
#define EAR_BY_FOUR
#endif

/* All that is used of a C library; compilers supply these three themselves or from their runtime. */
void *memcpy(void *to, const void *from, size_t bytes);
void *memmove(void *to, const void *from, size_t bytes);
void *memset(void *to, int value, size_t bytes);

/* Free-standing compilers treat plain names as unknown functions; these may be inlined. */
#define memcpy(to, from, bytes) __builtin_memcpy(to, from, bytes)
#define memmove(to, from, bytes) __builtin_memmove(to, from, bytes)
#define memset(to, value, bytes) __builtin_memset(to, value, bytes)

/* memcpy for a few dozen bytes, without a call. */
EAR_KERNEL void ear_copy(int8_t *to, const int8_t *from, int32_t bytes) {
    EAR_ROLLED
    for (; bytes >= 16; bytes -= 16, to += 16, from += 16)
        memcpy(to, from, 16);
    EAR_ROLLED
    for (; bytes >= 4; bytes -= 4, to += 4, from += 4)
        memcpy(to, from, 4);
    EAR_ROLLED
    for (; bytes > 0; --bytes)
        *to++ = *from++;
}

/* memset for a few dozen bytes, without a call. */
EAR_KERNEL void ear_fill(int8_t *to, int32_t value, int32_t bytes) {
    EAR_ROLLED
    for (; bytes >= 16; bytes -= 16, to += 16)
        memset(to, value, 16);
    EAR_ROLLED
    for (; bytes > 0; --bytes)
        *to++ = (int8_t)value;
}

#define EAR_INFINITY __builtin_inff()
#define EAR_NAN __builtin_nanf("")

/* Called before each node of ear_model_invoke(before), and once at its end. */
#define EAR_OP(node)                                                                                                   \
    do {                                                                                                               \
        if (before)                                                                                                    \
            before(node);                                                                                              \
    } while (0)

EAR_KERNEL int32_t ear_clamp(int32_t x, int32_t low, int32_t high) {
    return x < low ? low : x > high ? high : x;
}

EAR_KERNEL int32_t ear_min(int32_t a, int32_t b) {
    return a < b ? a : b;
}

EAR_KERNEL int32_t ear_max(int32_t a, int32_t b) {
    return a > b ? a : b;
}

/* x * 2^bits, wrapped to 32 bits; bits in 0..31. */
EAR_KERNEL int32_t ear_shift_left(int32_t x, int32_t bits) {
    return (int32_t)((uint32_t)x << bits);
}

/* round(a * b / 2^31), halves up; saturates for a = b = -2^31. */
EAR_KERNEL int32_t ear_doubling_high_mul(int32_t a, int32_t b) {
    if (a == INT32_MIN && b == INT32_MIN)
        return INT32_MAX;
    return (int32_t)(((int64_t)a * b + ((int64_t)1 << 30)) >> 31);
}

/* round(x / 2^bits), halves away from zero; bits in 0..31. */
EAR_KERNEL int32_t ear_divide_by_power(int32_t x, int32_t bits) {
    const int32_t mask = (int32_t)(((uint32_t)1 << bits) - 1);
    const int32_t threshold = (mask >> 1) + (x < 0);
    return (x >> bits) + ((x & mask) > threshold);
}

/* x * multiplier / 2^31 * 2^shift with double rounding; multiplier >= 0, shift in -31..31. */
EAR_KERNEL int32_t ear_requantise(int32_t x, int32_t multiplier, int32_t shift) {
    const int32_t wide = ear_shift_left(x, shift > 0 ? shift : 0);
    const int32_t high = (int32_t)(((int64_t)wide * multiplier + ((int64_t)1 << 30)) >> 31);
    return ear_divide_by_power(high, shift > 0 ? 0 : -shift);
}

#endif
