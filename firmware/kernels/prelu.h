/* prelu.h: y = x from zero up, alpha * x below, with an alpha that may repeat. */
#ifndef EAR_PRELU_H
#define EAR_PRELU_H

#include "broadcast.h"

struct ear_prelu {
    int32_t zero_x, zero_alpha, zero_y;
    int32_t above, above_shift, below, below_shift; /* factors of x, and of alpha * x */
    int32_t low, high, width;                       /* what fits a value, and its bytes */
};

EAR_KERNEL int32_t ear_prelu_element(int32_t x, int32_t alpha, const struct ear_prelu *p) {
    const int32_t value = x - p->zero_x;
    const int32_t scaled = value >= 0
                               ? ear_requantise(value, p->above, p->above_shift)
                               : ear_requantise(value * (alpha - p->zero_alpha), p->below, p->below_shift);
    return ear_clamp(scaled + p->zero_y, p->low, p->high);
}

/* alpha: in the type of x */
EAR_KERNEL void ear_prelu(const void *x, const void *alpha, void *y, struct ear_broadcast s, struct ear_prelu p) {
    EAR_BROADCAST_WIDTH(p.width, s, x, alpha, y, ear_prelu_element, p);
}

#endif
