/* dsp/matmul.h: the matrix product on cores with SMLAD (M4, M7, M33), bit for bit what matmul.h computes.
 *
 * Weights come in pairs of rows: each half-word holds 256 * b + a, with a of the first row and b of the second.
 * One SMLAD of the whole half-words sums 256 * B + A, one of the low bytes (SXTB16) sums A: 4 products a word for
 * one extraction. The compiler makes sure that B fits 24 bits. Half-words follow the order in which SXTB16 splits
 * four inputs: (0, 2), (1, 3). Inputs are widened to that order once a column, see dsp/widen.h.
 *
 * What limits it, in instructions: 0.5 a product for SMLAD; with the loads 17/24 = 0.71 for three columns and
 * 14/16 = 0.88 for one; then for each pair of rows 6 (of one column 6.5) an output to requantise and store it, and 25
 * for constants and loops. Both loops take all registers, so they are written out rather than left to a compiler. */
#ifndef EAR_DSP_MATMUL_H
#define EAR_DSP_MATMUL_H

#include "../matmul.h"
#include "widen.h"

#define EAR_COLUMNS 3 /* that are multiplied together */

/* What a pair of rows needs besides its weights: where the sums of a and of both start, and for each row the
 * multiplier, the rounding constant with the zero-point of the output, and the right shift less one. */
struct ear_pair {
    int32_t start_a, start_both;
    int32_t multiplier_a, rounding_a, right_a;
    int32_t multiplier_b, rounding_b, right_b;
};

/* A product. The assembly below knows this order. A step is 4 values of depth. */
struct ear_product {
    const ear_word *weights, *columns; /* pairs of rows; widened */
    int32_t many, few, last;           /* turns of the unrolled loop and of the short one; a single last step */
    const struct ear_pair *pairs;
    int8_t *y;
    int32_t row_bytes, outputs, low, high; /* row_bytes: between the outputs of two columns */
};

/* Twice a sum in S to its output, see ear_finish_twice; SPARE is spent. */
#define EAR_REQUANTISE(S, MULTIPLIER, ROUNDING, RIGHT, SPARE)                                                          \
    "smmlar " SPARE ", " S ", " MULTIPLIER ", " ROUNDING "\n"                                                          \
    "add " S ", " SPARE ", " S ", asr #31\n"                                                                           \
    "asr " S ", " S ", " RIGHT "\n"                                                                                    \
    "ssat " S ", #8, " S ", asr #1\n"
#define EAR_CLAMP(S)                                                                                                   \
    "cmp " S ", r1\n"                                                                                                  \
    "it lt\n"                                                                                                          \
    "movlt " S ", r1\n"                                                                                                \
    "cmp " S ", r2\n"                                                                                                  \
    "it gt\n"                                                                                                          \
    "movgt " S ", r2\n"

/* Half a step: two values of depth of two rows (in W, which is spent) and of three columns. */
#define EAR_HALF_2X3(W)                                                                                                \
    "ldmia r1!, {r2, r3, r4}\n"                                                                                        \
    "smlad r8, " W ", r2, r8\n"                                                                                        \
    "smlad r10, " W ", r3, r10\n"                                                                                      \
    "smlad r12, " W ", r4, r12\n"                                                                                      \
    "sxtb16 " W ", " W "\n"                                                                                            \
    "smlad r7, " W ", r2, r7\n"                                                                                        \
    "smlad r9, " W ", r3, r9\n"                                                                                        \
    "smlad r11, " W ", r4, r11\n"
#define EAR_STEP_2X3 "ldrd r5, r6, [r0], #8\n" EAR_HALF_2X3("r5") EAR_HALF_2X3("r6")

/* r0 weights, r1 columns, r2-r6 what was loaded, r7-r12 A and both of each column, lr turns; sp: ear_product from
 * `columns` on. Outputs leave in pairs; the last row of an odd number is the first of a pair. */
