/* dsp/matmul.h: the matrix product on cores with SMLAD (M4, M7, M33), bit for bit what matmul.h computes.
 *
 * Weights come in pairs of rows: each half-word holds 256 * b + a, with a of the first row and b of the second.
 * One SMLAD of the whole half-words sums 256 * B + A, one of the low bytes (SXTB16) sums A: 4 products a word for
 * one extraction. The compiler makes sure that B fits 24 bits. Half-words follow the order in which SXTB16 splits
 * four inputs: (0, 2), (1, 3). Inputs are widened to that order once a column. */
#ifndef EAR_DSP_MATMUL_H
#define EAR_DSP_MATMUL_H

#include "../matmul.h"

typedef uint32_t __attribute__((may_alias)) ear_word;

struct ear_sums {
    int32_t a, both; /* A, and 256 * B + A */
};

/* One step: 4 values of depth of two rows (8 bytes at w) and of two columns (16 bytes at x). */
#define EAR_STEP_2X2(w, x, first, second)                                                                              \
    do {                                                                                                               \
        uint32_t wa, wb;                                                                                               \
        __asm volatile("ldrd %[wa], %[wb], [%[pw]], #8\n"                                                              \
                       "ldmia %[px]!, {r2, r3, r4, r5}\n"                                                              \
                       "smlad %[b0], %[wa], r2, %[b0]\n"                                                               \
                       "smlad %[b1], %[wa], r4, %[b1]\n"                                                               \
                       "sxtb16 %[wa], %[wa]\n"                                                                         \
                       "smlad %[b0], %[wb], r3, %[b0]\n"                                                               \
                       "smlad %[b1], %[wb], r5, %[b1]\n"                                                               \
                       "sxtb16 %[wb], %[wb]\n"                                                                         \
                       "smlad %[a0], %[wa], r2, %[a0]\n"                                                               \
                       "smlad %[a1], %[wa], r4, %[a1]\n"                                                               \
                       "smlad %[a0], %[wb], r3, %[a0]\n"                                                               \
                       "smlad %[a1], %[wb], r5, %[a1]\n"                                                               \
                       : [pw] "+r"(w), [px] "+r"(x), [wa] "=&r"(wa), [wb] "=&r"(wb), [a0] "+r"((first).a),             \
                         [b0] "+r"((first).both), [a1] "+r"((second).a), [b1] "+r"((second).both)                      \
                       :                                                                                               \
                       : "r2", "r3", "r4", "r5", "memory");                                                            \
    } while (0)

/* Two steps of two rows (16 bytes at w) and one column (16 bytes at x). */
#define EAR_STEPS_2X1(w, x, sums)                                                                                      \
    __asm volatile("ldmia %[pw]!, {r6, r8, r9, r10}\n"                                                                 \
                   "ldmia %[px]!, {r2, r3, r4, r5}\n"                                                                  \
                   "smlad %[b], r6, r2, %[b]\n"                                                                        \
                   "sxtb16 r6, r6\n"                                                                                   \
                   "smlad %[b], r8, r3, %[b]\n"                                                                        \
                   "sxtb16 r8, r8\n"                                                                                   \
                   "smlad %[b], r9, r4, %[b]\n"                                                                        \
                   "sxtb16 r9, r9\n"                                                                                   \
                   "smlad %[b], r10, r5, %[b]\n"                                                                       \
                   "sxtb16 r10, r10\n"                                                                                 \
                   "smlad %[a], r6, r2, %[a]\n"                                                                        \
                   "smlad %[a], r8, r3, %[a]\n"                                                                        \
                   "smlad %[a], r9, r4, %[a]\n"                                                                        \
                   "smlad %[a], r10, r5, %[a]\n"                                                                       \
                   : [pw] "+r"(w), [px] "+r"(x), [a] "+r"((sums).a), [b] "+r"((sums).both)                             \
                   :                                                                                                   \
                   : "r2", "r3", "r4", "r5", "r6", "r8", "r9", "r10", "memory")

