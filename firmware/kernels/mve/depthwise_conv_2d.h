/* mve/depthwise_conv_2d.h: depthwise_conv_2d on cores with MVE, 16 channels at a time.
 *
 * Sums are kept twice in 16 bits: modulo 2^16, and as the products' upper bytes (VQDMLAH by 128). The second one
 * tells which multiple of 2^16 the first one lacks. A tap of 16 channels takes 8 instructions, 0.5 per MAC, against a
 * floor of 0.25 (a load of weights and one of inputs, two multiplications); 16 outputs then take about 45
 * more: for a filter of 3x3 this makes 7.3 per output, 0.81 per MAC, and 1.03 in a map of 25x5, where nearly half of
 * the positions lie at a border and are gathered first.
 *
 * Weights: for each 16 channels the taps, 16 bytes each; the last 16 channels overlap. Channels: see ear_block_finish.
 * Scratch: the inputs under a filter at a border, without the gaps of a dilation. */
#ifndef EAR_MVE_DEPTHWISE_CONV_2D_H
#define EAR_MVE_DEPTHWISE_CONV_2D_H

#include "gather.h"
#include "requantise.h"

#define EAR_BLOCK 16       /* channels */
#define EAR_BLOCK_WORDS 48 /* of the table of channels */

/* Before the loops over a filter: GCC keeps the smallest of them unless told, a fifth of a kernel of 3x3. */
#if defined(__clang__)
#define EAR_SMALL_LOOP
#else
#define EAR_SMALL_LOOP _Pragma("GCC unroll 4")
#endif

/* The sums of the even and of the odd channels of a block. */
struct ear_halves {
    int16x8_t low_even, low_odd;   /* modulo 2^16 */
    int16x8_t high_even, high_odd; /* upper bytes */
};

/* The upper 16 bits of the sums: the upper bytes have lost at most 1 a tap, and there are at most 100 taps. */
EAR_KERNEL int16x8_t ear_upper_halves(int16x8_t low, int16x8_t high) {
    const uint16x8_t below = vshrq_n_u16(vreinterpretq_u16_s16(low), 8);
    return vrshrq_n_s16(vsubq_s16(high, vreinterpretq_s16_u16(below)), 8);
}

/* Two vectors of four sums to bounded int16: the first in even lanes, the second in odd ones. */
EAR_KERNEL int16x8_t ear_block_half(struct ear_output out, int16x8_t low, int16x8_t high, const int32_t *channels) {
    const int32x4_t upper = vreinterpretq_s32_s16(ear_upper_halves(low, high)), lower = vreinterpretq_s32_s16(low);
    const int32x4_t even_sum = vsliq_n_s32(lower, upper, 16), odd_sum = vsriq_n_s32(upper, lower, 16);
    const int32x4_t even = ear_scaled_4(out, even_sum, vldrwq_s32(channels), vldrwq_s32(channels + 4));
    const int32x4_t odd = ear_scaled_4(out, odd_sum, vldrwq_s32(channels + 8), vldrwq_s32(channels + 12));
    return vqmovntq_s32(vqmovnbq_s32(vreinterpretq_s16_s32(even), even), odd);
}

/* Requantises and stores 16 outputs. Channels: int16 lower halves of the biases of the even channels, of the odd
 * ones, and their upper bytes likewise; then multipliers and powers of the channels 0, 4, 8, 12, those of 2, 6, 10,
 * 14, of 1, 5, 9, 13 and of 3, 7, 11, 15; see ear_scaled_4. */
EAR_KERNEL void ear_block_finish(struct ear_output out, struct ear_halves sum, const int32_t *channels, int8_t *y) {
    const int16x8_t even = ear_block_half(out, sum.low_even, sum.high_even, channels + 16);
    const int16x8_t odd = ear_block_half(out, sum.low_odd, sum.high_odd, channels + 32);
    int8x16_t bytes = vqmovntq_s16(vqmovnbq_s16(vreinterpretq_s8_s16(even), even), odd);
    if (out.low > -128)
        bytes = vmaxq_s8(bytes, vdupq_n_s8((int8_t)out.low));
    if (out.high < 127)
        bytes = vminq_s8(bytes, vdupq_n_s8((int8_t)out.high));
    vstrbq_s8(y, bytes);
}

