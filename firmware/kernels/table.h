/* table.h: any function of one int8 value, as a table of 256 results indexed by the value's byte. */
#ifndef EAR_TABLE_H
#define EAR_TABLE_H

#include "../ear.h"

EAR_KERNEL void ear_table(const int8_t *x, int8_t *y, int32_t count, const int8_t *table) {
    for (int32_t i = 0; i < count; ++i)
        y[i] = table[(uint8_t)x[i]];
}

#endif
