/* cast.h: one element type to another. Integers wrap; a float goes towards zero, saturates, and NaN gives 0. */
#ifndef EAR_CAST_H
#define EAR_CAST_H

#include "../ear.h"

/* Elements are moved by memcpy: an int64 in the arena lies on a word only. CONVERT is one of those below. */
#define EAR_CAST(from, x, to, y, count, CONVERT)                                                                       \
    do {                                                                                                               \
        const uint8_t *x_bytes = (const uint8_t *)(x);                                                                 \
        uint8_t *y_bytes = (uint8_t *)(y);                                                                             \
        for (int32_t i = 0; i < (count); ++i) {                                                                        \
            from value;                                                                                                \
            memcpy(&value, x_bytes + i * (int32_t)sizeof value, sizeof value);                                         \
            const to made = (to)CONVERT(value);                                                                        \
            memcpy(y_bytes + i * (int32_t)sizeof made, &made, sizeof made);                                            \
        }                                                                                                              \
    } while (0)

#define EAR_AS_IT_IS(value) (value)
#define EAR_AS_BOOL(value) ((value) != 0)

#define EAR_SATURATED(name, to, low, high)                                                                             \
    EAR_KERNEL to ear_saturated_##name(float value) {                                                                  \
        return value != value ? 0 : value <= (float)(low) ? (low) : value >= (float)(high) ? (high) : (to)value;       \
    }

EAR_SATURATED(int8, int8_t, INT8_MIN, INT8_MAX)
EAR_SATURATED(uint8, uint8_t, 0, UINT8_MAX)
EAR_SATURATED(int16, int16_t, INT16_MIN, INT16_MAX)
EAR_SATURATED(int32, int32_t, INT32_MIN, INT32_MAX)
EAR_SATURATED(int64, int64_t, INT64_MIN, INT64_MAX)

#endif
