/* scalar/block_m3.h: four rows of weights times a column on Cortex-M3. */
#ifndef EAR_SCALAR_BLOCK_M3_H
#define EAR_SCALAR_BLOCK_M3_H

/* Two taps, two words each, that begin a chunk in r2 and r3. */
#define EAR_BEGIN                                                                                                      \
    "ldmia %[w]!, {r2, r3, r4, r5}\n"                                                                                  \
    "ldrsb %[v], [%[x]], #1\n"                                                                                         \
    "mla r2, r2, %[v], %[half]\n"                                                                                      \
    "mla r3, r3, %[v], %[half]\n"                                                                                      \
    "ldrsb %[v], [%[x]], #1\n"                                                                                         \
    "mla r2, r4, %[v], r2\n"                                                                                           \
    "mla r3, r5, %[v], r3\n"

/* One more tap. */
#define EAR_TAP                                                                                                        \
    "ldmia %[w]!, {r4, r5}\n"                                                                                          \
    "ldrsb %[v], [%[x]], #1\n"                                                                                         \
    "mla r2, r4, %[v], r2\n"                                                                                           \
    "mla r3, r5, %[v], r3\n"

/* Empties a chunk. */
#define EAR_END                                                                                                        \
    "add %[oa], %[oa], r2, asr #16\n"                                                                                  \
    "add %[ba], %[ba], r2\n"                                                                                           \
    "add %[ob], %[ob], r3, asr #16\n"                                                                                  \
    "add %[bb], %[bb], r3\n"

#define EAR_2 EAR_BEGIN EAR_END
#define EAR_4 EAR_BEGIN EAR_TAP EAR_TAP EAR_END
#define EAR_8 EAR_BEGIN EAR_TAP EAR_TAP EAR_TAP EAR_TAP EAR_TAP EAR_TAP EAR_END

#define EAR_LOOP(taps)                                                                                                 \
    __asm volatile("1:\n" taps "cmp %[x], %[end]\n"                                                                    \
                   "bne 1b\n"                                                                                          \
                   : [w] "+r"(w), [x] "+r"(x), [ba] "+r"(a->both), [oa] "+r"(a->odd), [bb] "+r"(b->both),              \
                     [ob] "+r"(b->odd), [v] "=&r"(value)                                                               \
                   : [end] "r"(end), [half] "r"(0x8000)                                                                \
                   : "r2", "r3", "r4", "r5", "cc", "memory")

EAR_KERNEL const ear_word *ear_block(const int8_t *x, const ear_word *w, int32_t depth, int32_t chunk,
                                     struct ear_pair *a, struct ear_pair *b) {
    const int8_t *const end = x + depth;
    int32_t value;
    if (chunk == 8 && depth % 16 == 0)
        EAR_LOOP(EAR_8 EAR_8);
    else if (chunk == 8)
        EAR_LOOP(EAR_8);
    else if (chunk == 4 && depth % 16 == 0)
        EAR_LOOP(EAR_4 EAR_4 EAR_4 EAR_4);
    else if (chunk == 4 && depth % 8 == 0)
        EAR_LOOP(EAR_4 EAR_4);
    else if (chunk == 4)
        EAR_LOOP(EAR_4);
    else if (depth % 16 == 0)
        EAR_LOOP(EAR_2 EAR_2 EAR_2 EAR_2 EAR_2 EAR_2 EAR_2 EAR_2);
    else if (depth % 8 == 0)
        EAR_LOOP(EAR_2 EAR_2 EAR_2 EAR_2);
    else
        EAR_LOOP(EAR_2 EAR_2);
    return w;
}

#endif
