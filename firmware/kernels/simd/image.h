/* simd/image.h: the part of an input that a window slides over, with its border, copied to a wider type or
 * plus 128.
 *
 * After the copy every window lies inside; what it costs is one pass over the input. */
#ifndef EAR_SIMD_IMAGE_H
#define EAR_SIMD_IMAGE_H

#include "vector.h"

struct ear_image {
    int32_t in_rows, in_columns, channels, zero; /* the input, and what lies around it */
    int32_t rows, columns;                       /* of the copy */
    int32_t pad_rows, pad_columns;
};

/* The next line of the cache, so that vectors lie in one. */
EAR_KERNEL void *ear_aligned(void *scratch) {
    return (void *)(((uintptr_t)scratch + 63) & ~(uintptr_t)63);
}

#define EAR_IMAGE_COPY(name, type, plus)                                                                               \
    EAR_KERNEL void name##_line(const int8_t *restrict from, int32_t count, type *restrict to) {                       \
        for (int32_t i = 0; i < count; ++i)                                                                            \
            to[i] = (type)(from[i] + (plus));                                                                          \
    }                                                                                                                  \
    EAR_KERNEL void name##_fill(int32_t value, int32_t count, type *to) {                                              \
        for (int32_t i = 0; i < count; ++i)                                                                            \
            to[i] = (type)(value + (plus));                                                                            \
    }                                                                                                                  \
    EAR_KERNEL void name(struct ear_image s, const int8_t *x, type *to) {                                              \
        const int32_t whole = s.columns * s.channels, left = s.pad_columns * s.channels;                               \
        const int32_t held = ear_min(s.in_columns, s.columns - s.pad_columns) * s.channels;                            \
        if (s.pad_rows == 0 && left == 0 && s.columns == s.in_columns && s.rows <= s.in_rows) {                        \
            name##_line(x, s.rows * whole, to);                                                                        \
            return;                                                                                                    \
        }                                                                                                              \
        for (int32_t row = -s.pad_rows; row < s.rows - s.pad_rows; ++row, to += whole) {                               \
            if (row < 0 || row >= s.in_rows) {                                                                         \
                name##_fill(s.zero, whole, to);                                                                        \
                continue;                                                                                              \
            }                                                                                                          \
            name##_fill(s.zero, left, to);                                                                             \
            name##_line(x + row * s.in_columns * s.channels, held, to + left);                                         \
            name##_fill(s.zero, whole - left - held, to + left + held);                                                \
        }                                                                                                              \
    }

EAR_IMAGE_COPY(ear_image_pixels, ear_pixel, EAR_PIXEL_PLUS)
EAR_IMAGE_COPY(ear_image_halves, int16_t, 0)

#endif
