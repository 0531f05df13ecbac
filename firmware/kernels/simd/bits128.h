/* simd/bits128.h: vectors of 4 words: wasm's simd128, NEON (neon.h), and the compiler's own vectors elsewhere.
 *
 * Wasm has no shift by a vector: the second rounding is a float's where that is exact. */
#ifndef EAR_SIMD_BITS128_H
#define EAR_SIMD_BITS128_H

#if defined(__wasm_simd128__)
#include <wasm_simd128.h>
#endif

#define EAR_LANES 4

typedef uint32_t ear_vector __attribute__((vector_size(16)));
typedef int32_t ear_signed __attribute__((vector_size(16)));
typedef float ear_floats __attribute__((vector_size(16)));
typedef int64_t ear_two_wide __attribute__((vector_size(16)));
typedef int16_t ear_halves __attribute__((vector_size(16)));
typedef int8_t ear_bytes __attribute__((vector_size(16)));
typedef int8_t ear_eight __attribute__((vector_size(8)));

EAR_KERNEL ear_vector ear_load(const void *from) {
    ear_vector made;
    memcpy(&made, from, 16);
    return made;
}

#if defined(__ARM_NEON)
#include "neon.h"
#else
#define EAR_DEPTHS 2 /* vectors for four values of depth */
#define EAR_PIXEL_PLUS 0
enum { EAR_TILE_COLUMNS = 3, EAR_TILE_GROUPS = 2 }; /* that fit the registers: of one group, or of one column */

typedef int16_t ear_pixel; /* an input of a product */

