/* int16/conv_2d.h: 2-D convolution, int16 with int8 weights: columns are gathered as in conv_2d.h. */
#ifndef EAR_INT16_CONV_2D_H
#define EAR_INT16_CONV_2D_H

#include "../conv_2d.h"
#include "matmul.h"

/* The column of a group under output `position`: in place, or gathered into `column_at`. */
EAR_KERNEL const int16_t *ear_conv_2d_int16_column(struct ear_conv_2d s, const int16_t *x, int32_t group,
                                                   int32_t position, int16_t *column_at) {
    const int32_t first = 2 * group * s.filter_channels;
    s.in_channels *= 2; /* in bytes */
    s.filter_channels *= 2;
    const void *column = ear_conv_2d_column(s, (const int8_t *)x, first, position / s.out_columns,
                                            position % s.out_columns, (int8_t *)column_at);
    return column;
}

/* x: (batches, in_rows, in_columns, in_channels); y: (batches, out_rows, out_columns, out_channels);
 * weights: rows of filter_rows * filter_columns * filter_channels, padded to whole words, in groups of an even number
 * of rows when packed; channels: rows of bias (two words), multiplier, shift;
 * scratch: two columns unless they lie in x in one piece, then two lanes when packed. */
EAR_KERNEL void ear_conv_2d_int16(struct ear_conv_2d s, struct ear_output out, const int16_t *x, const int8_t *weights,
                                  const int32_t *channels, int16_t *y, int8_t *scratch) {
    const int32_t depth = s.filter_rows * s.filter_columns * s.filter_channels, padded = (depth + 3) & ~3;
    const int32_t positions = s.out_rows * s.out_columns, groups = s.in_channels / s.filter_channels;
    const int32_t outputs = s.out_channels / groups, rows = out.packed ? (outputs + 1) & ~1 : outputs;
    int16_t *const first = (int16_t *)(void *)scratch;
    int16_t *second = first, *lanes = first;
    if (!ear_conv_2d_direct(s)) {
        second = first + padded;
        lanes = first + padded * ear_min(positions, 2);
    }
    for (int32_t batch = 0; batch < s.batches; ++batch) {
        for (int32_t group = 0; group < groups; ++group) {
            const int8_t *const filters = weights + group * rows * padded;
            const int32_t *const own = channels + EAR_INT16_ROW * group * outputs;
            for (int32_t i = 0; i < positions; i += 2) {
                const int32_t position = positions > 1 ? ear_min(i, positions - 2) : 0;
                int16_t *const to = y + position * s.out_channels + group * outputs;
                const int16_t *const x0 = ear_conv_2d_int16_column(s, x, group, position, first);
                const int16_t *x1 = x0;
                if (positions > 1)
                    x1 = ear_conv_2d_int16_column(s, x, group, position + 1, second);
                ear_int16_matmul(out, x0, x1, filters, own, depth, outputs, to,
                                 positions > 1 ? to + s.out_channels : 0, lanes);
            }
        }
        x += s.in_rows * s.in_columns * s.in_channels;
        y += positions * s.out_channels;
    }
}

#endif
