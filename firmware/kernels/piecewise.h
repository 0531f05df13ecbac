/* piecewise.h: one factor for values from the zero-point up, one below it, and a clamp; int8, int16 or int32. */
#ifndef EAR_PIECEWISE_H
#define EAR_PIECEWISE_H

#include "value.h"

struct ear_piecewise {
    int32_t in_width, out_width; /* bytes of a value */
    int32_t zero_x, zero_y;
    int32_t above, above_shift, above_sign; /* factor from the zero-point up; -1: of the value's opposite */
    int32_t below, below_shift, below_sign; /* factor below */
    int32_t low, high;
};

EAR_KERNEL void ear_piecewise(const void *x, void *y, int32_t count, struct ear_piecewise p) {
    for (int32_t i = 0; i < count; ++i) {
        const int32_t value = (int32_t)((uint32_t)ear_value(x, i, p.in_width) - (uint32_t)p.zero_x);
        const int64_t scaled = value >= 0 ? ear_requantise(value * p.above_sign, p.above, p.above_shift)
                                          : ear_requantise(value * p.below_sign, p.below, p.below_shift);
        const int64_t moved = scaled + p.zero_y;
        ear_set_value(y, i, p.out_width, (int32_t)(moved < p.low ? p.low : moved > p.high ? p.high : moved));
    }
}

#endif
