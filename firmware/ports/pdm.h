// From the bits of a PDM microphone to samples: a CIC filter by 32, then an FIR by 2 that makes up for its droop.
//
// 64 bits are one sample; the first bit is the oldest, in the highest bit of its word. Integers throughout: a bit
// is -1 or 1, so full scale is 32768 after the CIC, whose gain is 32 to the third.
#ifndef EAR_PDM_H
#define EAR_PDM_H

#include <stdint.h>

#define PDM_TAPS 32u

typedef struct {
    uint32_t sums[3], before[3];  // integrators and combs wrap as they must
    int32_t late[PDM_TAPS];       // what the CIC said last, a ring
    uint32_t at;
    int32_t level;  // the microphone's own offset, 1/4096 of a step
} ear_pdm_t;

// Half of a symmetric low-pass for 32 kHz, edges at 7 and 9 kHz, lifted by the inverse of the CIC's droop; Q15.
static const int16_t pdm_half[PDM_TAPS / 2] = {-167, -86, 300, 207, -478, -389, 722, 668,
                                               -1066, -1120, 1584, 1954, -2497, -4023, 4658, 16043};

// One value of the CIC from the next 32 bits.
static inline int32_t pdm_cic(ear_pdm_t *pdm, uint32_t bits) {
    uint32_t a = pdm->sums[0], b = pdm->sums[1], c = pdm->sums[2];
    for (uint32_t i = 0; i < 32; i++, bits <<= 1) {
        a += bits >> 31 ? 1u : UINT32_MAX;
        b += a;
        c += b;
    }
    pdm->sums[0] = a, pdm->sums[1] = b, pdm->sums[2] = c;
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t now = c;
        c -= pdm->before[i];
        pdm->before[i] = now;
    }
    return (int32_t)c;
}

// One sample from the next 64 bits.
static inline int16_t ear_pdm_sample(ear_pdm_t *pdm, uint32_t first, uint32_t second) {
    const uint32_t bits[2] = {first, second};
    for (uint32_t i = 0; i < 2; i++) {
        pdm->late[pdm->at] = pdm_cic(pdm, bits[i]);
        pdm->at = (pdm->at + 1) % PDM_TAPS;
    }
    int64_t sum = 1 << 14;
    for (uint32_t i = 0; i < PDM_TAPS / 2; i++) {
        int32_t pair = pdm->late[(pdm->at + i) % PDM_TAPS] + pdm->late[(pdm->at + PDM_TAPS - 1 - i) % PDM_TAPS];
        sum += (int64_t)pdm_half[i] * pair;
    }
    int32_t value = (int32_t)(sum >> 15) - (pdm->level >> 12);
    pdm->level += value;
    return (int16_t)(value > INT16_MAX ? INT16_MAX : value < INT16_MIN ? INT16_MIN : value);
}

#endif
