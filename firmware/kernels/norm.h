/* norm.h: layer, RMS, group and instance normalisation of int8 in two walks. Four instructions an element for the
   sums, ten for the results where SMMULR takes the upper half of a product; a dozen 64-bit products for each root. */
#ifndef EAR_NORM_H
#define EAR_NORM_H

#include "scale.h"

#define EAR_NORM_FRACTION 20 /* bits behind the point of a normalised value */

struct ear_norm {
    int32_t outer, rows, groups, depth; /* statistics over rows and depth */
    int32_t zero, centred;              /* centred: take the mean off */
    int32_t finer, down;                /* bits: of the sum under the root, of an output before rounding */
};

EAR_KERNEL uint32_t ear_norm_product(uint32_t a, uint32_t b) {
    return (uint32_t)(((uint64_t)a * b) >> 32);
}

/* 1 / sqrt(total) = result * 2^*power to 26 bits, result in 2^30..2^31 - 1; total in 1..2^62: four Newton steps. */
EAR_KERNEL int32_t ear_inverse_root(int64_t total, int32_t *power) {
    const int32_t shift = __builtin_clzll((uint64_t)total) & ~1;
    const uint32_t w = (uint32_t)(((uint64_t)total << shift) >> 32);
    uint32_t x = ((uint32_t)9 << 28) - (w >> 2) - (w >> 4); /* in Q2 */
    for (int32_t i = 0; i < 4; ++i) {
        const uint32_t square = ear_norm_product(ear_norm_product(x, x), w); /* of x^2 w, in Q4 */
        x = ear_norm_product(x, ((uint32_t)3 << 28) - square) << 3;
    }
    *power = (shift >> 1) - 62;
    return (int32_t)(x < 0x80000000u ? x : 0x7FFFFFFFu);
}

/* Sums of values and of their squares, each with its zero-point. */
struct ear_norm_sums {
    int32_t values;
    uint32_t squares; /* at most 2^15 of 2^14 */
};

/* A normalised value is (count * x - less) * root / 2^away, away in 31..60; count and less are shifted up for it, so
 * that they may wrap, but not their difference. */
struct ear_norm_line {
    uint32_t count, less;
    int32_t root, away, down;
};

/* The exact quotient, halves up; upper: away is 31. */
EAR_KERNEL int32_t ear_norm_value(int32_t x, const struct ear_norm_line *s, int upper) {
    const int32_t from = (int32_t)(s->count * (uint32_t)x - s->less);
    if (upper)
        return ear_scale_high(from, s->root);
    return (int32_t)(((int64_t)from * s->root + ((int64_t)1 << (s->away - 1))) >> s->away);
}

EAR_KERNEL void ear_norm_values(const int8_t *x, int8_t *y, const int32_t *gain, const int32_t *offset, int32_t depth,
                                const struct ear_norm_line *s, int upper) {
    EAR_BY_FOUR
    for (int32_t i = 0; i < depth; ++i) {
        const int32_t scaled = ear_scale_high(ear_norm_value(x[i], s, upper), gain[i]);
        y[i] = (int8_t)ear_narrow((scaled + offset[i]) >> s->down, -128, 127);
    }
}

#if EAR_MVE
#include "mve/norm.h"
#else
EAR_KERNEL void ear_norm_add(const int8_t *x, int32_t depth, struct ear_norm_sums *sums) {
    for (int32_t i = 0; i < depth; ++i) {
        sums->values += x[i];
        sums->squares += (uint32_t)(x[i] * x[i]);
    }
}

EAR_KERNEL void ear_norm_upper(const int8_t *x, int8_t *y, const int32_t *gain, const int32_t *offset, int32_t depth,
                               const struct ear_norm_line *s) {
    ear_norm_values(x, y, gain, offset, depth, s, 1);
}
#endif

/* One set of rows x depth values, `step` apart from row to row. */
EAR_KERNEL void ear_norm_one(const int8_t *x, int8_t *y, const int32_t *gain, const int32_t *offset, int32_t step,
                             const struct ear_norm *s, int64_t epsilon) {
    const int32_t count = s->rows * s->depth, zeros = count * s->zero;
    struct ear_norm_sums sums = { 0, 0 };
    for (int32_t row = 0; row < s->rows; ++row)
        ear_norm_add(x + row * step, s->depth, &sums);
    const int64_t squares = (int64_t)sums.squares - (int64_t)(2 * s->zero) * sums.values + (int64_t)zeros * s->zero;
    const int32_t mean = s->centred ? sums.values - zeros : 0; /* times count */
    const int64_t under = count * squares - (int64_t)mean * mean;
    const int64_t total = (int64_t)((uint64_t)under << s->finer) + epsilon;
    int32_t power;
    const int32_t root = ear_inverse_root(total > 0 ? total : 1, &power);
    const int32_t away = -(power + s->finer / 2) - EAR_NORM_FRACTION;
    const int32_t up = ear_max(31 - away, 0);
    const struct ear_norm_line line = { (uint32_t)count << up, (uint32_t)(zeros + mean) << up, root, away + up,
                                        s->down };
    for (int32_t row = 0; row < s->rows; ++row)
        if (line.away == 31)
            ear_norm_upper(x + row * step, y + row * step, gain, offset, s->depth, &line);
        else
            ear_norm_values(x + row * step, y + row * step, gain, offset, s->depth, &line, 0);
}

/* x, y: (outer, rows, groups, depth), may be the same memory; gain, offset: (groups, depth) */
EAR_KERNEL void ear_norm(const int8_t *x, int8_t *y, const int32_t *gain, const int32_t *offset, struct ear_norm s,
                         int64_t epsilon) {
    const int32_t step = s.groups * s.depth;
    for (int32_t outer = 0; outer < s.outer; ++outer)
        for (int32_t group = 0; group < s.groups; ++group) {
            const int32_t first = outer * s.rows * step + group * s.depth;
            ear_norm_one(x + first, y + first, gain + group * s.depth, offset + group * s.depth, step, &s, epsilon);
        }
}

#endif
