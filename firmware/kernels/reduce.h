/* reduce.h: sum, mean, largest or smallest over some axes of a tensor of int8 or int16. */
#ifndef EAR_REDUCE_H
#define EAR_REDUCE_H

#include "scale.h"
#include "value.h"

struct ear_reduce {
    int32_t kept[3], kept_step[3];       /* axes of the output, innermost last, and their steps in the input */
    int32_t reduced[3], reduced_step[3]; /* axes that vanish */
    int32_t width;                       /* bytes of a value */
};

struct ear_mean {
    int32_t zeros; /* zero-point of the input times the number of elements summed */
    int32_t multiplier, shift, zero_y, low, high;
};

EAR_KERNEL int32_t ear_reduce_sum(const void *x, int32_t start, const struct ear_reduce *s) {
    int32_t sum = 0;
    for (int32_t i = 0; i < s->reduced[0]; ++i)
        for (int32_t j = 0; j < s->reduced[1]; ++j) {
            const int32_t row = start + i * s->reduced_step[0] + j * s->reduced_step[1];
            for (int32_t k = 0; k < s->reduced[2]; ++k)
                sum += ear_value(x, row + k * s->reduced_step[2], s->width);
        }
    return sum;
}

EAR_KERNEL int32_t ear_reduce_largest(const void *x, int32_t start, const struct ear_reduce *s, int32_t smallest) {
    int32_t found = ear_value(x, start, s->width);
    for (int32_t i = 0; i < s->reduced[0]; ++i)
        for (int32_t j = 0; j < s->reduced[1]; ++j) {
            const int32_t row = start + i * s->reduced_step[0] + j * s->reduced_step[1];
            for (int32_t k = 0; k < s->reduced[2]; ++k) {
                const int32_t value = ear_value(x, row + k * s->reduced_step[2], s->width);
                found = smallest ? ear_min(found, value) : ear_max(found, value);
            }
        }
    return found;
}

EAR_KERNEL void ear_mean(const void *x, void *y, struct ear_reduce s, struct ear_mean p) {
    int32_t at = 0;
    for (int32_t i = 0; i < s.kept[0]; ++i)
        for (int32_t j = 0; j < s.kept[1]; ++j)
            for (int32_t k = 0; k < s.kept[2]; ++k) {
                const int32_t start = i * s.kept_step[0] + j * s.kept_step[1] + k * s.kept_step[2];
                const int32_t sum = ear_reduce_sum(x, start, &s) - p.zeros;
                const int32_t scaled = s.width == 2 ? ear_requantise(sum, p.multiplier, p.shift)
                                                    : ear_scale(sum, p.multiplier, p.shift);
                ear_set_value(y, at++, s.width, ear_narrow(scaled + p.zero_y, p.low, p.high));
            }
}

EAR_KERNEL void ear_reduce_max(const void *x, void *y, struct ear_reduce s, int32_t smallest) {
    int32_t at = 0;
    for (int32_t i = 0; i < s.kept[0]; ++i)
        for (int32_t j = 0; j < s.kept[1]; ++j)
            for (int32_t k = 0; k < s.kept[2]; ++k) {
                const int32_t start = i * s.kept_step[0] + j * s.kept_step[1] + k * s.kept_step[2];
                ear_set_value(y, at++, s.width, ear_reduce_largest(x, start, &s, smallest));
            }
}

/* Products of int32, wrapped. */
EAR_KERNEL void ear_reduce_product(const int32_t *x, int32_t *y, struct ear_reduce s) {
    for (int32_t i = 0; i < s.kept[0]; ++i)
        for (int32_t j = 0; j < s.kept[1]; ++j)
            for (int32_t k = 0; k < s.kept[2]; ++k) {
                const int32_t *start = x + i * s.kept_step[0] + j * s.kept_step[1] + k * s.kept_step[2];
                uint32_t made = 1;
                for (int32_t l = 0; l < s.reduced[0]; ++l)
                    for (int32_t m = 0; m < s.reduced[1]; ++m)
                        for (int32_t n = 0; n < s.reduced[2]; ++n)
                            made *= (uint32_t)start[l * s.reduced_step[0] + m * s.reduced_step[1] +
                                                    n * s.reduced_step[2]];
                *y++ = (int32_t)made;
            }
}

#endif
