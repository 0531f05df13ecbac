/* scalar/fully_connected.h: fully_connected on cores without SMLAD: one row of x at a time.
 * scratch: a row, unless depth is whole words. */
#ifndef EAR_SCALAR_FULLY_CONNECTED_H
#define EAR_SCALAR_FULLY_CONNECTED_H

#include "matmul.h"

EAR_KERNEL void ear_fully_connected_packed(struct ear_fully_connected s, struct ear_output out, const int8_t *x,
                                           const void *weights, const int32_t *channels, int8_t *y, int8_t *scratch) {
    for (int32_t row = 0; row < s.rows; ++row, x += s.depth, y += s.outputs)
        ear_matmul_1(out, ear_whole(x, s.depth, scratch), weights, channels, s.depth, s.outputs, y);
}

#endif
