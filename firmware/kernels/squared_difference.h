/* squared_difference.h: y = (a - b)^2; both inputs meet on twice the larger scale, 7 bits up (int16: 0). */
#ifndef EAR_SQUARED_DIFFERENCE_H
#define EAR_SQUARED_DIFFERENCE_H

#include "broadcast.h"

struct ear_squared_difference {
    int32_t zero_a, zero_b, zero_y;
    int32_t multiplier_a, shift_a, multiplier_b, shift_b, multiplier_y, shift_y;
    int32_t width, left, low, high; /* bytes of a value, the bits up, and what fits it */
};

EAR_KERNEL int32_t ear_squared_difference_element(int32_t a, int32_t b, const struct ear_squared_difference *p) {
    const int32_t scaled_a = ear_scale(ear_shift_left(a - p->zero_a, p->left), p->multiplier_a, p->shift_a);
    const int32_t scaled_b = ear_scale(ear_shift_left(b - p->zero_b, p->left), p->multiplier_b, p->shift_b);
    const int32_t difference = scaled_a - scaled_b; /* up to 2^15: its square fits */
    if (p->width == 2)
        return ear_clamp(ear_requantise(difference * difference, p->multiplier_y, p->shift_y), p->low, p->high);
    return ear_narrow(ear_scale(difference * difference, p->multiplier_y, p->shift_y) + p->zero_y, p->low, p->high);
}

EAR_KERNEL void ear_squared_difference(const void *a, const void *b, void *y, struct ear_broadcast s,
                                       struct ear_squared_difference p) {
    EAR_BROADCAST_WIDTH(p.width, s, a, b, y, ear_squared_difference_element, p);
}

#endif
