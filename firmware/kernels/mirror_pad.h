/* mirror_pad.h: a tensor continued by its mirror image; the middle of each row is one memcpy. */
#ifndef EAR_MIRROR_PAD_H
#define EAR_MIRROR_PAD_H

#include "../ear.h"

struct ear_mirror {
    int32_t size[4], before[4], after[4], step[4]; /* axes, innermost last; steps in bytes */
    int32_t run;                                   /* bytes of one place of the innermost axis */
    int32_t edge;                                  /* 1: the edge itself is repeated, 0: it is not */
};

EAR_KERNEL int32_t ear_mirrored(int32_t place, int32_t size, int32_t edge) {
    return place < 0 ? -place - edge : place >= size ? 2 * size - 2 - place + edge : place;
}

EAR_KERNEL uint8_t *ear_mirror_row(const uint8_t *from, uint8_t *to, const struct ear_mirror *s) {
    const int32_t size = s->size[3], run = s->run;
    for (int32_t l = -s->before[3]; l < 0; ++l, to += run)
        memcpy(to, from + ear_mirrored(l, size, s->edge) * run, (size_t)run);
    memcpy(to, from, (size_t)(size * run));
    to += size * run;
    for (int32_t l = size; l < size + s->after[3]; ++l, to += run)
        memcpy(to, from + ear_mirrored(l, size, s->edge) * run, (size_t)run);
    return to;
}

EAR_KERNEL void ear_mirror_pad(const void *x, void *y, struct ear_mirror s) {
    uint8_t *to = (uint8_t *)y;
    for (int32_t i = -s.before[0]; i < s.size[0] + s.after[0]; ++i)
        for (int32_t j = -s.before[1]; j < s.size[1] + s.after[1]; ++j)
            for (int32_t k = -s.before[2]; k < s.size[2] + s.after[2]; ++k) {
                const int32_t at = ear_mirrored(i, s.size[0], s.edge) * s.step[0] +
                                   ear_mirrored(j, s.size[1], s.edge) * s.step[1] +
                                   ear_mirrored(k, s.size[2], s.edge) * s.step[2];
                to = ear_mirror_row((const uint8_t *)x + at, to, &s);
            }
}

#endif
