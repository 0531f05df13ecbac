/* resize_bilinear.h: four neighbours weighed; rows, columns and weights are worked out when compiling. */
#ifndef EAR_RESIZE_BILINEAR_H
#define EAR_RESIZE_BILINEAR_H

#include "../ear.h"

struct ear_bilinear {
    int32_t images, height, width, out_height, out_width, depth;
};

/* rows, columns: for each place of the output the two that it lies between, times width or 1.
 * *_weights: of the two, in 1/1024. Four multiplications an element. */
#define EAR_BILINEAR(name, type, wide)                                                                                 \
    EAR_KERNEL void ear_resize_bilinear_##name(const type *x, type *y, const int32_t *rows,                            \
                                               const int32_t *row_weights, const int32_t *columns,                     \
                                               const int32_t *column_weights, struct ear_bilinear s) {                 \
        for (int32_t image = 0; image < s.images; ++image, x += s.height * s.width * s.depth)                          \
            for (int32_t i = 0; i < s.out_height; ++i)                                                                 \
                for (int32_t j = 0; j < s.out_width; ++j) {                                                            \
                    const type *corner[2][2];                                                                          \
                    wide weight[2][2];                                                                                 \
                    for (int32_t k = 0; k < 4; ++k) {                                                                  \
                        const int32_t row = 2 * i + (k >> 1), column = 2 * j + (k & 1);                                \
                        corner[k >> 1][k & 1] = x + (rows[row] + columns[column]) * s.depth;                           \
                        weight[k >> 1][k & 1] = (wide)row_weights[row] * (wide)column_weights[column];                 \
                    }                                                                                                  \
                    for (int32_t c = 0; c < s.depth; ++c) {                                                            \
                        const wide sum = corner[0][0][c] * weight[0][0] + corner[1][0][c] * weight[1][0] +             \
                                         corner[0][1][c] * weight[0][1] + corner[1][1][c] * weight[1][1];              \
                        *y++ = (type)((sum + (sum > 0 ? (1 << 19) : -(1 << 19))) / (1 << 20));                         \
                    }                                                                                                  \
                }                                                                                                      \
    }

EAR_BILINEAR(int8, int8_t, int32_t)
EAR_BILINEAR(int16, int16_t, int64_t)

/* Weights are the share of the second of the two; products in TFLM's order. */
EAR_KERNEL void ear_resize_bilinear_float32(const float *x, float *y, const int32_t *rows, const float *row_shares,
                                            const int32_t *columns, const float *column_shares,
                                            struct ear_bilinear s) {
    for (int32_t image = 0; image < s.images; ++image, x += s.height * s.width * s.depth)
        for (int32_t i = 0; i < s.out_height; ++i)
            for (int32_t j = 0; j < s.out_width; ++j) {
                const float *upper = x + rows[2 * i] * s.depth, *lower = x + rows[2 * i + 1] * s.depth;
                const int32_t left = columns[2 * j] * s.depth, right = columns[2 * j + 1] * s.depth;
                const float down = row_shares[i], across = column_shares[j];
                for (int32_t c = 0; c < s.depth; ++c) {
                    const float a = upper[left + c] * (1 - down) * (1 - across);
                    const float b = lower[left + c] * down * (1 - across);
                    const float d = upper[right + c] * (1 - down) * across;
                    const float e = lower[right + c] * down * across;
                    *y++ = a + b + d + e;
                }
            }
}

#endif
