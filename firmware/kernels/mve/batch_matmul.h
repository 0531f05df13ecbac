/* mve/batch_matmul.h: products of int8 matrices on cores with MVE, by the product of matmul.h: columns of b take the
 * place of its weights, in scratch with their biases, and rows of a that of its columns, two at a time.
 *
 * To pack a column takes about 20 instructions, and for each 16 of depth 5 where b is upright, 24 where it is not. */
#ifndef EAR_MVE_BATCH_MATMUL_H
#define EAR_MVE_BATCH_MATMUL_H

#include "matmul.h"

#define EAR_GATHERED 8 /* values that one load gathers */

/* Values of depth side by side to pieces that lie `apart` bytes from each other, zeros after the last; their sum. */
EAR_KERNEL int32_t ear_line_copy(const int8_t *from, int32_t depth, int8_t *to, int32_t apart) {
    int32_t sum = 0;
    EAR_ROLLED
    for (int32_t k = 0; k < depth; k += EAR_PIECE, to += apart) {
        const int8x16_t piece = vldrbq_z_s8(from + k, vctp8q((uint32_t)(depth - k)));
        vstrbq_s8(to, piece);
        sum = vaddvaq_s8(sum, piece);
    }
    return sum;
}

/* The same of values `step` bytes from each other; seven steps fit 16 bits. */
EAR_KERNEL int32_t ear_line_gather(const int8_t *from, int32_t depth, int32_t step, int8_t *to, int32_t apart) {
    const uint16x8_t offsets = vmulq_n_u16(vidupq_n_u16(0, 1), (uint16_t)step);
    const int32_t padded = (depth + EAR_PIECE - 1) / EAR_PIECE * EAR_PIECE;
    int32_t sum = 0;
    EAR_ROLLED
    for (int32_t k = 0; k < padded; k += EAR_GATHERED) {
        const mve_pred16_t some = vctp16q((uint32_t)ear_max(depth - k, 0));
        const int16x8_t part = vldrbq_gather_offset_z_s16(from + ear_min(k, depth - 1) * step, offsets, some);
        vstrbq_s16(to + k / EAR_PIECE * apart + k % EAR_PIECE, part);
        sum = vaddvaq_s16(sum, part);
    }
    return sum;
}

/* Quads of columns as matmul.h has its weights, and their channels. Past the last column stands the last one again. */
EAR_KERNEL void ear_columns_pack(const int8_t *b, const struct ear_batch_matmul *p, int8_t *packed,
                                 int32_t *channels) {
    const int32_t pair = 2 * EAR_PIECE * ((p->depth + EAR_PIECE - 1) / EAR_PIECE);
    EAR_ROLLED
    for (int32_t i = 0; i < ((p->columns + 3) & ~3); ++i) {
        const int32_t column = ear_min(i, p->columns - 1), lane = i % 4;
        int8_t *const to = packed + (i / 4 * 2 + lane % 2) * pair + lane / 2 * EAR_PIECE;
        int32_t *const channel = channels + i / 4 * 12 + lane;
        const int32_t sum = p->b_upright
                                ? ear_line_copy(b + column * p->depth, p->depth, to, 2 * EAR_PIECE)
                                : ear_line_gather(b + column, p->depth, p->columns, to, 2 * EAR_PIECE);
        channel[0] = p->zero_a * (p->depth * p->zero_b - sum);
        channel[4] = p->multiplier;
        channel[8] = p->narrow ? ear_shift_left(1, 31 + p->shift) : p->shift;
    }
}

/* A row of a, in place or turned to `to`, and what b's zero-point takes off all its sums. */
EAR_KERNEL struct ear_column ear_row_of(const int8_t *a, const struct ear_batch_matmul *p, int32_t row, int8_t *to) {
    if (!p->a_upright) {
        const int32_t sum = ear_line_gather(a + row, p->depth, p->rows, to, EAR_PIECE);
        return (struct ear_column){ to, -p->zero_b * sum };
    }
    const int8_t *const from = a + row * p->depth;
    int32_t sum = 0;
    EAR_ROLLED
    for (int32_t k = 0; p->zero_b && k < p->depth; k += EAR_PIECE)
        sum = vaddvaq_s8(sum, vldrbq_z_s8(from + k, vctp8q((uint32_t)(p->depth - k))));
    return (struct ear_column){ from, -p->zero_b * sum };
}

/* One product; room: b's columns, their channels, two turned rows of a. An odd last row is computed together with its
 * neighbour once more. */
EAR_KERNEL void ear_matmul_packed(const int8_t *a, const int8_t *b, int8_t *y, const struct ear_batch_matmul *p,
                                  void *room) {
    const struct ear_product product = { p->depth, p->columns, !p->a_upright };
    const struct ear_output out = { p->zero_y, -128, 127, p->narrow, 1, 0 };
    const int32_t bytes = EAR_PIECE * ear_pieces_of(product), quads = (p->columns + 3) / 4;
    int8_t *const packed = room;
    int32_t *const channels = (int32_t *)(void *)(packed + 4 * quads * bytes);
    int8_t *const turned = (int8_t *)(channels + 12 * quads);
    ear_columns_pack(b, p, packed, channels);
    if (p->rows == 1)
        ear_product_1(product, out, ear_row_of(a, p, 0, turned), packed, channels, y);
    EAR_ROLLED
    for (int32_t i = 0; i < p->rows && p->rows > 1; i += 2) {
        const int32_t row = ear_min(i, p->rows - 2);
        const struct ear_column first = ear_row_of(a, p, row, turned);
        const struct ear_column second = ear_row_of(a, p, row + 1, turned + bytes);
        ear_product_2(product, out, first, second, packed, channels, y + row * p->columns,
                      y + (row + 1) * p->columns);
    }
}

#endif
