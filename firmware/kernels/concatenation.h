/* concatenation.h: parts side by side; a part whose scale differs goes through a table on the way. */
#ifndef EAR_CONCATENATION_H
#define EAR_CONCATENATION_H

#include "../ear.h"

struct ear_part {
    const void *x;
    int32_t run;         /* bytes of this part in each row of the output */
    const int8_t *table; /* of 256 results, 0 to copy */
};

EAR_KERNEL void ear_concatenation(void *y, int32_t rows, int32_t parts, const struct ear_part *part) {
    uint8_t *to = y;
    for (int32_t row = 0; row < rows; ++row)
        for (int32_t i = 0; i < parts; ++i) {
            const int32_t run = part[i].run;
            const uint8_t *from = (const uint8_t *)part[i].x + row * run;
            if (part[i].table)
                for (int32_t k = 0; k < run; ++k)
                    to[k] = (uint8_t)part[i].table[from[k]];
            else
                memcpy(to, from, (size_t)run);
            to += run;
        }
}

#endif
