/* attention.h: softmax(q k) v for stacks of heads, a block of rows at a time, through the kernels of its steps. */
#ifndef EAR_ATTENTION_H
#define EAR_ATTENTION_H

#include "add.h"
#include "batch_matmul.h"
#include "mul.h"
#include "softmax.h"
#include "table.h"

struct ear_attention {
    int32_t stack[3];                                           /* heads, and the elements between them: */
    int32_t q_stack[3], k_stack[3], v_stack[3], y_stack[3];
    int32_t q_row, q_column, k_row, k_column, v_row, v_column, y_row, y_column; /* elements between neighbours */
    int32_t rows, columns, depth, width;                        /* scores: rows x columns; q, k: depth; v: width */
    int32_t block;                                              /* rows of scores in memory at once */
};

EAR_KERNEL int32_t ear_eights(int32_t bytes) {
    return (bytes + 7) & ~7;
}

/* to: rows x columns without gaps, from a matrix with strides */
EAR_KERNEL void ear_pick(int8_t *to, const int8_t *from, int32_t rows, int32_t columns, int32_t row, int32_t column) {
    for (int32_t i = 0; i < rows; ++i, from += row, to += columns)
        if (column == 1)
            ear_copy(to, from, columns);
        else
            for (int32_t j = 0; j < columns; ++j)
                to[j] = from[j * column];
}

EAR_KERNEL void ear_place(int8_t *to, const int8_t *from, int32_t rows, int32_t columns, int32_t row, int32_t column) {
    for (int32_t i = 0; i < rows; ++i, from += columns, to += row)
        if (column == 1)
            ear_copy(to, from, columns);
        else
            for (int32_t j = 0; j < columns; ++j)
                to[j * column] = from[j];
}

EAR_KERNEL int32_t ear_apart(const int32_t *step, int32_t i, int32_t j, int32_t k) {
    return i * step[0] + j * step[1] + k * step[2];
}

/* SCORES: rows, k_all to scores; BETWEEN: scores to scores; VALUES: scores, v_all to result; each may use inner.
 * The last block begins early enough to be whole; of it only the rows not yet done are kept. So y may be q. */
#define EAR_ATTENTION(q, k, v, y, scratch, s, SCORES, BETWEEN, VALUES)                                                 \
    do {                                                                                                               \
        int8_t *const k_all = (scratch), *const v_all = k_all + ear_eights((s).columns * (s).depth);                   \
        int8_t *const rows = v_all + ear_eights((s).columns * (s).width);                                              \
        int8_t *const scores = rows + ear_eights((s).block * (s).depth);                                               \
        int8_t *const result = scores + ear_eights((s).block * (s).columns);                                           \
        int8_t *const inner = result + ear_eights((s).block * (s).width);                                              \
        (void)inner;                                                                                                   \
        for (int32_t i0 = 0; i0 < (s).stack[0]; ++i0)                                                                  \
            for (int32_t i1 = 0; i1 < (s).stack[1]; ++i1)                                                              \
                for (int32_t i2 = 0; i2 < (s).stack[2]; ++i2) {                                                        \
                    const int8_t *const q_now = (q) + ear_apart((s).q_stack, i0, i1, i2);                              \
                    int8_t *const y_now = (y) + ear_apart((s).y_stack, i0, i1, i2);                                    \
                    ear_pick(k_all, (k) + ear_apart((s).k_stack, i0, i1, i2), (s).columns, (s).depth, (s).k_row,       \
                             (s).k_column);                                                                            \
                    ear_pick(v_all, (v) + ear_apart((s).v_stack, i0, i1, i2), (s).columns, (s).width, (s).v_row,       \
                             (s).v_column);                                                                            \
                    for (int32_t row = 0; row < (s).rows; row += (s).block) {                                          \
                        const int32_t first = ear_min(row, (s).rows - (s).block);                                      \
                        ear_pick(rows, q_now + first * (s).q_row, (s).block, (s).depth, (s).q_row, (s).q_column);      \
                        SCORES;                                                                                        \
                        BETWEEN;                                                                                       \
                        VALUES;                                                                                        \
                        ear_place(y_now + row * (s).y_row, result + (row - first) * (s).width,                         \
                                  (s).block - (row - first), (s).width, (s).y_row, (s).y_column);                      \
                    }                                                                                                  \
                }                                                                                                      \
    } while (0)

#endif
