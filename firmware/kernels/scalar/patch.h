/* scalar/patch.h: copies the inputs under filters, whole words at a time where they are aligned. */
#ifndef EAR_SCALAR_PATCH_H
#define EAR_SCALAR_PATCH_H

#include "../../ear.h"

typedef uint32_t __attribute__((may_alias)) ear_word;

/* Where inputs come from: rows of columns of channels; what lies outside counts as zero. */
struct ear_image {
    int32_t rows, columns, channels, zero;
};

/* memcpy for a few dozen bytes; cores without unaligned loads would copy bytes one by one. */
EAR_KERNEL void ear_copy_words(int8_t *to, const int8_t *from, int32_t bytes) {
    if ((((uintptr_t)to | (uintptr_t)from | (uintptr_t)bytes) & 3) == 0) {
        ear_word *out = (ear_word *)(void *)to;
        const ear_word *in = (const ear_word *)(const void *)from;
        EAR_ROLLED
        for (; bytes >= 16; bytes -= 16, out += 4, in += 4) {
            const uint32_t a = in[0], b = in[1], c = in[2], d = in[3];
            out[0] = a, out[1] = b, out[2] = c, out[3] = d;
        }
        EAR_ROLLED
        for (; bytes > 0; bytes -= 4)
            *out++ = *in++;
        return;
    }
    ear_copy(to, from, bytes);
}

/* Copies `rows` rows, `dilation` apart, of `span` columns from (top, left) on. */
EAR_KERNEL void ear_patch_copy(struct ear_image s, const int8_t *x, int32_t top, int32_t left, int32_t rows,
                               int32_t dilation, int32_t span, int8_t *to) {
    const int32_t before = ear_clamp(-left, 0, span), after = ear_clamp(left + span - s.columns, 0, span);
    const int32_t inside = ear_max(span - before - after, 0) * s.channels;
    EAR_ROLLED
    for (int32_t i = 0; i < rows; ++i, top += dilation, to += span * s.channels) {
        if (top < 0 || top >= s.rows || inside == 0) {
            ear_fill(to, s.zero, span * s.channels);
            continue;
        }
        if (before)
            ear_fill(to, s.zero, before * s.channels);
        ear_copy_words(to + before * s.channels, x + (top * s.columns + left + before) * s.channels, inside);
        if (after)
            ear_fill(to + before * s.channels + inside, s.zero, after * s.channels);
    }
}

#endif
