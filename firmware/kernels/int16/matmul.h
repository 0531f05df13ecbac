/* int16/matmul.h: columns of int16 times rows of int8 weights, requantised to int16. Zero-points are 0.
 *
 * A product is below 2^23, so the sum of CHUNK of them fits 32 bits; sums that may not go on in 64. Cores with SMLAD take
 * two rows and two columns at a time: 14 instructions for 16 products, 4 of which widen the weights. */
#ifndef EAR_INT16_MATMUL_H
#define EAR_INT16_MATMUL_H

#include "../matmul.h"

enum { EAR_INT16_CHUNK = 256, EAR_INT16_ROW = 4 /* words of a row of the table of channels */ };

EAR_KERNEL int64_t ear_int16_bias(const int32_t *channels, int32_t channel) {
    const int32_t *row = channels + EAR_INT16_ROW * channel;
    return (int64_t)((uint64_t)(uint32_t)row[1] << 32 | (uint32_t)row[0]);
}

EAR_KERNEL int32_t ear_int16_narrow(int32_t x, int32_t low, int32_t high) {
#if EAR_DSP
    if (low == -32768 && high == 32767) {
        int32_t narrow;
        __asm("ssat %0, #16, %1" : "=r"(narrow) : "r"(x) : "cc");
        return narrow;
    }
#endif
    return ear_clamp(x, low, high);
}

/* wide: sum * multiplier / 2^shift, rounded once, and narrow: the same for a sum of 32 bits whose shift is above 16,
 * with the multiplier in the upper half-word and the shift less 16; else as int8, with a sum of 32 bits. */
EAR_KERNEL int16_t ear_int16_finish(struct ear_output out, const int32_t *channels, int32_t channel, int64_t sum) {
    const int32_t *row = channels + EAR_INT16_ROW * channel;
    if (out.narrow) {
        const int32_t high = (int32_t)(((int64_t)(int32_t)sum * row[2]) >> 32);
        return (int16_t)ear_int16_narrow((high + ((int32_t)1 << (row[3] - 1))) >> row[3], out.low, out.high);
    }
    if (!out.wide) {
        const int32_t scaled = ear_requantise((int32_t)(uint32_t)(uint64_t)sum, row[2], row[3]);
        return (int16_t)ear_clamp(scaled, out.low, out.high);
    }
    const int64_t scaled = (sum * row[2] + ((int64_t)1 << (row[3] - 1))) >> row[3];
    return (int16_t)(scaled < out.low ? out.low : scaled > out.high ? out.high : scaled);
}

/* How many products are added up in 32 bits. */
EAR_KERNEL int32_t ear_int16_run(struct ear_output out, int32_t depth) {
    return out.narrow ? depth : EAR_INT16_CHUNK;
}

EAR_KERNEL int64_t ear_int16_dot(struct ear_output out, const int16_t *x, const int8_t *w, int32_t depth,
                                 int64_t sum) {
    const int32_t run = ear_int16_run(out, depth);
    for (int32_t start = 0; start < depth; start += run) {
        const int32_t end = ear_min(start + run, depth);
        int32_t part = 0;
        for (int32_t i = start; i < end; ++i)
            part += x[i] * w[i];
        sum += part;
    }
    return sum;
}

/* y[i] for each of `outputs` rows of weights, padded to whole words, and one column. */
EAR_KERNEL void ear_int16_matvec(struct ear_output out, const int16_t *x, const int8_t *weights,
                                 const int32_t *channels, int32_t depth, int32_t outputs, int16_t *y) {
    const int32_t row_bytes = (depth + 3) & ~3;
    for (int32_t i = 0; i < outputs; ++i, weights += row_bytes) {
        const int64_t sum = ear_int16_dot(out, x, weights, depth, ear_int16_bias(channels, i));
        y[i] = ear_int16_finish(out, channels, i, sum);
    }
}

#if EAR_DSP
#include "dsp.h"
#else
EAR_KERNEL void ear_int16_packed(struct ear_output out, const int16_t *x0, const int16_t *x1, const int8_t *weights,
                                 const int32_t *channels, int32_t depth, int32_t outputs, int16_t *y0, int16_t *y1,
                                 void *lanes) {
    (void)out, (void)x0, (void)x1, (void)weights, (void)channels, (void)depth, (void)outputs, (void)y0, (void)y1;
    (void)lanes;
}
#endif

/* Two columns against all rows; y1: 0 when there is but one. lanes: memory of the packed order. */
EAR_KERNEL void ear_int16_matmul(struct ear_output out, const int16_t *x0, const int16_t *x1, const int8_t *weights,
                                 const int32_t *channels, int32_t depth, int32_t outputs, int16_t *y0, int16_t *y1,
                                 void *lanes) {
    if (out.packed) {
        ear_int16_packed(out, x0, x1, weights, channels, depth, outputs, y0, y1, lanes);
        return;
    }
    ear_int16_matvec(out, x0, weights, channels, depth, outputs, y0);
    if (y1)
        ear_int16_matvec(out, x1, weights, channels, depth, outputs, y1);
}

#endif
