/* conv_2d.h: 2-D convolution, int8: each output position gathers its column of inputs, then a matrix product. */
#ifndef EAR_CONV_2D_H
#define EAR_CONV_2D_H

#include "matmul.h"

struct ear_conv_2d {
    int32_t batches, in_rows, in_columns, in_channels, in_zero;
    int32_t out_rows, out_columns, out_channels;
    int32_t filter_rows, filter_columns, filter_channels;
    int32_t stride_rows, stride_columns, dilation_rows, dilation_columns, pad_rows, pad_columns;
};

/* Whether a column of inputs lies in memory as the filter wants it. */
EAR_KERNEL int ear_conv_2d_direct(struct ear_conv_2d s) {
    return s.filter_rows == 1 && s.filter_columns == 1 && s.pad_rows == 0 && s.pad_columns == 0 &&
           (s.out_rows - 1) * s.stride_rows < s.in_rows && (s.out_columns - 1) * s.stride_columns < s.in_columns;
}

/* The column under output (row, column), channels from `first` on: in place, or gathered into `column_at`. */
EAR_KERNEL const int8_t *ear_conv_2d_column(struct ear_conv_2d s, const int8_t *x, int32_t first, int32_t row,
                                            int32_t column, int8_t *column_at) {
    const int32_t top = row * s.stride_rows - s.pad_rows, left = column * s.stride_columns - s.pad_columns;
    if (ear_conv_2d_direct(s))
        return x + (top * s.in_columns + left) * s.in_channels + first;
    int8_t *to = column_at;
    EAR_ROLLED
    for (int32_t i = 0; i < s.filter_rows; ++i) {
        const int32_t in_row = top + i * s.dilation_rows;
        EAR_ROLLED
        for (int32_t j = 0; j < s.filter_columns; ++j, to += s.filter_channels) {
            const int32_t in_column = left + j * s.dilation_columns;
            if (in_row < 0 || in_row >= s.in_rows || in_column < 0 || in_column >= s.in_columns)
                ear_fill(to, s.in_zero, s.filter_channels);
            else
                ear_copy(to, x + (in_row * s.in_columns + in_column) * s.in_channels + first, s.filter_channels);
        }
    }
    return column_at;
}

/* The outputs of one group at one position. */
EAR_KERNEL void ear_conv_2d_one(struct ear_conv_2d s, struct ear_output out, const int8_t *x, const int8_t *weights,
                                const int32_t *channels, int8_t *y, int32_t group, int8_t *scratch) {
    const int32_t depth = s.filter_rows * s.filter_columns * s.filter_channels;
    const int32_t outputs = s.out_channels / (s.in_channels / s.filter_channels), first = group * outputs;
    const int8_t *column = ear_conv_2d_column(s, x, group * s.filter_channels, 0, 0, scratch);
    ear_matvec(out, column, weights + first * ((depth + 3) & ~3), channels + 3 * first, depth, outputs, y + first);
}

/* The same at two positions. */
EAR_KERNEL void ear_conv_2d_two(struct ear_conv_2d s, struct ear_output out, const int8_t *x, const int8_t *weights,
                                const int32_t *channels, int8_t *y, int32_t group, int32_t position, int8_t *scratch) {
    const int32_t depth = s.filter_rows * s.filter_columns * s.filter_channels, row_bytes = (depth + 3) & ~3;
    const int32_t outputs = s.out_channels / (s.in_channels / s.filter_channels), first = group * outputs;
    const int8_t *columns[2];
    for (int32_t i = 0; i < 2; ++i)
        columns[i] = ear_conv_2d_column(s, x, group * s.filter_channels, (position + i) / s.out_columns,
                                        (position + i) % s.out_columns, scratch ? scratch + i * row_bytes : scratch);
    y += position * s.out_channels + first;
    ear_matvec_2(out, columns[0], columns[1], weights + first * row_bytes, channels + 3 * first, depth, outputs, y,
                 y + s.out_channels);
}

/* Two positions at a time; an odd last one is computed together with its neighbour once more. */
EAR_KERNEL void ear_conv_2d_plain(struct ear_conv_2d s, struct ear_output out, const int8_t *x, const int8_t *weights,
                                  const int32_t *channels, int8_t *y, int8_t *scratch) {
    const int32_t positions = s.out_rows * s.out_columns, groups = s.in_channels / s.filter_channels;
    for (int32_t group = 0; group < groups; ++group) {
        if (positions == 1)
            ear_conv_2d_one(s, out, x, weights, channels, y, group, scratch);
        for (int32_t i = 0; i < positions && positions > 1; i += 2)
            ear_conv_2d_two(s, out, x, weights, channels, y, group, ear_min(i, positions - 2), scratch);
    }
}

#if EAR_DSP
#include "dsp/conv_2d.h"
#elif EAR_SCALAR
#include "scalar/conv_2d.h"
#elif EAR_MVE
#include "mve/conv_2d.h"
#elif EAR_SIMD
#include "simd/conv_2d.h"
#else
EAR_NO_PACKED(ear_conv_2d_packed, struct ear_conv_2d)
#endif

/* x: (batches, in_rows, in_columns, in_channels); y: (batches, out_rows, out_columns, out_channels);
 * weights: out_channels rows of filter_rows * filter_columns * filter_channels, padded to whole words;
 * channels: see ear_channel; scratch: two rows of weights, unless a column lies in x in one piece.
 * Packed kernels have an order and a scratch of their own. */
EAR_KERNEL void ear_conv_2d(struct ear_conv_2d s, struct ear_output out, const int8_t *x, const void *weights,
                            const int32_t *channels, int8_t *y, int8_t *scratch) {
    for (int32_t batch = 0; batch < s.batches; ++batch) {
        if (out.packed)
            ear_conv_2d_packed(s, out, x, weights, channels, y, scratch);
        else
            ear_conv_2d_plain(s, out, x, weights, channels, y, scratch);
        x += s.in_rows * s.in_columns * s.in_channels;
        y += s.out_rows * s.out_columns * s.out_channels;
    }
}

#endif
