/* scalar/depthwise_conv_2d.h: depthwise_conv_2d on cores without SMLAD: out.packed columns at a time.
 * Weights: the taps of each channel; table: bias and scaling of each. Scratch: the inputs of a tile at a border.
 *
 * A tile of n columns loads an input of a 3-column filter at stride 1 once for up to three products: on M3, where a
 * product is an MLA, that is (n + 2 + 3 n) / 3 n instructions a MAC, 1.47 for n = 5, and 10 for each output, 1.1 a MAC
 * of 3x3; with weights and borders kws' layers take 3.2 (GCC) to 3.7 (clang). M0+ has registers for the sums alone,
 * copies an operand before each MUL, and takes 30 for each output: 10.7. */
#ifndef EAR_SCALAR_DEPTHWISE_CONV_2D_H
#define EAR_SCALAR_DEPTHWISE_CONV_2D_H

#include "finish.h"
#include "patch.h"

/* Loops over the columns of a tile become registers. */
#if defined(__clang__)
#define EAR_UNROLLED _Pragma("clang loop unroll(full)")
#else
#define EAR_UNROLLED _Pragma("GCC unroll 16")
#endif

/* Rows of a filter too, but for clang's M3, where sums would move to the stack (measured). */
#if defined(__clang__) && defined(__thumb2__)
#define EAR_UNROLLS_ROWS 0
#else
#define EAR_UNROLLS_ROWS 1
#endif

#define EAR_UNROLLED_FILTER 9 /* taps */
#define EAR_TILE 5           /* widest */
#define EAR_UNROLLED_TAPS 5  /* of a filter row, at most */
#define EAR_CHANNEL_RECORD 4 /* words of the table: bias, multiplier, rounding, right */

/* Adds one row of a filter at the columns of a tile to their sums. */
EAR_KERNEL void ear_depthwise_row(struct ear_depthwise_conv_2d s, int32_t columns, const int8_t *x, const int8_t *w,
                                  int32_t *sums) {
    if (s.filter_columns <= EAR_UNROLLED_TAPS && s.dilation_columns <= 2) {
        const int32_t last = (columns - 1) * s.stride_columns + (s.filter_columns - 1) * s.dilation_columns;
        EAR_UNROLLED
        for (int32_t c = 0; c <= last; ++c)
            EAR_UNROLLED
            for (int32_t j = 0; j < s.filter_columns; ++j) {
                const int32_t at = c - j * s.dilation_columns, column = at / s.stride_columns;
                if (at >= 0 && at % s.stride_columns == 0 && column < columns)
                    sums[column] += x[c * s.in_channels] * w[j];
            }
        return;
    }
    EAR_ROLLED
    for (int32_t j = 0; j < s.filter_columns; ++j, x += s.dilation_columns * s.in_channels)
        EAR_UNROLLED
        for (int32_t column = 0; column < columns; ++column)
            sums[column] += x[column * s.stride_columns * s.in_channels] * w[j];
}

/* The outputs of all channels at the `columns` positions of a tile; rows of the inputs lie row_bytes apart. */
EAR_KERNEL void ear_depthwise_columns(struct ear_depthwise_conv_2d s, struct ear_output out, const int8_t *x,
                                      int32_t row_bytes, const int8_t *w, const int32_t *table, int8_t *y) {
    const int32_t multiplier = s.out_channels / s.in_channels;
    int32_t sums[EAR_TILE];
    EAR_ROLLED
    for (int32_t k = 0; k < s.out_channels; ++k, table += EAR_CHANNEL_RECORD, ++y) {
        EAR_UNROLLED
        for (int32_t column = 0; column < out.packed; ++column)
            sums[column] = table[0];
        const int8_t *from = x + k / multiplier;
        if (EAR_UNROLLS_ROWS && s.filter_rows * s.filter_columns <= EAR_UNROLLED_FILTER)
            EAR_UNROLLED
            for (int32_t i = 0; i < s.filter_rows; ++i, from += row_bytes, w += s.filter_columns)
                ear_depthwise_row(s, out.packed, from, w, sums);
        else
            EAR_ROLLED
            for (int32_t i = 0; i < s.filter_rows; ++i, from += row_bytes, w += s.filter_columns)
                ear_depthwise_row(s, out.packed, from, w, sums);
        const struct ear_scaling scaling = ear_scaling(table + 1);
        EAR_UNROLLED
        for (int32_t column = 0; column < out.packed; ++column)
            y[column * s.out_channels] = ear_finish_narrow(out, scaling, sums[column]);
    }
}

/* A last tile that is narrower overlaps its neighbour. */
EAR_KERNEL void ear_depthwise_conv_2d_packed(struct ear_depthwise_conv_2d s, struct ear_output out, const int8_t *x,
                                             const void *weights, const int32_t *table, int8_t *y, int8_t *scratch) {
    const int32_t span = (out.packed - 1) * s.stride_columns + (s.filter_columns - 1) * s.dilation_columns + 1;
    const struct ear_image image = { s.in_rows, s.in_columns, s.in_channels, s.in_zero };
    const int32_t bottom = s.in_rows - (s.filter_rows - 1) * s.dilation_rows;
    for (int32_t batch = 0; batch < s.batches; ++batch, x += s.in_rows * s.in_columns * s.in_channels)
        for (int32_t row = 0; row < s.out_rows; ++row, y += s.out_columns * s.out_channels)
            for (int32_t i = 0; i < s.out_columns; i += out.packed) {
                const int32_t column = ear_min(i, s.out_columns - out.packed);
                const int32_t top = row * s.stride_rows - s.pad_rows, left = column * s.stride_columns - s.pad_columns;
                const int inside = top >= 0 && top < bottom && left >= 0 && left + span <= s.in_columns;
                const int8_t *from = scratch;
                if (inside)
                    from = x + (top * s.in_columns + left) * s.in_channels;
                else
                    ear_patch_copy(image, x, top, left, s.filter_rows, s.dilation_rows, span, scratch);
                const int32_t row_bytes = (inside ? s.dilation_rows * s.in_columns : span) * s.in_channels;
                ear_depthwise_columns(s, out, from, row_bytes, weights, table, y + column * s.out_channels);
            }
}

#endif
