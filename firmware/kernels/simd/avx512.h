/* simd/avx512.h: vectors of 16 words; VPDPBUSD multiplies 64 bytes an instruction. */
#ifndef EAR_SIMD_AVX512_H
#define EAR_SIMD_AVX512_H

#include <immintrin.h>

#define EAR_LANES 16
#define EAR_DEPTHS 1 /* vectors for four values of depth */
#define EAR_PIXEL_PLUS 128
enum { EAR_TILE_COLUMNS = 6, EAR_TILE_GROUPS = 4 }; /* that fit the registers: of one group, or of one column */

typedef __m512i ear_vector;
typedef uint8_t ear_pixel; /* an input of a product, plus 128 */

EAR_KERNEL ear_vector ear_load(const void *from) {
    return _mm512_loadu_si512(from);
}

/* Four values of depth of one half of a group. */
EAR_KERNEL ear_vector ear_row_load(const int8_t *w, int32_t depth) {
    (void)depth;
    return ear_load(w);
}

/* Four inputs, once for each word. */
EAR_KERNEL ear_vector ear_spread(const ear_pixel *x, int32_t depth) {
    int32_t four;
    (void)depth;
    memcpy(&four, x, 4);
    return _mm512_set1_epi32(four);
}

EAR_KERNEL ear_vector ear_multiply_add(ear_vector sum, ear_vector row, ear_vector x) {
    return _mm512_dpbusd_epi32(sum, x, row);
}

/* Adds the products of half-words, pair by pair. */
EAR_KERNEL ear_vector ear_pairs_add(ear_vector sum, ear_vector a, ear_vector b) {
    return _mm512_dpwssd_epi32(sum, a, b);
}

EAR_KERNEL ear_vector ear_interleave_low(ear_vector a, ear_vector b) {
    return _mm512_unpacklo_epi16(a, b);
}

EAR_KERNEL ear_vector ear_interleave_high(ear_vector a, ear_vector b) {
    return _mm512_unpackhi_epi16(a, b);
}

/* ear_finish without its clamp for a vector of channels: 12 instructions. */
EAR_KERNEL ear_vector ear_vector_finish(struct ear_output out, const int32_t *table, ear_vector sum) {
    const __m512i twice = _mm512_slli_epi32(sum, 1), half = _mm512_set1_epi64(0x80000000);
    const __m512i even = _mm512_mul_epi32(twice, ear_load(table + EAR_MULTIPLIER));
    const __m512i odd = _mm512_mul_epi32(_mm512_srli_epi64(twice, 32), ear_load(table + EAR_MULTIPLIER + 1));
    const __m512i high = _mm512_mask_shuffle_epi32(_mm512_add_epi64(odd, half), 0x5555, _mm512_add_epi64(even, half),
                                                   (_MM_PERM_ENUM)0xF5);
    const __m512i less = _mm512_add_epi32(ear_load(table + EAR_ROUNDING), _mm512_srai_epi32(sum, 31));
    const __m512i scaled = _mm512_srav_epi32(_mm512_add_epi32(high, less), ear_load(table + EAR_RIGHT));
    return out.narrow ? scaled : _mm512_add_epi32(scaled, _mm512_set1_epi32(out.zero));
}

EAR_KERNEL void ear_pack(struct ear_output out, ear_vector low, ear_vector high, int8_t *y) {
    __m256i bytes = _mm512_cvtsepi16_epi8(_mm512_packs_epi32(low, high));
    if (out.low > -128)
        bytes = _mm256_max_epi8(bytes, _mm256_set1_epi8((char)out.low));
    if (out.high < 127)
        bytes = _mm256_min_epi8(bytes, _mm256_set1_epi8((char)out.high));
    memcpy(y, &bytes, 32);
}

#endif
