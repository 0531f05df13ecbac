/* simd/depthwise_conv_2d.h: depthwise_conv_2d with a channel a lane: the inputs under two taps interleave, so that
 * one instruction multiplies and adds both. Scratch: an image of half-words.
 *
 * Weights: for each block of 32 channels and each pair of taps, 128 bytes of half-words. */
#ifndef EAR_SIMD_DEPTHWISE_CONV_2D_H
#define EAR_SIMD_DEPTHWISE_CONV_2D_H

#include "image.h"

enum { EAR_UNROLLED_TAPS = 16 };

/* The inputs under one tap; x: those under the first one. */
EAR_KERNEL ear_vector ear_depthwise_tap(struct ear_depthwise_conv_2d s, int32_t columns, const int16_t *x,
                                        int32_t tap) {
    const int32_t row = tap / s.filter_columns * s.dilation_rows;
    const int32_t column = tap % s.filter_columns * s.dilation_columns;
    return ear_load(x + (row * columns + column) * s.in_channels);
}

/* Adds the products of two taps to the sums of a group; an odd last tap goes with a weight of zero. */
EAR_KERNEL void ear_depthwise_pair(struct ear_depthwise_conv_2d s, int32_t columns, const int16_t *x,
                                   const int16_t *weights, int32_t tap, ear_vector *low, ear_vector *high) {
    const int32_t last = s.filter_rows * s.filter_columns - 1;
    const ear_vector a = ear_depthwise_tap(s, columns, x, tap);
    const ear_vector b = ear_depthwise_tap(s, columns, x, ear_min(tap + 1, last));
    const int16_t *const w = weights + tap / 2 * (EAR_STEP_BYTES / 2);
    *low = ear_pairs_add(*low, ear_interleave_low(a, b), ear_load(w));
    *high = ear_pairs_add(*high, ear_interleave_high(a, b), ear_load(w + EAR_STEP_BYTES / 4));
}

/* The outputs of one group at one position; filters of up to EAR_UNROLLED_TAPS taps have no loop. */
EAR_KERNEL void ear_depthwise_group(struct ear_depthwise_conv_2d s, struct ear_output out, int32_t columns,
                                    const int16_t *x, const int16_t *weights, const int32_t *table, int32_t count,
                                    int8_t *y) {
    const int32_t taps = s.filter_rows * s.filter_columns;
    ear_vector low = ear_load(table), high = ear_load(table + EAR_BLOCK / 2);
    EAR_UNROLLED
    for (int32_t tap = 0; tap < EAR_UNROLLED_TAPS; tap += 2)
        if (tap < taps)
            ear_depthwise_pair(s, columns, x, weights, tap, &low, &high);
    for (int32_t tap = EAR_UNROLLED_TAPS; tap < taps; tap += 2)
        ear_depthwise_pair(s, columns, x, weights, tap, &low, &high);
    ear_group_finish(out, table, low, high, count, y);
}

EAR_KERNEL void ear_depthwise_conv_2d_packed(struct ear_depthwise_conv_2d s, struct ear_output out, const int8_t *x,
                                             const void *weights, const int32_t *channels, int8_t *y,
                                             int8_t *scratch) {
    const struct ear_image image = {
        .in_rows = s.in_rows,
        .in_columns = s.in_columns,
        .channels = s.in_channels,
        .zero = s.in_zero,
        .rows = (s.out_rows - 1) * s.stride_rows + (s.filter_rows - 1) * s.dilation_rows + 1,
        .columns = (s.out_columns - 1) * s.stride_columns + (s.filter_columns - 1) * s.dilation_columns + 1,
        .pad_rows = s.pad_rows,
        .pad_columns = s.pad_columns,
    };
    const int32_t block = (s.filter_rows * s.filter_columns + 1) / 2 * (EAR_STEP_BYTES / 2);
    const int16_t *const w = weights;
    int16_t *const halves = ear_aligned(scratch);
    for (int32_t batch = 0; batch < s.batches; ++batch, x += s.in_rows * s.in_columns * s.in_channels) {
        ear_image_halves(image, x, halves);
        for (int32_t row = 0; row < s.out_rows; ++row)
            for (int32_t column = 0; column < s.out_columns; ++column, y += s.out_channels) {
                const int16_t *const at =
                    halves + (row * s.stride_rows * image.columns + column * s.stride_columns) * s.in_channels;
                for (int32_t first = 0; first < s.out_channels; first += EAR_GROUP) {
                    const int32_t group = first / EAR_GROUP;
                    ear_depthwise_group(s, out, image.columns, at + first,
                                        w + ear_group_start(group, block, 2 * EAR_LANES),
                                        channels + ear_group_start(group, EAR_BLOCK_CHANNELS, EAR_LANES),
                                        s.out_channels - first, y + first);
                }
            }
    }
}

#endif
