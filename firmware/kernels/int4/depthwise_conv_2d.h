/* int4/depthwise_conv_2d.h: depthwise convolution, int8 with weights of 4 bits, walked as in depthwise_conv_2d.h. */
#ifndef EAR_INT4_DEPTHWISE_CONV_2D_H
#define EAR_INT4_DEPTHWISE_CONV_2D_H

#include "../depthwise_conv_2d.h"
#include "matmul.h"

EAR_KERNEL void ear_depthwise_int4(struct ear_depthwise_conv_2d s, struct ear_output out, struct ear_patch patch,
                                   const void *weights, const int32_t *channels, int8_t *y) {
    const int32_t multiplier = s.out_channels / s.in_channels, tap_bytes = (s.out_channels + 1) / 2;
    for (int32_t k = 0; k < s.out_channels; ++k) {
        const struct ear_channel channel = ear_channel(channels, k);
        const int8_t *x = patch.x + k / multiplier, *w = (const int8_t *)weights + k / 2;
        int32_t sum = channel.bias;
        for (int32_t i = 0; i < s.filter_rows; ++i)
            for (int32_t j = 0; j < s.filter_columns; ++j, w += tap_bytes)
                sum += x[i * patch.row_bytes + j * patch.column_bytes] * (k % 2 ? *w >> 4 : ear_low_nibble(*w));
        y[k] = ear_finish(out, channel, sum);
    }
}

/* weights: for each tap its channels, two a byte, the even one low; channels: see ear_channel;
 * scratch: the inputs under a filter. */
EAR_KERNEL void ear_depthwise_conv_2d_int4(struct ear_depthwise_conv_2d s, struct ear_output out, const int8_t *x,
                                           const int8_t *weights, const int32_t *channels, int8_t *y,
                                           int8_t *scratch) {
    ear_depthwise_positions(s, out, x, weights, channels, y, scratch, ear_depthwise_int4);
}

#endif
