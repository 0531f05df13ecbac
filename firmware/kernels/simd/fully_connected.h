/* simd/fully_connected.h: fully_connected with vectors. Scratch: the inputs as pixels. */
#ifndef EAR_SIMD_FULLY_CONNECTED_H
#define EAR_SIMD_FULLY_CONNECTED_H

#include "matmul.h"

EAR_KERNEL void ear_fully_connected_packed(struct ear_fully_connected s, struct ear_output out, const int8_t *x,
                                           const void *weights, const int32_t *channels, int8_t *y,
                                           int8_t *scratch) {
    const struct ear_columns columns = { s.rows, s.rows, s.depth, 0, 1, 0, 1, 0, (s.depth + 3) / 4 };
    ear_pixel *const pixels = ear_aligned(scratch);
    int8_t *const room = ear_aligned(pixels + s.rows * s.depth);
    ear_image_pixels_line(x, s.rows * s.depth, pixels);
    ear_product(columns, out, pixels, weights, channels, s.outputs, y, room);
}

#endif
