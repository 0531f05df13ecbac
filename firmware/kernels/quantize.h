/* quantize.h: float to int8 at the edge of a model: round(x / scale), halves away from zero; NaN gives -128. */
#ifndef EAR_QUANTIZE_H
#define EAR_QUANTIZE_H

#include "../ear.h"

EAR_KERNEL void ear_quantize(const float *x, int8_t *y, int32_t count, float scale, int32_t zero) {
    for (int32_t i = 0; i < count; ++i) {
        float steps = x[i] / scale;
        steps = steps < 1024.0f ? steps : 1024.0f;
        steps = steps > -1024.0f ? steps : -1024.0f;
        if (x[i] != x[i])
            steps = -1024.0f;
        int32_t whole = (int32_t)steps;
        const float rest = steps - (float)whole;
        whole += (rest >= 0.5f) - (rest <= -0.5f);
        y[i] = (int8_t)ear_clamp(whole + zero, -128, 127);
    }
}

#endif
