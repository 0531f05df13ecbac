/* gather.h: chosen slices of each row of x, the choice known when compiling. */
#ifndef EAR_GATHER_H
#define EAR_GATHER_H

#include "../ear.h"

/* x: rows of `length` runs of `run` bytes; y: rows of `count` runs */
EAR_KERNEL void ear_gather(const void *x, void *y, const int32_t *chosen, int32_t rows, int32_t length, int32_t count,
                           int32_t run) {
    uint8_t *to = y;
    for (int32_t row = 0; row < rows; ++row) {
        const uint8_t *from = (const uint8_t *)x + row * length * run;
        for (int32_t i = 0; i < count; ++i, to += run)
            memcpy(to, from + chosen[i] * run, (size_t)run);
    }
}

#endif
