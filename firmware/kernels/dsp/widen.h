/* dsp/widen.h: int8 inputs to pairs of int16, in the order of SXTB16: (0, 2), (1, 3) of each four.
 *
 * A column takes a lane of several: the two words of its next step lie `lanes` and 2 * `lanes` words on.
 * 5.5 instructions for four values. */
#ifndef EAR_DSP_WIDEN_H
#define EAR_DSP_WIDEN_H

#include "../../ear.h"

/* One copy for all layers of a model. */
#define EAR_SHARED static __attribute__((noinline, unused))

typedef uint32_t __attribute__((may_alias)) ear_word;

#define EAR_WIDEN                                                                                                      \
    "ldr %[even], [%[x]], #4\n"                                                                                        \
    "sxtb16 %[odd], %[even], ror #8\n"                                                                                 \
    "sxtb16 %[even], %[even]\n"                                                                                        \
    "str %[odd], [%[to], %[next]]\n"                                                                                   \
    "str %[even], [%[to]], %[step]\n"

/* `count` times WORDS, each for 4 bytes at x. */
#define EAR_WIDEN_LOOP(WORDS, x, count, to, lanes)                                                                     \
    do {                                                                                                               \
        uint32_t even, odd;                                                                                            \
        __asm volatile("1:\n" WORDS "subs %[n], %[n], #1\n"                                                            \
                       "bne 1b\n"                                                                                      \
                       : [x] "+r"(x), [to] "+r"(to), [n] "+r"(count), [even] "=&r"(even), [odd] "=&r"(odd)             \
                       : [next] "i"(4 * (lanes)), [step] "i"(8 * (lanes))                                              \
                       : "cc", "memory");                                                                              \
    } while (0)

/* Widens `bytes` bytes at x, the last word of them filled up with zeros; returns where the next step goes. */
EAR_KERNEL ear_word *ear_widen_lane(const int8_t *x, int32_t bytes, ear_word *to, int32_t lanes) {
    int32_t fours = bytes >> 4, ones = (bytes >> 2) & 3;
    if (fours)
        EAR_WIDEN_LOOP(EAR_WIDEN EAR_WIDEN EAR_WIDEN EAR_WIDEN, x, fours, to, lanes);
    if (ones)
        EAR_WIDEN_LOOP(EAR_WIDEN, x, ones, to, lanes);
    if (bytes & 3) {
        uint32_t word = (uint8_t)x[0];
        if ((bytes & 3) > 1)
            word |= (uint32_t)(uint8_t)x[1] << 8;
        if ((bytes & 3) > 2)
            word |= (uint32_t)(uint8_t)x[2] << 16;
        to[0] = (uint32_t)__sxtb16((int8x4_t)word);
        to[lanes] = (uint32_t)__sxtb16((int8x4_t)(word >> 8));
        to += 2 * lanes;
    }
    return to;
}

EAR_SHARED ear_word *ear_widen_1(const int8_t *x, int32_t bytes, ear_word *to) {
    return ear_widen_lane(x, bytes, to, 1);
}

EAR_SHARED ear_word *ear_widen_3(const int8_t *x, int32_t bytes, ear_word *to) {
    return ear_widen_lane(x, bytes, to, 3);
}

EAR_KERNEL ear_word *ear_widen(const int8_t *x, int32_t bytes, ear_word *to, int32_t lanes) {
    return lanes == 1 ? ear_widen_1(x, bytes, to) : ear_widen_3(x, bytes, to);
}

/* The same for `bytes` (whole words) of one value. */
EAR_KERNEL ear_word *ear_widen_fill(int32_t value, int32_t bytes, ear_word *to, int32_t lanes) {
    const uint32_t twice = ((uint32_t)value & 0xffff) * 0x10001;
    EAR_ROLLED
    for (; bytes > 0; bytes -= 4, to += 2 * lanes)
        to[0] = to[lanes] = twice;
    return to;
}

#endif
