/* int16/depthwise_conv_2d.h: depthwise convolution, int16 with int8 weights, walked as in depthwise_conv_2d.h. */
#ifndef EAR_INT16_DEPTHWISE_CONV_2D_H
#define EAR_INT16_DEPTHWISE_CONV_2D_H

#include "../depthwise_conv_2d.h"
#include "matmul.h"

/* One position; channels of s and steps of the patch are in bytes. Sums have 64 bits. */
EAR_KERNEL void ear_depthwise_int16(struct ear_depthwise_conv_2d s, struct ear_output out, struct ear_patch patch,
                                    const void *weights, const int32_t *channels, int8_t *y) {
    const int32_t count = s.out_channels / 2, multiplier = s.out_channels / s.in_channels;
    const int16_t *const first = (const int16_t *)(const void *)patch.x;
    const int32_t row_step = patch.row_bytes / 2, column_step = patch.column_bytes / 2;
    int16_t *const to = (int16_t *)(void *)y;
    for (int32_t k = 0; k < count; ++k) {
        const int16_t *x = first + k / multiplier;
        const int8_t *w = (const int8_t *)weights + k;
        int64_t sum = ear_int16_bias(channels, k);
        for (int32_t i = 0; i < s.filter_rows; ++i, x += row_step)
            for (int32_t j = 0; j < s.filter_columns; ++j, w += count)
                sum += x[j * column_step] * *w;
        to[k] = ear_int16_finish(out, channels, k, sum);
    }
}

/* weights: (filter_rows, filter_columns, out_channels); channels: rows of bias (two words), multiplier, shift;
 * scratch: the inputs under a filter. */
EAR_KERNEL void ear_depthwise_conv_2d_int16(struct ear_depthwise_conv_2d s, struct ear_output out, const int16_t *x,
                                            const int8_t *weights, const int32_t *channels, int16_t *y,
                                            int8_t *scratch) {
    s.in_channels *= 2;
    s.out_channels *= 2;
    ear_depthwise_positions(s, out, (const int8_t *)x, weights, channels, (int8_t *)y, scratch, ear_depthwise_int16);
}

#endif
