/* mve/matmul.h: columns of int8 times rows of int8 weights on cores with MVE.
 *
 * Two columns meet two rows: 4 loads and 4 VMLADAVA of 16 products, 8 instructions for 64 MACs against a floor of 4.
 * Of each column the last piece stays in a register for all rows, of the first one the last two (both of both, when
 * there are no more). Four rows are requantised together for both columns: 20 instructions for 8 outputs. For a depth
 * of 64 this makes 10 instructions per output, 0.16 per MAC; for 144 and more 0.13, and what gathers the columns.
 *
 * Weights: for each four rows, those of the rows 0 and 2, then of 1 and 3: of each 16 of depth the first row's and
 * the second row's bytes, zeros where there are none.
 * Channels: for each four rows 4 biases, 4 multipliers, 4 powers; see ear_scaled_4. */
#ifndef EAR_MVE_MATMUL_H
#define EAR_MVE_MATMUL_H

#include "requantise.h"

#define EAR_PIECE 16   /* values of depth in a register */
#define EAR_UNROLLED 9 /* pieces of a column up to which the product has no inner loop */

struct ear_product {
    int32_t depth, outputs;
    int32_t whole; /* columns may be read to the end of their last piece */
};

/* A column, and what comes on top of all its sums. */
struct ear_column {
    const int8_t *x;
    int32_t more;
};

/* Sums of the first and second row of a pair with the columns 0 and 1. */
struct ear_square {
    int32_t a0, a1, b0, b1;
};

/* Pieces of the columns 0 and 1. */
struct ear_pieces {
    int8x16_t x0, x1;
};

/* One piece of two rows (32 bytes at w) and of two columns. START: "=&", with VMLADAV, or "+", with VMLADAVA. */
#define EAR_SQUARE_STEP(MAC, START, w, sum, pieces)                                                                    \
    do {                                                                                                               \
        int8x16_t row;                                                                                                 \
        __asm volatile("vldrb.u8 %q[row], [%[from]], #16\n" MAC " %[a0], %q[x0], %q[row]\n" MAC                           \
                       " %[a1], %q[x1], %q[row]\n"                                                                     \
                       "vldrb.u8 %q[row], [%[from]], #16\n" MAC " %[b0], %q[x0], %q[row]\n" MAC                           \
                       " %[b1], %q[x1], %q[row]\n"                                                                     \
                       : [from] "+r"(w), [row] "=&w"(row), [a0] START "Te"((sum).a0), [a1] START "Te"((sum).a1),          \
                         [b0] START "Te"((sum).b0), [b1] START "Te"((sum).b1)                                          \
                       : [x0] "w"((pieces).x0), [x1] "w"((pieces).x1)                                                  \
                       : "memory");                                                                                    \
    } while (0)

/* Puts the sums of a column into lanes of a vector: "=" of the even rows, which come first, "+" of the odd ones. */
#define EAR_LANES(HIGH, LOW, START, vector, high, low)                                                                 \
    __asm volatile("vmov %q[q]" HIGH ", %q[q]" LOW ", %[l], %[h]" : [q] START "w"(vector) : [h] "r"(high), [l] "r"(low))

EAR_KERNEL int32_t ear_pieces_of(struct ear_product s) {
    return (s.depth + EAR_PIECE - 1) / EAR_PIECE;
}

/* Pieces that may be read whole; what is left of the depth is a part of one more. */
EAR_KERNEL int32_t ear_whole_pieces(struct ear_product s) {
    return s.whole ? ear_pieces_of(s) : s.depth / EAR_PIECE;
}

/* The next piece of a column of which `left` values are left: zeros where the column ends. */
EAR_KERNEL int8x16_t ear_piece(struct ear_product s, const int8_t *x, int32_t left) {
    if (s.whole || s.depth % EAR_PIECE == 0)
        return vldrbq_s8(x);
    return vldrbq_z_s8(x, vctp8q((uint32_t)left));
}

/* Piece `index` of a column; before the first one, the first one. */
EAR_KERNEL int8x16_t ear_piece_at(struct ear_product s, const int8_t *x, int32_t index) {
    const int32_t at = EAR_PIECE * ear_max(index, 0);
    return s.depth - at >= EAR_PIECE ? vldrbq_s8(x + at) : ear_piece(s, x + at, s.depth - at);
}

/* Adds the products of piece `index`; of the last two pieces at least the first column's are held. */
EAR_KERNEL void ear_square_piece(struct ear_product s, int32_t index, const int8_t *x0, const int8_t *x1,
                                 struct ear_pieces last, struct ear_pieces other, const int8_t **w,
                                 struct ear_square *sum) {
    const int32_t pieces = ear_pieces_of(s);
    struct ear_pieces now = index == pieces - 1 ? last : other;
    if (index >= pieces)
        return;
    if (index < pieces - 2)
        now.x0 = vldrbq_s8(x0 + EAR_PIECE * index);
    if (index < pieces - 1 && pieces > 2)
        now.x1 = vldrbq_s8(x1 + EAR_PIECE * index);
    if (index == 0)
        EAR_SQUARE_STEP("vmladav.s8", "=&", *w, *sum, now);
    else
        EAR_SQUARE_STEP("vmladava.s8", "+", *w, *sum, now);
}