EAR_KERNEL void ear_block_tap(struct ear_halves *sum, const int8_t *x, const int8_t *w) {
    const int8x16_t inputs = vldrbq_s8(x), weights = vldrbq_s8(w);
    const int16x8_t even = vmullbq_int_s8(inputs, weights), odd = vmulltq_int_s8(inputs, weights);
    sum->low_even = vaddq_s16(sum->low_even, even);
    sum->high_even = vqdmlahq_n_s16(sum->high_even, even, 128);
    sum->low_odd = vaddq_s16(sum->low_odd, odd);
    sum->high_odd = vqdmlahq_n_s16(sum->high_odd, odd, 128);
    /* Eight registers are enough, as long as taps are not interleaved. */
    __asm volatile(""
                   : "+w"(sum->low_even), "+w"(sum->low_odd), "+w"(sum->high_even), "+w"(sum->high_odd)
                   :
                   : "memory");
}

/* All channels at one position, or those of as many neighbours as make a block. */
EAR_KERNEL void ear_depthwise_blocks(struct ear_depthwise_conv_2d s, struct ear_output out, struct ear_patch patch,
                                     const int8_t *w, const int32_t *channels, int8_t *y) {
    EAR_ROLLED
    for (int32_t k = 0; k < s.out_channels; k += EAR_BLOCK, channels += EAR_BLOCK_WORDS) {
        const int32_t first = ear_max(ear_min(k, s.out_channels - EAR_BLOCK), 0);
        const int8_t *from = patch.x + first;
        struct ear_halves sum = { vreinterpretq_s16_s32(vldrwq_s32(channels)),
                                  vreinterpretq_s16_s32(vldrwq_s32(channels + 4)),
                                  vreinterpretq_s16_s32(vldrwq_s32(channels + 8)),
                                  vreinterpretq_s16_s32(vldrwq_s32(channels + 12)) };
        EAR_SMALL_LOOP
        for (int32_t i = 0; i < s.filter_rows; ++i, from += patch.row_bytes)
            EAR_SMALL_LOOP
            for (int32_t j = 0; j < s.filter_columns; ++j, w += EAR_BLOCK)
                ear_block_tap(&sum, from + j * patch.column_bytes, w);
        ear_block_finish(out, sum, channels, y + first);
    }
}

/* Neighbours are computed together where they have fewer than 16 channels; the last ones overlap. */
EAR_KERNEL void ear_depthwise_row(struct ear_depthwise_conv_2d s, struct ear_output out, const int8_t *x, int32_t top,
                                  const void *weights, const int32_t *channels, int8_t *y, int8_t *scratch) {
    const int32_t neighbours = ear_max(EAR_BLOCK / s.out_channels, 1);
    const int32_t bottom = s.in_rows - (s.filter_rows - 1) * s.dilation_rows;
    const int32_t right = s.in_columns - (s.filter_columns - 1) * s.dilation_columns - (neighbours - 1);
    const struct ear_field gather = { s.in_rows,       s.in_columns,      s.in_channels,
                                       s.in_zero,       s.filter_rows,     s.filter_columns + neighbours - 1,
                                       s.dilation_rows, s.dilation_columns };
    EAR_ROLLED
    for (int32_t i = 0; i < s.out_columns; i += neighbours) {
        const int32_t column = ear_min(i, s.out_columns - neighbours), left = column * s.stride_columns - s.pad_columns;
        struct ear_patch patch = { x + (top * s.in_columns + left) * s.in_channels,
                                   s.dilation_rows * s.in_columns * s.in_channels, s.dilation_columns * s.in_channels };
        if (top < 0 || top >= bottom || left < 0 || left >= right) {
            ear_field_border(gather, x, top, left, scratch);
            patch = (struct ear_patch){ scratch, gather.filter_columns * s.in_channels, s.in_channels };
        }
        ear_depthwise_blocks(s, out, patch, weights, channels, y + column * s.out_channels);
    }
}

EAR_KERNEL void ear_depthwise_conv_2d_packed(struct ear_depthwise_conv_2d s, struct ear_output out, const int8_t *x,
                                             const void *weights, const int32_t *channels, int8_t *y,
                                             int8_t *scratch) {
    EAR_ROLLED
    for (int32_t batch = 0; batch < s.batches; ++batch, x += s.in_rows * s.in_columns * s.in_channels)
        EAR_ROLLED
        for (int32_t row = 0; row < s.out_rows; ++row, y += s.out_columns * s.out_channels)
            ear_depthwise_row(s, out, x, row * s.stride_rows - s.pad_rows, weights, channels, y, scratch);
}

#endif
