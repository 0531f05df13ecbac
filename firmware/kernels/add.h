/* add.h: y = a + b or a - b with three scales; both inputs meet on twice the larger scale, 20 bits up (int16: 15). */
#ifndef EAR_ADD_H
#define EAR_ADD_H

#include "broadcast.h"

struct ear_add {
    int32_t zero_a, zero_b, zero_y;
    int32_t multiplier_a, shift_a, multiplier_b, shift_b, multiplier_y, shift_y;
    int32_t width, left; /* bytes of a value, and the bits up */
    int32_t minus;       /* 1: subtract b */
    int32_t low, high;
};

EAR_KERNEL int32_t ear_add_element(int32_t a, int32_t b, const struct ear_add *p) {
    const int32_t scaled_a = ear_scale(ear_shift_left(a - p->zero_a, p->left), p->multiplier_a, p->shift_a);
    const int32_t scaled_b = ear_scale(ear_shift_left(b - p->zero_b, p->left), p->multiplier_b, p->shift_b);
    const int32_t sum = p->minus ? scaled_a - scaled_b : scaled_a + scaled_b;
    return ear_narrow(ear_scale(sum, p->multiplier_y, p->shift_y) + p->zero_y, p->low, p->high);
}

#if EAR_MVE
#include "mve/add.h"
#endif

EAR_KERNEL void ear_add(const void *a, const void *b, void *y, struct ear_broadcast s, struct ear_add p) {
#if EAR_MVE
    if (p.width == 1) {
        EAR_BROADCAST_4(s, (const int8_t *)a, (const int8_t *)b, (int8_t *)y, ear_add_4, p);
        return;
    }
#endif
    EAR_BROADCAST_WIDTH(p.width, s, a, b, y, ear_add_element, p);
}

#endif
