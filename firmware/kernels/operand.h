/* operand.h: a factor of a fused product: int8 values read with strides, each q - zero or looked up. */
#ifndef EAR_OPERAND_H
#define EAR_OPERAND_H

#include "scale.h"

struct ear_operand {
    const int8_t *x;
    const int16_t *table;   /* of 256, by the unsigned byte; 0: none */
    const int16_t *numbers; /* in the place of x, or 0 */
    int32_t first;          /* element at the first place */
    int32_t zero, apart;    /* apart: elements from one channel's table to the next */
    int32_t step[4];        /* elements along the axes, innermost last */
};

EAR_KERNEL int32_t ear_operand_value(const struct ear_operand *o, int32_t at, int32_t channel) {
    if (o->numbers)
        return o->numbers[o->first + at];
    const int32_t q = o->x[o->first + at];
    return o->table ? o->table[channel * o->apart + (uint8_t)q] : q - o->zero;
}

/* x / 2^bits, halves up */
EAR_KERNEL int32_t ear_round_off(int32_t x, int32_t bits) {
    return bits > 0 ? (x + ((int32_t)1 << (bits - 1))) >> bits : x;
}

#endif
