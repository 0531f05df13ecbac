/* fully_connected.h: rows of int8 inputs times a constant int8 matrix. */
#ifndef EAR_FULLY_CONNECTED_H
#define EAR_FULLY_CONNECTED_H

#include "matmul.h"

struct ear_fully_connected {
    int32_t rows, depth, outputs;
};

#if EAR_DSP
EAR_KERNEL void ear_fully_connected_widen(struct ear_fully_connected s, const int8_t *x, int32_t lane, int32_t lanes,
                                          int8_t *scratch) {
    ear_word *const widened = (ear_word *)(void *)scratch;
    if (s.depth % 4) {
        int8_t *const whole = scratch + 2 * lanes * ((s.depth + 3) & ~3);
        ear_copy(whole, x, s.depth);
        ear_fill(whole + s.depth, 0, 4 - s.depth % 4);
        x = whole;
    }
    ear_widen(x, s.depth, lanes, widened + 2 * lane);
}

/* Two rows of x at a time; an odd last one is computed together with its neighbour once more. */
EAR_KERNEL void ear_fully_connected_dsp(struct ear_fully_connected s, struct ear_output out, const int8_t *x,
                                        const ear_word *weights, const int32_t *channels, int8_t *y, int8_t *scratch) {
    const int32_t padded = (s.depth + 3) & ~3;
    const ear_word *const widened = (const ear_word *)(const void *)scratch;
    if (s.rows == 1) {
        ear_fully_connected_widen(s, x, 0, 1, scratch);
        ear_matmul_1(out, widened, weights, channels, padded / 4, s.outputs, y);
        return;
    }
    for (int32_t i = 0; i < s.rows; i += 2) {
        const int32_t row = ear_min(i, s.rows - 2);
        ear_fully_connected_widen(s, x + row * s.depth, 0, 2, scratch);
        ear_fully_connected_widen(s, x + (row + 1) * s.depth, 1, 2, scratch);
        ear_matmul_2(out, widened, weights, channels, padded / 4, s.outputs, y + row * s.outputs,
                     y + (row + 1) * s.outputs);
    }
}
#endif

/* x: (rows, depth); y: (rows, outputs); weights: rows of depth, padded to whole words; channels: see ear_channel;
 * scratch: 2 rows of weights for each of the two rows of x computed together, and another unless depth is whole words. */
EAR_KERNEL void ear_fully_connected(struct ear_fully_connected s, struct ear_output out, const int8_t *x,
                                    const void *weights, const int32_t *channels, int8_t *y, int8_t *scratch) {
#if EAR_DSP
    if (out.paired) {
        ear_fully_connected_dsp(s, out, x, weights, channels, y, scratch);
        return;
    }
#endif
    (void)scratch;
    if (s.rows == 1)
        ear_matvec(out, x, weights, channels, s.depth, s.outputs, y);
    for (int32_t i = 0; i < s.rows && s.rows > 1; i += 2) {
        const int32_t row = ear_min(i, s.rows - 2);
        const int8_t *const first = x + row * s.depth;
        int8_t *const to = y + row * s.outputs;
        ear_matvec_2(out, first, first + s.depth, weights, channels, s.depth, s.outputs, to, to + s.outputs);
    }
}

#endif
