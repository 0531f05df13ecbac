/* fully_connected.h: rows of int8 inputs times a constant int8 matrix. */
#ifndef EAR_FULLY_CONNECTED_H
#define EAR_FULLY_CONNECTED_H

#include "matmul.h"

struct ear_fully_connected {
    int32_t rows, depth, outputs;
};

#if EAR_DSP
#include "dsp/fully_connected.h"
#elif EAR_SCALAR
#include "scalar/fully_connected.h"
#elif EAR_MVE
#include "mve/fully_connected.h"
#elif EAR_SIMD
#include "simd/fully_connected.h"
#else
EAR_NO_PACKED(ear_fully_connected_packed, struct ear_fully_connected)
#endif

/* x: (rows, depth); y: (rows, outputs); weights: rows of depth, padded to whole words; channels: see ear_channel;
 * scratch: of packed kernels, which have an order of weights of their own. */
EAR_KERNEL void ear_fully_connected(struct ear_fully_connected s, struct ear_output out, const int8_t *x,
                                    const void *weights, const int32_t *channels, int8_t *y, int8_t *scratch) {
    if (out.packed) {
        ear_fully_connected_packed(s, out, x, weights, channels, y, scratch);
        return;
    }
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
