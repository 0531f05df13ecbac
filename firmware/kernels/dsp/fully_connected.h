/* dsp/fully_connected.h: fully_connected on cores with SMLAD: rows of x are widened once, three at a time.
 * scratch: the widened rows. */
#ifndef EAR_DSP_FULLY_CONNECTED_H
#define EAR_DSP_FULLY_CONNECTED_H

#include "matmul.h"

/* All rows of x from `row` on that fill `lanes` lanes; returns the next row. */
EAR_KERNEL int32_t ear_fully_connected_lanes(struct ear_fully_connected s, struct ear_output out,
                                             struct ear_product product, const int8_t *x, int8_t *y, int32_t row,
                                             int32_t lanes, int8_t *scratch) {
    EAR_ROLLED
    for (; row + lanes <= s.rows; row += lanes) {
        EAR_ROLLED
        for (int32_t i = 0; i < lanes; ++i)
            ear_widen(x + (row + i) * s.depth, s.depth, (ear_word *)(void *)scratch + i, lanes);
        ear_multiply(&product, out, lanes, y + row * s.outputs);
    }
    return row;
}

/* weights: pairs of rows; channels: a struct ear_pair for each of them. */
EAR_KERNEL void ear_fully_connected_packed(struct ear_fully_connected s, struct ear_output out, const int8_t *x,
                                        const void *weights, const int32_t *channels, int8_t *y, int8_t *scratch) {
    const int32_t steps = (s.depth + 3) / 4;
    int32_t done = 0;
    if (s.rows >= EAR_COLUMNS)
        done = ear_fully_connected_lanes(
            s, out, ear_product(out, weights, channels, scratch, EAR_COLUMNS, steps, s.outputs, s.outputs), x, y, 0,
            EAR_COLUMNS, scratch);
    if (s.rows % EAR_COLUMNS)
        ear_fully_connected_lanes(s, out, ear_product(out, weights, channels, scratch, 1, steps, s.outputs, 0), x, y,
                                  done, 1, scratch);
}

#endif
