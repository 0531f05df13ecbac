/* div.h: y = a / b on int8: a reciprocal in fixed point (three Newton steps, about 40 instructions, once a row where b
 * repeats along it), two multiplications an element. */
#ifndef EAR_DIV_H
#define EAR_DIV_H

#include "broadcast.h"
#include "softmax.h"

struct ear_div {
    int32_t zero_a, zero_b, zero_y, multiplier, shift, low, high;
};

EAR_KERNEL int32_t ear_div_element(int32_t a, int32_t b, const struct ear_div *p) {
    const int32_t divisor = b - p->zero_b, sign = divisor < 0 ? -1 : 1;
    const int32_t dividend = sign * (a - p->zero_a);
    if (divisor == 0)
        return dividend > 0 ? p->high : dividend < 0 ? p->low : ear_clamp(p->zero_y, p->low, p->high);
    const int32_t zeros = __builtin_clz((uint32_t)(sign * divisor));
    const uint32_t normal = (uint32_t)(sign * divisor) << zeros;
    const int32_t inverse = ear_reciprocal_of_one_plus((int32_t)(normal - 0x80000000u));
    const uint32_t above = (uint32_t)(dividend > 0 ? 2 * dividend : -2 * dividend - 1); /* one bit more than it takes */
    const int32_t headroom = dividend ? __builtin_clz(above) : 31;
    const int32_t quotient = ear_doubling_high_mul(ear_shift_left(dividend, headroom), inverse);
    const int32_t down = 31 - zeros + headroom - p->shift;
    const int32_t scaled = ear_doubling_high_mul(quotient, p->multiplier);
    return ear_clamp((down > 31 ? 0 : ear_divide_by_power(scaled, down)) + p->zero_y, p->low, p->high);
}

EAR_KERNEL void ear_div(const int8_t *a, const int8_t *b, int8_t *y, struct ear_broadcast s, struct ear_div p) {
    EAR_BROADCAST(s, a, b, y, ear_div_element, p);
}

/* Whole numbers: 0 for a division by 0; the smallest number by -1 wraps. */
EAR_KERNEL int32_t ear_int_div(int32_t a, int32_t b) {
    return b == 0 ? 0 : b == -1 ? (int32_t)(0u - (uint32_t)a) : a / b;
}

EAR_KERNEL int32_t ear_int_floor_mod(int32_t a, int32_t b) {
    const int32_t rest = b == 0 || b == -1 ? 0 : a % b;
    return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

EAR_KERNEL int32_t ear_int_floor_div(int32_t a, int32_t b) {
    const int32_t ratio = ear_int_div(a, b);
    return b != 0 && b != -1 && a % b != 0 && (a < 0) != (b < 0) ? ratio - 1 : ratio;
}

EAR_KERNEL void ear_int_pair(const int32_t *a, const int32_t *b, int32_t *y, struct ear_broadcast s,
                             int32_t (*f)(int32_t, int32_t)) {
    for (int32_t i = 0; i < s.size[0]; ++i)
        for (int32_t j = 0; j < s.size[1]; ++j)
            for (int32_t k = 0; k < s.size[2]; ++k)
                for (int32_t l = 0; l < s.size[3]; ++l) {
                    const int32_t *a_row = a + i * s.a[0] + j * s.a[1] + k * s.a[2] + l * s.a[3];
                    const int32_t *b_row = b + i * s.b[0] + j * s.b[1] + k * s.b[2] + l * s.b[3];
                    for (int32_t n = 0; n < s.size[4]; ++n)
                        *y++ = f(a_row[n * s.a[4]], b_row[n * s.b[4]]);
                }
}

#endif
