/* depthwise_conv_2d.h: 2-D convolution with filters of its own for each channel, int8. */
#ifndef EAR_DEPTHWISE_CONV_2D_H
#define EAR_DEPTHWISE_CONV_2D_H

#include "matmul.h"

struct ear_depthwise_conv_2d {
    int32_t batches, in_rows, in_columns, in_channels, in_zero;
    int32_t out_rows, out_columns, out_channels;
    int32_t filter_rows, filter_columns;
    int32_t stride_rows, stride_columns, dilation_rows, dilation_columns, pad_rows, pad_columns;
};

/* The sum of one output channel at (row, column); positions outside x count as in_zero. */
EAR_KERNEL int32_t ear_depthwise_sum(struct ear_depthwise_conv_2d s, const int8_t *x, const int8_t *weights,
                                     int32_t row, int32_t column, int32_t channel, int32_t sum) {
    const int32_t top = row * s.stride_rows - s.pad_rows, left = column * s.stride_columns - s.pad_columns;
    const int32_t in_channel = channel / (s.out_channels / s.in_channels);
    for (int32_t i = 0; i < s.filter_rows; ++i)
        for (int32_t j = 0; j < s.filter_columns; ++j) {
            const int32_t in_row = top + i * s.dilation_rows, in_column = left + j * s.dilation_columns;
            const int inside = in_row >= 0 && in_row < s.in_rows && in_column >= 0 && in_column < s.in_columns;
            const int32_t from = (in_row * s.in_columns + in_column) * s.in_channels + in_channel;
            sum += (inside ? x[from] : s.in_zero) * weights[(i * s.filter_columns + j) * s.out_channels + channel];
        }
    return sum;
}

/* x: (batches, in_rows, in_columns, in_channels); y: (batches, out_rows, out_columns, out_channels);
 * weights: (filter_rows, filter_columns, out_channels); channels: see ear_channel. */
EAR_KERNEL void ear_depthwise_conv_2d(struct ear_depthwise_conv_2d s, struct ear_output out, const int8_t *x,
                                      const int8_t *weights, const int32_t *channels, int8_t *y) {
    for (int32_t batch = 0; batch < s.batches; ++batch, x += s.in_rows * s.in_columns * s.in_channels)
        for (int32_t row = 0; row < s.out_rows; ++row)
            for (int32_t column = 0; column < s.out_columns; ++column)
                for (int32_t i = 0; i < s.out_channels; ++i) {
                    const struct ear_channel channel = ear_channel(channels, i);
                    *y++ = ear_finish(out, channel, ear_depthwise_sum(s, x, weights, row, column, i, channel.bias));
                }
}

#endif
