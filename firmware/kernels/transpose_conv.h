/* transpose_conv.h: transposed 2-D convolution, int8, as small convolutions: one for each place between two inputs.
 *
 * With stride n, the outputs q * n .. q * n + n - 1 of a row see the same inputs, the last of them q: their filters are
 * rows of one matrix, and their results lie together. Filters that do not divide by the stride make two matrices, one
 * a tap longer. No product is with a zero that is not padding, and nothing is added up in memory: it costs what
 * conv_2d costs at the same depth, and the copy of results where two matrices or a border break the run. */
#ifndef EAR_TRANSPOSE_CONV_H
#define EAR_TRANSPOSE_CONV_H

#include "conv_2d.h"

struct ear_transpose_conv {
    int32_t batches, in_rows, in_columns, in_channels, in_zero;
    int32_t out_rows, out_columns, out_channels;
    int32_t stride_rows, stride_columns, pad_rows, pad_columns;
    int32_t tall, tall_taps, short_taps; /* row phases with the longer filter, and the rows of both filters */
};

/* The column phases of one matrix. */
struct ear_phases {
    int32_t first, count, taps;
    int32_t tall_step, short_step; /* bytes of its weights for each row phase */
    int32_t table_step;            /* words of its table of channels, likewise */
};

/* The convolution that makes one matrix' outputs at places q and q + 1 between the inputs of a row. */
EAR_KERNEL struct ear_conv_2d ear_transpose_conv_part(struct ear_transpose_conv s, struct ear_phases p, int32_t taps,
                                                      int32_t place, int32_t q) {
    return (struct ear_conv_2d){ .batches = 1,
                                 .in_rows = s.in_rows,
                                 .in_columns = s.in_columns,
                                 .in_channels = s.in_channels,
                                 .in_zero = s.in_zero,
                                 .out_rows = 1,
                                 .out_columns = 2,
                                 .out_channels = p.count * s.out_channels,
                                 .filter_rows = taps,
                                 .filter_columns = p.taps,
                                 .filter_channels = s.in_channels,
                                 .stride_rows = 1,
                                 .stride_columns = 1,
                                 .dilation_rows = 1,
                                 .dilation_columns = 1,
                                 .pad_rows = taps - 1 - place,
                                 .pad_columns = p.taps - 1 - q };
}

/* Copies the results of two places to those outputs of a row that exist; width: bytes of an output. */
EAR_KERNEL void ear_transpose_conv_keep(struct ear_transpose_conv s, struct ear_phases p, int32_t q, int32_t width,
                                        const int8_t *from, int8_t *row) {
    for (int32_t i = 0; i < 2; ++i, from += p.count * width) {
        const int32_t at = (q + i) * s.stride_columns + p.first - s.pad_columns;
        const int32_t skip = ear_max(-at, 0), end = ear_min(p.count, s.out_columns - at);
        if (skip < end)
            ear_copy(row + (at + skip) * width, from + skip * width, (end - skip) * width);
    }
}

/* Whether both places' outputs lie together, whole, in the row. */
EAR_KERNEL int ear_transpose_conv_whole(struct ear_transpose_conv s, struct ear_phases p, int32_t q) {
    const int32_t at = q * s.stride_columns - s.pad_columns;
    return p.count == s.stride_columns && at >= 0 && at + 2 * s.stride_columns <= s.out_columns;
}

/* One row of outputs of one matrix. kept: two places' results, then the scratch of conv_2d. */
EAR_KERNEL void ear_transpose_conv_row(struct ear_transpose_conv s, struct ear_phases p, struct ear_output out,
                                       const int8_t *x, const int8_t *weights, const int32_t *channels, int8_t *y,
                                       int32_t row, int8_t *kept) {
    const int32_t phase = (row + s.pad_rows) % s.stride_rows, place = (row + s.pad_rows) / s.stride_rows;
    const int32_t taps = phase < s.tall ? s.tall_taps : s.short_taps, outputs = p.count * s.out_channels;
    const int32_t last = (s.out_columns - 1 + s.pad_columns) / s.stride_columns;
    const int8_t *const w = weights + ear_min(phase, s.tall) * p.tall_step + ear_max(phase - s.tall, 0) * p.short_step;
    for (int32_t q = s.pad_columns / s.stride_columns; q <= last; q += 2) {
        const int whole = ear_transpose_conv_whole(s, p, q);
        int8_t *const to = whole ? y + (q * s.stride_columns - s.pad_columns) * s.out_channels : kept;
        ear_conv_2d(ear_transpose_conv_part(s, p, taps, place, q), out, x, w, channels + phase * p.table_step, to,
                    kept + ((2 * outputs + 15) & ~15));
        if (!whole)
            ear_transpose_conv_keep(s, p, q, s.out_channels, kept, y);
    }
}

/* x: (batches, in_rows, in_columns, in_channels); y: (batches, out_rows, out_columns, out_channels);
 * a, b: the column phases of the longer and of the shorter filter (count 0: there are none); weights and channels of
 * each: of conv_2d, for each row phase in turn */
EAR_KERNEL void ear_transpose_conv(struct ear_transpose_conv s, struct ear_phases a, struct ear_output out_a,
                                   struct ear_phases b, struct ear_output out_b, const int8_t *x,
                                   const void *weights_a, const int32_t *channels_a, const void *weights_b,
                                   const int32_t *channels_b, int8_t *y, int8_t *scratch) {
    for (int32_t batch = 0; batch < s.batches; ++batch, x += s.in_rows * s.in_columns * s.in_channels)
        for (int32_t row = 0; row < s.out_rows; ++row, y += s.out_columns * s.out_channels) {
            if (a.count)
                ear_transpose_conv_row(s, a, out_a, x, weights_a, channels_a, y, row, scratch);
            if (b.count)
                ear_transpose_conv_row(s, b, out_b, x, weights_b, channels_b, y, row, scratch);
        }
}

#endif
