/* scan.h: the recurrence of a state-space model, h = a h + f, y = sum of c h, its state in 24 bits. About 25
   instructions a step of one state: the product a h takes one of them, reading and scaling the factors most. */
#ifndef EAR_SCAN_H
#define EAR_SCAN_H

#include "operand.h"

#define EAR_SCAN_LIMIT ((int32_t)1 << 23)

struct ear_scan {
    int32_t steps, rows, states;
    int32_t up;                 /* bits by which decays are short of Q15 */
    int32_t count, outer;       /* factors of f: all, and those that all states of a row share */
    int32_t down[3];            /* bits that the product loses before each factor */
    int32_t power;              /* bits that f then loses, or gains when negative, to the state's unit */
    int32_t weighed, narrow;    /* with c; bits that h loses before it */
    int32_t y_step, y_row, y_state, each; /* each: there is a y for each step, else one for all */
};

/* before: states to start from, or 0; after: where they are kept, or 0 with `scratch` for one row. ends: multiplier,
 * shift and zero of y, for each step where there is one. */
EAR_KERNEL void ear_scan(const int32_t *before, int32_t *after, int32_t *scratch, int8_t *const *y,
                         const int32_t *ends, struct ear_operand decay, const struct ear_operand *fresh,
                         struct ear_operand c, struct ear_scan s) {
    for (int32_t row = 0; row < s.rows; ++row) {
        int32_t *const h = after ? after + row * s.states : scratch;
        for (int32_t n = 0; n < s.states; ++n)
            h[n] = before ? before[row * s.states + n] : 0;
        for (int32_t t = 0; t < s.steps; ++t) {
            const int32_t *const end = ends + (s.each ? 3 * t : 0);
            int8_t *const to = y[s.each ? t : 0];
            int32_t shared = 1, sum = 0;
            for (int32_t k = 0; k < s.outer; ++k)
                shared = ear_round_off(shared, s.down[k]) *
                         ear_operand_value(&fresh[k], t * fresh[k].step[1] + row * fresh[k].step[2], 0);
            for (int32_t n = 0; n < s.states; ++n) {
                int32_t f = shared;
                for (int32_t k = s.outer; k < s.count; ++k)
                    f = ear_round_off(f, s.down[k]) *
                        ear_operand_value(&fresh[k],
                                          t * fresh[k].step[1] + row * fresh[k].step[2] + n * fresh[k].step[3], n);
                int32_t next = s.power > 0 ? ear_round_off(f, s.power) : ear_shift_left(f, -s.power);
                if (t > 0 || before) {
                    const int32_t at = t * decay.step[1] + row * decay.step[2] + n * decay.step[3];
                    next += ear_scale_high(ear_shift_left(h[n], s.up), ear_operand_value(&decay, at, n) << 16);
                }
                next = ear_clamp(next, -EAR_SCAN_LIMIT, EAR_SCAN_LIMIT - 1);
                h[n] = next;
                if (s.weighed)
                    sum += ear_round_off(next, s.narrow) *
                           ear_operand_value(&c, t * c.step[1] + row * c.step[2] + n * c.step[3], n);
                else if (to)
                    to[t * s.y_step + row * s.y_row + n * s.y_state] =
                        (int8_t)ear_narrow(ear_scale(next, end[0], end[1]) + end[2], -128, 127);
            }
            if (s.weighed && to)
                to[t * s.y_step + row * s.y_row] =
                    (int8_t)ear_narrow(ear_scale(sum, end[0], end[1]) + end[2], -128, 127);
        }
    }
}

#endif
