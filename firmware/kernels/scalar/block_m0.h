/* scalar/block_m0.h: four rows of weights times a column on Cortex-M0+. */
#ifndef EAR_SCALAR_BLOCK_M0_H
#define EAR_SCALAR_BLOCK_M0_H

/* Input `at` of a round begins a chunk in r2 and r3. */
#define EAR_BEGIN(at)                                                                                                  \
    "movs %[v], #" #at "\n"                                                                                            \
    "ldmia %[w]!, {r2, r3}\n"                                                                                          \
    "ldrsb %[v], [%[x], %[v]]\n"                                                                                       \
    "muls r2, %[v], r2\n"                                                                                              \
    "muls r3, %[v], r3\n"

/* One more. */
#define EAR_TAP(at)                                                                                                    \
    "movs %[v], #" #at "\n"                                                                                            \
    "ldmia %[w]!, {r4, r5}\n"                                                                                          \
    "ldrsb %[v], [%[x], %[v]]\n"                                                                                       \
    "muls r4, %[v], r4\n"                                                                                              \
    "muls r5, %[v], r5\n"                                                                                              \
    "adds r2, r2, r4\n"                                                                                                \
    "adds r3, r3, r5\n"

/* Empties a chunk. */
#define EAR_END                                                                                                        \
    "add r2, r12\n"                                                                                                    \
    "add r8, r2\n"                                                                                                     \
    "asrs r2, r2, #16\n"                                                                                               \
    "add r9, r2\n"                                                                                                     \
    "add r3, r12\n"                                                                                                    \
    "add r10, r3\n"                                                                                                    \
    "asrs r3, r3, #16\n"                                                                                               \
    "add r11, r3\n"

#define EAR_2(a, b) EAR_BEGIN(a) EAR_TAP(b) EAR_END
#define EAR_4(a, b, c, d) EAR_BEGIN(a) EAR_TAP(b) EAR_TAP(c) EAR_TAP(d) EAR_END
#define EAR_8 EAR_BEGIN(0) EAR_TAP(1) EAR_TAP(2) EAR_TAP(3) EAR_TAP(4) EAR_TAP(5) EAR_TAP(6) EAR_TAP(7) EAR_END

/* Sums live in high registers, which only take part in moves and additions; value holds the end of x at first. */
#define EAR_LOOP(taps, count)                                                                                          \
    __asm volatile(".syntax unified\n"                                                                                 \
                   "mov r8, r2\n"                                                                                      \
                   "mov r9, r3\n"                                                                                      \
                   "mov r10, r4\n"                                                                                     \
                   "mov r11, r5\n"                                                                                     \
                   "mov lr, %[v]\n"                                                                                    \
                   "movs r2, #1\n"                                                                                     \
                   "lsls r2, r2, #15\n"                                                                                \
                   "mov r12, r2\n"                                                                                     \
                   "1:\n" taps "adds %[x], #" #count "\n"                                                              \
                   "cmp %[x], lr\n"                                                                                    \
                   "bne 1b\n"                                                                                          \
                   "mov r2, r8\n"                                                                                      \
                   "mov r3, r9\n"                                                                                      \
                   "mov r4, r10\n"                                                                                     \
                   "mov r5, r11\n"                                                                                     \
                   : [w] "+l"(w), [x] "+l"(x), [v] "+l"(value), "+l"(both_a), "+l"(odd_a), "+l"(both_b), "+l"(odd_b)   \
                   :                                                                                                   \
                   : "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory")

/* Seven low registers: one is left to compilers that want a frame pointer. */
EAR_KERNEL const ear_word *ear_block(const int8_t *x, const ear_word *w, int32_t depth, int32_t chunk,
                                     struct ear_pair *a, struct ear_pair *b) {
    const int8_t *value = x + depth;
    register uint32_t both_a __asm("r2") = a->both, both_b __asm("r4") = b->both;
    register int32_t odd_a __asm("r3") = a->odd, odd_b __asm("r5") = b->odd;
    if (chunk == 8)
        EAR_LOOP(EAR_8, 8);
    else if (chunk == 4 && depth % 8 == 0)
        EAR_LOOP(EAR_4(0, 1, 2, 3) EAR_4(4, 5, 6, 7), 8);
    else if (chunk == 4)
        EAR_LOOP(EAR_4(0, 1, 2, 3), 4);
    else if (depth % 8 == 0)
        EAR_LOOP(EAR_2(0, 1) EAR_2(2, 3) EAR_2(4, 5) EAR_2(6, 7), 8);
    else
        EAR_LOOP(EAR_2(0, 1) EAR_2(2, 3), 4);
    *a = (struct ear_pair){ both_a, odd_a };
    *b = (struct ear_pair){ both_b, odd_b };
    return w;
}

#endif
