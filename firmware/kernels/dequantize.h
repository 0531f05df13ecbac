/* dequantize.h: int8 or int16 to float at the edge of a model. */
#ifndef EAR_DEQUANTIZE_H
#define EAR_DEQUANTIZE_H

#include "value.h"

EAR_KERNEL void ear_dequantize(const void *x, float *y, int32_t count, float scale, int32_t zero,
                               int32_t width) {
    for (int32_t i = 0; i < count; ++i)
        y[i] = scale * (float)(ear_value(x, i, width) - zero);
}

#endif
