/* int16/transpose_conv.h: transposed 2-D convolution, int16 with int8 weights, taken apart as in transpose_conv.h. */
#ifndef EAR_INT16_TRANSPOSE_CONV_H
#define EAR_INT16_TRANSPOSE_CONV_H

#include "../transpose_conv.h"
#include "conv_2d.h"

EAR_KERNEL void ear_transpose_conv_int16_row(struct ear_transpose_conv s, struct ear_phases p, struct ear_output out,
                                             const int16_t *x, const int8_t *weights, const int32_t *channels,
                                             int16_t *y, int32_t row, int8_t *kept) {
    const int32_t phase = (row + s.pad_rows) % s.stride_rows, place = (row + s.pad_rows) / s.stride_rows;
    const int32_t taps = phase < s.tall ? s.tall_taps : s.short_taps, outputs = p.count * s.out_channels;
    const int32_t last = (s.out_columns - 1 + s.pad_columns) / s.stride_columns;
    const int8_t *const w = weights + ear_min(phase, s.tall) * p.tall_step + ear_max(phase - s.tall, 0) * p.short_step;
    const int32_t *const own = channels + EAR_INT16_ROW * phase * outputs;
    for (int32_t q = s.pad_columns / s.stride_columns; q <= last; q += 2) {
        const int whole = ear_transpose_conv_whole(s, p, q);
        int16_t *to = (int16_t *)(void *)kept;
        if (whole)
            to = y + (q * s.stride_columns - s.pad_columns) * s.out_channels;
        ear_conv_2d_int16(ear_transpose_conv_part(s, p, taps, place, q), out, x, w, own, to,
                          kept + ((4 * outputs + 15) & ~15));
        if (!whole)
            ear_transpose_conv_keep(s, p, q, 2 * s.out_channels, kept, (int8_t *)y);
    }
}

/* As transpose_conv. */
EAR_KERNEL void ear_transpose_conv_int16(struct ear_transpose_conv s, struct ear_phases a, struct ear_output out_a,
                                         struct ear_phases b, struct ear_output out_b, const int16_t *x,
                                         const int8_t *weights_a, const int32_t *channels_a, const int8_t *weights_b,
                                         const int32_t *channels_b, int16_t *y, int8_t *scratch) {
    for (int32_t batch = 0; batch < s.batches; ++batch, x += s.in_rows * s.in_columns * s.in_channels)
        for (int32_t row = 0; row < s.out_rows; ++row, y += s.out_columns * s.out_channels) {
            if (a.count)
                ear_transpose_conv_int16_row(s, a, out_a, x, weights_a, channels_a, y, row, scratch);
            if (b.count)
                ear_transpose_conv_int16_row(s, b, out_b, x, weights_b, channels_b, y, row, scratch);
        }
}

#endif
