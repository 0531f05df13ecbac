/* mve/fully_connected.h: fully_connected on cores with MVE, see matmul.h. */
#ifndef EAR_MVE_FULLY_CONNECTED_H
#define EAR_MVE_FULLY_CONNECTED_H

#include "matmul.h"

/* Two rows of x at a time; an odd last one is computed together with its neighbour once more. */
EAR_KERNEL void ear_fully_connected_packed(struct ear_fully_connected s, struct ear_output out, const int8_t *x,
                                           const void *weights, const int32_t *channels, int8_t *y, int8_t *scratch) {
    const struct ear_product product = { s.depth, s.outputs, 0 };
    (void)scratch;
    if (s.rows == 1)
        ear_product_1(product, out, (struct ear_column){ x, 0 }, weights, channels, y);
    EAR_ROLLED
    for (int32_t i = 0; i < s.rows && s.rows > 1; i += 2) {
        const int32_t row = ear_min(i, s.rows - 2);
        const struct ear_column first = { x + row * s.depth, 0 }, second = { x + (row + 1) * s.depth, 0 };
        ear_product_2(product, out, first, second, weights, channels, y + row * s.outputs,
                      y + (row + 1) * s.outputs);
    }
}

#endif
