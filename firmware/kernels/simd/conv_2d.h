/* simd/conv_2d.h: conv_2d with vectors: every column lies in an image of the padded input. Scratch: the image. */
#ifndef EAR_SIMD_CONV_2D_H
#define EAR_SIMD_CONV_2D_H

#include "matmul.h"

EAR_KERNEL void ear_conv_2d_packed(struct ear_conv_2d s, struct ear_output out, const int8_t *x, const void *weights,
                                   const int32_t *channels, int8_t *y, int8_t *scratch) {
    const int32_t joined = s.dilation_columns == 1; /* a filter's row lies in the image in one piece */
    const struct ear_image image = {
        .in_rows = s.in_rows,
        .in_columns = s.in_columns,
        .channels = s.in_channels,
        .zero = s.in_zero,
        .rows = (s.out_rows - 1) * s.stride_rows + (s.filter_rows - 1) * s.dilation_rows + 1,
        .columns = (s.out_columns - 1) * s.stride_columns + (s.filter_columns - 1) * s.dilation_columns + 1,
        .pad_rows = s.pad_rows,
        .pad_columns = s.pad_columns,
    };
    const struct ear_columns columns = {
        .count = s.out_rows * s.out_columns,
        .per_line = s.out_columns,
        .step = s.stride_columns * s.in_channels,
        .line_step = s.stride_rows * image.columns * s.in_channels,
        .rows = s.filter_rows,
        .row_step = s.dilation_rows * image.columns * s.in_channels,
        .pieces = joined ? 1 : s.filter_columns,
        .piece_step = s.dilation_columns * s.in_channels,
        .steps = ((joined ? s.filter_columns : 1) * s.in_channels + 3) / 4,
    };
    ear_pixel *const pixels = ear_aligned(scratch);
    int8_t *const room = ear_aligned(pixels + image.rows * image.columns * s.in_channels);
    ear_image_pixels(image, x, pixels);
    ear_product(columns, out, pixels, weights, channels, s.out_channels, y, room);
}

#endif
