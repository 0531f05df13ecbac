/* dsp/depthwise_conv_2d.h: depthwise_conv_2d on cores with SMLAD. Scratch: the inputs under a filter. */
#ifndef EAR_DSP_DEPTHWISE_CONV_2D_H
#define EAR_DSP_DEPTHWISE_CONV_2D_H

#include "matmul.h"

/* Four channels at a time, the last four once more when they do not divide by four. Weights: for each four channels
 * and each tap two words of half-words, channels (0, 2) and (1, 3). */
EAR_KERNEL void ear_depthwise_quads(struct ear_depthwise_conv_2d s, struct ear_output out, struct ear_patch patch,
                                  const void *weights, const int32_t *channels, int8_t *y) {
    const ear_word *w = weights;
    for (int32_t k = 0; k < s.out_channels; k += 4) {
        const int32_t first = ear_min(k, s.out_channels - 4);
        const int32_t *const bias = channels + 3 * first;
        const int8_t *const x = patch.x + first;
        int32_t sum0 = bias[0], sum1 = bias[3], sum2 = bias[6], sum3 = bias[9];
        for (int32_t i = 0; i < s.filter_rows; ++i)
            for (int32_t j = 0; j < s.filter_columns; ++j) {
                uint32_t even, odd, w02, w13;
                memcpy(&even, x + i * patch.row_bytes + j * patch.column_bytes, 4);
                __asm volatile("ldrd %[w02], %[w13], [%[w]], #8\n"
                               "sxtb16 %[odd], %[even], ror #8\n"
                               "sxtb16 %[even], %[even]\n"
                               "smlabb %[s0], %[even], %[w02], %[s0]\n"
                               "smlatt %[s2], %[even], %[w02], %[s2]\n"
                               "smlabb %[s1], %[odd], %[w13], %[s1]\n"
                               "smlatt %[s3], %[odd], %[w13], %[s3]\n"
                               : [w] "+r"(w), [w02] "=&r"(w02), [w13] "=&r"(w13), [even] "+r"(even), [odd] "=&r"(odd),
                                 [s0] "+r"(sum0), [s1] "+r"(sum1), [s2] "+r"(sum2), [s3] "+r"(sum3)
                               :
                               : "memory");
            }
        const int32_t sums[4] = { sum0, sum1, sum2, sum3 };
        for (int32_t i = 0; i < 4; ++i)
            y[first + i] = ear_finish_twice(out, ear_channel(channels, first + i), ear_shift_left(sums[i], 1));
    }
}

EAR_KERNEL void ear_depthwise_conv_2d_packed(struct ear_depthwise_conv_2d s, struct ear_output out, const int8_t *x,
                                             const void *weights, const int32_t *channels, int8_t *y,
                                             int8_t *scratch) {
    ear_depthwise_positions(s, out, x, weights, channels, y, scratch, ear_depthwise_quads);
}

#endif
