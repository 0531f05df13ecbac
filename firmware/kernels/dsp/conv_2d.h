/* dsp/conv_2d.h: conv_2d on cores with SMLAD: columns are widened once, two positions at a time.
 * scratch: two widened columns (one, when there is one position), and a column that is gathered or padded. */
#ifndef EAR_DSP_CONV_2D_H
#define EAR_DSP_CONV_2D_H

#include "matmul.h"

/* Widens the column under output position `position` for lane `lane` of `lanes`. */
EAR_KERNEL void ear_conv_2d_widen(struct ear_conv_2d s, const int8_t *x, int32_t position, int32_t lane, int32_t lanes,
                                  int8_t *scratch) {
    const int32_t depth = s.filter_rows * s.filter_columns * s.filter_channels;
    ear_word *const widened = (ear_word *)(void *)scratch;
    int8_t *const column_at = scratch + 2 * lanes * ((depth + 3) & ~3);
    const int8_t *from;
    if (ear_conv_2d_direct(s) && s.stride_rows == 1 && s.stride_columns == 1)
        from = x + position * s.in_channels;
    else
        from = ear_conv_2d_column(s, x, 0, position / s.out_columns, position % s.out_columns, column_at);
    if (depth % 4) {
        if (from != column_at)
            ear_copy(column_at, from, depth);
        ear_fill(column_at + depth, 0, 4 - depth % 4);
        from = column_at;
    }
    ear_widen(from, depth, lanes, widened + 2 * lane);
}

/* Two positions at a time; an odd last one is computed together with its neighbour once more. */
EAR_KERNEL void ear_conv_2d_packed(struct ear_conv_2d s, struct ear_output out, const int8_t *x, const void *weights,
                                const int32_t *channels, int8_t *y, int8_t *scratch) {
    const int32_t depth = s.filter_rows * s.filter_columns * s.filter_channels, padded = (depth + 3) & ~3;
    const int32_t positions = s.out_rows * s.out_columns;
    const ear_word *const widened = (const ear_word *)(const void *)scratch;
    if (positions == 1) {
        ear_conv_2d_widen(s, x, 0, 0, 1, scratch);
        ear_matmul_1(out, widened, weights, channels, padded / 4, s.out_channels, y);
        return;
    }
    for (int32_t i = 0; i < positions; i += 2) {
        const int32_t position = ear_min(i, positions - 2);
        ear_conv_2d_widen(s, x, position, 0, 2, scratch);
        ear_conv_2d_widen(s, x, position + 1, 1, 2, scratch);
        ear_matmul_2(out, widened, weights, channels, padded / 4, s.out_channels, y + position * s.out_channels,
                     y + (position + 1) * s.out_channels);
    }
}

#endif
