/* fully_connected.h: rows of int8 inputs times a constant int8 matrix. */
#ifndef EAR_FULLY_CONNECTED_H
#define EAR_FULLY_CONNECTED_H

#include "matmul.h"

struct ear_fully_connected {
    int32_t rows, depth, outputs;
};

/* x: (rows, depth); y: (rows, outputs); weights: rows of depth, padded to whole words; channels: see ear_channel;
 * scratch: 1 row of weights, and 2 more for each of the first four rows of x. */
EAR_KERNEL void ear_fully_connected(struct ear_fully_connected s, struct ear_output out, const int8_t *x,
                                    const int8_t *weights, const int32_t *channels, int8_t *y, int8_t *scratch) {
    (void)scratch;
    for (int32_t i = 0; i < s.rows; ++i)
        ear_matvec(out, x + i * s.depth, weights, channels, s.depth, (s.depth + 3) & ~3, s.outputs, y + i * s.outputs);
}

#endif
