/* int16/dsp.h: the int16 matrix product on cores with SMLAD.
 *
 * Weights come in pairs of rows, a word of each in turn; its bytes follow the inputs 0, 2, 1, 3, so that SXTB16 gives
 * inputs (0, 1) and, rotated, (2, 3). Columns lie in lanes: four values of the first, four of the second. */
#ifndef EAR_INT16_DSP_H
#define EAR_INT16_DSP_H

typedef uint32_t __attribute__((may_alias)) ear_int16_word;

/* Four values of depth: two rows (8 bytes at w), two columns (16 bytes at x). a0: first row, first column. */
#define EAR_INT16_STEP_2X2(w, x, a0, a1, b0, b1)                                                                       \
    do {                                                                                                               \
        uint32_t wa, wb, half;                                                                                         \
        __asm volatile("ldrd %[wa], %[wb], [%[pw]], #8\n"                                                              \
                       "ldmia %[px]!, {r2, r3, r4, r5}\n"                                                              \
                       "sxtb16 %[half], %[wa]\n"                                                                       \
                       "smlad %[s0], %[half], r2, %[s0]\n"                                                             \
                       "smlad %[s1], %[half], r4, %[s1]\n"                                                             \
                       "sxtb16 %[wa], %[wa], ror #8\n"                                                                 \
                       "smlad %[s0], %[wa], r3, %[s0]\n"                                                               \
                       "smlad %[s1], %[wa], r5, %[s1]\n"                                                               \
                       "sxtb16 %[half], %[wb]\n"                                                                       \
                       "smlad %[s2], %[half], r2, %[s2]\n"                                                             \
                       "smlad %[s3], %[half], r4, %[s3]\n"                                                             \
                       "sxtb16 %[wb], %[wb], ror #8\n"                                                                 \
                       "smlad %[s2], %[wb], r3, %[s2]\n"                                                               \
                       "smlad %[s3], %[wb], r5, %[s3]\n"                                                               \
                       : [pw] "+r"(w), [px] "+r"(x), [wa] "=&r"(wa), [wb] "=&r"(wb), [half] "=&r"(half),               \
                         [s0] "+r"(a0), [s1] "+r"(a1), [s2] "+r"(b0), [s3] "+r"(b1)                                    \
                       :                                                                                               \
                       : "r2", "r3", "r4", "r5", "memory");                                                            \
    } while (0)

/* The same for one column (8 bytes at x). */
#define EAR_INT16_STEP_2X1(w, x, a0, b0)                                                                               \
    do {                                                                                                               \
        uint32_t wa, wb, half;                                                                                         \
        __asm volatile("ldrd %[wa], %[wb], [%[pw]], #8\n"                                                              \
                       "ldmia %[px]!, {r2, r3}\n"                                                                      \
                       "sxtb16 %[half], %[wa]\n"                                                                       \
                       "sxtb16 %[wa], %[wa], ror #8\n"                                                                 \
                       "smlad %[s0], %[half], r2, %[s0]\n"                                                             \
                       "sxtb16 %[half], %[wb]\n"                                                                       \
                       "smlad %[s0], %[wa], r3, %[s0]\n"                                                               \
                       "sxtb16 %[wb], %[wb], ror #8\n"                                                                 \
                       "smlad %[s1], %[half], r2, %[s1]\n"                                                             \
                       "smlad %[s1], %[wb], r3, %[s1]\n"                                                               \
                       : [pw] "+r"(w), [px] "+r"(x), [wa] "=&r"(wa), [wb] "=&r"(wb), [half] "=&r"(half),               \
                         [s0] "+r"(a0), [s1] "+r"(b0)                                                                  \
                       :                                                                                               \
                       : "r2", "r3", "memory");                                                                        \
    } while (0)

/* Puts a column where its lane is, zeros after the last of `depth` values. */
EAR_KERNEL void ear_int16_lane(const int16_t *x, int32_t depth, int32_t count, int16_t *to) {
    for (; depth >= 4; depth -= 4, x += 4, to += 4 * count)
        memcpy(to, x, 8);
    for (int32_t i = 0; i < 4 && depth > 0; ++i)
        to[i] = i < depth ? x[i] : 0;
}

EAR_KERNEL void ear_int16_packed(struct ear_output out, const int16_t *x0, const int16_t *x1, const int8_t *weights,
                                 const int32_t *channels, int32_t depth, int32_t outputs, int16_t *y0, int16_t *y1,
                                 void *lanes) {
    const int32_t count = y1 ? 2 : 1, padded = (depth + 3) & ~3, run = ear_int16_run(out, padded);
    const int paired = padded % 8 == 0;
    ear_int16_lane(x0, depth, count, lanes);
    if (y1)
        ear_int16_lane(x1, depth, 2, (int16_t *)lanes + 4);
    const ear_int16_word *w = (const ear_int16_word *)(const void *)weights;
    for (int32_t i = 0; i < outputs; i += 2) {
        const int32_t other = ear_min(i + 1, outputs - 1);
        int64_t sum_a0 = ear_int16_bias(channels, i), sum_a1 = sum_a0;
        int64_t sum_b0 = ear_int16_bias(channels, other), sum_b1 = sum_b0;
        const ear_int16_word *x = lanes;
        for (int32_t start = 0; start < padded; start += run) {
            int32_t a0 = 0, a1 = 0, b0 = 0, b1 = 0;
            const ear_int16_word *const end = w + ear_min(padded - start, run) / 2;
            do {
                if (y1)
                    EAR_INT16_STEP_2X2(w, x, a0, a1, b0, b1);
                else
                    EAR_INT16_STEP_2X1(w, x, a0, b0);
                if (y1 && paired)
                    EAR_INT16_STEP_2X2(w, x, a0, a1, b0, b1);
                else if (paired)
                    EAR_INT16_STEP_2X1(w, x, a0, b0);
            } while (w != end);
            sum_a0 += a0, sum_a1 += a1, sum_b0 += b0, sum_b1 += b1;
        }
        y0[i] = ear_int16_finish(out, channels, i, sum_a0);
        y0[other] = other > i ? ear_int16_finish(out, channels, other, sum_b0) : y0[other];
        if (y1) {
            y1[i] = ear_int16_finish(out, channels, i, sum_a1);
            y1[other] = other > i ? ear_int16_finish(out, channels, other, sum_b1) : y1[other];
        }
    }
}

#endif
