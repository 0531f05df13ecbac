/* reduce.h: sum, mean, largest or smallest over some axes of an int8 tensor. */
#ifndef EAR_REDUCE_H
#define EAR_REDUCE_H

#include "scale.h"

struct ear_reduce {
    int32_t kept[3], kept_step[3];       /* axes of the output, innermost last, and their steps in the input */
    int32_t reduced[3], reduced_step[3]; /* axes that vanish */
};

struct ear_mean {
    int32_t zeros; /* zero-point of the input times the number of elements summed */
    int32_t multiplier, shift, zero_y;
};

EAR_KERNEL int32_t ear_reduce_sum(const int8_t *x, const struct ear_reduce *s) {
    int32_t sum = 0;
    for (int32_t i = 0; i < s->reduced[0]; ++i)
        for (int32_t j = 0; j < s->reduced[1]; ++j) {
            const int8_t *row = x + i * s->reduced_step[0] + j * s->reduced_step[1];
            for (int32_t k = 0; k < s->reduced[2]; ++k)
                sum += row[k * s->reduced_step[2]];
        }
    return sum;
}

EAR_KERNEL int32_t ear_reduce_largest(const int8_t *x, const struct ear_reduce *s, int32_t smallest) {
    int32_t found = *x;
    for (int32_t i = 0; i < s->reduced[0]; ++i)
        for (int32_t j = 0; j < s->reduced[1]; ++j) {
            const int8_t *row = x + i * s->reduced_step[0] + j * s->reduced_step[1];
            for (int32_t k = 0; k < s->reduced[2]; ++k) {
                const int32_t value = row[k * s->reduced_step[2]];
                found = smallest ? ear_min(found, value) : ear_max(found, value);
            }
        }
    return found;
}

EAR_KERNEL void ear_mean(const int8_t *x, int8_t *y, struct ear_reduce s, struct ear_mean p) {
    for (int32_t i = 0; i < s.kept[0]; ++i)
        for (int32_t j = 0; j < s.kept[1]; ++j)
            for (int32_t k = 0; k < s.kept[2]; ++k) {
                const int8_t *start = x + i * s.kept_step[0] + j * s.kept_step[1] + k * s.kept_step[2];
                const int32_t sum = ear_reduce_sum(start, &s) - p.zeros;
                *y++ = (int8_t)ear_narrow(ear_scale(sum, p.multiplier, p.shift) + p.zero_y, -128, 127);
            }
}

EAR_KERNEL void ear_reduce_max(const int8_t *x, int8_t *y, struct ear_reduce s, int32_t smallest) {
    for (int32_t i = 0; i < s.kept[0]; ++i)
        for (int32_t j = 0; j < s.kept[1]; ++j)
            for (int32_t k = 0; k < s.kept[2]; ++k) {
                const int8_t *start = x + i * s.kept_step[0] + j * s.kept_step[1] + k * s.kept_step[2];
                *y++ = (int8_t)ear_reduce_largest(start, &s, smallest);
            }
}

#endif
