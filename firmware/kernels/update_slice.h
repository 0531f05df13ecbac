/* update_slice.h: a copy of x with a smaller tensor laid over it at a place known only at run time. */
#ifndef EAR_UPDATE_SLICE_H
#define EAR_UPDATE_SLICE_H

#include "gather.h"

struct ear_update {
    int32_t bytes;                         /* of x */
    int32_t size[5], update[5], step[5];   /* axes of x and of the update, steps in bytes */
    int32_t index, item;                   /* bytes of a number of `start`, of an element */
};

/* y may be x: then only the update is written. */
EAR_KERNEL void ear_update_slice(const void *x, const void *update, const void *start, void *y, struct ear_update s,
                                 int32_t rank) {
    const uint8_t *from = (const uint8_t *)update;
    uint8_t *to = (uint8_t *)y;
    if (y != x)
        memcpy(y, x, (size_t)s.bytes);
    for (int32_t axis = 5 - rank; axis < 5; ++axis)
        to += s.step[axis] * ear_index(start, axis - (5 - rank), s.index, s.size[axis] - s.update[axis] + 1);
    const int32_t run = s.update[4] * s.item;
    for (int32_t i = 0; i < s.update[0]; ++i)
        for (int32_t j = 0; j < s.update[1]; ++j)
            for (int32_t k = 0; k < s.update[2]; ++k)
                for (int32_t l = 0; l < s.update[3]; ++l, from += run)
                    memcpy(to + i * s.step[0] + j * s.step[1] + k * s.step[2] + l * s.step[3], from, (size_t)run);
}

#endif
