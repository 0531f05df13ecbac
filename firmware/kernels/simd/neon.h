/* simd/neon.h: products of vectors of 4 words on Arm: SDOT where the processor has it, else SMLAL by a lane. */
#ifndef EAR_SIMD_NEON_H
#define EAR_SIMD_NEON_H

#include <arm_neon.h>

#define EAR_PIXEL_PLUS 0

/* Adds the products of half-words, pair by pair. */
EAR_KERNEL ear_vector ear_pairs_add(ear_vector sum, ear_vector a, ear_vector b) {
    const int16x8_t x = (int16x8_t)a, y = (int16x8_t)b;
    const int32x4_t first = vmull_s16(vget_low_s16(x), vget_low_s16(y));
    const int32x4_t last = vmull_s16(vget_high_s16(x), vget_high_s16(y));
#if defined(__aarch64__)
    return sum + (ear_vector)vpaddq_s32(first, last);
#else
    return sum + (ear_vector)vcombine_s32(vpadd_s32(vget_low_s32(first), vget_high_s32(first)),
                                          vpadd_s32(vget_low_s32(last), vget_high_s32(last)));
#endif
}

#if defined(__ARM_FEATURE_DOTPROD)
#define EAR_DEPTHS 1 /* vectors for four values of depth */
enum { EAR_TILE_COLUMNS = 6, EAR_TILE_GROUPS = 4 }; /* that fit the registers: of one group, or of one column */
typedef int8_t ear_pixel; /* an input of a product */

/* Four values of depth of one half of a group. */
EAR_KERNEL ear_vector ear_row_load(const int8_t *w, int32_t depth) {
    (void)depth;
    return ear_load(w);
}

/* Four inputs, once for each word. */
EAR_KERNEL ear_vector ear_spread(const ear_pixel *x, int32_t depth) {
    uint32_t four;
    (void)depth;
    memcpy(&four, x, 4);
    return (ear_vector){ four, four, four, four };
}

EAR_KERNEL ear_vector ear_multiply_add(ear_vector sum, ear_vector row, ear_vector x) {
    return (ear_vector)vdotq_s32((int32x4_t)sum, (int8x16_t)row, (int8x16_t)x);
}
#else
#define EAR_DEPTHS 2 /* vectors for four values of depth */
#if defined(__aarch64__)
enum { EAR_TILE_COLUMNS = 6, EAR_TILE_GROUPS = 4 }; /* that fit the registers: of one group, or of one column */
#else
enum { EAR_TILE_COLUMNS = 4, EAR_TILE_GROUPS = 2 };
#endif
typedef int16_t ear_pixel; /* an input of a product */

/* Values 2 * depth of all words of one half of a group, then values 2 * depth + 1, as half-words. */
EAR_KERNEL ear_vector ear_row_load(const int8_t *w, int32_t depth) {
    const ear_bytes four = (ear_bytes)ear_load(w);
    const ear_eight two = depth ? __builtin_shufflevector(four, four, 2, 6, 10, 14, 3, 7, 11, 15)
                                : __builtin_shufflevector(four, four, 0, 4, 8, 12, 1, 5, 9, 13);
    return (ear_vector)__builtin_convertvector(two, ear_halves);
}

/* Those two inputs, in the first two lanes. */
EAR_KERNEL ear_vector ear_spread(const ear_pixel *x, int32_t depth) {
    uint32_t two;
    memcpy(&two, x + 2 * depth, 4);
    return (ear_vector){ two, two, two, two };
}

EAR_KERNEL ear_vector ear_multiply_add(ear_vector sum, ear_vector row, ear_vector x) {
    const int16x4_t two = vget_low_s16((int16x8_t)x);
    const int32x4_t first = vmlal_lane_s16((int32x4_t)sum, vget_low_s16((int16x8_t)row), two, 0);
    return (ear_vector)vmlal_lane_s16(first, vget_high_s16((int16x8_t)row), two, 1);
}
#endif

#endif
