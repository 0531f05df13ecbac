/* average_pool_2d.h: the rounded mean of each window, int8, halves away from zero. */
#ifndef EAR_AVERAGE_POOL_2D_H
#define EAR_AVERAGE_POOL_2D_H

#include "pool_2d.h"

/* x: (batches, in_rows, in_columns, channels); y: (batches, out_rows, out_columns, channels). */
EAR_KERNEL void ear_average_pool_2d(struct ear_pool_2d s, const int8_t *x, int8_t *y) {
    for (int32_t batch = 0; batch < s.batches; ++batch, x += s.in_rows * s.in_columns * s.channels)
        for (int32_t row = 0; row < s.out_rows; ++row)
            for (int32_t column = 0; column < s.out_columns; ++column) {
                const struct ear_pool_part part = ear_pool_part(s, row, column);
                const int32_t count = (part.bottom - part.top) * (part.right - part.left);
                for (int32_t channel = 0; channel < s.channels; ++channel) {
                    int32_t sum = 0;
                    for (int32_t i = part.top; i < part.bottom; ++i)
                        for (int32_t j = part.left; j < part.right; ++j)
                            sum += x[(i * s.in_columns + j) * s.channels + channel];
                    *y++ = (int8_t)ear_clamp((sum > 0 ? sum + count / 2 : sum - count / 2) / count, s.low, s.high);
                }
            }
}

#endif
