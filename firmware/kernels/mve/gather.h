/* mve/gather.h: the inputs under a filter, put together row by row; what lies outside the input is the zero-point. */
#ifndef EAR_MVE_GATHER_H
#define EAR_MVE_GATHER_H

#include "../../ear.h"

#define EAR_BYTES 16 /* of a register */

/* Between stores to the same bytes of which one is predicated: GCC 12 takes them for stores of the whole register. */
#define EAR_STORED() __asm volatile("" : : : "memory")

struct ear_field {
    int32_t rows, columns, channels, zero; /* of the input */
    int32_t filter_rows, filter_columns, dilation_rows, dilation_columns;
};

/* Copies, returns the end of what it wrote. */
EAR_KERNEL int8_t *ear_copy_bytes(int8_t *to, const int8_t *from, int32_t bytes) {
    int8_t *const end = to + bytes;
    EAR_ROLLED
    for (; bytes > 0; bytes -= EAR_BYTES, to += EAR_BYTES, from += EAR_BYTES) {
        const mve_pred16_t some = vctp8q((uint32_t)bytes);
        vstrbq_p_s8(to, vldrbq_z_s8(from, some), some);
    }
    EAR_STORED();
    return end;
}

EAR_KERNEL int8_t *ear_fill_bytes(int8_t *to, int32_t value, int32_t bytes) {
    const int8x16_t filler = vdupq_n_s8((int8_t)value);
    int8_t *const end = to + bytes;
    EAR_ROLLED
    for (; bytes > 0; bytes -= EAR_BYTES, to += EAR_BYTES)
        vstrbq_p_s8(to, filler, vctp8q((uint32_t)bytes));
    EAR_STORED();
    return end;
}

/* The first i >= 0 with start + i * step >= 0; at most `count`. */
EAR_KERNEL int32_t ear_first_inside(int32_t start, int32_t step, int32_t count) {
    return start >= 0 ? 0 : ear_min((step - 1 - start) / step, count);
}

/* How many i >= 0 have start + i * step < length; at most `count`. */
EAR_KERNEL int32_t ear_count_inside(int32_t start, int32_t step, int32_t length, int32_t count) {
    return start >= length ? 0 : ear_min((length - start + step - 1) / step, count);
}

/* One row of the filter from x on, of which the columns j0..j1 are inside. */
EAR_KERNEL int8_t *ear_field_row(struct ear_field s, const int8_t *x, int32_t j0, int32_t j1, int8_t *to) {
    to = ear_fill_bytes(to, s.zero, j0 * s.channels);
    if (s.dilation_columns == 1) {
        to = ear_copy_bytes(to, x + j0 * s.channels, (j1 - j0) * s.channels);
    } else {
        EAR_ROLLED
        for (int32_t j = j0; j < j1; ++j)
            to = ear_copy_bytes(to, x + j * s.dilation_columns * s.channels, s.channels);
    }
    return ear_fill_bytes(to, s.zero, (s.filter_columns - j1) * s.channels);
}

/* Rows of at most one register, columns next to each other: zero-points first, then the rows inside over them. */
EAR_KERNEL void ear_field_narrow(struct ear_field s, const int8_t *x, int32_t top, int32_t left, int32_t j0,
                                  int32_t j1, int8_t *to) {
    const int32_t row_bytes = s.filter_columns * s.channels, step = s.dilation_rows * s.columns * s.channels;
    const int32_t i0 = ear_first_inside(top, s.dilation_rows, s.filter_rows);
    const int32_t rows = ear_count_inside(top, s.dilation_rows, s.rows, s.filter_rows) - i0;
    const mve_pred16_t inside = vctp8q((uint32_t)((j1 - j0) * s.channels));
    if (j1 - j0 < s.filter_columns || rows < s.filter_rows)
        ear_fill_bytes(to, s.zero, s.filter_rows * row_bytes);
    EAR_STORED();
    x += ((top + i0 * s.dilation_rows) * s.columns + left + j0) * s.channels;
    to += i0 * row_bytes + j0 * s.channels;
    EAR_ROLLED
    for (int32_t i = 0; i < rows; ++i, x += step, to += row_bytes)
        vstrbq_p_s8(to, vldrbq_z_s8(x, inside), inside);
    EAR_STORED();
}

/* Copies a number of bytes that the compiler knows. */
EAR_KERNEL void ear_copy_known(int8_t *to, const int8_t *from, int32_t bytes) {
    const int32_t rest = bytes % EAR_BYTES, whole = bytes - rest;
    const mve_pred16_t some = vctp8q((uint32_t)rest);
    for (int32_t i = 0; i < whole; i += EAR_BYTES)
        vstrbq_s8(to + i, vldrbq_s8(from + i));
    if (rest)
        vstrbq_p_s8(to + whole, vldrbq_z_s8(from + whole, some), some);
}

/* Gathers (filter_rows, filter_columns, channels) from (top, left) on, some of it outside. */
EAR_KERNEL void ear_field_border(struct ear_field s, const int8_t *x, int32_t top, int32_t left, int8_t *to) {
    const int32_t row_bytes = s.filter_columns * s.channels;
    const int32_t j0 = ear_first_inside(left, s.dilation_columns, s.filter_columns);
    const int32_t j1 = ear_max(ear_count_inside(left, s.dilation_columns, s.columns, s.filter_columns), j0);
    if (row_bytes <= EAR_BYTES && s.dilation_columns == 1) {
        ear_field_narrow(s, x, top, left, j0, j1, to);
        return;
    }
    EAR_ROLLED
    for (int32_t i = 0; i < s.filter_rows; ++i) {
        const int32_t row = top + i * s.dilation_rows;
        if (row >= 0 && row < s.rows)
            to = ear_field_row(s, x + (row * s.columns + left) * s.channels, j0, j1, to);
        else
            to = ear_fill_bytes(to, s.zero, row_bytes);
    }
}

/* The same wherever it lies. */
EAR_KERNEL void ear_field(struct ear_field s, const int8_t *x, int32_t top, int32_t left, int8_t *to) {
    const int32_t row_bytes = s.filter_columns * s.channels, step = s.dilation_rows * s.columns * s.channels;
    const int32_t bottom = top + (s.filter_rows - 1) * s.dilation_rows, right = left + s.filter_columns - 1;
    if (top < 0 || bottom >= s.rows || left < 0 || right >= s.columns || s.dilation_columns > 1) {
        ear_field_border(s, x, top, left, to);
        return;
    }
    x += (top * s.columns + left) * s.channels;
    EAR_ROLLED
    for (int32_t i = 0; i < s.filter_rows; ++i, x += step, to += row_bytes)
        ear_copy_known(to, x, row_bytes);
    EAR_STORED();
}

#endif
