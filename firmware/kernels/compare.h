/* compare.h: relations between two inputs, and logic of bytes that are 0 or 1. */
#ifndef EAR_COMPARE_H
#define EAR_COMPARE_H

#include "broadcast.h"

enum { EAR_EQUAL, EAR_NOT_EQUAL, EAR_LESS, EAR_LESS_EQUAL, EAR_GREATER, EAR_GREATER_EQUAL };

#define EAR_RELATION(a, b, relation)                                                                                   \
    ((relation) == EAR_EQUAL        ? (a) == (b)                                                                       \
     : (relation) == EAR_NOT_EQUAL  ? (a) != (b)                                                                       \
     : (relation) == EAR_LESS       ? (a) < (b)                                                                        \
     : (relation) == EAR_LESS_EQUAL ? (a) <= (b)                                                                       \
     : (relation) == EAR_GREATER    ? (a) > (b)                                                                        \
                                    : (a) >= (b))

typedef int64_t ear_int64 __attribute__((aligned(4))); /* the arena aligns to words */

#define EAR_COMPARE(name, type)                                                                                        \
    EAR_KERNEL void ear_compare_##name(const type *a, const type *b, uint8_t *y, struct ear_broadcast s,               \
                                       int32_t relation) {                                                             \
        for (int32_t i = 0; i < s.size[0]; ++i)                                                                        \
            for (int32_t j = 0; j < s.size[1]; ++j)                                                                    \
                for (int32_t k = 0; k < s.size[2]; ++k)                                                                \
                    for (int32_t l = 0; l < s.size[3]; ++l) {                                                          \
                        const type *a_row = a + i * s.a[0] + j * s.a[1] + k * s.a[2] + l * s.a[3];                     \
                        const type *b_row = b + i * s.b[0] + j * s.b[1] + k * s.b[2] + l * s.b[3];                     \
                        for (int32_t n = 0; n < s.size[4]; ++n)                                                        \
                            *y++ = EAR_RELATION(a_row[n * s.a[4]], b_row[n * s.b[4]], relation);                       \
                    }                                                                                                  \
    }

EAR_COMPARE(bool, uint8_t)
EAR_COMPARE(int16, int16_t)
EAR_COMPARE(int32, int32_t)
EAR_COMPARE(int64, ear_int64)
EAR_COMPARE(float32, float)

struct ear_compare {
    int32_t zero_a, zero_b;
    int32_t multiplier_a, shift_a, multiplier_b, shift_b;
    int32_t relation;
};

EAR_KERNEL int32_t ear_compare_element(int32_t a, int32_t b, const struct ear_compare *p) {
    const int32_t left = ear_requantise(ear_shift_left(a - p->zero_a, 8), p->multiplier_a, p->shift_a);
    const int32_t right = ear_requantise(ear_shift_left(b - p->zero_b, 8), p->multiplier_b, p->shift_b);
    return EAR_RELATION(left, right, p->relation);
}

EAR_KERNEL void ear_compare(const int8_t *a, const int8_t *b, uint8_t *y, struct ear_broadcast s,
                            struct ear_compare p) {
    EAR_BROADCAST(s, a, b, (int8_t *)y, ear_compare_element, p);
}

EAR_KERNEL int32_t ear_logical_element(int32_t a, int32_t b, const int32_t *either) {
    return *either ? a | b : a & b;
}

EAR_KERNEL void ear_logical(const uint8_t *a, const uint8_t *b, uint8_t *y, struct ear_broadcast s, int32_t either) {
    EAR_BROADCAST(s, (const int8_t *)a, (const int8_t *)b, (int8_t *)y, ear_logical_element, either);
}

EAR_KERNEL void ear_logical_not(const uint8_t *x, uint8_t *y, int32_t count) {
    for (int32_t i = 0; i < count; ++i)
        y[i] = x[i] ^ 1;
}

#endif
