/* maximum.h: the larger or the smaller of two inputs that share scale and zero-point. */
#ifndef EAR_MAXIMUM_H
#define EAR_MAXIMUM_H

#include "broadcast.h"

EAR_KERNEL int32_t ear_maximum_element(int32_t a, int32_t b, const int32_t *smaller) {
    return *smaller ? ear_min(a, b) : ear_max(a, b);
}

EAR_KERNEL void ear_maximum(const void *a, const void *b, void *y, struct ear_broadcast s, int32_t smaller,
                            int32_t width) {
    EAR_BROADCAST_WIDTH(width, s, a, b, y, ear_maximum_element, smaller);
}

#endif
