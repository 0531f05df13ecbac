/* squared_difference.h: y = (a - b)^2 on int8; both inputs meet on twice the larger scale, 7 bits up. */
#ifndef EAR_SQUARED_DIFFERENCE_H
#define EAR_SQUARED_DIFFERENCE_H

#include "broadcast.h"

struct ear_squared_difference {
    int32_t zero_a, zero_b, zero_y;
    int32_t multiplier_a, shift_a, multiplier_b, shift_b, multiplier_y, shift_y;
};

EAR_KERNEL int32_t ear_squared_difference_element(int32_t a, int32_t b, const struct ear_squared_difference *p) {
    const int32_t scaled_a = ear_scale(ear_shift_left(a - p->zero_a, 7), p->multiplier_a, p->shift_a);
    const int32_t scaled_b = ear_scale(ear_shift_left(b - p->zero_b, 7), p->multiplier_b, p->shift_b);
    const int32_t difference = scaled_a - scaled_b; /* below 2^15: its square fits */
    return ear_narrow(ear_scale(difference * difference, p->multiplier_y, p->shift_y) + p->zero_y, -128, 127);
}

EAR_KERNEL void ear_squared_difference(const int8_t *a, const int8_t *b, int8_t *y, struct ear_broadcast s,
                                       struct ear_squared_difference p) {
    EAR_BROADCAST(s, a, b, y, ear_squared_difference_element, p);
}

#endif
