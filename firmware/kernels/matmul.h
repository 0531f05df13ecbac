/* matmul.h: columns of int8 times rows of int8 weights, requantised: the core of conv_2d and fully_connected. */
#ifndef EAR_MATMUL_H
#define EAR_MATMUL_H

#include "../ear.h"

/* What the output channels share. dsp: the weights are in the paired order of matmul_dsp.h where EAR_DSP. */
struct ear_output {
    int32_t zero, low, high, dsp;
};

/* A row of the table of channels: bias (input zero-point folded in), multiplier, right shift less one. */
struct ear_channel {
    int32_t bias, multiplier, right;
};

EAR_KERNEL struct ear_channel ear_channel(const int32_t *channels, int32_t channel) {
    const int32_t *row = channels + 3 * channel;
    return (struct ear_channel){ row[0], row[1], row[2] };
}

EAR_KERNEL int8_t ear_finish(struct ear_output out, struct ear_channel channel, int32_t sum) {
    const int32_t scaled = ear_requantise(sum, channel.multiplier, -1 - channel.right);
    return (int8_t)ear_clamp(scaled + out.zero, out.low, out.high);
}

EAR_KERNEL int32_t ear_dot(const int8_t *x, const int8_t *w, int32_t depth, int32_t sum) {
    for (int32_t i = 0; i < depth; ++i)
        sum += x[i] * w[i];
    return sum;
}

/* y[i] for each of `outputs` rows of weights, padded to whole words, and one column x of `depth` values. */
EAR_KERNEL void ear_matvec(struct ear_output out, const int8_t *x, const int8_t *weights, const int32_t *channels,
                           int32_t depth, int32_t outputs, int8_t *y) {
    for (int32_t i = 0; i < outputs; ++i, weights += (depth + 3) & ~3) {
        const struct ear_channel channel = ear_channel(channels, i);
        y[i] = ear_finish(out, channel, ear_dot(x, weights, depth, channel.bias));
    }
}

#if EAR_DSP
#include "matmul_dsp.h"
#endif

#endif