/* Values 2 * depth and 2 * depth + 1 of four, of one half of a group, as half-words. */
EAR_KERNEL ear_vector ear_row_load(const int8_t *w, int32_t depth) {
    const ear_bytes four = (ear_bytes)ear_load(w);
    const ear_bytes pairs =
        __builtin_shufflevector(four, four, 0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
#if defined(__wasm_simd128__)
    return (ear_vector)(depth ? wasm_i16x8_extend_high_i8x16((v128_t)pairs)
                              : wasm_i16x8_extend_low_i8x16((v128_t)pairs));
#else
    const ear_eight two = depth ? __builtin_shufflevector(pairs, pairs, 8, 9, 10, 11, 12, 13, 14, 15)
                                : __builtin_shufflevector(pairs, pairs, 0, 1, 2, 3, 4, 5, 6, 7);
    return (ear_vector)__builtin_convertvector(two, ear_halves);
#endif
}

/* Those two inputs, once for each word. */
EAR_KERNEL ear_vector ear_spread(const ear_pixel *x, int32_t depth) {
    uint32_t two;
    memcpy(&two, x + 2 * depth, 4);
    return (ear_vector){ two, two, two, two };
}

/* Adds the products of half-words, pair by pair. */
EAR_KERNEL ear_vector ear_pairs_add(ear_vector sum, ear_vector a, ear_vector b) {
#if defined(__wasm_simd128__)
    return sum + (ear_vector)wasm_i32x4_dot_i16x8((v128_t)a, (v128_t)b);
#else
    const ear_signed first = ((ear_signed)(a << 16) >> 16) * ((ear_signed)(b << 16) >> 16);
    return sum + (ear_vector)first + (ear_vector)(((ear_signed)a >> 16) * ((ear_signed)b >> 16));
#endif
}

EAR_KERNEL ear_vector ear_multiply_add(ear_vector sum, ear_vector rows, ear_vector x) {
    return ear_pairs_add(sum, rows, x);
}
#endif

EAR_KERNEL ear_vector ear_interleave_low(ear_vector a, ear_vector b) {
    return (ear_vector)__builtin_shufflevector((ear_halves)a, (ear_halves)b, 0, 8, 1, 9, 2, 10, 3, 11);
}

EAR_KERNEL ear_vector ear_interleave_high(ear_vector a, ear_vector b) {
    return (ear_vector)__builtin_shufflevector((ear_halves)a, (ear_halves)b, 4, 12, 5, 13, 6, 14, 7, 15);
}

/* (2 * sum * multiplier + 2^31) / 2^32, rounded down; |sum| < 2^30 */
EAR_KERNEL ear_signed ear_vector_high(ear_vector sum, ear_vector multiplier) {
    const ear_vector twice = sum + sum;
    const ear_two_wide half = { 0x80000000, 0x80000000 };
#if defined(__wasm_simd128__)
    const ear_two_wide first = (ear_two_wide)wasm_i64x2_extmul_low_i32x4((v128_t)twice, (v128_t)multiplier);
    const ear_two_wide last = (ear_two_wide)wasm_i64x2_extmul_high_i32x4((v128_t)twice, (v128_t)multiplier);
#else
    const ear_signed t = (ear_signed)twice, m = (ear_signed)multiplier;
    const ear_two_wide first = __builtin_convertvector(__builtin_shufflevector(t, t, 0, 1), ear_two_wide) *
                               __builtin_convertvector(__builtin_shufflevector(m, m, 0, 1), ear_two_wide);
    const ear_two_wide last = __builtin_convertvector(__builtin_shufflevector(t, t, 2, 3), ear_two_wide) *
                              __builtin_convertvector(__builtin_shufflevector(m, m, 2, 3), ear_two_wide);
#endif
    return __builtin_shufflevector((ear_signed)(first + half), (ear_signed)(last + half), 1, 3, 5, 7);
}

/* ear_finish without its clamp for a vector of channels. Layers with powers: high is exact as a float, a tie of the
 * second rounding moves away from zero because the power is 2^-right * (1 + 2^-23), and the result takes its place in
 * the lowest bits of a float when 3 * 2^22 is added. */
EAR_KERNEL ear_vector ear_vector_finish(struct ear_output out, const int32_t *table, ear_vector sum) {
    const ear_signed high = ear_vector_high(sum, ear_load(table + EAR_MULTIPLIER));
    if (table[EAR_POWER]) {
        const ear_floats power = (ear_floats)ear_load(table + EAR_POWER);
        const ear_floats shifted = __builtin_convertvector(high, ear_floats) * power;
        return (ear_vector)(shifted + 12582912.0f) - (0x4B400000u - (uint32_t)out.zero);
    }
    const ear_signed less = (ear_signed)ear_load(table + EAR_ROUNDING) + ((ear_signed)sum >> 31);
    const ear_signed scaled = (high + less) >> (ear_signed)ear_load(table + EAR_RIGHT);
    return (ear_vector)(out.narrow ? scaled : scaled + out.zero);
}

EAR_KERNEL ear_signed ear_vector_clamp(ear_signed x, int32_t low, int32_t high) {
    const ear_signed least = { low, low, low, low }, most = { high, high, high, high };
    const ear_signed raised = (x & (x >= least)) | (least & (x < least));
    return (raised & (raised <= most)) | (most & (raised > most));
}

EAR_KERNEL void ear_pack(struct ear_output out, ear_vector low, ear_vector high, int8_t *y) {
#if defined(__wasm_simd128__)
    v128_t bytes = wasm_i16x8_narrow_i32x4((v128_t)low, (v128_t)high);
    bytes = wasm_i8x16_narrow_i16x8(bytes, bytes);
    if (out.low > -128)
        bytes = wasm_i8x16_max(bytes, wasm_i8x16_splat((int8_t)out.low));
    if (out.high < 127)
        bytes = wasm_i8x16_min(bytes, wasm_i8x16_splat((int8_t)out.high));
    wasm_v128_store64_lane(y, bytes, 0);
#else
    const ear_signed a = ear_vector_clamp((ear_signed)low, out.low, out.high);
    const ear_signed b = ear_vector_clamp((ear_signed)high, out.low, out.high);
    for (int32_t i = 0; i < EAR_LANES; ++i) {
        y[i] = (int8_t)a[i];
        y[EAR_LANES + i] = (int8_t)b[i];
    }
#endif
}

#endif
