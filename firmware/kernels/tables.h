/* tables.h: functions of one int8 value by table: a table a channel, or results of float. Four instructions each. */
#ifndef EAR_TABLES_H
#define EAR_TABLES_H

#include "../ear.h"

/* x, y: (rows, channels), may be the same memory; tables: (channels, 256) */
EAR_KERNEL void ear_tables(const int8_t *x, int8_t *y, int32_t rows, int32_t channels, const int8_t *tables) {
    for (int32_t row = 0; row < rows; ++row) {
        const int8_t *table = tables;
        for (int32_t channel = 0; channel < channels; ++channel, table += 256)
            *y++ = table[(uint8_t)*x++];
    }
}

EAR_KERNEL void ear_table_of_floats(const int8_t *x, float *y, int32_t count, const float *table) {
    for (int32_t i = 0; i < count; ++i)
        y[i] = table[(uint8_t)x[i]];
}

#endif
