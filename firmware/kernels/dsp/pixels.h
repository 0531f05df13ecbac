/* dsp/pixels.h: copies the inputs under a filter to one place; what lies outside the input counts as its zero-point. */
#ifndef EAR_DSP_PIXELS_H
#define EAR_DSP_PIXELS_H

#include "widen.h"

/* A rectangle of pixels of an image, of which `piece` bytes each are wanted. */
struct ear_pixels {
    int32_t in_rows, in_columns, pixel, zero; /* pixel: bytes of one */
    int32_t rows, columns, dilation_rows, dilation_columns, piece;
};

EAR_SHARED int8_t *ear_pixels_fill(int8_t *to, uint32_t word, int32_t bytes) {
    EAR_ROLLED
    for (; bytes >= 4; bytes -= 4, to += 4)
        memcpy(to, &word, 4);
    EAR_ROLLED
    for (; bytes > 0; --bytes)
        *to++ = (int8_t)word;
    return to;
}

/* Four words at a time where both ends are aligned. */
EAR_SHARED int8_t *ear_pixels_run(int8_t *to, const int8_t *from, int32_t bytes) {
    if ((((uintptr_t)to | (uintptr_t)from) & 3) == 0) {
        EAR_ROLLED
        for (; bytes >= 16; bytes -= 16, to += 16, from += 16)
            memcpy(__builtin_assume_aligned(to, 4), __builtin_assume_aligned(from, 4), 16);
    }
    EAR_ROLLED
    for (; bytes >= 4; bytes -= 4, to += 4, from += 4)
        memcpy(to, from, 4);
    EAR_ROLLED
    for (; bytes > 0; --bytes)
        *to++ = *from++;
    return to;
}

/* Pixels that lie in one piece: `before` of them left of the input, `after` right of it. */
EAR_KERNEL int8_t *ear_pixels_line(const struct ear_pixels *s, const int8_t *line, int32_t left, uint32_t zeros,
                                   int8_t *to) {
    const int32_t before = ear_clamp(-left, 0, s->columns);
    const int32_t after = ear_clamp(left + s->columns - s->in_columns, 0, s->columns - before);
    if (before)
        to = ear_pixels_fill(to, zeros, before * s->piece);
    to = ear_pixels_run(to, line + (left + before) * s->pixel, (s->columns - before - after) * s->piece);
    return after ? ear_pixels_fill(to, zeros, after * s->piece) : to;
}

/* Pixels one by one. */
EAR_KERNEL int8_t *ear_pixels_each(const struct ear_pixels *s, const int8_t *line, int32_t left, uint32_t zeros,
                                     int8_t *to) {
    EAR_ROLLED
    for (int32_t j = 0; j < s->columns; ++j, left += s->dilation_columns)
        to = left < 0 || left >= s->in_columns ? ear_pixels_fill(to, zeros, s->piece)
                                               : ear_pixels_run(to, line + left * s->pixel, s->piece);
    return to;
}

/* The rectangle from (top, left) on, row by row without gaps. x: pixel (0, 0) of the input. */
EAR_SHARED void ear_pixels_gather(const struct ear_pixels *s, const int8_t *x, int32_t top, int32_t left, int8_t *to) {
    const uint32_t zeros = ((uint32_t)s->zero & 0xff) * 0x1010101;
    EAR_ROLLED
    for (int32_t i = 0; i < s->rows; ++i, top += s->dilation_rows)
        if (top < 0 || top >= s->in_rows)
            to = ear_pixels_fill(to, zeros, s->columns * s->piece);
        else if (s->dilation_columns == 1 && s->piece == s->pixel)
            to = ear_pixels_line(s, x + top * s->in_columns * s->pixel, left, zeros, to);
        else
            to = ear_pixels_each(s, x + top * s->in_columns * s->pixel, left, zeros, to);
}

#endif
