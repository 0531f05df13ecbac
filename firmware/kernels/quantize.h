/* quantize.h: float to int8 or int16 at the edge of a model: round(x / scale), halves away from zero; NaN gives the
 * least value. */
#ifndef EAR_QUANTIZE_H
#define EAR_QUANTIZE_H

#include "value.h"

EAR_KERNEL void ear_quantize(const float *x, void *y, int32_t count, float scale, int32_t zero,
                             int32_t width) {
    const float most = width == 2 ? 70000.0f : 1024.0f; /* saturates with any zero-point */
    for (int32_t i = 0; i < count; ++i) {
        float steps = x[i] / scale;
        steps = steps < most ? steps : most;
        steps = steps > -most ? steps : -most;
        if (x[i] != x[i])
            steps = -most;
        int32_t whole = (int32_t)steps;
        const float rest = steps - (float)whole;
        whole += (rest >= 0.5f) - (rest <= -0.5f);
        const int32_t low = width == 2 ? INT16_MIN : INT8_MIN;
        ear_set_value(y, i, width, ear_clamp(whole + zero, low, -1 - low));
    }
}

#endif
