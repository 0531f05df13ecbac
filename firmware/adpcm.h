// IMA ADPCM: sound at 4 bits a sample, for lines too slow for 16. The upper half of a byte comes first.
#ifndef EAR_ADPCM_H
#define EAR_ADPCM_H

#include <stdint.h>

typedef struct {
    const uint8_t *bytes;
    uint32_t at;      // samples taken from them
    int32_t value;    // the last sample
    int32_t quality;  // index of its step
} ear_adpcm_t;

// Begin with a message: i16 the sample before it, u8 the index of its step, u8 0, then the samples.
static inline ear_adpcm_t ear_adpcm_begin(const uint8_t *message) {
    int32_t value = (int16_t)(uint16_t)(message[0] | message[1] << 8);
    return (ear_adpcm_t){message + 4, 0, value, message[2] < 88 ? message[2] : 88};
}

static inline int16_t ear_adpcm_next(ear_adpcm_t *coded) {
    static const int16_t steps[89] = {
        7, 8, 9, 10, 11, 12, 13, 14, 16, 17, 19, 21, 23,
        25, 28, 31, 34, 37, 41, 45, 50, 55, 60, 66, 73, 80,
        88, 97, 107, 118, 130, 143, 157, 173, 190, 209, 230, 253, 279,
        307, 337, 371, 408, 449, 494, 544, 598, 658, 724, 796, 876, 963,
        1060, 1166, 1282, 1411, 1552, 1707, 1878, 2066, 2272, 2499, 2749, 3024, 3327,
        3660, 4026, 4428, 4871, 5358, 5894, 6484, 7132, 7845, 8630, 9493, 10442, 11487,
        12635, 13899, 15289, 16818, 18500, 20350, 22385, 24623, 27086, 29794, 32767,
    };
    static const int8_t moves[8] = {-1, -1, -1, -1, 2, 4, 6, 8};
    uint8_t pair = coded->bytes[coded->at / 2];
    uint32_t code = coded->at++ % 2 ? pair & 15u : pair >> 4;
    int32_t step = steps[coded->quality], change = step >> 3;
    if (code & 4) change += step;
    if (code & 2) change += step >> 1;
    if (code & 1) change += step >> 2;
    int32_t value = coded->value + (code & 8 ? -change : change);
    int32_t quality = coded->quality + moves[code & 7];
    coded->value = value < INT16_MIN ? INT16_MIN : value > INT16_MAX ? INT16_MAX : value;
    coded->quality = quality < 0 ? 0 : quality > 88 ? 88 : quality;
    return (int16_t)coded->value;
}

#endif
