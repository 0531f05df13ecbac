/* add.h: y = a + b or a - b on int8 with three scales; both inputs meet on twice the larger scale, 20 bits up. */
#ifndef EAR_ADD_H
#define EAR_ADD_H

#include "broadcast.h"

struct ear_add {
    int32_t zero_a, zero_b, zero_y;
    int32_t multiplier_a, shift_a, multiplier_b, shift_b, multiplier_y, shift_y;
    int32_t minus; /* 1: subtract b */
    int32_t low, high;
};

EAR_KERNEL int32_t ear_add_element(int32_t a, int32_t b, const struct ear_add *p) {
    const int32_t scaled_a = ear_scale(ear_shift_left(a - p->zero_a, 20), p->multiplier_a, p->shift_a);
    const int32_t scaled_b = ear_scale(ear_shift_left(b - p->zero_b, 20), p->multiplier_b, p->shift_b);
    const int32_t sum = p->minus ? scaled_a - scaled_b : scaled_a + scaled_b;
    return ear_narrow(ear_scale(sum, p->multiplier_y, p->shift_y) + p->zero_y, p->low, p->high);
}

EAR_KERNEL void ear_add(const int8_t *a, const int8_t *b, int8_t *y, struct ear_broadcast s, struct ear_add p) {
    EAR_BROADCAST(s, a, b, y, ear_add_element, p);
}

#endif
