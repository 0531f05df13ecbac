/* int4/fully_connected.h: rows of int8 inputs times a constant matrix of 4 bits. */
#ifndef EAR_INT4_FULLY_CONNECTED_H
#define EAR_INT4_FULLY_CONNECTED_H

#include "../fully_connected.h"
#include "matmul.h"

/* x: (rows, depth); y: (rows, outputs); weights, channels, scratch: as conv_2d_int4, of columns in one piece. */
EAR_KERNEL void ear_fully_connected_int4(struct ear_fully_connected s, struct ear_output out, const int8_t *x,
                                         const int8_t *weights, const int32_t *channels, int8_t *y, int8_t *scratch) {
    for (int32_t i = 0; i < s.rows; i += 2) {
        const int32_t one = ear_max(ear_min(i, s.rows - 2), 0), two = ear_min(one + 1, s.rows - 1);
        ear_int4_matmul(out, x + one * s.depth, x + two * s.depth, weights, channels, s.depth, s.outputs,
                        y + one * s.outputs, y + two * s.outputs, scratch);
    }
}

#endif
