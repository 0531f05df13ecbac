/* matmul.h: columns of int8 times rows of int8 weights, requantised: the core of conv_2d and fully_connected. */
#ifndef EAR_MATMUL_H
#define EAR_MATMUL_H

#include "../ear.h"

/* What the output channels share.
 * narrow: every |sum| < 2^23 and every right shift is 1..22, so that the short requantisation is exact;
 * packed: the weights are in the order of the unit's own kernel, and the arena holds what it needs;
 * wide: int16 only: sums of 64 bits with one rounding. */
struct ear_output {
    int32_t zero, low, high, narrow, packed, wide;
};

/* Stands for the packed kernel of a unit that has none; the compiler never asks for it. */
#define EAR_NO_PACKED(name, shape)                                                                                     \
    EAR_KERNEL void name(shape s, struct ear_output out, const int8_t *x, const void *weights,                         \
                         const int32_t *channels, int8_t *y, int8_t *scratch) {                                        \
        (void)s, (void)out, (void)x, (void)weights, (void)channels, (void)y, (void)scratch;                            \
    }

/* A row of the table of channels: bias (input zero-point folded in), multiplier, right shift less one. */
struct ear_channel {
    int32_t bias, multiplier, right;
};

EAR_KERNEL struct ear_channel ear_channel(const int32_t *channels, int32_t channel) {
    const int32_t *row = channels + 3 * channel;
    return (struct ear_channel){ row[0], row[1], row[2] };
}

/* round(round(sum * multiplier / 2^31) / 2^(right + 1)) + zero for twice a narrow sum: the second rounding constant
 * holds the zero-point, and halves move away from zero by one less for negative sums. */
EAR_KERNEL int8_t ear_finish_twice(struct ear_output out, struct ear_channel channel, int32_t twice) {
    const int32_t rounding = ear_shift_left(2 * out.zero + 1, channel.right);
    int32_t scaled;
#if EAR_DSP
    __asm("smmlar %0, %1, %2, %3" : "=r"(scaled) : "r"(twice), "r"(channel.multiplier), "r"(rounding));
    scaled = (scaled + (twice >> 31)) >> channel.right;
    __asm("ssat %0, #8, %1, asr #1" : "=r"(scaled) : "r"(scaled));
    if (out.low == -128 && out.high == 127)
        return (int8_t)scaled;
#else
    scaled = (int32_t)(((int64_t)twice * channel.multiplier + 0x80000000) >> 32) + rounding;
    scaled = ((scaled + (twice >> 31)) >> channel.right) >> 1;
#endif
    return (int8_t)ear_clamp(scaled, out.low, out.high);
}

EAR_KERNEL int8_t ear_finish(struct ear_output out, struct ear_channel channel, int32_t sum) {
    if (out.narrow)
        return ear_finish_twice(out, channel, ear_shift_left(sum, 1));
    const int32_t scaled = ear_requantise(sum, channel.multiplier, -1 - channel.right);
    return (int8_t)ear_clamp(scaled + out.zero, out.low, out.high);
}

EAR_KERNEL int32_t ear_dot(const int8_t *x, const int8_t *w, int32_t depth, int32_t sum) {
    for (int32_t i = 0; i < depth; ++i)
        sum += x[i] * w[i];
    return sum;
}

/* Cores that gain when operands stay in registers for several products; others vectorise ear_dot. */
#if defined(__thumb__) && __ARM_ARCH >= 7 && !(defined(__ARM_FEATURE_MVE) && __ARM_FEATURE_MVE)
#define EAR_BLOCKED 1
#else
#define EAR_BLOCKED 0
#endif

/* y[i] for each of `outputs` rows of weights, padded to whole words, and one column x of `depth` values. */
EAR_KERNEL void ear_matvec(struct ear_output out, const int8_t *x, const int8_t *weights, const int32_t *channels,
                           int32_t depth, int32_t outputs, int8_t *y) {
    const int32_t row_bytes = (depth + 3) & ~3;
    int32_t i = 0;
#if EAR_BLOCKED
    for (; i + 1 < outputs; i += 2, weights += 2 * row_bytes) {
        const int8_t *const a = weights, *const b = weights + row_bytes;
        int32_t sum_a = channels[3 * i], sum_b = channels[3 * i + 3];
        for (int32_t k = 0; k < depth; ++k) {
            sum_a += x[k] * a[k];
            sum_b += x[k] * b[k];
        }
        y[i] = ear_finish(out, ear_channel(channels, i), sum_a);
        y[i + 1] = ear_finish(out, ear_channel(channels, i + 1), sum_b);
    }
#endif
    for (; i < outputs; ++i, weights += row_bytes) {
        const struct ear_channel channel = ear_channel(channels, i);
        y[i] = ear_finish(out, channel, ear_dot(x, weights, depth, channel.bias));
    }
}

/* The same for two columns and their outputs. */
EAR_KERNEL void ear_matvec_2(struct ear_output out, const int8_t *x0, const int8_t *x1, const int8_t *weights,
                             const int32_t *channels, int32_t depth, int32_t outputs, int8_t *y0, int8_t *y1) {
#if EAR_BLOCKED
    const int32_t row_bytes = (depth + 3) & ~3;
    int32_t i = 0;
    for (; i + 1 < outputs; i += 2, weights += 2 * row_bytes) {
        const int8_t *const a = weights, *const b = weights + row_bytes;
        int32_t a0 = channels[3 * i], b0 = channels[3 * i + 3], a1 = a0, b1 = b0;
        for (int32_t k = 0; k < depth; ++k) {
            a0 += x0[k] * a[k];
            b0 += x0[k] * b[k];
            a1 += x1[k] * a[k];
            b1 += x1[k] * b[k];
        }
        y0[i] = ear_finish(out, ear_channel(channels, i), a0);
        y1[i] = ear_finish(out, ear_channel(channels, i), a1);
        y0[i + 1] = ear_finish(out, ear_channel(channels, i + 1), b0);
        y1[i + 1] = ear_finish(out, ear_channel(channels, i + 1), b1);
    }
    if (i < outputs) {
        ear_matvec(out, x0, weights, channels + 3 * i, depth, 1, y0 + i);
        ear_matvec(out, x1, weights, channels + 3 * i, depth, 1, y1 + i);
    }
#else
    ear_matvec(out, x0, weights, channels, depth, outputs, y0);
    ear_matvec(out, x1, weights, channels, depth, outputs, y1);
#endif
}

#endif
