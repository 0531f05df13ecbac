/* shift.h: a window that moves on: its oldest rows go, new ones are put behind the rest. */
#ifndef EAR_SHIFT_H
#define EAR_SHIFT_H

#include "../ear.h"

struct ear_shift {
    int32_t outer; /* windows that move side by side */
    int32_t window, fresh; /* bytes of each, and of what is new in each */
};

/* kept: (outer, window) as the last run left it; x: (outer, fresh); y: kept moved on, in its place or elsewhere. */
EAR_KERNEL void ear_shift(struct ear_shift s, const void *kept, const void *x, void *y) {
    const int32_t left = s.window - s.fresh;
    for (int32_t i = 0; i < s.outer; ++i) {
        uint8_t *const to = (uint8_t *)y + i * s.window;
        memmove(to, (const uint8_t *)kept + i * s.window + s.fresh, (size_t)left);
        memcpy(to + left, (const uint8_t *)x + i * s.fresh, (size_t)s.fresh);
    }
}

#endif
