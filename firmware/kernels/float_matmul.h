/* float_matmul.h: products of float matrices, each sum in order of depth: two loads, a product and a sum a MAC. */
#ifndef EAR_FLOAT_MATMUL_H
#define EAR_FLOAT_MATMUL_H

#include "float_math.h"

struct ear_float_matmul {
    int32_t rows, depth, columns;
    int32_t a_row, a_step;    /* elements from one row of a to the next, and along its depth */
    int32_t b_column, b_step; /* the same of b by columns */
};

struct ear_float_stack {
    int32_t batch[3], a_step[3], b_step[3]; /* matrices, and the elements from one to the next (0 repeats) */
};

EAR_KERNEL float ear_float_dot(const float *a, const float *b, const struct ear_float_matmul *p) {
    float sum = 0.0f;
    EAR_FLOAT_LOOP
    for (int32_t k = 0; k < p->depth; ++k)
        sum += a[k * p->a_step] * b[k * p->b_step];
    return sum;
}

EAR_KERNEL void ear_float_dense(const float *x, const float *weights, const float *bias, float *y,
                                struct ear_float_matmul p, float low, float high) {
    for (int32_t row = 0; row < p.rows; ++row)
        for (int32_t column = 0; column < p.columns; ++column) {
            const float sum = ear_float_dot(x + row * p.a_row, weights + column * p.b_column, &p);
            *y++ = ear_float_clamp(sum + bias[column], low, high);
        }
}

EAR_KERNEL void ear_float_batch_matmul(const float *a, const float *b, float *y, struct ear_float_stack s,
                                       struct ear_float_matmul p) {
    for (int32_t i = 0; i < s.batch[0]; ++i)
        for (int32_t j = 0; j < s.batch[1]; ++j)
            for (int32_t k = 0; k < s.batch[2]; ++k) {
                const float *a_now = a + i * s.a_step[0] + j * s.a_step[1] + k * s.a_step[2];
                const float *b_now = b + i * s.b_step[0] + j * s.b_step[1] + k * s.b_step[2];
                for (int32_t row = 0; row < p.rows; ++row)
                    for (int32_t column = 0; column < p.columns; ++column)
                        *y++ = ear_float_dot(a_now + row * p.a_row, b_now + column * p.b_column, &p);
            }
}

#endif
