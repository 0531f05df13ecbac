/* dsp/depthwise_conv_2d.h: depthwise_conv_2d on cores with SMLAD, four channels at a time.
 *
 * Weights: for each four channels and each tap two words of half-words, channels (0, 2) and (1, 3), doubled;
 * channels: for each four the doubled biases, then each channel's multiplier, rounding constant, right shift less one.
 * scratch: the inputs under a filter (two neighbouring ones) at a border.
 *
 * What limits it: a tap of four outputs takes 8 instructions, 4 of them multiply. 3 x 3 filters compute two
 * neighbouring outputs together, which share the inputs that both cover: 126 instead of 144 for 72 products; then 5.5
 * an output to requantise and store it, and 25 of loads and loops for the eight: 24 an output. */
#ifndef EAR_DSP_DEPTHWISE_CONV_2D_H
#define EAR_DSP_DEPTHWISE_CONV_2D_H

#include "depthwise_3x3.h"
#include "pixels.h"

/* How the kernel goes over a layer: outputs that are computed together lie `rows` or `columns` apart. */
struct ear_quads {
    int32_t rows, columns; /* 1, or 2 in one direction */
    int32_t shift;         /* taps from an output to its neighbour */
};

/* Where the inputs of an output lie, and how far its neighbour's outputs. */
struct ear_taps {
    const int8_t *x;
    int32_t row_bytes, column_bytes, next;
};

/* Whether outputs along an axis come in pairs. */
EAR_KERNEL int ear_depthwise_pairs(int32_t outputs, int32_t stride, int32_t dilation) {
    return outputs > 1 && stride % dilation == 0 && stride / dilation < 3;
}

/* Pairs lie where fewer outputs are computed twice, if the offsets of the inputs fit into instructions. */
EAR_KERNEL struct ear_quads ear_quads(struct ear_depthwise_conv_2d s) {
    const int32_t row_bytes = s.dilation_rows * s.in_columns * s.in_channels;
    const int small = s.filter_rows == 3 && s.filter_columns == 3 && 5 * row_bytes < 4096 &&
                      6 * s.dilation_columns * s.in_channels + 2 * row_bytes < 4096;
    const int rows = small && ear_depthwise_pairs(s.out_rows, s.stride_rows, s.dilation_rows);
    const int columns = small && ear_depthwise_pairs(s.out_columns, s.stride_columns, s.dilation_columns);
    if (rows && (!columns || (s.out_columns % 2 && (s.out_rows % 2 == 0 || s.out_rows > s.out_columns))))
        return (struct ear_quads){ 2, 1, s.stride_rows / s.dilation_rows };
    if (columns)
        return (struct ear_quads){ 1, 2, s.stride_columns / s.dilation_columns };
    return (struct ear_quads){ 1, 1, 0 };
}

/* Four channels of one tap: the inputs at x, the weights at w, which moves on. */
#define EAR_TAP(x, w, s)                                                                                               \
    do {                                                                                                               \
        uint32_t even, odd, w02, w13;                                                                                  \
        memcpy(&even, x, 4);                                                                                           \
        __asm volatile("ldrd %[w02], %[w13], [%[pw]], #8\n"                                                            \
                       "sxtb16 %[odd], %[even], ror #8\n"                                                              \
                       "sxtb16 %[even], %[even]\n"                                                                     \
                       "smlabb %[s0], %[even], %[w02], %[s0]\n"                                                        \
                       "smlatt %[s2], %[even], %[w02], %[s2]\n"                                                        \
                       "smlabb %[s1], %[odd], %[w13], %[s1]\n"                                                         \
                       "smlatt %[s3], %[odd], %[w13], %[s3]\n"                                                         \
                       : [pw] "+r"(w), [w02] "=&r"(w02), [w13] "=&r"(w13), [even] "+r"(even), [odd] "=&r"(odd),        \
                         [s0] "+r"((s)[0]), [s1] "+r"((s)[1]), [s2] "+r"((s)[2]), [s3] "+r"((s)[3])                    \
                       :                                                                                               \
                       : "memory");                                                                                    \
    } while (0)

/* All channels of one output. The last four once more when they do not divide by four. */
EAR_KERNEL void ear_depthwise_single(struct ear_depthwise_conv_2d s, struct ear_output out, struct ear_taps taps,
                                     const ear_word *w, const int32_t *channels, int8_t *y) {
    EAR_ROLLED
    for (int32_t k = 0; k < s.out_channels; k += 4, channels += 16) {
        const int32_t first = ear_min(k, s.out_channels - 4);
        int32_t sums[4] = { channels[0], channels[1], channels[2], channels[3] };
        for (int32_t i = 0; i < s.filter_rows; ++i)
            for (int32_t j = 0; j < s.filter_columns; ++j)
                EAR_TAP(taps.x + first + i * taps.row_bytes + j * taps.column_bytes, w, sums);
        for (int32_t i = 0; i < 4; ++i) {
            const struct ear_channel channel = { 0, channels[4 + 3 * i], channels[6 + 3 * i] };
            y[first + i] = ear_finish_twice(out, channel, sums[i]);
        }
    }
}

