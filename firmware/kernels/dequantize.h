/* dequantize.h: int8 to float at the edge of a model. */
#ifndef EAR_DEQUANTIZE_H
#define EAR_DEQUANTIZE_H

#include "../ear.h"

EAR_KERNEL void ear_dequantize(const int8_t *x, float *y, int32_t count, float scale, int32_t zero) {
    for (int32_t i = 0; i < count; ++i)
        y[i] = scale * (float)(x[i] - zero);
}

#endif
