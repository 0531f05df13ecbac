/* scalar/finish.h: requantisation of narrow sums on cores without SMMUL: what ear_finish_twice computes, to the bit. */
#ifndef EAR_SCALAR_FINISH_H
#define EAR_SCALAR_FINISH_H

#include "../matmul.h"
#include "product.h"

/* How a row is scaled, and where that stands in the table: multiplier; the second rounding constant, with the
 * zero-point in it; right shift. */
struct ear_scaling {
    const int32_t *table;
    int32_t multiplier, rounding, right;
};

EAR_KERNEL struct ear_scaling ear_scaling(const int32_t *table) {
    return (struct ear_scaling){ table, table[0], table[1], table[2] };
}

#if EAR_SHORT_PRODUCTS
/* The output before it is narrowed to 8 bits: ear_high_narrow_pieces(), the last rounding of which is the bit that
 * a shift leaves in the carry. */
EAR_KERNEL int32_t ear_scaled_narrow(struct ear_scaling row, int32_t sum) {
    int32_t high, low, factor, middle, scaled;
    __asm(".syntax unified\n"
          "sxth %[low], %[sum]\n"
          "subs %[scaled], %[sum], %[low]\n"
          "asrs %[scaled], %[scaled], #16\n"
          "ldrh %[factor], [%[table], #0]\n"
          "ldrh %[high], [%[table], #2]\n"
          "asrs %[sum], %[sum], #31\n"
          "movs %[middle], %[factor]\n"
          "muls %[middle], %[low], %[middle]\n"
          "asrs %[middle], %[middle], #16\n"
          "muls %[factor], %[scaled], %[factor]\n"
          "adds %[middle], %[middle], %[factor]\n"
          "muls %[low], %[high], %[low]\n"
          "adds %[middle], %[middle], %[low]\n"
          "muls %[scaled], %[high], %[scaled]\n"
          "lsls %[scaled], %[scaled], #1\n"
          "asrs %[middle], %[middle], #15\n"
          "adcs %[scaled], %[middle]\n"
          "ldr %[factor], [%[table], #4]\n"
          "adds %[scaled], %[scaled], %[factor]\n"
          "adds %[scaled], %[scaled], %[sum]\n"
          "ldr %[factor], [%[table], #8]\n"
          "asrs %[scaled], %[factor]\n"
          : [sum] "+l"(sum), [scaled] "=&l"(scaled), [high] "=&l"(high), [low] "=&l"(low), [factor] "=&l"(factor),
            [middle] "=&l"(middle)
          : [table] "l"(row.table)
          : "cc", "memory");
    return scaled;
}
#else
EAR_KERNEL int32_t ear_scaled_narrow(struct ear_scaling row, int32_t sum) {
    return (ear_high_narrow(sum, row.multiplier, row.rounding) + (sum >> 31)) >> row.right;
}
#endif

EAR_KERNEL int8_t ear_finish_narrow(struct ear_output out, struct ear_scaling row, int32_t sum) {
    int32_t scaled = ear_scaled_narrow(row, sum);
    if (out.low > -128 || out.high < 127)
        return (int8_t)ear_clamp(scaled, out.low, out.high);
#if defined(__thumb2__)
    __asm("ssat %0, #8, %1" : "=r"(scaled) : "r"(scaled) : "cc");
#else
    if (scaled != (int8_t)scaled)
        scaled = (scaled >> 31) ^ 127;
#endif
    return (int8_t)scaled;
}

#endif
