/* simd/vector.h: the operations of the simd kernels: on AVX-512 with VNNI, on AVX2, on any 128 bits.
 *
 * A vector has EAR_LANES words. A group is the channels that two vectors hold, `low` and `high`: word 4 * i + j of
 * `low` belongs to channel 8 * i + j of the group, of `high` to channel 8 * i + j + 4. In this order two vectors of
 * half-words interleave, and two vectors of words pack. Channels come in blocks of 32, one or more groups: first the
 * low vectors of all its groups, then the high ones. */
#ifndef EAR_SIMD_VECTOR_H
#define EAR_SIMD_VECTOR_H

#include "../matmul.h"

#define EAR_BLOCK 32       /* channels */
#define EAR_STEP_BYTES 128 /* of weights: four values of depth of a block, or a pair of taps */

/* The table of channels has six rows a block: bias (of a product: for inputs plus 128), multiplier, rounding (which
 * holds the zero-point of narrow layers), right shift, its power of two as a float (0 where that is not exact), and
 * the bias for inputs as they are. */
enum { EAR_BIAS, EAR_MULTIPLIER = EAR_BLOCK, EAR_ROUNDING = 2 * EAR_BLOCK, EAR_RIGHT = 3 * EAR_BLOCK };
enum { EAR_POWER = 4 * EAR_BLOCK, EAR_PLAIN = 5 * EAR_BLOCK, EAR_BLOCK_CHANNELS = 6 * EAR_BLOCK };

#if defined(__AVX512BW__) && defined(__AVX512VNNI__)
#include "avx512.h"
#elif defined(__AVX2__)
#include "avx2.h"
#else
#include "bits128.h"
#endif

#define EAR_GROUP (2 * EAR_LANES)

/* Before a loop over registers. */
#if defined(__clang__)
#define EAR_UNROLLED _Pragma("clang loop unroll(full)")
#else
#define EAR_UNROLLED _Pragma("GCC unroll 8")
#endif

/* Where group `group` starts in a table of blocks with `block` elements, of which it has `own` in each half. */
EAR_KERNEL int32_t ear_group_start(int32_t group, int32_t block, int32_t own) {
    const int32_t groups = EAR_BLOCK / EAR_GROUP;
    return group / groups * block + group % groups * own;
}

/* Requantises the sums of a group and stores the first `count` of its channels. */
EAR_KERNEL void ear_group_finish(struct ear_output out, const int32_t *table, ear_vector low, ear_vector high,
                                 int32_t count, int8_t *y) {
    low = ear_vector_finish(out, table, low);
    high = ear_vector_finish(out, table + EAR_BLOCK / 2, high);
    if (count >= EAR_GROUP) {
        ear_pack(out, low, high, y);
        return;
    }
    int8_t whole[EAR_GROUP];
    ear_pack(out, low, high, whole);
    for (int32_t i = 0; i < count; ++i)
        y[i] = whole[i];
}

#endif
