/* broadcast.h: the loops of an elementwise kernel with two inputs of one type of which either may repeat. */
#ifndef EAR_BROADCAST_H
#define EAR_BROADCAST_H

#include "scale.h"

struct ear_broadcast {
    int32_t size[5]; /* of the output, merged where possible, innermost last */
    int32_t a[5];    /* steps of the first input along them, 0 where it repeats */
    int32_t b[5];    /* steps of the second */
};

/* y[...] = ELEMENT(a, b, p) over the whole output. An operand that repeats along the innermost axis is read once. */
#define EAR_BROADCAST_OF(type, s, a_data, b_data, y_data, ELEMENT, p)                                                  \
    do {                                                                                                               \
        type *y_next = (y_data);                                                                                       \
        for (int32_t i = 0; i < (s).size[0]; ++i)                                                                      \
            for (int32_t j = 0; j < (s).size[1]; ++j)                                                                  \
                for (int32_t k = 0; k < (s).size[2]; ++k)                                                              \
                    for (int32_t l = 0; l < (s).size[3]; ++l) {                                                        \
                        const type *a_row =                                                                            \
                            (a_data) + i * (s).a[0] + j * (s).a[1] + k * (s).a[2] + l * (s).a[3];                      \
                        const type *b_row =                                                                            \
                            (b_data) + i * (s).b[0] + j * (s).b[1] + k * (s).b[2] + l * (s).b[3];                      \
                        const int32_t a_first = *a_row, b_first = *b_row, count = (s).size[4];                         \
                        if ((s).b[4] == 0)                                                                             \
                            for (int32_t n = 0; n < count; ++n)                                                        \
                                y_next[n] = (type)ELEMENT(a_row[n], b_first, &(p));                                    \
                        else if ((s).a[4] == 0)                                                                        \
                            for (int32_t n = 0; n < count; ++n)                                                        \
                                y_next[n] = (type)ELEMENT(a_first, b_row[n], &(p));                                    \
                        else                                                                                           \
                            for (int32_t n = 0; n < count; ++n)                                                        \
                                y_next[n] = (type)ELEMENT(a_row[n], b_row[n], &(p));                                   \
                        y_next += count;                                                                               \
                    }                                                                                                  \
    } while (0)

/* The same for int8. */
#define EAR_BROADCAST(s, a, b, y, ELEMENT, p) EAR_BROADCAST_OF(int8_t, s, a, b, y, ELEMENT, p)

/* The same for values of `width` bytes: int16 or int8. */
#define EAR_BROADCAST_WIDTH(width, s, a, b, y, ELEMENT, p)                                                             \
    do {                                                                                                               \
        if ((width) == 2)                                                                                              \
            EAR_BROADCAST_OF(int16_t, s, (const int16_t *)(a), (const int16_t *)(b), (int16_t *)(y), ELEMENT, p);      \
        else                                                                                                           \
            EAR_BROADCAST_OF(int8_t, s, (const int8_t *)(a), (const int8_t *)(b), (int8_t *)(y), ELEMENT, p);          \
    } while (0)

#endif
