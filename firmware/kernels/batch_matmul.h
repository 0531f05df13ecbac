/* batch_matmul.h: y = a b for stacks of int8 matrices: (a - za)(b - zb) summed in 32 bits, requantised. */
#ifndef EAR_BATCH_MATMUL_H
#define EAR_BATCH_MATMUL_H

#include "matmul.h"
#include "scale.h"

struct ear_stack {
    int32_t batch[3], a_step[3], b_step[3]; /* matrices, and the elements from one to the next (0 repeats) */
};

struct ear_batch_matmul {
    int32_t rows, depth, columns;
    int32_t a_upright; /* 1: a is rows x depth, 0: depth x rows */
    int32_t b_upright; /* 1: b is columns x depth, 0: depth x columns */
    int32_t zero_a, zero_b, zero_y, multiplier, shift;
    int32_t narrow; /* 1: sums and shift suit ear_finish_twice */
    int32_t block;  /* columns that the unit's own kernel keeps in scratch at once; 0: it is not asked */
};

/* to[j][i] = from[i][j], of `outer` rows with `inner` elements */
EAR_KERNEL const int8_t *ear_upright(const int8_t *from, int8_t *to, int32_t outer, int32_t inner) {
    for (int32_t i = 0; i < outer; ++i)
        for (int32_t j = 0; j < inner; ++j)
            to[j * outer + i] = *from++;
    return to;
}

/* sums[2 * i + j] = row i of a times row j of b, two rows each, `depth` apart; less_*: minus the zero-points. */
EAR_KERNEL void ear_dot_square(const int8_t *a, const int8_t *b, int32_t depth, int32_t less_a, int32_t less_b,
                               int32_t *sums) {
    int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    for (int32_t k = 0; k < depth; ++k, ++a, ++b) {
        const int32_t a0 = a[0] + less_a, a1 = a[depth] + less_a, b0 = b[0] + less_b, b1 = b[depth] + less_b;
        s0 += a0 * b0;
        s1 += a0 * b1;
        s2 += a1 * b0;
        s3 += a1 * b1;
    }
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
    sums[3] = s3;
}

EAR_KERNEL int8_t ear_matmul_result(int32_t sum, const struct ear_batch_matmul *p) {
    return (int8_t)ear_narrow(ear_scale(sum, p->multiplier, p->shift) + p->zero_y, -128, 127);
}

EAR_KERNEL int8_t ear_matmul_one(const int8_t *a, const int8_t *b, const struct ear_batch_matmul *p) {
    int32_t sum = 0;
    for (int32_t k = 0; k < p->depth; ++k)
        sum += (a[k] - p->zero_a) * (b[k] - p->zero_b);
    return ear_matmul_result(sum, p);
}

/* a: rows x depth, b: columns x depth; an odd last row or column goes one by one */
EAR_KERNEL void ear_matmul(const int8_t *a, const int8_t *b, int8_t *y, const struct ear_batch_matmul *p) {
    const int32_t even_rows = p->rows & ~1, even_columns = p->columns & ~1;
    for (int32_t row = 0; row < even_rows; row += 2, a += 2 * p->depth, y += 2 * p->columns) {
        const int8_t *now = b;
        for (int32_t column = 0; column < even_columns; column += 2, now += 2 * p->depth) {
            int32_t sums[4];
            ear_dot_square(a, now, p->depth, -p->zero_a, -p->zero_b, sums);
            y[column] = ear_matmul_result(sums[0], p);
            y[column + 1] = ear_matmul_result(sums[1], p);
            y[p->columns + column] = ear_matmul_result(sums[2], p);
            y[p->columns + column + 1] = ear_matmul_result(sums[3], p);
        }
        if (even_columns < p->columns) {
            y[even_columns] = ear_matmul_one(a, now, p);
            y[p->columns + even_columns] = ear_matmul_one(a + p->depth, now, p);
        }
    }
    if (even_rows < p->rows)
        for (int32_t column = 0; column < p->columns; ++column)
            y[column] = ear_matmul_one(a, b + column * p->depth, p);
}

#if EAR_DSP
#include "dsp/batch_matmul.h"
#elif EAR_MVE
#include "mve/batch_matmul.h"
#else
EAR_KERNEL void ear_matmul_packed(const int8_t *a, const int8_t *b, int8_t *y, const struct ear_batch_matmul *p,
                                  void *lanes) {
    (void)a, (void)b, (void)y, (void)p, (void)lanes;
}
#endif

/* One product; scratch: the matrices that are not upright, turned: a then b. */
EAR_KERNEL void ear_matmul_plain(const int8_t *a, const int8_t *b, int8_t *y, const struct ear_batch_matmul *p,
                                 int8_t *scratch) {
    if (!p->a_upright) {
        a = ear_upright(a, scratch, p->depth, p->rows);
        scratch += p->rows * p->depth;
    }
    if (!p->b_upright)
        b = ear_upright(b, scratch, p->depth, p->columns);
    ear_matmul(a, b, y, p);
}

/* scratch: of the unit's own kernel when p.block is not 0, else of ear_matmul_plain */
EAR_KERNEL void ear_batch_matmul(const int8_t *a, const int8_t *b, int8_t *y, void *scratch,
                                 struct ear_stack s, struct ear_batch_matmul p) {
    for (int32_t i = 0; i < s.batch[0]; ++i)
        for (int32_t j = 0; j < s.batch[1]; ++j)
            for (int32_t k = 0; k < s.batch[2]; ++k) {
                const int8_t *a_now = a + i * s.a_step[0] + j * s.a_step[1] + k * s.a_step[2];
                const int8_t *b_now = b + i * s.b_step[0] + j * s.b_step[1] + k * s.b_step[2];
                if (p.block)
                    ear_matmul_packed(a_now, b_now, y, &p, scratch);
                else
                    ear_matmul_plain(a_now, b_now, y, &p, scratch);
                y += p.rows * p.columns;
            }
}

#endif
