/* dsp/fully_connected.h: fully_connected on cores with SMLAD: rows of x are widened once, two at a time.
 * scratch: two widened rows (one, when there is one), and a row unless depth is whole words. */
#ifndef EAR_DSP_FULLY_CONNECTED_H
#define EAR_DSP_FULLY_CONNECTED_H

#include "matmul.h"

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
EAR_KERNEL void ear_fully_connected_packed(struct ear_fully_connected s, struct ear_output out, const int8_t *x,
                                        const void *weights, const int32_t *channels, int8_t *y, int8_t *scratch) {
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
