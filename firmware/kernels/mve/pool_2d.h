/* mve/pool_2d.h: pools of int8 on cores with MVE: a load and a VADD or VMAX for 8 or 16 values, and the loop. */
#ifndef EAR_MVE_POOL_2D_H
#define EAR_MVE_POOL_2D_H

#include "../pool_2d.h"

#define EAR_POOL_MOST 255 /* values whose sum fits 16 bits */

/* What computes the channels of one window; x: the input of the batch. */
typedef void (*ear_pool_window)(struct ear_pool_2d s, struct ear_pool_part part, const int8_t *x, int8_t *y);

/* The means of `count` values from up to 8 sums. */
EAR_KERNEL void ear_means(struct ear_pool_2d s, int16x8_t sum, int32_t count, int32_t channels, int8_t *y) {
    int16_t sums[8];
    vstrhq_s16(sums, sum);
    EAR_ROLLED
    for (int32_t i = 0; i < channels; ++i) {
        const int32_t mean = (sums[i] > 0 ? sums[i] + count / 2 : sums[i] - count / 2) / count;
        y[i] = (int8_t)ear_clamp(mean, s.low, s.high);
    }
}

EAR_KERNEL void ear_average_bytes(struct ear_pool_2d s, struct ear_pool_part part, const int8_t *x, int8_t *y) {
    const int32_t columns = part.right - part.left;
    EAR_ROLLED
    for (int32_t k = 0; k < s.channels; k += 8) {
        const mve_pred16_t some = vctp16q((uint32_t)(s.channels - k));
        int16x8_t sum = vdupq_n_s16(0);
        EAR_ROLLED
        for (int32_t i = part.top; i < part.bottom; ++i) {
            const int8_t *from = x + (i * s.in_columns + part.left) * s.channels + k;
            EAR_ROLLED
            for (int32_t j = 0; j < columns; ++j, from += s.channels)
                sum = vaddq_s16(sum, s.channels % 8 ? vldrbq_z_s16(from, some) : vldrbq_s16(from));
        }
        ear_means(s, sum, (part.bottom - part.top) * columns, ear_min(s.channels - k, 8), y + k);
    }
}

EAR_KERNEL void ear_greatest_bytes(struct ear_pool_2d s, struct ear_pool_part part, const int8_t *x, int8_t *y) {
    EAR_ROLLED
    for (int32_t k = 0; k < s.channels; k += 16) {
        const mve_pred16_t some = vctp8q((uint32_t)(s.channels - k));
        int8x16_t greatest = vdupq_n_s8((int8_t)s.low);
        EAR_ROLLED
        for (int32_t i = part.top; i < part.bottom; ++i) {
            const int8_t *from = x + (i * s.in_columns + part.left) * s.channels + k;
            EAR_ROLLED
            for (int32_t j = part.left; j < part.right; ++j, from += s.channels)
                greatest = vmaxq_s8(greatest, s.channels % 16 ? vldrbq_z_s8(from, some) : vldrbq_s8(from));
        }
        vstrbq_p_s8(y + k, vminq_s8(greatest, vdupq_n_s8((int8_t)s.high)), some);
    }
}

EAR_KERNEL void ear_pool_bytes(struct ear_pool_2d s, const int8_t *x, int8_t *y, ear_pool_window window) {
    EAR_ROLLED
    for (int32_t batch = 0; batch < s.batches; ++batch, x += s.in_rows * s.in_columns * s.channels)
        EAR_ROLLED
        for (int32_t row = 0; row < s.out_rows; ++row)
            EAR_ROLLED
            for (int32_t column = 0; column < s.out_columns; ++column, y += s.channels)
                window(s, ear_pool_part(s, row, column), x, y);
}

#endif
