/* simd/avx2.h: vectors of 8 words; VPDPBUSD where the machine has it, else VPMADDWD on half-words. */
#ifndef EAR_SIMD_AVX2_H
#define EAR_SIMD_AVX2_H

#include <immintrin.h>

#define EAR_LANES 8

typedef __m256i ear_vector;

EAR_KERNEL ear_vector ear_load(const void *from) {
    return _mm256_loadu_si256((const __m256i_u *)from);
}

/* Adds the products of half-words, pair by pair. */
EAR_KERNEL ear_vector ear_pairs_add(ear_vector sum, ear_vector a, ear_vector b) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
}

#if defined(__AVXVNNI__) || (defined(__AVX512VNNI__) && defined(__AVX512VL__))
#define EAR_DEPTHS 1 /* vectors for four values of depth */
#define EAR_PIXEL_PLUS 128
enum { EAR_TILE_COLUMNS = 5, EAR_TILE_GROUPS = 4 }; /* that fit the registers: of one group, or of one column */
typedef uint8_t ear_pixel; /* an input of a product, plus 128 */

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
    return _mm256_set1_epi32(four);
}

EAR_KERNEL ear_vector ear_multiply_add(ear_vector sum, ear_vector row, ear_vector x) {
#if defined(__AVXVNNI__)
    return _mm256_dpbusd_avx_epi32(sum, x, row);
#else
    return _mm256_dpbusd_epi32(sum, x, row);
#endif
}
#else
#define EAR_DEPTHS 2 /* vectors for four values of depth */
#define EAR_PIXEL_PLUS 0
enum { EAR_TILE_COLUMNS = 4, EAR_TILE_GROUPS = 2 }; /* that fit the registers: of one group, or of one column */
typedef int16_t ear_pixel; /* an input of a product */

/* Values 2 * depth and 2 * depth + 1 of four, of one half of a group, as half-words. */
EAR_KERNEL ear_vector ear_row_load(const int8_t *w, int32_t depth) {
    const __m256i first = _mm256_set_epi64x(0x0D800C8009800880, 0x0580048001800080, 0x0D800C8009800880,
                                            0x0580048001800080);
    const __m256i last = _mm256_set_epi64x(0x0F800E800B800A80, 0x0780068003800280, 0x0F800E800B800A80,
                                           0x0780068003800280);
    return _mm256_srai_epi16(_mm256_shuffle_epi8(ear_load(w), depth ? last : first), 8);
}

/* Those two inputs, once for each word. */
EAR_KERNEL ear_vector ear_spread(const ear_pixel *x, int32_t depth) {
    int32_t two;
    memcpy(&two, x + 2 * depth, 4);
    return _mm256_set1_epi32(two);
}

EAR_KERNEL ear_vector ear_multiply_add(ear_vector sum, ear_vector row, ear_vector x) {
    return ear_pairs_add(sum, row, x);
}
#endif

EAR_KERNEL ear_vector ear_interleave_low(ear_vector a, ear_vector b) {
    return _mm256_unpacklo_epi16(a, b);
}

EAR_KERNEL ear_vector ear_interleave_high(ear_vector a, ear_vector b) {
    return _mm256_unpackhi_epi16(a, b);
}

/* ear_finish without its clamp for a vector of channels: 13 instructions. */
EAR_KERNEL ear_vector ear_vector_finish(struct ear_output out, const int32_t *table, ear_vector sum) {
    const __m256i twice = _mm256_slli_epi32(sum, 1), half = _mm256_set1_epi64x(0x80000000);
    const __m256i even = _mm256_mul_epi32(twice, ear_load(table + EAR_MULTIPLIER));
    const __m256i odd = _mm256_mul_epi32(_mm256_srli_epi64(twice, 32), ear_load(table + EAR_MULTIPLIER + 1));
    const __m256i high = _mm256_blend_epi32(_mm256_srli_epi64(_mm256_add_epi64(even, half), 32),
                                            _mm256_add_epi64(odd, half), 0xAA);
    const __m256i less = _mm256_add_epi32(ear_load(table + EAR_ROUNDING), _mm256_srai_epi32(sum, 31));
    const __m256i scaled = _mm256_srav_epi32(_mm256_add_epi32(high, less), ear_load(table + EAR_RIGHT));
    return out.narrow ? scaled : _mm256_add_epi32(scaled, _mm256_set1_epi32(out.zero));
}

EAR_KERNEL void ear_pack(struct ear_output out, ear_vector low, ear_vector high, int8_t *y) {
    const __m256i words = _mm256_packs_epi32(low, high);
    __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    if (out.low > -128)
        bytes = _mm_max_epi8(bytes, _mm_set1_epi8((char)out.low));
    if (out.high < 127)
        bytes = _mm_min_epi8(bytes, _mm_set1_epi8((char)out.high));
    memcpy(y, &bytes, 16);
}

#endif
