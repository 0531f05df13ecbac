/* dsp/batch_matmul.h: products of int8 matrices on cores with SMLAD.
 *
 * Both sides are widened to int16 without their zero-points: a block of columns of b once, rows of a two at a time,
 * doubled for the short requantisation. Zeros fill them up to whole steps, so any depth is fast. Two rows and two
 * columns take 11 instructions for 16 products; a result takes 5 more: at a depth of 16 that is a third again. */
#ifndef EAR_DSP_BATCH_MATMUL_H
#define EAR_DSP_BATCH_MATMUL_H

#include "matmul.h"

/* Four values of depth of two rows (16 bytes at a) and of two columns (16 bytes at b). s01: row 0, column 1. */
#define EAR_PRODUCT_2X2(a, b, s00, s01, s10, s11)                                                                      \
    do {                                                                                                               \
        uint32_t b0, b1;                                                                                               \
        __asm volatile("ldmia %[pa]!, {r2, r3, r4, r5}\n"                                                              \
                       "ldrd %[b0], %[b1], [%[pb]], #8\n"                                                              \
                       "smlad %[t00], r2, %[b0], %[t00]\n"                                                             \
                       "smlad %[t10], r4, %[b0], %[t10]\n"                                                             \
                       "smlad %[t00], r3, %[b1], %[t00]\n"                                                             \
                       "smlad %[t10], r5, %[b1], %[t10]\n"                                                             \
                       "ldrd %[b0], %[b1], [%[pb]], #8\n"                                                              \
                       "smlad %[t01], r2, %[b0], %[t01]\n"                                                             \
                       "smlad %[t11], r4, %[b0], %[t11]\n"                                                             \
                       "smlad %[t01], r3, %[b1], %[t01]\n"                                                             \
                       "smlad %[t11], r5, %[b1], %[t11]\n"                                                             \
                       : [pa] "+r"(a), [pb] "+r"(b), [b0] "=&r"(b0), [b1] "=&r"(b1), [t00] "+r"(s00),                  \
                         [t01] "+r"(s01), [t10] "+r"(s10), [t11] "+r"(s11)                                             \
                       :                                                                                               \
                       : "r2", "r3", "r4", "r5", "memory");                                                            \
    } while (0)

/* x with its odd bytes where SXTB16 looks for them; the compiler folds it into the SXTAB16. */
EAR_KERNEL uint32_t ear_rotate(uint32_t x) {
    return x >> 8 | x << 24;
}

/* x in both half-words */
EAR_KERNEL int32_t ear_both(int32_t x) {
    return (int32_t)((uint32_t)x << 16 | ((uint32_t)x & 0xFFFFu));
}

EAR_KERNEL uint32_t ear_four(const int8_t *from) {
    uint32_t four;
    memcpy(&four, from, 4);
    return four;
}
/* Values of depth in whole steps: of 4, of 8 when there are more. */
EAR_KERNEL int32_t ear_product_depth(int32_t depth) {
    return depth > 4 ? (depth + 7) & ~7 : 4;
}

/* Where value k of a lane lies, in half-words: each four in the order 0, 2, 1, 3, the other lane's four after them. */
EAR_KERNEL int32_t ear_lane_place(int32_t k) {
    return 8 * (k / 4) + (k % 4 & 1) * 2 + (k % 4 >> 1);
}

/* A row of `depth` values, `step` bytes apart, less a zero-point and times `times`, to one of two lanes. */
EAR_KERNEL void ear_lane(const int8_t *x, int32_t depth, int32_t step, int32_t zero, int32_t times, int16_t *to) {
    const int32_t padded = ear_product_depth(depth);
    int32_t k = 0;
    for (; step == 1 && k + 4 <= depth; k += 4) {
        const uint32_t four = ear_four(x + k);
        ear_word *const at = (ear_word *)(void *)(to + 2 * k);
        const int16x2_t less = ear_both(-zero);
        const int16x2_t even = __sxtab16(less, (int8x4_t)four), odd = __sxtab16(less, (int8x4_t)ear_rotate(four));
        at[0] = (uint32_t)(times == 2 ? __sadd16(even, even) : even);
        at[1] = (uint32_t)(times == 2 ? __sadd16(odd, odd) : odd);
    }
    for (; k < padded; ++k)
        to[ear_lane_place(k)] = (int16_t)(k < depth ? (x[k * step] - zero) * times : 0);
}

