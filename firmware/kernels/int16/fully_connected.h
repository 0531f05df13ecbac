/* int16/fully_connected.h: rows of int16 inputs times a constant int8 matrix. */
#ifndef EAR_INT16_FULLY_CONNECTED_H
#define EAR_INT16_FULLY_CONNECTED_H

#include "../fully_connected.h"
#include "matmul.h"

/* x: (rows, depth); y: (rows, outputs); weights, channels, scratch: as conv_2d_int16, of columns in one piece. */
EAR_KERNEL void ear_fully_connected_int16(struct ear_fully_connected s, struct ear_output out, const int16_t *x,
                                          const int8_t *weights, const int32_t *channels, int16_t *y, int8_t *scratch) {
    for (int32_t i = 0; i < s.rows; i += 2) {
        const int32_t row = s.rows > 1 ? ear_min(i, s.rows - 2) : 0;
        const int16_t *const from = x + row * s.depth;
        int16_t *const to = y + row * s.outputs;
        ear_int16_matmul(out, from, s.rows > 1 ? from + s.depth : from, weights, channels, s.depth, s.outputs, to,
                         s.rows > 1 ? to + s.outputs : 0, scratch);
    }
}

#endif
