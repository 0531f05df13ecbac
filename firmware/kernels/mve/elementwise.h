/* mve/elementwise.h: kernels of two int8 inputs on cores with MVE, four elements at a time. */
#ifndef EAR_MVE_ELEMENTWISE_H
#define EAR_MVE_ELEMENTWISE_H

#include "clamp.h"

/* Equals ear_scale(x, multiplier, shift) + more for shift <= 0; `whole`: also where the halves of negative values
 * matter, which they do not when what is below `more` is clamped to it. */
EAR_KERNEL int32x4_t ear_scale_4(int32x4_t x, int32_t multiplier, int32_t shift, int32_t more, int whole) {
    const int32x4_t high = vqrdmulhq_n_s32(x, multiplier);
    if (shift == 0)
        return vaddq_n_s32(high, more);
    const int32x4_t power = vdupq_n_s32((int32_t)((uint32_t)1 << (31 + shift)));
    return vqrdmlashq_n_s32(whole ? ear_away(high) : high, power, more);
}

/* y[...] = ELEMENTS(a, b, p) over the whole output, for vectors of four. */
#define EAR_BROADCAST_4(s, a_data, b_data, y_data, ELEMENTS, p)                                                        \
    do {                                                                                                               \
        int8_t *y_next = (y_data);                                                                                     \
        EAR_ROLLED                                                                                                     \
        for (int32_t i = 0; i < (s).size[0]; ++i)                                                                      \
            EAR_ROLLED                                                                                                 \
            for (int32_t j = 0; j < (s).size[1]; ++j)                                                                  \
                EAR_ROLLED                                                                                             \
                for (int32_t k = 0; k < (s).size[2]; ++k)                                                              \
                    EAR_ROLLED                                                                                         \
                    for (int32_t l = 0; l < (s).size[3]; ++l) {                                                        \
                        const int8_t *a_row =                                                                          \
                            (a_data) + i * (s).a[0] + j * (s).a[1] + k * (s).a[2] + l * (s).a[3];                      \
                        const int8_t *b_row =                                                                          \
                            (b_data) + i * (s).b[0] + j * (s).b[1] + k * (s).b[2] + l * (s).b[3];                      \
                        const int32x4_t a_first = vdupq_n_s32(*a_row), b_first = vdupq_n_s32(*b_row);                  \
                        const int32_t whole = (s).size[4] & ~3, count = (s).size[4];                                   \
                        EAR_ROLLED                                                                                     \
                        for (int32_t n = 0; n < whole; n += 4)                                                         \
                            vstrbq_s32(y_next + n, ELEMENTS((s).a[4] ? vldrbq_s32(a_row + n) : a_first,                \
                                                            (s).b[4] ? vldrbq_s32(b_row + n) : b_first, p));           \
                        if (whole < count) {                                                                           \
                            const mve_pred16_t some = vctp32q((uint32_t)(count - whole));                              \
                            vstrbq_p_s32(y_next + whole,                                                               \
                                         ELEMENTS((s).a[4] ? vldrbq_z_s32(a_row + whole, some) : a_first,              \
                                                  (s).b[4] ? vldrbq_z_s32(b_row + whole, some) : b_first, p),          \
                                         some);                                                                        \
                        }                                                                                              \
                        y_next += count;                                                                               \
                    }                                                                                                  \
    } while (0)

#endif