/* All channels of the outputs that are computed together. */
EAR_KERNEL void ear_depthwise_quads(struct ear_depthwise_conv_2d s, struct ear_output out, struct ear_quads q,
                                    struct ear_taps taps, const void *weights, const int32_t *channels, int8_t *y) {
    const int32_t along = q.rows == 2 ? taps.row_bytes : taps.column_bytes;
    const int32_t across = q.rows == 2 ? taps.column_bytes : taps.row_bytes;
    const struct ear_depthwise_3x3 pair = { weights, taps.x, channels, y, taps.next, s.out_channels, out.low, out.high };
    const int whole = out.low == -128 && out.high == 127;
    if (q.shift == 0)
        ear_depthwise_single(s, out, taps, weights, channels, y);
    else if (q.shift == 1 && q.rows == 2)
        EAR_DEPTHWISE_3X3(EAR_LINES_1, whole, &pair, along, across, 24, 8);
    else if (q.shift == 1)
        EAR_DEPTHWISE_3X3(EAR_LINES_1, whole, &pair, along, across, 8, 24);
    else if (q.rows == 2)
        EAR_DEPTHWISE_3X3(EAR_LINES_2, whole, &pair, along, across, 24, 8);
    else
        EAR_DEPTHWISE_3X3(EAR_LINES_2, whole, &pair, along, across, 8, 24);
}

/* Output position (row, column), or two: in place, or with the inputs gathered in scratch. */
EAR_KERNEL void ear_depthwise_at(struct ear_depthwise_conv_2d s, struct ear_output out, struct ear_quads q,
                                 const int8_t *x, const void *weights, const int32_t *channels, int8_t *y, int32_t row,
                                 int32_t column, int8_t *scratch) {
    const int32_t top = row * s.stride_rows - s.pad_rows, left = column * s.stride_columns - s.pad_columns;
    const int32_t rows = s.filter_rows + (q.rows - 1) * q.shift, columns = s.filter_columns + (q.columns - 1) * q.shift;
    const int32_t next = q.rows == 2 ? s.out_columns * s.out_channels : s.out_channels;
    y += (row * s.out_columns + column) * s.out_channels;
    if (top >= 0 && top + (rows - 1) * s.dilation_rows < s.in_rows && left >= 0 &&
        left + (columns - 1) * s.dilation_columns < s.in_columns) {
        const struct ear_taps taps = { x + (top * s.in_columns + left) * s.in_channels,
                                       s.dilation_rows * s.in_columns * s.in_channels,
                                       s.dilation_columns * s.in_channels, next };
        ear_depthwise_quads(s, out, q, taps, weights, channels, y);
    } else {
        const struct ear_pixels pixels = { .in_rows = s.in_rows,
                                           .in_columns = s.in_columns,
                                           .pixel = s.in_channels,
                                           .zero = s.in_zero,
                                           .rows = rows,
                                           .columns = columns,
                                           .dilation_rows = s.dilation_rows,
                                           .dilation_columns = s.dilation_columns,
                                           .piece = s.in_channels };
        const struct ear_taps taps = { scratch, columns * s.in_channels, s.in_channels, next };
        ear_pixels_gather(&pixels, x, top, left, scratch);
        ear_depthwise_quads(s, out, q, taps, weights, channels, y);
    }
}

/* An odd last row or column is computed together with its neighbour once more. */
EAR_KERNEL void ear_depthwise_conv_2d_packed(struct ear_depthwise_conv_2d s, struct ear_output out, const int8_t *x,
                                             const void *weights, const int32_t *channels, int8_t *y,
                                             int8_t *scratch) {
    const struct ear_quads q = ear_quads(s);
    for (int32_t batch = 0; batch < s.batches; ++batch) {
        EAR_ROLLED
        for (int32_t i = 0; i < s.out_rows; i += q.rows)
            EAR_ROLLED
            for (int32_t j = 0; j < s.out_columns; j += q.columns)
                ear_depthwise_at(s, out, q, x, weights, channels, y, ear_min(i, s.out_rows - q.rows),
                                 ear_min(j, s.out_columns - q.columns), scratch);
        x += s.in_rows * s.in_columns * s.in_channels;
        y += s.out_rows * s.out_columns * s.out_channels;
    }
}

#endif
