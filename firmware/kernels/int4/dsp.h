/* int4/dsp.h: the product with weights of 4 bits on cores with SMLAD; sums are 16 times their value. */
#ifndef EAR_INT4_DSP_H
#define EAR_INT4_DSP_H

typedef uint32_t __attribute__((may_alias)) ear_int4_word;

/* Widens a column to one of `count` lanes: of each four values (0, 2) and (1, 3), the other lane's after them; zeros
 * fill it up to whole eights. */
EAR_KERNEL void ear_int4_lane(const int8_t *x, int32_t depth, int32_t count, ear_int4_word *to) {
    int32_t k = 0;
    for (; k + 4 <= depth; k += 4, to += 2 * count) {
        uint32_t four;
        memcpy(&four, x + k, 4);
        to[0] = (uint32_t)__sxtb16((int8x4_t)four);
        to[1] = (uint32_t)__sxtb16((int8x4_t)(four >> 8 | four << 24));
    }
    for (; k < ((depth + 7) & ~7); k += 4, to += 2 * count) {
        int32_t value[4] = { 0, 0, 0, 0 };
        for (int32_t j = 0; j < 4 && k + j < depth; ++j)
            value[j] = x[k + j];
        to[0] = ((uint32_t)value[0] & 0xFFFFu) | (uint32_t)value[2] << 16;
        to[1] = ((uint32_t)value[1] & 0xFFFFu) | (uint32_t)value[3] << 16;
    }
}

/* A word of weights of a row, two columns in lanes (32 bytes at x). */
#define EAR_INT4_STEP_1X2(w, x, a0, a1)                                                                                \
    do {                                                                                                               \
        uint32_t word, half;                                                                                           \
        __asm volatile("ldr %[w], [%[pw]], #4\n"                                                                       \
                       "ldmia %[px]!, {r2, r3, r4, r5}\n"                                                              \
                       "and %[h], %[mask], %[w], lsl #4\n"                                                             \
                       "and %[w], %[w], %[mask]\n"                                                                     \
                       "sxtb16 r6, %[h]\n"                                                                             \
                       "smlad %[s0], r6, r2, %[s0]\n"                                                                  \
                       "smlad %[s1], r6, r4, %[s1]\n"                                                                  \
                       "sxtb16 %[h], %[h], ror #8\n"                                                                   \
                       "smlad %[s0], %[h], r3, %[s0]\n"                                                                \
                       "smlad %[s1], %[h], r5, %[s1]\n"                                                                \
                       "ldmia %[px]!, {r2, r3, r4, r5}\n"                                                              \
                       "sxtb16 r6, %[w]\n"                                                                             \
                       "smlad %[s0], r6, r2, %[s0]\n"                                                                  \
                       "smlad %[s1], r6, r4, %[s1]\n"                                                                  \
                       "sxtb16 %[w], %[w], ror #8\n"                                                                   \
                       "smlad %[s0], %[w], r3, %[s0]\n"                                                                \
                       "smlad %[s1], %[w], r5, %[s1]\n"                                                                \
                       : [pw] "+r"(w), [px] "+r"(x), [w] "=&r"(word), [h] "=&r"(half), [s0] "+r"(a0), [s1] "+r"(a1)    \
                       : [mask] "r"(0xF0F0F0F0u)                                                                       \
                       : "r2", "r3", "r4", "r5", "r6", "memory");                                                      \
    } while (0)

