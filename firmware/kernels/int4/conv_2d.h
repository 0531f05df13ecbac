/* int4/conv_2d.h: 2-D convolution, int8 with weights of 4 bits: columns are gathered as in conv_2d.h. */
#ifndef EAR_INT4_CONV_2D_H
#define EAR_INT4_CONV_2D_H

#include "../conv_2d.h"
#include "matmul.h"

/* weights: rows of filter_rows * filter_columns * filter_channels, see matmul.h; channels: see ear_channel;
 * scratch: two columns unless they lie in x in one piece, then two lanes when packed. */
EAR_KERNEL void ear_conv_2d_int4(struct ear_conv_2d s, struct ear_output out, const int8_t *x, const int8_t *weights,
                                 const int32_t *channels, int8_t *y, int8_t *scratch) {
    const int32_t depth = s.filter_rows * s.filter_columns * s.filter_channels, padded = (depth + 7) & ~7;
    const int32_t positions = s.out_rows * s.out_columns, groups = s.in_channels / s.filter_channels;
    const int32_t outputs = s.out_channels / groups;
    int8_t *second = scratch, *lanes = scratch;
    if (!ear_conv_2d_direct(s)) {
        second = scratch + padded;
        lanes = scratch + 2 * padded;
    }
    for (int32_t batch = 0; batch < s.batches; ++batch) {
        for (int32_t group = 0; group < groups; ++group)
            for (int32_t i = 0; i < positions; i += 2) {
                const int32_t one = ear_max(ear_min(i, positions - 2), 0), two = ear_min(one + 1, positions - 1);
                const int32_t first = group * s.filter_channels;
                const int8_t *const x0 =
                    ear_conv_2d_column(s, x, first, one / s.out_columns, one % s.out_columns, scratch);
                const int8_t *const x1 =
                    ear_conv_2d_column(s, x, first, two / s.out_columns, two % s.out_columns, second);
                int8_t *const to = y + group * outputs;
                ear_int4_matmul(out, x0, x1, weights + group * outputs * padded / 2, channels + 3 * group * outputs,
                                depth, outputs, to + one * s.out_channels, to + two * s.out_channels, lanes);
            }
        x += s.in_rows * s.in_columns * s.in_channels;
        y += positions * s.out_channels;
    }
}

#endif
