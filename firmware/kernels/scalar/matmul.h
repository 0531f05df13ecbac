/* scalar/matmul.h: the matrix product on cores whose widest product is 32 bits (M0+, M3), bit for bit matmul.h.
 *
 * A word of weights holds two rows, a + 65536 * b, so that one product serves both. A sum of a few products, a chunk,
 * keeps its lower half-word's sum E in 16 bits: two products always do, four or eight where the sum of |weights| is
 * at most 255. A chunk starts from 0x8000 and is emptied into two sums: odd, of its upper half-words, and both, of
 * it all; in the end the even row is both - 65536 * odd, modulo 2^32.
 *
 * Instructions a MAC, where a chunk of 2 products costs 2 for each pair of rows:
 *   M3:  4 rows, 2 taps: LDM of 4 words, 2 loads of inputs, 4 MLA, 4 to empty: 11 / 8 = 1.375; chunks of 4: 1.19,
 *        of 8: 1.09; loop and requantisation bring kws' 1x1 layers (chunks of 2) to 1.60, ad01 (of 8) to 1.25.
 *        One MLA for each two products is the floor of the arithmetic, 0.5; inputs and weights add 0.375.
 *   M0+: as few registers hold more than sums, MUL and ADD are two, inputs are loaded by offset: 20 / 8 = 2.5;
 *        chunks of 4: 2.125, of 8: 1.94; kws 3.3, ad01 2.4. */
#ifndef EAR_SCALAR_MATMUL_H
#define EAR_SCALAR_MATMUL_H

#include "finish.h"
#include "patch.h"

#define EAR_ROWS 4    /* computed together: two words of weights a tap */
#define EAR_RECORD 17 /* of the table, for each four rows: chunk; both, odd twice; the scaling of each */

/* Of two rows: E + 65536 * O, and O. */
struct ear_pair {
    uint32_t both;
    int32_t odd;
};

/* x itself when depth is whole words; else (or when it is there already) in scratch, followed by zeros. */
EAR_KERNEL const int8_t *ear_whole(const int8_t *x, int32_t depth, int8_t *scratch) {
    if (depth % 4 == 0)
        return x;
    if (x != scratch)
        ear_copy(scratch, x, depth);
    ear_fill(scratch + depth, 0, 4 - depth % 4);
    return scratch;
}

#if defined(__thumb2__)
#include "block_m3.h"
#elif defined(__thumb__)
#include "block_m0.h"
#else
EAR_KERNEL const ear_word *ear_block(const int8_t *x, const ear_word *w, int32_t depth, int32_t chunk,
                                     struct ear_pair *a, struct ear_pair *b) {
    for (int32_t i = 0; i < depth; i += chunk) {
        uint32_t sum_a = 0x8000, sum_b = 0x8000;
        for (int32_t j = 0; j < chunk; ++j, w += 2) {
            sum_a += (uint32_t)x[i + j] * w[0];
            sum_b += (uint32_t)x[i + j] * w[1];
        }
        a->both += sum_a;
        b->both += sum_b;
        a->odd += (int32_t)sum_a >> 16;
        b->odd += (int32_t)sum_b >> 16;
    }
    return w;
}
#endif

EAR_KERNEL int32_t ear_even(struct ear_pair sums) {
    return (int32_t)(sums.both - ((uint32_t)sums.odd << 16));
}

/* One column of whole words against all rows. */
EAR_KERNEL void ear_matmul_1(struct ear_output out, const int8_t *x, const void *weights, const int32_t *table,
                             int32_t depth, int32_t outputs, int8_t *y) {
    const ear_word *w = weights;
    const int32_t whole = (depth + 3) & ~3;
    EAR_ROLLED
    for (int32_t i = 0; i < outputs; i += EAR_ROWS, table += EAR_RECORD, y += EAR_ROWS) {
        const int32_t *const scaling = table + 5;
        struct ear_pair a = { (uint32_t)table[1], table[2] }, b = { (uint32_t)table[3], table[4] };
        if ((out.packed & 8) && (out.packed == 8 || table[0] == 8))
            w = ear_block(x, w, whole, 8, &a, &b);
        else if ((out.packed & 4) && (out.packed == 4 || table[0] == 4))
            w = ear_block(x, w, whole, 4, &a, &b);
        else
            w = ear_block(x, w, whole, 2, &a, &b);
        const int32_t left = outputs - i;
        y[0] = ear_finish_narrow(out, ear_scaling(scaling), ear_even(a));
        if (outputs % EAR_ROWS == 0 || left > 1)
            y[1] = ear_finish_narrow(out, ear_scaling(scaling + 3), a.odd);
        if (outputs % EAR_ROWS == 0 || left > 2)
            y[2] = ear_finish_narrow(out, ear_scaling(scaling + 6), ear_even(b));
        if (outputs % EAR_ROWS == 0 || left > 3)
            y[3] = ear_finish_narrow(out, ear_scaling(scaling + 9), b.odd);
    }
}

#endif