/* Widens the `depth` values of a column to int16; its steps lie `lanes` * 8 bytes apart. Reads whole words of x. */
EAR_KERNEL void ear_widen(const int8_t *x, int32_t depth, int32_t lanes, ear_word *to) {
    for (int32_t i = 0; i < depth; i += 4, x += 4, to += 2 * lanes) {
        uint32_t four, odd;
        memcpy(&four, x, 4);
        __asm("sxtb16 %0, %1, ror #8" : "=r"(odd) : "r"(four));
        to[0] = (uint32_t)__sxtb16((int8x4_t)four);
        to[1] = odd;
    }
}

EAR_KERNEL struct ear_sums ear_start(const int32_t *channels, int32_t channel, int has_b) {
    const int32_t a = channels[3 * channel], b = has_b ? channels[3 * channel + 3] : 0;
    return (struct ear_sums){ a, (int32_t)((uint32_t)a + ((uint32_t)b << 8)) };
}

EAR_KERNEL int32_t ear_twice_a(struct ear_sums sums) {
    return ear_shift_left(sums.a, 1);
}

EAR_KERNEL int32_t ear_twice_b(struct ear_sums sums) {
    return (int32_t)((uint32_t)sums.both - (uint32_t)sums.a) >> 7;
}

/* Two columns of `steps` times 4 values, widened, against all rows; y0, y1: their outputs. */
EAR_KERNEL void ear_matmul_2(struct ear_output out, const ear_word *columns, const ear_word *w, const int32_t *channels,
                             int32_t steps, int32_t outputs, int8_t *y0, int8_t *y1) {
    const int32_t unroll = steps % 4 == 0 ? 4 : steps % 2 == 0 ? 2 : 1;
    for (int32_t i = 0; i < outputs; i += 2) {
        const int has_b = i + 1 < outputs;
        struct ear_sums first = ear_start(channels, i, has_b), second = first;
        const ear_word *x = columns;
        const ear_word *const end = w + 2 * steps;
        do {
            EAR_STEP_2X2(w, x, first, second);
            if (unroll > 1)
                EAR_STEP_2X2(w, x, first, second);
            if (unroll > 2) {
                EAR_STEP_2X2(w, x, first, second);
                EAR_STEP_2X2(w, x, first, second);
            }
        } while (w != end);
        const struct ear_channel a = ear_channel(channels, i), b = ear_channel(channels, has_b ? i + 1 : i);
        y0[i] = ear_finish_twice(out, a, ear_twice_a(first));
        y1[i] = ear_finish_twice(out, a, ear_twice_a(second));
        if (has_b) {
            y0[i + 1] = ear_finish_twice(out, b, ear_twice_b(first));
            y1[i + 1] = ear_finish_twice(out, b, ear_twice_b(second));
        }
    }
}

/* One column against all rows. */
EAR_KERNEL void ear_matmul_1(struct ear_output out, const ear_word *column, const ear_word *w, const int32_t *channels,
                             int32_t steps, int32_t outputs, int8_t *y) {
    for (int32_t i = 0; i < outputs; i += 2) {
        const int has_b = i + 1 < outputs;
        struct ear_sums sums = ear_start(channels, i, has_b);
        const ear_word *x = column;
        for (int32_t step = 1; step < steps; step += 2)
            EAR_STEPS_2X1(w, x, sums);
        if (steps & 1) {
            for (int32_t j = 0; j < 2; ++j, ++w, ++x) {
                sums.both = __smlad((int16x2_t)*w, (int16x2_t)*x, sums.both);
                sums.a = __smlad(__sxtb16((int8x4_t)*w), (int16x2_t)*x, sums.a);
            }
        }
        const struct ear_channel a = ear_channel(channels, i), b = ear_channel(channels, has_b ? i + 1 : i);
        y[i] = ear_finish_twice(out, a, ear_twice_a(sums));
        if (has_b)
            y[i + 1] = ear_finish_twice(out, b, ear_twice_b(sums));
    }
}

#endif
