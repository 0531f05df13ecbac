/* products.h: sums of one or two products of strided int8 values, tables and numbers, rounded once: gates (GLU),
   rotary positions. Eight instructions an element and two to five for each factor. */
#ifndef EAR_PRODUCTS_H
#define EAR_PRODUCTS_H

#include "operand.h"

struct ear_products {
    int32_t size[4];                /* of y */
    int32_t factors[2];             /* of each term; 0: there is none */
    int32_t up[2], multiplier[2];   /* of each product; minus: it is taken off */
    int32_t minus[2];
    int32_t offset, down;
};

EAR_KERNEL int32_t ear_term(const struct ear_operand *o, const int32_t *place, const struct ear_products *s, int32_t j) {
    int32_t value = 1;
    for (int32_t k = 0; k < s->factors[j]; ++k) {
        const int32_t at = place[0] * o[k].step[0] + place[1] * o[k].step[1] + place[2] * o[k].step[2];
        value *= ear_operand_value(&o[k], at + place[3] * o[k].step[3], place[3]);
    }
    const int32_t up = ear_shift_left(value, s->up[j]);
    return ear_scale_high(s->minus[j] ? -up : up, s->multiplier[j]);
}

#if EAR_MVE
#include "mve/products.h"
#else
/* One row of y. */
EAR_KERNEL void ear_products_row(int8_t *y, const struct ear_operand *first, const struct ear_operand *second,
                                 int32_t *at, const struct ear_products *s) {
    EAR_ROLLED
    for (at[3] = 0; at[3] < s->size[3]; ++at[3]) {
        int32_t sum = s->offset + ear_term(first, at, s, 0);
        if (s->factors[1])
            sum += ear_term(second, at, s, 1);
        y[at[3]] = (int8_t)ear_narrow(sum >> s->down, -128, 127);
    }
}
#endif

/* first, second: the factors of each term */
EAR_KERNEL void ear_products(int8_t *y, const struct ear_operand *first, const struct ear_operand *second,
                             struct ear_products s) {
    int32_t at[4];
    for (at[0] = 0; at[0] < s.size[0]; ++at[0])
        for (at[1] = 0; at[1] < s.size[1]; ++at[1])
            for (at[2] = 0; at[2] < s.size[2]; ++at[2], y += s.size[3])
                ear_products_row(y, first, second, at, &s);
}

#endif
