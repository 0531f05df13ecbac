/* pad.h: a constant value around a tensor of bytes, four axes. */
#ifndef EAR_PAD_H
#define EAR_PAD_H

#include "../ear.h"

struct ear_pad {
    int32_t size0, size1, size2, size3;
    int32_t before0, before1, before2, before3;
    int32_t after0, after1, after2, after3;
    int32_t value;
};

EAR_KERNEL void ear_pad(struct ear_pad s, const int8_t *x, int8_t *y) {
    for (int32_t i = -s.before0; i < s.size0 + s.after0; ++i)
        for (int32_t j = -s.before1; j < s.size1 + s.after1; ++j)
            for (int32_t k = -s.before2; k < s.size2 + s.after2; ++k) {
                const int inside = i >= 0 && i < s.size0 && j >= 0 && j < s.size1 && k >= 0 && k < s.size2;
                const int32_t run = s.before3 + s.size3 + s.after3;
                memset(y, s.value, (size_t)run);
                if (inside)
                    memcpy(y + s.before3, x + ((i * s.size1 + j) * s.size2 + k) * s.size3, (size_t)s.size3);
                y += run;
            }
}

#endif
