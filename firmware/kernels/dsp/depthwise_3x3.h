/* dsp/depthwise_3x3.h: two neighbouring outputs of a 3 x 3 depthwise filter, all channels, written out.
 *
 * The loop takes all registers: r0 inputs, r1 weights, r2 and r3 an input of four channels, r4 and r5 its weights,
 * r6-r9 the sums of the first output, r10-r12 and lr of the second. `along` is the direction in which the outputs are
 * neighbours: there each input meets a tap of each. */
#ifndef EAR_DSP_DEPTHWISE_3X3_H
#define EAR_DSP_DEPTHWISE_3X3_H

#include "matmul.h"

/* The assembly below knows this order. */
struct ear_depthwise_3x3 {
    const void *weights;
    const int8_t *x;
    const int32_t *channels;
    int8_t *y;
    int32_t next; /* bytes from an output to its neighbour */
    int32_t count, low, high;
};

/* Input K of line I. */
#define EAR_INPUT(I, K)                                                                                                \
    "ldr r2, [r0, #(" #I " * %c[across] + " #K " * %c[along])]\n"                                                      \
    "sxtb16 r3, r2, ror #8\n"                                                                                          \
    "sxtb16 r2, r2\n"

/* It meets tap T of line I: of the first output, of the second. */
#define EAR_TAP_3X3(I, T, S0, S1, S2, S3)                                                                              \
    "ldrd r4, r5, [r1, #(" #I " * %c[weight_across] + " #T " * %c[weight_along])]\n"                                   \
    "smlabb " S0 ", r2, r4, " S0 "\n"                                                                                  \
    "smlatt " S2 ", r2, r4, " S2 "\n"                                                                                  \
    "smlabb " S1 ", r3, r5, " S1 "\n"                                                                                  \
    "smlatt " S3 ", r3, r5, " S3 "\n"
#define EAR_HERE(I, T) EAR_TAP_3X3(I, T, "r6", "r7", "r8", "r9")
#define EAR_THERE(I, T) EAR_TAP_3X3(I, T, "r10", "r11", "r12", "lr")

/* A line of three taps, the second output one tap further, and two taps further. */
#define EAR_LINE_1(I)                                                                                                  \
    EAR_INPUT(I, 0)                                                                                                    \
    EAR_HERE(I, 0)                                                                                                     \
    EAR_INPUT(I, 1) EAR_HERE(I, 1) EAR_THERE(I, 0) EAR_INPUT(I, 2) EAR_HERE(I, 2) EAR_THERE(I, 1) EAR_INPUT(I, 3)      \
        EAR_THERE(I, 2)
#define EAR_LINE_2(I)                                                                                                  \
    EAR_INPUT(I, 0)                                                                                                    \
    EAR_HERE(I, 0)                                                                                                     \
    EAR_INPUT(I, 1) EAR_HERE(I, 1) EAR_INPUT(I, 2) EAR_HERE(I, 2) EAR_THERE(I, 0) EAR_INPUT(I, 3) EAR_THERE(I, 1)      \
        EAR_INPUT(I, 4) EAR_THERE(I, 2)
#define EAR_LINES_1 EAR_LINE_1(0) EAR_LINE_1(1) EAR_LINE_1(2)
#define EAR_LINES_2 EAR_LINE_2(0) EAR_LINE_2(1) EAR_LINE_2(2)

/* A channel of both outputs. */
#define EAR_BOTH(S, T)                                                                                                 \
    "ldmia r5!, {r0, r2, r3}\n" EAR_REQUANTISE(S, "r0", "r2", "r3", "r4") EAR_REQUANTISE(T, "r0", "r2", "r3", "r4")

/* EAR_CLAMP with limits in r2 and r3. */
#define EAR_CLAMP_3X3(S)                                                                                               \
    "cmp " S ", r2\n"                                                                                                  \
    "it lt\n"                                                                                                          \
    "movlt " S ", r2\n"                                                                                                \
    "cmp " S ", r3\n"                                                                                                  \
    "it gt\n"                                                                                                          \
    "movgt " S ", r3\n"