EAR_KERNEL int8_t ear_product_result(int32_t twice, const struct ear_batch_matmul *p) {
    const struct ear_output out = { .zero = p->zero_y, .low = -128, .high = 127 };
    if (p->narrow)
        return ear_finish_twice(out, (struct ear_channel){ 0, p->multiplier, -1 - p->shift }, twice);
    return ear_matmul_result(twice >> 1, p);
}

/* Two rows in lanes against `columns` columns in pairs of lanes; y0, y1: their outputs. */
EAR_KERNEL void ear_product_rows(const ear_word *rows, const ear_word *b, int32_t columns, int8_t *y0, int8_t *y1,
                                 const struct ear_batch_matmul *p) {
    const int32_t steps = ear_product_depth(p->depth) / 4;
    for (int32_t i = 0; i < columns; i += 2) {
        const int32_t other = ear_min(i + 1, columns - 1);
        const ear_word *a = rows;
        const ear_word *const end = rows + 4 * steps;
        int32_t s00 = 0, s01 = 0, s10 = 0, s11 = 0;
        do {
            EAR_PRODUCT_2X2(a, b, s00, s01, s10, s11);
            if (steps % 2 == 0)
                EAR_PRODUCT_2X2(a, b, s00, s01, s10, s11);
            if (steps % 4 == 0) {
                EAR_PRODUCT_2X2(a, b, s00, s01, s10, s11);
                EAR_PRODUCT_2X2(a, b, s00, s01, s10, s11);
            }
        } while (a != end);
        y0[other] = ear_product_result(s01, p);
        y0[i] = ear_product_result(s00, p);
        y1[other] = ear_product_result(s11, p);
        y1[i] = ear_product_result(s10, p);
    }
}

/* One product. a: rows x depth or, not upright, depth x rows; b: columns x depth or depth x columns; lanes: memory of
 * two rows and of p->block columns. */
EAR_KERNEL void ear_matmul_packed(const int8_t *a, const int8_t *b, int8_t *y, const struct ear_batch_matmul *p,
                                  void *lanes) {
    const int32_t padded = ear_product_depth(p->depth);
    const int32_t a_row = p->a_upright ? p->depth : 1, a_step = p->a_upright ? 1 : p->rows;
    const int32_t b_row = p->b_upright ? p->depth : 1, b_step = p->b_upright ? 1 : p->columns;
    int16_t *const rows = lanes, *const columns = rows + 2 * padded;
    for (int32_t first = 0; first < p->columns; first += p->block) {
        const int32_t count = ear_min(p->block, p->columns - first);
        for (int32_t i = 0; i < ((count + 1) & ~1); ++i)
            ear_lane(b + (first + ear_min(i, count - 1)) * b_row, p->depth, b_step, p->zero_b, 1,
                     columns + (i & ~1) * padded + 4 * (i & 1));
        for (int32_t row = 0; row < p->rows; row += 2) {
            const int32_t other = ear_min(row + 1, p->rows - 1);
            ear_lane(a + row * a_row, p->depth, a_step, p->zero_a, 2, rows);
            ear_lane(a + other * a_row, p->depth, a_step, p->zero_a, 2, rows + 4);
            ear_product_rows((const ear_word *)(void *)rows, (const ear_word *)(void *)columns, count,
                             y + row * p->columns + first, y + other * p->columns + first, p);
        }
    }
}

#endif
