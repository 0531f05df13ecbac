/* scalar/product.h: upper words of 64-bit products, on cores that may lack them. */
#ifndef EAR_SCALAR_PRODUCT_H
#define EAR_SCALAR_PRODUCT_H

#include "../../ear.h"

/* Cortex-M0+ multiplies 32 bits by 32 to 32: there a long product is put together from 16-bit pieces. */
#if defined(__thumb__) && !defined(__thumb2__)
#define EAR_SHORT_PRODUCTS 1
#else
#define EAR_SHORT_PRODUCTS 0
#endif

/* round(a * b / 2^32), halves up. */
EAR_KERNEL int32_t ear_high_pieces(int32_t a, int32_t b) {
    const uint32_t a_low = (uint32_t)a & 0xFFFF, b_low = (uint32_t)b & 0xFFFF;
    const int32_t a_high = a >> 16, b_high = b >> 16;
    const int32_t upper = a_high * (int32_t)b_low + (int32_t)((a_low * b_low) >> 16);
    const int32_t lower = (upper & 0xFFFF) + (int32_t)a_low * b_high + 0x8000;
    return a_high * b_high + (upper >> 16) + (lower >> 16);
}

/* The same, the shortest way of the core. */
EAR_KERNEL int32_t ear_high_product(int32_t a, int32_t b) {
    if (EAR_SHORT_PRODUCTS)
        return ear_high_pieces(a, b);
    return (int32_t)(((int64_t)a * b + 0x80000000) >> 32);
}

/* round(sum * multiplier / 2^31), halves up, for |sum| < 2^23 and multiplier >= 0: no piece below 2^16 can carry. */
EAR_KERNEL int32_t ear_high_narrow_pieces(int32_t sum, int32_t multiplier) {
    const int32_t low = (int16_t)sum, high = (sum - low) >> 16;
    const int32_t m_low = multiplier & 0xFFFF, m_high = multiplier >> 16;
    const int32_t middle = low * m_high + high * m_low + ((low * m_low) >> 16);
    return 2 * high * m_high + ((middle + (1 << 14)) >> 15);
}

/* The same plus `add`, the shortest way of the core. */
EAR_KERNEL int32_t ear_high_narrow(int32_t sum, int32_t multiplier, int32_t add) {
    if (EAR_SHORT_PRODUCTS)
        return ear_high_narrow_pieces(sum, multiplier) + add;
    const int64_t start = (int64_t)(((uint64_t)(uint32_t)add << 32) + 0x80000000u);
    return (int32_t)(((int64_t)ear_shift_left(sum, 1) * multiplier + start) >> 32);
}

#endif