/* A pair of rows against two columns of at most EAR_UNROLLED pieces; last, other: their last and last but one. */
EAR_KERNEL struct ear_square ear_square_held(struct ear_product s, const int8_t *x0, const int8_t *x1,
                                             struct ear_pieces last, struct ear_pieces other, const int8_t **w) {
    struct ear_square sum;
    ear_square_piece(s, 0, x0, x1, last, other, w, &sum);
    ear_square_piece(s, 1, x0, x1, last, other, w, &sum);
    ear_square_piece(s, 2, x0, x1, last, other, w, &sum);
    ear_square_piece(s, 3, x0, x1, last, other, w, &sum);
    ear_square_piece(s, 4, x0, x1, last, other, w, &sum);
    ear_square_piece(s, 5, x0, x1, last, other, w, &sum);
    ear_square_piece(s, 6, x0, x1, last, other, w, &sum);
    ear_square_piece(s, 7, x0, x1, last, other, w, &sum);
    ear_square_piece(s, 8, x0, x1, last, other, w, &sum);
    return sum;
}

/* One piece, in a loop. */
#define EAR_LONG_STEP                                                                                                  \
    "vldrb.u8 %q[p0], [%[x0]], #16\n"                                                                                  \
    "vldrb.u8 %q[r], [%[w]], #16\n"                                                                                    \
    "vmladava.s8 %[a0], %q[p0], %q[r]\n"                                                                               \
    "vldrb.u8 %q[p1], [%[x1]], #16\n"                                                                                  \
    "vmladava.s8 %[a1], %q[p1], %q[r]\n"                                                                               \
    "vldrb.u8 %q[r], [%[w]], #16\n"                                                                                    \
    "vmladava.s8 %[b0], %q[p0], %q[r]\n"                                                                               \
    "vmladava.s8 %[b1], %q[p1], %q[r]\n"

#define EAR_LONG_LOOP(STEPS, rounds)                                                                                   \
    __asm volatile("dls lr, %[n]\n1:\n" STEPS "le lr, 1b\n"                                                           \
                   : [x0] "+r"(x0), [x1] "+r"(x1), [w] "+r"(*w), [p0] "=&w"(now.x0), [p1] "=&w"(now.x1),               \
                     [r] "=&w"(row), [a0] "+Te"(sum.a0), [a1] "+Te"(sum.a1), [b0] "+Te"(sum.b0), [b1] "+Te"(sum.b1)    \
                   : [n] "r"(rounds)                                                                                   \
                   : "lr", "cc", "memory")

/* The same for columns of any length: 8 instructions for 64 MACs, and one a loop. */
EAR_KERNEL struct ear_square ear_square_long(struct ear_product s, const int8_t *x0, const int8_t *x1,
                                             const int8_t **w) {
    const int32_t pieces = ear_whole_pieces(s);
    struct ear_square sum = { 0, 0, 0, 0 };
    struct ear_pieces now;
    int8x16_t row;
    if (pieces % 3 == 0)
        EAR_LONG_LOOP(EAR_LONG_STEP EAR_LONG_STEP EAR_LONG_STEP, pieces / 3);
    else if (pieces % 2 == 0)
        EAR_LONG_LOOP(EAR_LONG_STEP EAR_LONG_STEP, pieces / 2);
    else
        EAR_LONG_LOOP(EAR_LONG_STEP, pieces);
    if (!s.whole && s.depth % EAR_PIECE) {
        now.x0 = ear_piece(s, x0, s.depth % EAR_PIECE);
        now.x1 = ear_piece(s, x1, s.depth % EAR_PIECE);
        EAR_SQUARE_STEP("vmladava.s8", "+", *w, sum, now);
    }
    return sum;
}

/* Four outputs, or fewer when they are the last ones. */
EAR_KERNEL void ear_quad_store(struct ear_product s, int32x4_t result, int32_t first, int8_t *y) {
    if (s.outputs % 4)
        vstrbq_p_s32(y + first, result, vctp32q((uint32_t)(s.outputs - first)));
    else
        vstrbq_s32(y + first, result);
}

