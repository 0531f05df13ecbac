/* int16/batch_matmul.h: y = a b for stacks of int16 matrices, summed in 64 bits, rounded once. */
#ifndef EAR_INT16_BATCH_MATMUL_H
#define EAR_INT16_BATCH_MATMUL_H

#include "../batch_matmul.h"

EAR_KERNEL void ear_int16_product(const int16_t *a, const int16_t *b, int16_t *y, const struct ear_batch_matmul *p) {
    const int32_t a_row = p->a_upright ? p->depth : 1, a_step = p->a_upright ? 1 : p->rows;
    const int32_t b_row = p->b_upright ? p->depth : 1, b_step = p->b_upright ? 1 : p->columns;
    for (int32_t i = 0; i < p->rows; ++i)
        for (int32_t j = 0; j < p->columns; ++j) {
            const int16_t *const row = a + i * a_row, *const column = b + j * b_row;
            int64_t sum = 0;
            for (int32_t k = 0; k < p->depth; ++k)
                sum += row[k * a_step] * column[k * b_step];
            sum = (sum * p->multiplier + ((int64_t)1 << (p->shift - 1))) >> p->shift;
            *y++ = (int16_t)(sum < INT16_MIN ? INT16_MIN : sum > INT16_MAX ? INT16_MAX : sum);
        }
}

/* p: zero-points are 0, the multiplier has 15 bits, the shift goes right */
EAR_KERNEL void ear_batch_matmul_int16(const int16_t *a, const int16_t *b, int16_t *y, void *scratch,
                                       struct ear_stack s, struct ear_batch_matmul p) {
    (void)scratch;
    for (int32_t i = 0; i < s.batch[0]; ++i)
        for (int32_t j = 0; j < s.batch[1]; ++j)
            for (int32_t k = 0; k < s.batch[2]; ++k) {
                ear_int16_product(a + i * s.a_step[0] + j * s.a_step[1] + k * s.a_step[2],
                                  b + i * s.b_step[0] + j * s.b_step[1] + k * s.b_step[2], y, &p);
                y += p.rows * p.columns;
            }
}

#endif
