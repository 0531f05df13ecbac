/* dsp/conv_2d.h: conv_2d on cores with SMLAD: columns are widened once, three positions at a time.
 * scratch: the widened columns, and a column in bytes where its pieces are not whole words. */
#ifndef EAR_DSP_CONV_2D_H
#define EAR_DSP_CONV_2D_H

#include "pixels.h"
#include "matmul.h"

/* A run of a known length, in overlapping words. */
EAR_KERNEL void ear_conv_2d_run(int8_t *to, const int8_t *from, int32_t bytes) {
    if (bytes < 4) {
        for (int32_t i = 0; i < bytes; ++i)
            to[i] = from[i];
        return;
    }
    for (int32_t i = 0; i + 4 <= bytes; i += 4)
        memcpy(to + i, from + i, 4);
    if (bytes % 4)
        memcpy(to + bytes - 4, from + bytes - 4, 4);
}

/* A column of which every pixel is whole words. */
EAR_KERNEL void ear_conv_2d_widen_words(struct ear_conv_2d s, const int8_t *x, int32_t top, int32_t left, int inside,
                                        ear_word *to, int32_t lanes) {
    EAR_ROLLED
    for (int32_t i = 0; i < s.filter_rows; ++i, top += s.dilation_rows) {
        if (inside && s.filter_channels == s.in_channels && s.dilation_columns == 1) {
            const int8_t *const run = x + (top * s.in_columns + left) * s.in_channels;
            to = ear_widen(run, s.filter_columns * s.filter_channels, to, lanes);
            continue;
        }
        EAR_ROLLED
        for (int32_t j = 0; j < s.filter_columns; ++j) {
            const int32_t column = left + j * s.dilation_columns;
            if (top < 0 || top >= s.in_rows || column < 0 || column >= s.in_columns)
                to = ear_widen_fill(s.in_zero, s.filter_channels, to, lanes);
            else
                to = ear_widen(x + (top * s.in_columns + column) * s.in_channels, s.filter_channels, to, lanes);
        }
    }
}

/* A column of other pixels, by way of `pieces`. */
EAR_KERNEL void ear_conv_2d_widen_bytes(struct ear_conv_2d s, const int8_t *x, int32_t top, int32_t left, int inside,
                                        ear_word *to, int32_t lanes, int8_t *pieces) {
    const int32_t run = s.filter_columns * s.filter_channels;
    if (inside && s.filter_channels == s.in_channels && s.dilation_columns == 1) {
        for (int32_t i = 0; i < s.filter_rows; ++i, top += s.dilation_rows)
            ear_conv_2d_run(pieces + i * run, x + (top * s.in_columns + left) * s.in_channels, run);
    } else {
        const struct ear_pixels pixels = { .in_rows = s.in_rows,
                                           .in_columns = s.in_columns,
                                           .pixel = s.in_channels,
                                           .zero = s.in_zero,
                                           .rows = s.filter_rows,
                                           .columns = s.filter_columns,
                                           .dilation_rows = s.dilation_rows,
                                           .dilation_columns = s.dilation_columns,
                                           .piece = s.filter_channels };
        ear_pixels_gather(&pixels, x, top, left, pieces);
    }
    ear_widen(pieces, s.filter_rows * run, to, lanes);
}

/* The column under output position `position` of a group whose first channel is at x. */
EAR_KERNEL void ear_conv_2d_widen(struct ear_conv_2d s, const int8_t *x, int32_t position, ear_word *to, int32_t lanes,
                                  int8_t *pieces) {
    const int32_t top = position / s.out_columns * s.stride_rows - s.pad_rows;
    const int32_t left = position % s.out_columns * s.stride_columns - s.pad_columns;
    const int inside = top >= 0 && top + (s.filter_rows - 1) * s.dilation_rows < s.in_rows && left >= 0 &&
                       left + (s.filter_columns - 1) * s.dilation_columns < s.in_columns;
    if (ear_conv_2d_direct(s))
        ear_widen(x + (top * s.in_columns + left) * s.in_channels, s.filter_channels, to, lanes);
    else if (s.filter_channels % 4 == 0)
        ear_conv_2d_widen_words(s, x, top, left, inside, to, lanes);
    else
        ear_conv_2d_widen_bytes(s, x, top, left, inside, to, lanes, pieces);
}

/* All positions from `position` on that fill `lanes` lanes, of one group; returns the next position. */
EAR_KERNEL int32_t ear_conv_2d_lanes(struct ear_conv_2d s, struct ear_output out, struct ear_product product,
                                     const int8_t *x, int8_t *y, int32_t position, int32_t lanes, int8_t *scratch) {
    const int32_t steps = (s.filter_rows * s.filter_columns * s.filter_channels + 3) / 4;
    EAR_ROLLED
    for (; position + lanes <= s.out_rows * s.out_columns; position += lanes) {
        EAR_ROLLED
        for (int32_t i = 0; i < lanes; ++i)
            ear_conv_2d_widen(s, x, position + i, (ear_word *)(void *)scratch + i, lanes,
                              scratch + 8 * lanes * steps);
        ear_multiply(&product, out, lanes, y + position * s.out_channels);
    }
    return position;
}

/* weights: for each group its pairs of rows; channels: a struct ear_pair for each of them. */
EAR_KERNEL void ear_conv_2d_packed(struct ear_conv_2d s, struct ear_output out, const int8_t *x, const void *weights,
                                const int32_t *channels, int8_t *y, int8_t *scratch) {
    const int32_t groups = s.in_channels / s.filter_channels, outputs = s.out_channels / groups;
    const int32_t steps = (s.filter_rows * s.filter_columns * s.filter_channels + 3) / 4;
    const ear_word *w = weights;
    EAR_ROLLED
    for (int32_t group = 0; group < groups; ++group, x += s.filter_channels, y += outputs) {
        int32_t done = 0;
        if (s.out_rows * s.out_columns >= EAR_COLUMNS)
            done = ear_conv_2d_lanes(
                s, out, ear_product(out, w, channels, scratch, EAR_COLUMNS, steps, outputs, s.out_channels), x, y, 0,
                EAR_COLUMNS, scratch);
        if (s.out_rows * s.out_columns % EAR_COLUMNS)
            ear_conv_2d_lanes(s, out, ear_product(out, w, channels, scratch, 1, steps, outputs, 0), x, y, done, 1,
                              scratch);
        w += (outputs + 1) / 2 * 2 * steps;
        channels += (outputs + 1) / 2 * 8;
    }
}

#endif
