/* scalar/conv_2d.h: conv_2d on cores without SMLAD: one position at a time.
 * scratch: a column, unless it lies in x in one piece of whole words. */
#ifndef EAR_SCALAR_CONV_2D_H
#define EAR_SCALAR_CONV_2D_H

#include "matmul.h"

/* The column under output (row, column): in place, or in `to`. */
EAR_KERNEL const int8_t *ear_conv_2d_patch(struct ear_conv_2d s, const int8_t *x, int32_t row, int32_t column,
                                           int8_t *to) {
    const struct ear_image image = { s.in_rows, s.in_columns, s.in_channels, s.in_zero };
    if (ear_conv_2d_direct(s) || s.dilation_columns > 1)
        return ear_conv_2d_column(s, x, 0, row, column, to);
    ear_patch_copy(image, x, row * s.stride_rows - s.pad_rows, column * s.stride_columns - s.pad_columns,
                   s.filter_rows, s.dilation_rows, s.filter_columns, to);
    return to;
}

EAR_KERNEL void ear_conv_2d_packed(struct ear_conv_2d s, struct ear_output out, const int8_t *x, const void *weights,
                                   const int32_t *channels, int8_t *y, int8_t *scratch) {
    const int32_t depth = s.filter_rows * s.filter_columns * s.filter_channels;
    for (int32_t row = 0; row < s.out_rows; ++row)
        for (int32_t column = 0; column < s.out_columns; ++column, y += s.out_channels) {
            const int8_t *from = ear_conv_2d_patch(s, x, row, column, scratch);
            ear_matmul_1(out, ear_whole(from, depth, scratch), weights, channels, depth, s.out_channels, y);
        }
}

#endif