/* Two columns against all rows. */
EAR_KERNEL void ear_product_2(struct ear_product s, struct ear_output out, struct ear_column first,
                              struct ear_column second, const int8_t *w, const int32_t *channels, int8_t *y0,
                              int8_t *y1) {
    const int32_t pieces = ear_pieces_of(s);
    const int8_t *const x0 = first.x, *const x1 = second.x;
    const struct ear_pieces last = { ear_piece_at(s, x0, pieces - 1), ear_piece_at(s, x1, pieces - 1) };
    const struct ear_pieces other = { ear_piece_at(s, x0, pieces - 2), ear_piece_at(s, x1, pieces - 2) };
    EAR_ROLLED
    for (int32_t i = 0; i < s.outputs; i += 4, channels += 12) {
        const int held = pieces <= EAR_UNROLLED;
        const struct ear_square even =
            held ? ear_square_held(s, x0, x1, last, other, &w) : ear_square_long(s, x0, x1, &w);
        int32x4_t sum0, sum1;
        EAR_LANES("[2]", "[0]", "=", sum0, even.b0, even.a0);
        EAR_LANES("[2]", "[0]", "=", sum1, even.b1, even.a1);
        const struct ear_square odd =
            held ? ear_square_held(s, x0, x1, last, other, &w) : ear_square_long(s, x0, x1, &w);
        EAR_LANES("[3]", "[1]", "+", sum0, odd.b0, odd.a0);
        EAR_LANES("[3]", "[1]", "+", sum1, odd.b1, odd.a1);
        const int32x4_t bias = vldrwq_s32(channels);
        sum0 = vaddq_n_s32(vaddq_s32(sum0, bias), first.more);
        sum1 = vaddq_n_s32(vaddq_s32(sum1, bias), second.more);
        const int32x4_t multiplier = vldrwq_s32(channels + 4), power = vldrwq_s32(channels + 8);
        sum0 = ear_scaled_4(out, sum0, multiplier, power);
        ear_quad_store(s, ear_clamp_4(sum0, out.low, out.high), i, y0);
        sum1 = ear_scaled_4(out, sum1, multiplier, power);
        ear_quad_store(s, ear_clamp_4(sum1, out.low, out.high), i, y1);
    }
}

/* Four rows against the whole pieces of a column: 10 instructions for 64 MACs. */
EAR_KERNEL struct ear_square ear_column_of(int32_t pieces, const int8_t **x, const int8_t **even, const int8_t **odd) {
    struct ear_square sum = { 0, 0, 0, 0 };
    int8x16_t piece, row, next;
    __asm volatile("dls lr, %[pieces]\n"
                   "1:\n"
                   "vldrb.u8 %q[p], [%[x]], #16\n"
                   "vldrb.u8 %q[r], [%[even]], #16\n"
                   "vmladava.s8 %[a0], %q[p], %q[r]\n"
                   "vldrb.u8 %q[n], [%[even]], #16\n"
                   "vmladava.s8 %[b0], %q[p], %q[n]\n"
                   "vldrb.u8 %q[r], [%[odd]], #16\n"
                   "vmladava.s8 %[a1], %q[p], %q[r]\n"
                   "vldrb.u8 %q[n], [%[odd]], #16\n"
                   "vmladava.s8 %[b1], %q[p], %q[n]\n"
                   "le lr, 1b\n"
                   : [x] "+r"(*x), [even] "+r"(*even), [odd] "+r"(*odd), [p] "=&w"(piece), [r] "=&w"(row),
                     [n] "=&w"(next), [a0] "+Te"(sum.a0), [a1] "+Te"(sum.a1), [b0] "+Te"(sum.b0), [b1] "+Te"(sum.b1)
                   : [pieces] "r"(pieces)
                   : "lr", "cc", "memory");
    return sum;
}

/* One column against all rows. */
EAR_KERNEL void ear_product_1(struct ear_product s, struct ear_output out, struct ear_column column, const int8_t *w,
                              const int32_t *channels, int8_t *y) {
    EAR_ROLLED
    for (int32_t i = 0; i < s.outputs; i += 4, channels += 12) {
        const int8_t *from = column.x, *even = w, *odd = w + 2 * EAR_PIECE * ear_pieces_of(s);
        struct ear_square sum = { 0, 0, 0, 0 };
        if (ear_whole_pieces(s))
            sum = ear_column_of(ear_whole_pieces(s), &from, &even, &odd);
        if (!s.whole && s.depth % EAR_PIECE) {
            const int8x16_t now = ear_piece(s, from, s.depth % EAR_PIECE);
            sum.a0 = vmladavaq_s8(sum.a0, now, vldrbq_s8(even));
            sum.b0 = vmladavaq_s8(sum.b0, now, vldrbq_s8(even + EAR_PIECE));
            sum.a1 = vmladavaq_s8(sum.a1, now, vldrbq_s8(odd));
            sum.b1 = vmladavaq_s8(sum.b1, now, vldrbq_s8(odd + EAR_PIECE));
        }
        w += 4 * EAR_PIECE * ear_pieces_of(s);
        const int32x4_t sums = { sum.a0, sum.a1, sum.b0, sum.b1 };
        const int32x4_t biased = vaddq_n_s32(vaddq_s32(sums, vldrwq_s32(channels)), column.more);
        const int32x4_t scaled = ear_scaled_4(out, biased, vldrwq_s32(channels + 4), vldrwq_s32(channels + 8));
        ear_quad_store(s, ear_clamp_4(scaled, out.low, out.high), i, y);
    }
}

#endif