/* A word of weights of two rows, `next` bytes apart, and one column (16 bytes at x). */
#define EAR_INT4_STEP_2X1(w, next, x, a0, b0)                                                                          \
    do {                                                                                                               \
        uint32_t word, half;                                                                                           \
        __asm volatile("ldr %[w], [%[pw]]\n"                                                                           \
                       "ldmia %[px]!, {r2, r3, r4, r5}\n"                                                              \
                       "and %[h], %[mask], %[w], lsl #4\n"                                                             \
                       "and %[w], %[w], %[mask]\n"                                                                     \
                       "sxtb16 r6, %[h]\n"                                                                             \
                       "smlad %[s0], r6, r2, %[s0]\n"                                                                  \
                       "sxtb16 %[h], %[h], ror #8\n"                                                                   \
                       "smlad %[s0], %[h], r3, %[s0]\n"                                                                \
                       "sxtb16 r6, %[w]\n"                                                                             \
                       "smlad %[s0], r6, r4, %[s0]\n"                                                                  \
                       "sxtb16 %[h], %[w], ror #8\n"                                                                   \
                       "ldr %[w], [%[pw], %[b]]\n"                                                                     \
                       "smlad %[s0], %[h], r5, %[s0]\n"                                                                \
                       "and %[h], %[mask], %[w], lsl #4\n"                                                             \
                       "and %[w], %[w], %[mask]\n"                                                                     \
                       "sxtb16 r6, %[h]\n"                                                                             \
                       "smlad %[s1], r6, r2, %[s1]\n"                                                                  \
                       "sxtb16 %[h], %[h], ror #8\n"                                                                   \
                       "smlad %[s1], %[h], r3, %[s1]\n"                                                                \
                       "sxtb16 r6, %[w]\n"                                                                             \
                       "smlad %[s1], r6, r4, %[s1]\n"                                                                  \
                       "sxtb16 %[h], %[w], ror #8\n"                                                                   \
                       "smlad %[s1], %[h], r5, %[s1]\n"                                                                \
                       "adds %[pw], #4\n"                                                                              \
                       : [pw] "+l"(w), [px] "+r"(x), [w] "=&r"(word), [h] "=&r"(half), [s0] "+r"(a0), [s1] "+r"(b0)    \
                       : [mask] "r"(0xF0F0F0F0u), [b] "r"(next)                                                        \
                       : "r2", "r3", "r4", "r5", "r6", "memory", "cc");                                                \
    } while (0)

EAR_KERNEL int8_t ear_int4_finish(struct ear_output out, const int32_t *channels, int32_t channel, int32_t sum) {
    return ear_finish_twice(out, ear_channel(channels, channel), sum >> 3);
}

EAR_KERNEL void ear_int4_packed_1(struct ear_output out, const int8_t *x, const int8_t *weights,
                                  const int32_t *channels, int32_t depth, int32_t outputs, int8_t *y, void *lane) {
    const int32_t words = (depth + 7) / 8;
    const ear_int4_word *const rows = (const ear_int4_word *)(const void *)weights;
    ear_int4_lane(x, depth, 1, lane);
    for (int32_t i = 0; i < outputs; i += 2) {
        const int32_t other = ear_min(i + 1, outputs - 1), next = 4 * (other - i) * words;
        const ear_int4_word *at = lane, *w = rows + i * words, *const end = w + words;
        int32_t a = ear_shift_left(channels[3 * i], 4), b = ear_shift_left(channels[3 * other], 4);
        do
            EAR_INT4_STEP_2X1(w, next, at, a, b);
        while (w != end);
        y[other] = ear_int4_finish(out, channels, other, b);
        y[i] = ear_int4_finish(out, channels, i, a);
    }
}

EAR_KERNEL void ear_int4_packed(struct ear_output out, const int8_t *x0, const int8_t *x1, const int8_t *weights,
                                const int32_t *channels, int32_t depth, int32_t outputs, int8_t *y0, int8_t *y1,
                                void *lanes) {
    if (y0 == y1) {
        ear_int4_packed_1(out, x0, weights, channels, depth, outputs, y0, lanes);
        return;
    }
    const int32_t words = (depth + 7) / 8;
    const ear_int4_word *w = (const ear_int4_word *)(const void *)weights;
    ear_int4_lane(x0, depth, 2, lanes);
    ear_int4_lane(x1, depth, 2, (ear_int4_word *)lanes + 2);
    for (int32_t i = 0; i < outputs; ++i) {
        const ear_int4_word *x = lanes, *const end = w + words;
        int32_t sum0 = ear_shift_left(channels[3 * i], 4), sum1 = sum0;
        do {
            EAR_INT4_STEP_1X2(w, x, sum0, sum1);
            if (words % 2 == 0)
                EAR_INT4_STEP_1X2(w, x, sum0, sum1);
        } while (w != end);
        y1[i] = ear_int4_finish(out, channels, i, sum1);
        y0[i] = ear_int4_finish(out, channels, i, sum0);
    }
}

#endif