#define EAR_CLAMPS_3X3                                                                                                 \
    "ldrd r2, r3, [sp, #20]\n" EAR_CLAMP_3X3("r6") EAR_CLAMP_3X3("r7") EAR_CLAMP_3X3("r8") EAR_CLAMP_3X3("r9")         \
        EAR_CLAMP_3X3("r10") EAR_CLAMP_3X3("r11") EAR_CLAMP_3X3("r12") EAR_CLAMP_3X3("lr")

/* sp: x, channels, y, next, count, low, high. The last four channels once more when they do not divide by four. */
#define EAR_3X3(LINES, CLAMPS)                                                                                         \
    "ldmia r0, {r1-r8}\n"                                                                                              \
    "push {r2-r8}\n"                                                                                                   \
    "1: ldrd r0, r2, [sp]\n"                                                                                           \
    "ldmia r2!, {r6-r9}\n"                                                                                             \
    "str r2, [sp, #4]\n"                                                                                               \
    "mov r10, r6\n"                                                                                                    \
    "mov r11, r7\n"                                                                                                    \
    "mov r12, r8\n"                                                                                                    \
    "mov lr, r9\n" LINES "ldr r5, [sp, #4]\n"                                                                          \
    "add r1, #72\n" EAR_BOTH("r6", "r10") EAR_BOTH("r7", "r11") EAR_BOTH("r8", "r12") EAR_BOTH("r9", "lr")             \
    "str r5, [sp, #4]\n" CLAMPS                                                                                        \
    "ldrd r2, r3, [sp, #8]\n"                                                                                          \
    "ldr r5, [sp, #16]\n"                                                                                              \
    "ldr r0, [sp]\n"                                                                                                   \
    "add r3, r2\n"                                                                                                     \
    "strb r6, [r2], #1\n"                                                                                              \
    "strb r7, [r2], #1\n"                                                                                              \
    "strb r8, [r2], #1\n"                                                                                              \
    "strb r9, [r2], #1\n"                                                                                              \
    "strb r10, [r3]\n"                                                                                                 \
    "strb r11, [r3, #1]\n"                                                                                             \
    "strb r12, [r3, #2]\n"                                                                                             \
    "strb lr, [r3, #3]\n"                                                                                              \
    "add r0, #4\n"                                                                                                     \
    "subs r5, #4\n"                                                                                                    \
    "ble.w 3f\n"                                                                                                       \
    "cmp r5, #4\n"                                                                                                     \
    "bge.n 2f\n"                                                                                                       \
    "rsb r3, r5, #4\n"                                                                                                 \
    "sub r0, r3\n"                                                                                                     \
    "sub r2, r3\n"                                                                                                     \
    "2: str r0, [sp]\n"                                                                                                \
    "str r2, [sp, #8]\n"                                                                                               \
    "str r5, [sp, #16]\n"                                                                                              \
    "b.w 1b\n"                                                                                                         \
    "3: add sp, #28\n"

#define EAR_3X3_ASM(TEXT, at, along_bytes, across_bytes, along_words, across_words)                                    \
    __asm volatile(TEXT                                                                                                \
                   : "+r"(at)                                                                                          \
                   : [along] "i"(along_bytes), [across] "i"(across_bytes), [weight_along] "i"(along_words),            \
                     [weight_across] "i"(across_words)                                                                 \
                   : "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory")

/* LINES: EAR_LINES_1 or _2; whole: outputs have the whole range of int8; the last two: bytes between weights. */
#define EAR_DEPTHWISE_3X3(LINES, whole, pair, along, across, along_words, across_words)                                \
    do {                                                                                                               \
        register const struct ear_depthwise_3x3 *at __asm("r0") = pair;                                                \
        if (whole)                                                                                                     \
            EAR_3X3_ASM(EAR_3X3(LINES, ""), at, along, across, along_words, across_words);                             \
        else                                                                                                           \
            EAR_3X3_ASM(EAR_3X3(LINES, EAR_CLAMPS_3X3), at, along, across, along_words, across_words);                 \
    } while (0)

#endif
