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

/* Where the inputs of one output position lie: the first one, and the bytes between filter rows and columns. */
struct ear_patch {
    const int8_t *x;
    int32_t row_bytes, column_bytes;
};

/* What computes the outputs at one position. */
typedef void (*ear_depthwise_position)(struct ear_depthwise_conv_2d s, struct ear_output out, struct ear_patch patch,
                                       const void *weights, const int32_t *channels, int8_t *y);

/* Copies the inputs under a filter at (top, left) to `to`; what lies outside x counts as in_zero. */
EAR_KERNEL void ear_depthwise_gather(struct ear_depthwise_conv_2d s, const int8_t *x, int32_t top, int32_t left,
                                     int8_t *to) {
    EAR_ROLLED
    for (int32_t i = 0; i < s.filter_rows; ++i)
        EAR_ROLLED
        for (int32_t j = 0; j < s.filter_columns; ++j, to += s.in_channels) {
            const int32_t row = top + i * s.dilation_rows, column = left + j * s.dilation_columns;
            if (row < 0 || row >= s.in_rows || column < 0 || column >= s.in_columns)
                ear_fill(to, s.in_zero, s.in_channels);
            else
                ear_copy(to, x + (row * s.in_columns + column) * s.in_channels, s.in_channels);
        }
}

EAR_KERNEL void ear_depthwise_plain(struct ear_depthwise_conv_2d s, struct ear_output out, struct ear_patch patch,
                                    const void *weights, const int32_t *channels, int8_t *y) {
    const int32_t multiplier = s.out_channels / s.in_channels;
    for (int32_t k = 0; k < s.out_channels; ++k) {
        const struct ear_channel channel = ear_channel(channels, k);
        const int8_t *x = patch.x + k / multiplier, *w = (const int8_t *)weights + k;
        int32_t sum = channel.bias;
        for (int32_t i = 0; i < s.filter_rows; ++i)
            for (int32_t j = 0; j < s.filter_columns; ++j, w += s.out_channels)
                sum += x[i * patch.row_bytes + j * patch.column_bytes] * *w;
        y[k] = ear_finish(out, channel, sum);
    }
}

/* Calls `position` for each output position, with the inputs under the filter in place or gathered in scratch. */
EAR_KERNEL void ear_depthwise_positions(struct ear_depthwise_conv_2d s, struct ear_output out, const int8_t *x,
                                        const void *weights, const int32_t *channels, int8_t *y, int8_t *scratch,
                                        ear_depthwise_position position) {
    const int32_t bottom = s.in_rows - (s.filter_rows - 1) * s.dilation_rows;
    const int32_t right = s.in_columns - (s.filter_columns - 1) * s.dilation_columns;
    const int32_t row_bytes = s.dilation_rows * s.in_columns * s.in_channels;
    for (int32_t batch = 0; batch < s.batches; ++batch, x += s.in_rows * s.in_columns * s.in_channels)
        for (int32_t row = 0; row < s.out_rows; ++row)
            for (int32_t column = 0; column < s.out_columns; ++column, y += s.out_channels) {
                const int32_t top = row * s.stride_rows - s.pad_rows, left = column * s.stride_columns - s.pad_columns;
                if (top >= 0 && top < bottom && left >= 0 && left < right) {
                    const int8_t *from = x + (top * s.in_columns + left) * s.in_channels;
                    const struct ear_patch patch = { from, row_bytes, s.dilation_columns * s.in_channels };
                    position(s, out, patch, weights, channels, y);
                } else {
                    const struct ear_patch patch = { scratch, s.filter_columns * s.in_channels, s.in_channels };
                    ear_depthwise_gather(s, x, top, left, scratch);
                    position(s, out, patch, weights, channels, y);
                }
            }
}

#if EAR_DSP
#include "dsp/depthwise_conv_2d.h"
#elif EAR_MVE
#include "mve/depthwise_conv_2d.h"
#elif EAR_SCALAR
#include "scalar/depthwise_conv_2d.h"
#elif EAR_SIMD
#include "simd/depthwise_conv_2d.h"
#else
EAR_NO_PACKED(ear_depthwise_conv_2d_packed, struct ear_depthwise_conv_2d)
#endif

/* x: (batches, in_rows, in_columns, in_channels); y: (batches, out_rows, out_columns, out_channels);
 * weights: (filter_rows, filter_columns, out_channels); channels: see ear_channel; scratch: the inputs under a filter.
 * Packed kernels have an order and a scratch of their own. */
EAR_KERNEL void ear_depthwise_conv_2d(struct ear_depthwise_conv_2d s, struct ear_output out, const int8_t *x,
                                      const void *weights, const int32_t *channels, int8_t *y, int8_t *scratch) {
    if (out.packed)
        ear_depthwise_conv_2d_packed(s, out, x, weights, channels, y, scratch);
    else
        ear_depthwise_positions(s, out, x, weights, channels, y, scratch, ear_depthwise_plain);
}

#endif
