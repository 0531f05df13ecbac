/* arg_max.h: where the largest or smallest value along an axis is; the first of several. */
#ifndef EAR_ARG_MAX_H
#define EAR_ARG_MAX_H

#include "../ear.h"

/* x: (outer, length, inner); y: (outer, inner) */
EAR_KERNEL void ear_arg_max(const int8_t *x, int32_t *y, int32_t outer, int32_t length, int32_t inner,
                            int32_t smallest) {
    for (int32_t i = 0; i < outer; ++i, x += length * inner)
        for (int32_t j = 0; j < inner; ++j) {
            int32_t found = 0, best = x[j];
            for (int32_t k = 1; k < length; ++k) {
                const int32_t value = x[k * inner + j];
                if (smallest ? value < best : value > best) {
                    best = value;
                    found = k;
                }
            }
            *y++ = found;
        }
}

#endif
