/* arg_max.h: where the largest or smallest value along an axis is (the first of several), and the k largest. */
#ifndef EAR_ARG_MAX_H
#define EAR_ARG_MAX_H

#include "../ear.h"

/* x: (outer, length, inner); y: (outer, inner) of `bytes` bytes each, low word first */
#define EAR_ARG_MAX(type)                                                                                              \
    EAR_KERNEL void ear_arg_max_##type(const type *x, void *y, int32_t outer, int32_t length, int32_t inner,           \
                                       int32_t smallest, int32_t bytes) {                                              \
        uint8_t *to = (uint8_t *)y;                                                                                    \
        for (int32_t i = 0; i < outer; ++i, x += length * inner)                                                       \
            for (int32_t j = 0; j < inner; ++j, to += bytes) {                                                         \
                int32_t found[2] = {0, 0};                                                                             \
                type best = x[j];                                                                                      \
                for (int32_t k = 1; k < length; ++k) {                                                                 \
                    const type value = x[k * inner + j];                                                               \
                    if (smallest ? value < best : value > best) {                                                      \
                        best = value;                                                                                  \
                        found[0] = k;                                                                                  \
                    }                                                                                                  \
                }                                                                                                      \
                memcpy(to, found, (size_t)bytes);                                                                      \
            }                                                                                                          \
    }

/* x: (rows, length); y, places: (rows, count), the largest first, equal ones in their order. A place is moved down
 * once for each larger value after it: about length + count^2 / 2 steps on random rows. */
#define EAR_TOP(type)                                                                                                  \
    EAR_KERNEL void ear_top_##type(const type *x, type *y, int32_t *places, int32_t rows, int32_t length,              \
                                   int32_t count) {                                                                    \
        for (int32_t row = 0; row < rows; ++row, x += length, y += count, places += count)                             \
            for (int32_t i = 0; i < length; ++i) {                                                                     \
                int32_t at = ear_min(i, count);                                                                        \
                if (at == count && !(x[i] > y[count - 1]))                                                             \
                    continue;                                                                                          \
                at = ear_min(at, count - 1);                                                                           \
                for (; at > 0 && x[i] > y[at - 1]; --at) {                                                             \
                    y[at] = y[at - 1];                                                                                 \
                    places[at] = places[at - 1];                                                                       \
                }                                                                                                      \
                y[at] = x[i];                                                                                          \
                places[at] = i;                                                                                        \
            }                                                                                                          \
    }

EAR_ARG_MAX(int8_t)
EAR_ARG_MAX(int16_t)
EAR_ARG_MAX(int32_t)
EAR_ARG_MAX(float)
EAR_TOP(int8_t)
EAR_TOP(int16_t)
EAR_TOP(int32_t)
EAR_TOP(float)

#endif
