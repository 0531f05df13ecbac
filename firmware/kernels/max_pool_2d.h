/* max_pool_2d.h: the greatest value of each window. */
#ifndef EAR_MAX_POOL_2D_H
#define EAR_MAX_POOL_2D_H

#include "pool_2d.h"

#if EAR_MVE
#include "mve/pool_2d.h"
#endif

/* x: (batches, in_rows, in_columns, channels); y: (batches, out_rows, out_columns, channels). */
EAR_KERNEL void ear_max_pool_2d(struct ear_pool_2d s, const void *x, void *y) {
#if EAR_MVE
    if (s.width == 1) {
        ear_pool_bytes(s, x, y, ear_greatest_bytes);
        return;
    }
#endif
    const int32_t in = s.in_rows * s.in_columns * s.channels;
    int32_t at = 0;
    for (int32_t batch = 0; batch < s.batches; ++batch, x = ear_value_at(x, in, s.width))
        for (int32_t row = 0; row < s.out_rows; ++row)
            for (int32_t column = 0; column < s.out_columns; ++column) {
                const struct ear_pool_part part = ear_pool_part(s, row, column);
                for (int32_t channel = 0; channel < s.channels; ++channel) {
                    int32_t greatest = s.low;
                    for (int32_t i = part.top; i < part.bottom; ++i)
                        for (int32_t j = part.left; j < part.right; ++j)
                            greatest = ear_max(
                                greatest, ear_value(x, (i * s.in_columns + j) * s.channels + channel, s.width));
                    ear_set_value(y, at++, s.width, ear_min(greatest, s.high));
                }
            }
}

#endif
