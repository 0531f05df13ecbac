/* average_pool_2d.h: the rounded mean of each window, halves away from zero. */
#ifndef EAR_AVERAGE_POOL_2D_H
#define EAR_AVERAGE_POOL_2D_H

#include "pool_2d.h"

#if EAR_MVE
#include "mve/pool_2d.h"
#endif

/* x: (batches, in_rows, in_columns, channels); y: (batches, out_rows, out_columns, channels). */
EAR_KERNEL void ear_average_pool_2d(struct ear_pool_2d s, const void *x, void *y) {
#if EAR_MVE
    if (s.width == 1 && s.filter_rows * s.filter_columns <= EAR_POOL_MOST) {
        ear_pool_bytes(s, x, y, ear_average_bytes);
        return;
    }
#endif
    const int32_t in = s.in_rows * s.in_columns * s.channels;
    int32_t at = 0;
    for (int32_t batch = 0; batch < s.batches; ++batch, x = ear_value_at(x, in, s.width))
        for (int32_t row = 0; row < s.out_rows; ++row)
            for (int32_t column = 0; column < s.out_columns; ++column) {
                const struct ear_pool_part part = ear_pool_part(s, row, column);
                const int32_t count = (part.bottom - part.top) * (part.right - part.left);
                for (int32_t channel = 0; channel < s.channels; ++channel) {
                    int32_t sum = 0;
                    for (int32_t i = part.top; i < part.bottom; ++i)
                        for (int32_t j = part.left; j < part.right; ++j)
                            sum += ear_value(x, (i * s.in_columns + j) * s.channels + channel, s.width);
                    const int32_t mean = (sum > 0 ? sum + count / 2 : sum - count / 2) / count;
                    ear_set_value(y, at++, s.width, ear_clamp(mean, s.low, s.high));
                }
            }
}

#endif
