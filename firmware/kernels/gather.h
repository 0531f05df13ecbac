/* gather.h: chosen slices of each row of x; the choice is a table, or an int32 or int64 tensor. */
#ifndef EAR_GATHER_H
#define EAR_GATHER_H

#include "../ear.h"

/* One index of `bytes` bytes, low word first; one that is out of range is moved into it. */
EAR_KERNEL int32_t ear_index(const void *chosen, int32_t place, int32_t bytes, int32_t size) {
    int32_t index;
    memcpy(&index, (const uint8_t *)chosen + place * bytes, sizeof index);
    return ear_clamp(index, 0, size - 1);
}

struct ear_gather {
    int32_t batches;           /* each with its own choice */
    int32_t rows, length;      /* x: batches of rows of `length` runs */
    int32_t count, index;      /* y: batches of rows of `count` runs; bytes of an index */
    int32_t run;               /* bytes */
};

EAR_KERNEL void ear_gather(const void *x, void *y, const void *chosen, struct ear_gather s) {
    const uint8_t *from = (const uint8_t *)x;
    uint8_t *to = (uint8_t *)y;
    for (int32_t batch = 0; batch < s.batches; ++batch)
        for (int32_t row = 0; row < s.rows; ++row, from += s.length * s.run)
            for (int32_t i = 0; i < s.count; ++i, to += s.run)
                memcpy(to, from + ear_index(chosen, batch * s.count + i, s.index, s.length) * s.run, (size_t)s.run);
}

struct ear_gather_nd {
    int32_t count, depth, index; /* places, numbers of each, bytes of a number */
    int32_t size[8], step[8];    /* axes that the numbers choose from; steps in bytes */
    int32_t run;
};

EAR_KERNEL void ear_gather_nd(const void *x, void *y, const void *chosen, struct ear_gather_nd s) {
    uint8_t *to = (uint8_t *)y;
    for (int32_t i = 0; i < s.count; ++i, to += s.run) {
        int32_t at = 0;
        for (int32_t k = 0; k < s.depth; ++k)
            at += ear_index(chosen, i * s.depth + k, s.index, s.size[k]) * s.step[k];
        memcpy(to, (const uint8_t *)x + at, (size_t)s.run);
    }
}

struct ear_one_hot {
    int32_t outer, depth, inner; /* y: (outer, depth, inner); x: (outer, inner) */
    int32_t index, item;         /* bytes of an index, of an element of y */
};

EAR_KERNEL void ear_one_hot(const void *x, void *y, const void *on, const void *off, struct ear_one_hot s) {
    uint8_t *to = (uint8_t *)y;
    for (int32_t i = 0; i < s.outer; ++i)
        for (int32_t k = 0; k < s.depth; ++k)
            for (int32_t j = 0; j < s.inner; ++j, to += s.item) {
                int32_t index;
                memcpy(&index, (const uint8_t *)x + (i * s.inner + j) * s.index, sizeof index);
                memcpy(to, index == k ? on : off, (size_t)s.item);
            }
}

#endif
