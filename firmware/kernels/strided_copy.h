/* strided_copy.h: y = x read along strides: transpose, slice, broadcast. */
#ifndef EAR_STRIDED_COPY_H
#define EAR_STRIDED_COPY_H

#include "../ear.h"

struct ear_walk {
    int32_t start;   /* bytes into x */
    int32_t size[5]; /* of the output, innermost last */
    int32_t step[5]; /* bytes in x */
    int32_t run;     /* bytes that lie together in both */
};

EAR_KERNEL void ear_strided_copy(const void *x, void *y, struct ear_walk s) {
    const uint8_t *from = (const uint8_t *)x + s.start;
    uint8_t *to = (uint8_t *)y;
    for (int32_t i = 0; i < s.size[0]; ++i)
        for (int32_t j = 0; j < s.size[1]; ++j)
            for (int32_t k = 0; k < s.size[2]; ++k)
                for (int32_t l = 0; l < s.size[3]; ++l) {
                    const uint8_t *row = from + i * s.step[0] + j * s.step[1] + k * s.step[2] + l * s.step[3];
                    for (int32_t m = 0; m < s.size[4]; ++m, row += s.step[4], to += s.run) {
                        if (s.run == 1)
                            *to = *row;
                        else
                            memcpy(to, row, (size_t)s.run);
                    }
                }
}

#endif
