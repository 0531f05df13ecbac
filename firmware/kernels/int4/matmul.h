/* int4/matmul.h: columns of int8 times rows of weights of 4 bits, requantised.
 *
 * A word holds 8 weights: byte j has weight j low and weight 4 + j high. Cores with SMLAD mask the word into bytes of
 * 16 times a weight and widen those: 17 instructions for the 16 products of 8 weights and two columns, 24 for those of
 * two rows and one column. */
#ifndef EAR_INT4_MATMUL_H
#define EAR_INT4_MATMUL_H

#include "../matmul.h"

EAR_KERNEL int32_t ear_low_nibble(int32_t byte) {
    return ((byte ^ 8) & 15) - 8;
}

EAR_KERNEL int32_t ear_int4_dot(const int8_t *x, const int8_t *w, int32_t depth, int32_t sum) {
    for (; depth >= 8; depth -= 8, x += 8, w += 4)
        for (int32_t j = 0; j < 4; ++j)
            sum += x[j] * ear_low_nibble(w[j]) + x[4 + j] * (w[j] >> 4);
    for (int32_t j = 0; j < depth; ++j)
        sum += x[j] * (j < 4 ? ear_low_nibble(w[j]) : w[j - 4] >> 4);
    return sum;
}

EAR_KERNEL void ear_int4_matvec(struct ear_output out, const int8_t *x, const int8_t *weights,
                                const int32_t *channels, int32_t depth, int32_t outputs, int8_t *y) {
    const int32_t row_bytes = (depth + 7) / 8 * 4;
    for (int32_t i = 0; i < outputs; ++i, weights += row_bytes) {
        const struct ear_channel channel = ear_channel(channels, i);
        y[i] = ear_finish(out, channel, ear_int4_dot(x, weights, depth, channel.bias));
    }
}

#if EAR_DSP
#include "dsp.h"
#else
EAR_KERNEL void ear_int4_packed(struct ear_output out, const int8_t *x0, const int8_t *x1, const int8_t *weights,
                                const int32_t *channels, int32_t depth, int32_t outputs, int8_t *y0, int8_t *y1,
                                void *lanes) {
    (void)out, (void)x0, (void)x1, (void)weights, (void)channels, (void)depth, (void)outputs, (void)y0, (void)y1;
    (void)lanes;
}
#endif

/* Two columns against all rows; y1 = y0: there is but one. lanes: memory of the packed order. */
EAR_KERNEL void ear_int4_matmul(struct ear_output out, const int8_t *x0, const int8_t *x1, const int8_t *weights,
                                const int32_t *channels, int32_t depth, int32_t outputs, int8_t *y0, int8_t *y1,
                                void *lanes) {
    if (out.packed) {
        ear_int4_packed(out, x0, x1, weights, channels, depth, outputs, y0, y1, lanes);
        return;
    }
    ear_int4_matvec(out, x0, weights, channels, depth, outputs, y0);
    if (y1 != y0)
        ear_int4_matvec(out, x1, weights, channels, depth, outputs, y1);
}

#endif
