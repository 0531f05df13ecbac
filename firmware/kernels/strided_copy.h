/* strided_copy.h: y = x read along strides: transpose, slice, tile, reverse, broadcast. */
#ifndef EAR_STRIDED_COPY_H
#define EAR_STRIDED_COPY_H

#include "../ear.h"

struct ear_walk {
    int32_t start;   /* bytes into x */
    int32_t size[8]; /* of the output, innermost last */
    int32_t step[8]; /* bytes in x */
    int32_t run;     /* bytes that lie together in both */
};

/* The four innermost axes; returns where the output goes on. A run of 1, 2, 4 or 8 bytes is one load and one store. */
EAR_KERNEL uint8_t *ear_strided_block(const uint8_t *from, uint8_t *to, const int32_t *size, const int32_t *step,
                                      int32_t run) {
    for (int32_t i = 0; i < size[0]; ++i)
        for (int32_t j = 0; j < size[1]; ++j)
            for (int32_t k = 0; k < size[2]; ++k) {
                const uint8_t *row = from + i * step[0] + j * step[1] + k * step[2];
                for (int32_t l = 0; l < size[3]; ++l, row += step[3], to += run)
                    memcpy(to, row, (size_t)run);
            }
    return to;
}

EAR_KERNEL void ear_strided_copy(const void *x, void *y, struct ear_walk s) {
    const uint8_t *from = (const uint8_t *)x + s.start;
    uint8_t *to = (uint8_t *)y;
    for (int32_t i = 0; i < s.size[0]; ++i)
        for (int32_t j = 0; j < s.size[1]; ++j)
            for (int32_t k = 0; k < s.size[2]; ++k)
                for (int32_t l = 0; l < s.size[3]; ++l) {
                    const int32_t at = i * s.step[0] + j * s.step[1] + k * s.step[2] + l * s.step[3];
                    to = ear_strided_block(from + at, to, s.size + 4, s.step + 4, s.run);
                }
}

#endif
