/* mve/products.h: the inner loop of products.h, four places at a time. A factor takes one load, or two and a gather
   for a table; a term three instructions, the sum four. */
#ifndef EAR_MVE_PRODUCTS_H
#define EAR_MVE_PRODUCTS_H

#include "clamp.h"

EAR_KERNEL int32x4_t ear_operand_4(const struct ear_operand *o, int32_t at, uint32x4_t lanes, mve_pred16_t some) {
    const int32_t step = o->step[3];
    const uint32x4_t apart = vmulq_n_u32(lanes, (uint32_t)step);
    if (o->numbers) {
        const int16_t *const from = o->numbers + o->first + at;
        return step == 0   ? vdupq_n_s32(*from)
               : step == 1 ? vldrhq_z_s32(from, some)
                           : vldrhq_gather_shifted_offset_z_s32(from, apart, some);
    }
    const int8_t *const from = o->x + o->first + at;
    const int32x4_t q = step == 0   ? vdupq_n_s32(*from)
                        : step == 1 ? vldrbq_z_s32(from, some)
                                    : vldrbq_gather_offset_z_s32(from, apart, some);
    if (!o->table)
        return vsubq_n_s32(q, o->zero);
    const uint32x4_t byte = vandq_u32(vreinterpretq_u32_s32(q), vdupq_n_u32(255));
    return vldrhq_gather_shifted_offset_z_s32(o->table, byte, some);
}

EAR_KERNEL int32x4_t ear_term_4(const struct ear_operand *o, const int32_t *place, const struct ear_products *s,
                                int32_t j, uint32x4_t lanes, mve_pred16_t some) {
    int32x4_t value = vdupq_n_s32(1);
    for (int32_t k = 0; k < s->factors[j]; ++k) {
        const int32_t at = place[0] * o[k].step[0] + place[1] * o[k].step[1] + place[2] * o[k].step[2];
        value = vmulq_s32(value, ear_operand_4(&o[k], at + place[3] * o[k].step[3], lanes, some));
    }
    const int32x4_t up = vshlq_s32(value, vdupq_n_s32(s->up[j]));
    return vqrdmulhq_n_s32(s->minus[j] ? vnegq_s32(up) : up, s->multiplier[j]);
}

/* One row of y. */
EAR_KERNEL void ear_products_row(int8_t *y, const struct ear_operand *first, const struct ear_operand *second,
                                 int32_t *at, const struct ear_products *s) {
    const uint32x4_t lanes = vidupq_n_u32(0, 1);
    EAR_ROLLED
    for (at[3] = 0; at[3] < s->size[3]; at[3] += 4) {
        const mve_pred16_t some = vctp32q((uint32_t)(s->size[3] - at[3]));
        int32x4_t sum = vaddq_n_s32(ear_term_4(first, at, s, 0, lanes, some), s->offset);
        if (s->factors[1])
            sum = vaddq_s32(sum, ear_term_4(second, at, s, 1, lanes, some));
        const int32x4_t steps = vshlq_s32(sum, vdupq_n_s32(-s->down));
        vstrbq_p_s32(y + at[3], ear_clamp_4(steps, -128, 127), some);
    }
}

#endif
