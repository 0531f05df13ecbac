/* value.h: one value of a tensor whose values have 1, 2 or 4 bytes, a width that is known when compiling. */
#ifndef EAR_VALUE_H
#define EAR_VALUE_H

#include "../ear.h"

EAR_KERNEL int32_t ear_value(const void *x, int32_t i, int32_t width) {
    return width == 4 ? ((const int32_t *)x)[i] : width == 2 ? ((const int16_t *)x)[i] : ((const int8_t *)x)[i];
}

EAR_KERNEL void ear_set_value(void *y, int32_t i, int32_t width, int32_t value) {
    if (width == 4)
        ((int32_t *)y)[i] = value;
    else if (width == 2)
        ((int16_t *)y)[i] = (int16_t)value;
    else
        ((int8_t *)y)[i] = (int8_t)value;
}

/* Where value i lies. */
EAR_KERNEL const void *ear_value_at(const void *x, int32_t i, int32_t width) {
    return (const int8_t *)x + i * width;
}

#endif
