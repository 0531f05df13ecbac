/* lstm.h: steps of an LSTM layer, int8 or int16, with a cell of 16 bits. */
#ifndef EAR_LSTM_H
#define EAR_LSTM_H

#include "ear.h"
#include "int16/sigmoid.h"

/* A factor between scales: multiplier and shift as ear_requantise takes them; of 64-bit sums the right shift. */
struct ear_factor {
    int32_t multiplier, shift;
};

/* Gates come in the order forget, input, candidate, output. Strides are in rows: of inputs for x, of units for y. */
struct ear_lstm {
    int32_t batches, steps, inputs, units, batch_stride, step_stride;
    struct ear_factor input[4], hidden[4]; /* of the sums over input and hidden state, to Q3.12 */
    struct ear_factor keep, enter, leave;  /* forget * cell, input * candidate, tanh(cell) * output */
    int32_t cell_multiplier, cell_shift;   /* of the cell, to the table of tanh */
    int32_t clip;                          /* of the cell, below 0 for none */
    int32_t zero, low, high;               /* of the hidden state */
};

#if EAR_DSP
/* Bytes 1 and 3, widened: SXTB16 with a rotation. */
EAR_KERNEL int16x2_t ear_lstm_odd(uint32_t word) {
    return __sxtb16(word >> 8 | word << 24);
}
#endif

/* Add the products of x with the rows of four gates. Their weights lie word by word side by side, so that x is read
 * and widened once for all: 28 instructions for 16 MACs with SMLAD, of which 10 widen bytes (floor: 8), one byte at a
 * time without. Beside them a unit takes some 400 instructions a step: 11 requantisations and 5 tables. */
EAR_KERNEL void ear_lstm_sums(const int8_t *x, const int8_t *weights, int32_t depth, int32_t *sums) {
#if EAR_DSP
    int32_t a = sums[0], b = sums[1], c = sums[2], d = sums[3];
    EAR_ROLLED
    for (; depth >= 4; depth -= 4, x += 4, weights += 16) {
        uint32_t some, words[4];
        memcpy(&some, x, sizeof some);
        memcpy(words, __builtin_assume_aligned(weights, 4), sizeof words);
        const int16x2_t even = __sxtb16(some), odd = ear_lstm_odd(some);
        a = __smlad(odd, ear_lstm_odd(words[0]), __smlad(even, __sxtb16(words[0]), a));
        b = __smlad(odd, ear_lstm_odd(words[1]), __smlad(even, __sxtb16(words[1]), b));
        c = __smlad(odd, ear_lstm_odd(words[2]), __smlad(even, __sxtb16(words[2]), c));
        d = __smlad(odd, ear_lstm_odd(words[3]), __smlad(even, __sxtb16(words[3]), d));
    }
    sums[0] = a, sums[1] = b, sums[2] = c, sums[3] = d;
#endif
    for (; depth > 0; depth -= 4, x += 4, weights += 16)
        for (int32_t i = 0; i < ear_min(depth, 4); ++i)
            for (int32_t gate = 0; gate < 4; ++gate)
                sums[gate] += x[i] * weights[4 * gate + i];
}

/* The same for int16, in sums of 64 bits: one value at a time, four products in 32 bits. */
EAR_KERNEL void ear_lstm_sums_int16(const int16_t *x, const int8_t *weights, int32_t depth, int64_t *sums) {
    for (; depth > 0; depth -= 4, x += 4, weights += 16)
        for (int32_t gate = 0; gate < 4; ++gate) {
            int32_t part = 0;
            for (int32_t i = 0; i < ear_min(depth, 4); ++i)
                part += x[i] * weights[4 * gate + i];
            sums[gate] += part;
        }
}

EAR_KERNEL int32_t ear_lstm_16(int32_t x) {
    return ear_clamp(x, INT16_MIN, INT16_MAX);
}

EAR_KERNEL int32_t ear_lstm_scale(struct ear_factor factor, int32_t x) {
    return ear_lstm_16(ear_requantise(x, factor.multiplier, factor.shift));
}

