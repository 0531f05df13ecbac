/* split.h: each row of x cut into pieces, one output a piece. */
#ifndef EAR_SPLIT_H
#define EAR_SPLIT_H

#include "../ear.h"

struct ear_piece {
    void *y;
    int32_t run; /* bytes of this piece in each row of the input */
};

EAR_KERNEL void ear_split(const void *x, int32_t rows, int32_t pieces, const struct ear_piece *piece) {
    const uint8_t *from = x;
    for (int32_t row = 0; row < rows; ++row)
        for (int32_t i = 0; i < pieces; ++i) {
            const int32_t run = piece[i].run;
            memcpy((uint8_t *)piece[i].y + row * run, from, (size_t)run);
            from += run;
        }
}

#endif
