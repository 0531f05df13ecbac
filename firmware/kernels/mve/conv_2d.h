/* mve/conv_2d.h: conv_2d on cores with MVE: columns of inputs are gathered two at a time, see matmul.h.
 * scratch: two columns of whole pieces, unless they lie in x. */
#ifndef EAR_MVE_CONV_2D_H
#define EAR_MVE_CONV_2D_H

#include "gather.h"
#include "matmul.h"

/* The column under an output, in place or gathered to `to`. */
EAR_KERNEL const int8_t *ear_conv_2d_pieces(struct ear_conv_2d s, const int8_t *x, int32_t row, int32_t column,
                                            int8_t *to) {
    const int32_t top = row * s.stride_rows - s.pad_rows, left = column * s.stride_columns - s.pad_columns;
    const struct ear_field gather = { s.in_rows,     s.in_columns,     s.in_channels,   s.in_zero,
                                      s.filter_rows, s.filter_columns, s.dilation_rows, s.dilation_columns };
    if (ear_conv_2d_direct(s))
        return x + (top * s.in_columns + left) * s.in_channels;
    ear_field(gather, x, top, left, to);
    return to;
}

/* Two positions at a time; an odd last one is computed together with its neighbour once more. */
EAR_KERNEL void ear_conv_2d_packed(struct ear_conv_2d s, struct ear_output out, const int8_t *x, const void *weights,
                                   const int32_t *channels, int8_t *y, int8_t *scratch) {
    const struct ear_product product = { s.filter_rows * s.filter_columns * s.filter_channels, s.out_channels,
                                         !ear_conv_2d_direct(s) };
    const int32_t positions = s.out_rows * s.out_columns, column_bytes = EAR_PIECE * ear_pieces_of(product);
    if (positions == 1)
        ear_product_1(product, out, (struct ear_column){ ear_conv_2d_pieces(s, x, 0, 0, scratch), 0 }, weights,
                      channels, y);
    EAR_ROLLED
    for (int32_t i = 0; i < positions && positions > 1; i += 2) {
        const int32_t position = ear_min(i, positions - 2);
        const int8_t *columns[2];
        EAR_ROLLED
        for (int32_t j = 0; j < 2; ++j)
            columns[j] = ear_conv_2d_pieces(s, x, (position + j) / s.out_columns, (position + j) % s.out_columns,
                                            scratch + j * column_bytes);
        ear_product_2(product, out, (struct ear_column){ columns[0], 0 }, (struct ear_column){ columns[1], 0 }, weights,
                      channels, y + position * s.out_channels, y + (position + 1) * s.out_channels);
    }
}

#endif