#define EAR_PRODUCT_3(CLAMP)                                                                                           \
    "ldmia r0, {r0-r10}\n"                                                                                             \
    "push {r1-r10}\n"                                                                                                  \
    "2: ldr r5, [sp, #16]\n"                                                                                           \
    "ldrd r1, lr, [sp]\n"                                                                                              \
    "ldrd r7, r8, [r5]\n"                                                                                              \
    "mov r9, r7\n"                                                                                                     \
    "mov r10, r8\n"                                                                                                    \
    "mov r11, r7\n"                                                                                                    \
    "mov r12, r8\n"                                                                                                    \
    "cmp lr, #0\n"                                                                                                     \
    "beq.w 4f\n"                                                                                                       \
    "3:\n" EAR_STEP_2X3 EAR_STEP_2X3 EAR_STEP_2X3 EAR_STEP_2X3 "subs lr, #1\n"                                         \
    "bne.w 3b\n"                                                                                                       \
    "4: ldr lr, [sp, #8]\n"                                                                                            \
    "cmp lr, #0\n"                                                                                                     \
    "beq.w 6f\n"                                                                                                       \
    "5:\n" EAR_STEP_2X3 "subs lr, #1\n"                                                                                \
    "bne.w 5b\n"                                                                                                       \
    "6: ldr lr, [sp, #16]\n"                                                                                           \
    "sub r8, r8, r7\n"                                                                                                 \
    "sub r10, r10, r9\n"                                                                                               \
    "sub r12, r12, r11\n"                                                                                              \
    "add lr, #8\n"                                                                                                     \
    "lsl r7, r7, #1\n"                                                                                                 \
    "lsl r9, r9, #1\n"                                                                                                 \
    "lsl r11, r11, #1\n"                                                                                               \
    "ldmia lr!, {r1-r6}\n"                                                                                             \
    "asr r8, r8, #7\n"                                                                                                 \
    "asr r10, r10, #7\n"                                                                                               \
    "asr r12, r12, #7\n"                                                                                               \
    "str lr, [sp, #16]\n" EAR_REQUANTISE("r7", "r1", "r2", "r3", "lr") EAR_REQUANTISE("r9", "r1", "r2", "r3", "lr")    \
        EAR_REQUANTISE("r11", "r1", "r2", "r3", "lr") EAR_REQUANTISE("r8", "r4", "r5", "r6", "lr")                     \
            EAR_REQUANTISE("r10", "r4", "r5", "r6", "lr") EAR_REQUANTISE("r12", "r4", "r5", "r6", "lr") CLAMP          \
    "ldrd r1, r2, [sp, #20]\n"                                                                                         \
    "ldr r3, [sp, #28]\n"                                                                                              \
    "add r4, r1, #2\n"                                                                                                 \
    "strb r7, [r1]\n"                                                                                                  \
    "strb r9, [r1, r2]\n"                                                                                              \
    "strb r11, [r1, r2, lsl #1]\n"                                                                                     \
    "subs r3, #2\n"                                                                                                    \
    "blt.w 7f\n"                                                                                                       \
    "strb r8, [r1, #1]!\n"                                                                                             \
    "strb r10, [r1, r2]\n"                                                                                             \
    "strb r12, [r1, r2, lsl #1]\n"                                                                                     \
    "str r4, [sp, #20]\n"                                                                                              \
    "str r3, [sp, #28]\n"                                                                                              \
    "bgt.w 2b\n"                                                                                                       \
    "7: add sp, #40\n"

/* Two steps of two rows (16 bytes at r0) and of one column (16 bytes at r1). */
#define EAR_STEPS_2X1                                                                                                  \
    "ldmia r0!, {r6, r7, r8, r9}\n"                                                                                    \
    "ldmia r1!, {r2, r3, r4, r5}\n"                                                                                    \
    "smlad r11, r6, r2, r11\n"                                                                                         \
    "sxtb16 r6, r6\n"                                                                                                  \
    "smlad r11, r7, r3, r11\n"                                                                                         \
    "sxtb16 r7, r7\n"                                                                                                  \
    "smlad r11, r8, r4, r11\n"                                                                                         \
    "sxtb16 r8, r8\n"                                                                                                  \
    "smlad r11, r9, r5, r11\n"                                                                                         \
    "sxtb16 r9, r9\n"                                                                                                  \
    "smlad r10, r6, r2, r10\n"                                                                                         \
    "smlad r10, r7, r3, r10\n"                                                                                         \
    "smlad r10, r8, r4, r10\n"                                                                                         \
    "smlad r10, r9, r5, r10\n"

