/* select.h: y = c ? a : b, element by element, each of the three repeated where its shape is smaller. */
#ifndef EAR_SELECT_H
#define EAR_SELECT_H

#include "../ear.h"

struct ear_select {
    int32_t size[5];            /* of the output, innermost last */
    int32_t c[5], a[5], b[5];   /* steps of the three along them, in elements */
    int32_t item;               /* bytes of an element of a, b and y */
};

EAR_KERNEL void ear_select(const uint8_t *c, const void *a, const void *b, void *y, struct ear_select s) {
    uint8_t *to = (uint8_t *)y;
    for (int32_t i = 0; i < s.size[0]; ++i)
        for (int32_t j = 0; j < s.size[1]; ++j)
            for (int32_t k = 0; k < s.size[2]; ++k)
                for (int32_t l = 0; l < s.size[3]; ++l) {
                    const uint8_t *c_row = c + (i * s.c[0] + j * s.c[1] + k * s.c[2] + l * s.c[3]);
                    const uint8_t *a_row =
                        (const uint8_t *)a + (i * s.a[0] + j * s.a[1] + k * s.a[2] + l * s.a[3]) * s.item;
                    const uint8_t *b_row =
                        (const uint8_t *)b + (i * s.b[0] + j * s.b[1] + k * s.b[2] + l * s.b[3]) * s.item;
                    for (int32_t n = 0; n < s.size[4]; ++n, to += s.item) {
                        const uint8_t *chosen =
                            c_row[n * s.c[4]] ? a_row + n * s.a[4] * s.item : b_row + n * s.b[4] * s.item;
                        memcpy(to, chosen, (size_t)s.item);
                    }
                }
}

#endif