/* sum * multiplier / 2^shift, rounded once. */
EAR_KERNEL int32_t ear_lstm_scale_int16(struct ear_factor factor, int64_t sum) {
    const int64_t x = (sum * factor.multiplier + ((int64_t)1 << (factor.shift - 1))) >> factor.shift;
    return (int32_t)(x < INT16_MIN ? INT16_MIN : x > INT16_MAX ? INT16_MAX : x);
}

/* One unit of one step: its new cell and hidden value from its gates before their functions. */
EAR_KERNEL int32_t ear_lstm_unit(struct ear_lstm s, const int32_t *gates, const uint16_t *points, int16_t *cell) {
    const int32_t forget = ear_logistic_int16(3 * gates[0], points), enter = ear_logistic_int16(3 * gates[1], points);
    const int32_t candidate = ear_tanh_int16(3 * gates[2], points), leave = ear_logistic_int16(3 * gates[3], points);
    int32_t held = ear_lstm_scale(s.keep, forget * *cell);
    held = ear_lstm_16(held + ear_lstm_scale(s.enter, enter * candidate));
    if (s.clip >= 0)
        held = ear_clamp(held, -s.clip, s.clip);
    *cell = (int16_t)held;
    const int32_t seen = (held * s.cell_multiplier + (1 << s.cell_shift >> 1)) >> s.cell_shift;
    const int32_t out = ear_requantise(ear_tanh_int16(seen, points) * leave, s.leave.multiplier, s.leave.shift);
    return ear_clamp(out + s.zero, s.low, s.high);
}

/* x, y: rows of inputs and of units, one a batch and step; weights: see ear_lstm_sums, unit after unit;
 * biases: eight a unit, four of the input and four of the hidden state, zero-points folded in;
 * hidden, cell: (batches, units), the new ones may be the old ones. */
#define EAR_LSTM(name, type, sum_type, add, scale)                                                                     \
    EAR_KERNEL void name(struct ear_lstm s, const type *x, const int8_t *input_weights, const int8_t *hidden_weights,  \
                         const sum_type *biases, const uint16_t *points, const type *hidden, const int16_t *cell,      \
                         type *new_hidden, int16_t *new_cell, type *y) {                                               \
        const int32_t input_row = 4 * ((s.inputs + 3) & ~3), hidden_row = 4 * ((s.units + 3) & ~3);                    \
        if (new_cell != cell)                                                                                          \
            memcpy(new_cell, cell, (size_t)(s.batches * s.units) * sizeof *cell);                                      \
        for (int32_t batch = 0; batch < s.batches; ++batch) {                                                          \
            const type *before = hidden + batch * s.units;                                                             \
            for (int32_t step = 0; step < s.steps; ++step) {                                                           \
                const int32_t row = batch * s.batch_stride + step * s.step_stride;                                     \
                type *const now = y + row * s.units;                                                                   \
                for (int32_t unit = 0; unit < s.units; ++unit) {                                                       \
                    sum_type sums[8];                                                                                  \
                    int32_t gates[4];                                                                                  \
                    memcpy(sums, biases + 8 * unit, sizeof sums);                                                      \
                    add(x + row * s.inputs, input_weights + unit * input_row, s.inputs, sums);                         \
                    add(before, hidden_weights + unit * hidden_row, s.units, sums + 4);                                \
                    for (int32_t i = 0; i < 4; ++i)                                                                    \
                        gates[i] = ear_lstm_16(scale(s.input[i], sums[i]) + scale(s.hidden[i], sums[4 + i]));          \
                    now[unit] = (type)ear_lstm_unit(s, gates, points, new_cell + batch * s.units + unit);              \
                }                                                                                                      \
                before = now;                                                                                          \
            }                                                                                                          \
            memcpy(new_hidden + batch * s.units, before, (size_t)s.units * sizeof *before);                            \
        }                                                                                                              \
    }

EAR_LSTM(ear_lstm_int8, int8_t, int32_t, ear_lstm_sums, ear_lstm_scale)
EAR_LSTM(ear_lstm_int16, int16_t, int64_t, ear_lstm_sums_int16, ear_lstm_scale_int16)

#endif
