/* resize_nearest_neighbor.h: the nearest row and column of an image, found when compiling. */
#ifndef EAR_RESIZE_NEAREST_NEIGHBOR_H
#define EAR_RESIZE_NEAREST_NEIGHBOR_H

#include "../ear.h"

/* x: (images, height, width, run bytes); y: (images, out_height, out_width, run bytes) */
EAR_KERNEL void ear_resize_nearest_neighbor(const void *x, void *y, const int32_t *rows, const int32_t *columns,
                                            int32_t images, int32_t height, int32_t width, int32_t out_height,
                                            int32_t out_width, int32_t run) {
    const uint8_t *from = x;
    uint8_t *to = y;
    for (int32_t image = 0; image < images; ++image, from += height * width * run)
        for (int32_t row = 0; row < out_height; ++row)
            for (int32_t column = 0; column < out_width; ++column, to += run)
                memcpy(to, from + (rows[row] * width + columns[column]) * run, (size_t)run);
}

#endif
