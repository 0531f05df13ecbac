/* pool_2d.h: the window that average_pool_2d and max_pool_2d share. */
#ifndef EAR_POOL_2D_H
#define EAR_POOL_2D_H

#include "value.h"

struct ear_pool_2d {
    int32_t batches, in_rows, in_columns, channels, out_rows, out_columns;
    int32_t filter_rows, filter_columns, stride_rows, stride_columns, pad_rows, pad_columns;
    int32_t low, high;
    int32_t width; /* bytes of a value */
};

/* The part of a window inside the input. */
struct ear_pool_part {
    int32_t top, bottom, left, right;
};

EAR_KERNEL struct ear_pool_part ear_pool_part(struct ear_pool_2d s, int32_t row, int32_t column) {
    const int32_t top = row * s.stride_rows - s.pad_rows, left = column * s.stride_columns - s.pad_columns;
    return (struct ear_pool_part){ .top = ear_max(top, 0),
                                   .bottom = ear_min(top + s.filter_rows, s.in_rows),
                                   .left = ear_max(left, 0),
                                   .right = ear_min(left + s.filter_columns, s.in_columns) };
}

#endif
