/* pad.h: a constant value around a tensor of any type; one memcpy and two fills a row. */
#ifndef EAR_PAD_H
#define EAR_PAD_H

#include "../ear.h"

struct ear_pad {
    int32_t size[4], before[4], after[4]; /* outer axes */
    int32_t run, run_before, run_after;   /* innermost axis, in bytes */
    uint32_t value[2];                    /* one element */
    int32_t item;                         /* bytes of it; 1 where all of them are equal */
};

EAR_KERNEL uint8_t *ear_pad_fill(uint8_t *to, int32_t bytes, const struct ear_pad *s) {
    if (s->item == 1) {
        memset(to, (int)s->value[0], (size_t)bytes);
        return to + bytes;
    }
    for (int32_t done = 0; done < bytes; done += s->item, to += s->item)
        memcpy(to, s->value, (size_t)s->item);
    return to;
}

EAR_KERNEL int ear_pad_inside(int32_t place, int32_t size) {
    return place >= 0 && place < size;
}

EAR_KERNEL void ear_pad(struct ear_pad s, const void *x, void *y) {
    const uint8_t *from = (const uint8_t *)x;
    uint8_t *to = (uint8_t *)y;
    for (int32_t i = -s.before[0]; i < s.size[0] + s.after[0]; ++i)
        for (int32_t j = -s.before[1]; j < s.size[1] + s.after[1]; ++j)
            for (int32_t k = -s.before[2]; k < s.size[2] + s.after[2]; ++k)
                for (int32_t l = -s.before[3]; l < s.size[3] + s.after[3]; ++l) {
                    if (ear_pad_inside(i, s.size[0]) && ear_pad_inside(j, s.size[1]) &&
                        ear_pad_inside(k, s.size[2]) && ear_pad_inside(l, s.size[3])) {
                        to = ear_pad_fill(to, s.run_before, &s);
                        memcpy(to, from, (size_t)s.run);
                        from += s.run;
                        to = ear_pad_fill(to + s.run, s.run_after, &s);
                    } else {
                        to = ear_pad_fill(to, s.run_before + s.run + s.run_after, &s);
                    }
                }
}

#endif