/* r0 weights, r1 column, r2-r9 what was loaded, r10 A, r11 both, r12 turns, lr pairs; sp as above. */
#define EAR_PRODUCT_1(CLAMP)                                                                                           \
    "ldmia r0, {r0-r10}\n"                                                                                             \
    "push {r1-r10}\n"                                                                                                  \
    "mov lr, r5\n"                                                                                                     \
    "2: ldrd r1, r12, [sp]\n"                                                                                          \
    "ldmia lr!, {r10, r11}\n"                                                                                          \
    "cmp r12, #0\n"                                                                                                    \
    "beq.w 4f\n"                                                                                                       \
    "3:\n" EAR_STEPS_2X1 EAR_STEPS_2X1 EAR_STEPS_2X1 EAR_STEPS_2X1 "subs r12, #1\n"                                    \
    "bne.w 3b\n"                                                                                                       \
    "4: ldr r12, [sp, #8]\n"                                                                                           \
    "cmp r12, #0\n"                                                                                                    \
    "beq.w 6f\n"                                                                                                       \
    "5:\n" EAR_STEPS_2X1 "subs r12, #1\n"                                                                              \
    "bne.w 5b\n"                                                                                                       \
    "6: ldr r12, [sp, #12]\n"                                                                                          \
    "cmp r12, #0\n"                                                                                                    \
    "beq.w 7f\n"                                                                                                       \
    "ldrd r6, r7, [r0], #8\n"                                                                                          \
    "ldrd r2, r3, [r1], #8\n"                                                                                          \
    "smlad r11, r6, r2, r11\n"                                                                                         \
    "sxtb16 r6, r6\n"                                                                                                  \
    "smlad r11, r7, r3, r11\n"                                                                                         \
    "sxtb16 r7, r7\n"                                                                                                  \
    "smlad r10, r6, r2, r10\n"                                                                                         \
    "smlad r10, r7, r3, r10\n"                                                                                         \
    "7: ldmia lr!, {r1-r6}\n"                                                                                          \
    "sub r11, r11, r10\n"                                                                                              \
    "lsl r10, r10, #1\n"                                                                                               \
    "asr r11, r11, #7\n" EAR_REQUANTISE("r10", "r1", "r2", "r3", "r12")                                                \
        EAR_REQUANTISE("r11", "r4", "r5", "r6", "r12") CLAMP                                                           \
    "ldr r7, [sp, #20]\n"                                                                                              \
    "ldr r8, [sp, #28]\n"                                                                                              \
    "strb r10, [r7], #1\n"                                                                                             \
    "subs r8, #2\n"                                                                                                    \
    "blt.w 8f\n"                                                                                                       \
    "strb r11, [r7], #1\n"                                                                                             \
    "str r7, [sp, #20]\n"                                                                                              \
    "str r8, [sp, #28]\n"                                                                                              \
    "bgt.w 2b\n"                                                                                                       \
    "8: add sp, #40\n"

/* The copies that all layers of a model share: one for the whole range of int8, one for any. */
#define EAR_PRODUCT(name, TEXT)                                                                                        \
    EAR_SHARED void name(const struct ear_product *product) {                                                          \
        register const struct ear_product *at __asm("r0") = product;                                                   \
        __asm volatile(TEXT                                                                                            \
                       : "+r"(at)                                                                                      \
                       :                                                                                               \
                       : "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr", "cc",        \
                         "memory");                                                                                    \
    }
#define EAR_LIMITS "ldrd r1, r2, [sp, #32]\n"

EAR_PRODUCT(ear_product_3, EAR_PRODUCT_3(""))
EAR_PRODUCT(ear_product_1, EAR_PRODUCT_1(""))
EAR_PRODUCT(ear_product_3_clamped, EAR_PRODUCT_3(EAR_LIMITS EAR_CLAMP("r7") EAR_CLAMP("r8") EAR_CLAMP("r9")
                                                     EAR_CLAMP("r10") EAR_CLAMP("r11") EAR_CLAMP("r12")))
EAR_PRODUCT(ear_product_1_clamped, EAR_PRODUCT_1(EAR_LIMITS EAR_CLAMP("r10") EAR_CLAMP("r11")))

/* The product of `lanes` columns (1 or EAR_COLUMNS) of `steps` steps, for ear_multiply. */
EAR_KERNEL struct ear_product ear_product(struct ear_output out, const void *weights, const int32_t *pairs,
                                          const int8_t *columns, int32_t lanes, int32_t steps, int32_t outputs,
                                          int32_t row_bytes) {
    return (struct ear_product){ .weights = weights,
                                 .columns = (const ear_word *)(const void *)columns,
                                 .many = lanes == 1 ? steps >> 3 : steps >> 2,
                                 .few = lanes == 1 ? (steps >> 1) & 3 : steps & 3,
                                 .last = steps & 1,
                                 .pairs = (const struct ear_pair *)(const void *)pairs,
                                 .row_bytes = row_bytes,
                                 .outputs = outputs,
                                 .low = out.low,
                                 .high = out.high };
}

/* All rows times the columns; y: the outputs of the first. */
EAR_KERNEL void ear_multiply(struct ear_product *product, struct ear_output out, int32_t lanes, int8_t *y) {
    const int whole = out.low == -128 && out.high == 127;
    product->y = y;
    if (lanes == 1 && whole)
        ear_product_1(product);
    else if (lanes == 1)
        ear_product_1_clamped(product);
    else if (whole)
        ear_product_3(product);
    else
        ear_product_3_clamped(product);
}

#endif
