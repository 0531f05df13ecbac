/* transpose_conv.h: transposed 2-D convolution, int8: each output gathers the inputs whose filters reach it. */
#ifndef EAR_TRANSPOSE_CONV_H
#define EAR_TRANSPOSE_CONV_H

#include "../ear.h"

struct ear_transpose_conv {
    int32_t batches, in_rows, in_columns, in_channels, in_zero;
    int32_t out_rows, out_columns, out_channels, out_zero, low, high;
    int32_t filter_rows, filter_columns, stride_rows, stride_columns, pad_rows, pad_columns;
};

/* The sum of one output: (row, column) are its place before the padding is cut off, weights those of its channel. */
EAR_KERNEL int32_t ear_transpose_conv_sum(const struct ear_transpose_conv *s, const int8_t *x, const int8_t *weights,
                                          int32_t row, int32_t column) {
    int32_t sum = 0;
    for (int32_t i = row % s->stride_rows; i < s->filter_rows && i <= row; i += s->stride_rows) {
        const int32_t in_row = (row - i) / s->stride_rows;
        if (in_row >= s->in_rows)
            continue;
        for (int32_t j = column % s->stride_columns; j < s->filter_columns && j <= column; j += s->stride_columns) {
            const int32_t in_column = (column - j) / s->stride_columns;
            if (in_column >= s->in_columns)
                continue;
            const int8_t *from = x + (in_row * s->in_columns + in_column) * s->in_channels;
            const int8_t *filter = weights + (i * s->filter_columns + j) * s->in_channels;
            for (int32_t k = 0; k < s->in_channels; ++k)
                sum += (from[k] - s->in_zero) * filter[k];
        }
    }
    return sum;
}

/* weights: (out_channels, filter_rows, filter_columns, in_channels); channels: rows of bias, multiplier, shift */
EAR_KERNEL void ear_transpose_conv(struct ear_transpose_conv s, const int8_t *x, const int8_t *weights,
                                   const int32_t *channels, int8_t *y) {
    const int32_t filter = s.filter_rows * s.filter_columns * s.in_channels;
    for (int32_t batch = 0; batch < s.batches; ++batch, x += s.in_rows * s.in_columns * s.in_channels)
        for (int32_t row = 0; row < s.out_rows; ++row)
            for (int32_t column = 0; column < s.out_columns; ++column)
                for (int32_t channel = 0; channel < s.out_channels; ++channel) {
                    const int32_t *own = channels + 3 * channel;
                    const int32_t sum = ear_transpose_conv_sum(&s, x, weights + channel * filter, row + s.pad_rows,
                                                               column + s.pad_columns);
                    const int32_t scaled = ear_requantise(sum + own[0], own[1], own[2]);
                    *y++ = (int8_t)ear_clamp(scaled + s.out_zero, s.low, s.high);
                }
}

#endif
