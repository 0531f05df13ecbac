/* frontend.c: the front end of models/frontend.py and models/fixed_fft.py in C, integer by integer. */
#include "frontend.h"

#if EAR_FRONTEND

#define POINTS (EAR_FE_FFT / 2) /* of the complex FFT */
#define POWER_BITS 10
#define WEIGHT_BITS 15

static struct {
    int32_t re_im[EAR_FE_FFT]; /* real and imaginary parts in turn */
    int32_t decibels[EAR_FE_BANDS];
} scratch;

_Static_assert(sizeof(scratch) == EAR_FE_SCRATCH_BYTES, "frontend_emit.py reports this size");

/* round(a * b / 2^32), halves up */
static inline int32_t high(int32_t a, int32_t b) {
#if defined(__ARM_ARCH_6M__) /* no long multiply: four short ones, the same bits */
    const int32_t a_high = a >> 16, b_high = b >> 16;
    const uint32_t a_low = (uint32_t)a & 0xffff, b_low = (uint32_t)b & 0xffff;
    const int32_t middle = a_high * (int32_t)b_low, other = (int32_t)a_low * b_high;
    const uint32_t low = (a_low * b_low >> 16) + ((uint32_t)middle & 0xffff) + ((uint32_t)other & 0xffff) + 0x8000;
    return a_high * b_high + (middle >> 16) + (other >> 16) + (int32_t)(low >> 16);
#else
    return (int32_t)(((int64_t)a * b + ((int64_t)1 << 31)) >> 32);
#endif
}

/* a * a */
static inline uint64_t square(int32_t a) {
#if defined(__ARM_ARCH_6M__)
    const uint32_t size = a < 0 ? 0u - (uint32_t)a : (uint32_t)a, top = size >> 16, low = size & 0xffff;
    return ((uint64_t)(top * top) << 32) + ((uint64_t)(top * low) << 17) + low * low;
#else
    return (uint64_t)((int64_t)a * a);
#endif
}

/* a * w for a < 2^48 and w <= 2^15 */
static inline uint64_t weighted(uint64_t a, uint32_t w) {
#if defined(__ARM_ARCH_6M__)
    const uint32_t low = (uint32_t)a, top = (uint32_t)(a >> 32);
    return ((uint64_t)(top * w) << 32) + ((uint64_t)((low >> 16) * w) << 16) + (low & 0xffff) * w;
#else
    return (uint64_t)(uint32_t)a * w + ((uint64_t)((uint32_t)(a >> 32) * w) << 32);
#endif
}

/* Returns how far the frame can be shifted left within 16 bits. */
static int block_shift(const int16_t *samples) {
    int32_t magnitude = 1;
    for (int n = 0; n < EAR_FE_WINDOW; n++)
        magnitude |= samples[n] ^ (samples[n] >> 15);
    return __builtin_clz((uint32_t)magnitude) - 17;
}

/* The table holds one half of the symmetric window. */
static inline int32_t hann(int n) {
    return ear_fe_hann[n <= EAR_FE_WINDOW / 2 ? n : EAR_FE_WINDOW - n];
}

/* sample * w with 30 bits; sample is within 16 bits. */
static inline int32_t windowed(int32_t sample, int32_t w) {
    return (sample * (w >> 16) + ((sample * (w & 0xffff) + (1 << 16)) >> 16)) >> 1;
}

/* Writes the shifted, windowed frame as complex points in bit-reversed order. */
static void load(const int16_t *samples, int shift) {
    const int32_t scale = 1 << shift;
    int reversed = 0;
    for (int n = 0; n < EAR_FE_FFT; n += 2) {
        int32_t *x = scratch.re_im + 2 * reversed;
        x[0] = n < EAR_FE_WINDOW ? windowed(samples[n] * scale, hann(n)) : 0;
        x[1] = n + 1 < EAR_FE_WINDOW ? windowed(samples[n + 1] * scale, hann(n + 1)) : 0;
        int bit = POINTS / 2;
        while (reversed & bit) {
            reversed ^= bit;
            bit >>= 1;
        }
        reversed |= bit;
    }
}

/* The first two stages of the FFT at once: no products. */
static void first_pass(void) {
    for (int32_t *x = scratch.re_im; x < scratch.re_im + EAR_FE_FFT; x += 8) {
        const int32_t ab_re = x[0] + x[2], a_b_re = x[0] - x[2], cd_re = x[4] + x[6], c_d_re = x[4] - x[6];
        const int32_t ab_im = x[1] + x[3], a_b_im = x[1] - x[3], cd_im = x[5] + x[7], c_d_im = x[5] - x[7];
        x[0] = (ab_re + cd_re + 2) >> 2;
        x[1] = (ab_im + cd_im + 2) >> 2;
        x[2] = (a_b_re + c_d_im + 2) >> 2;
        x[3] = (a_b_im - c_d_re + 2) >> 2;
        x[4] = (ab_re - cd_re + 2) >> 2;
        x[5] = (ab_im - cd_im + 2) >> 2;
        x[6] = (a_b_re - c_d_im + 2) >> 2;
        x[7] = (a_b_im + c_d_re + 2) >> 2;
    }
}

/* One butterfly: a, b = a / 2 + t, a / 2 - t, where t is b * (c - j s) / 2 or, when `turned`, -j times that. */
static inline void butterfly(int32_t *a, int32_t *b, int32_t c, int32_t s, int turned) {
    const int32_t x = high(b[0], c) + high(b[1], s), y = high(b[1], c) - high(b[0], s);
    const int32_t t_re = turned ? y : x, t_im = turned ? -x : y;
    const int32_t a_re = a[0] >> 1, a_im = a[1] >> 1;
    a[0] = a_re + t_re;
    a[1] = a_im + t_im;
    b[0] = a_re - t_re;
    b[1] = a_im - t_im;
}

/* The other stages; a twiddle serves the butterfly j and, turned by -90 degrees, the one half / 2 later. */
static void passes(void) {
    int32_t *const end = scratch.re_im + EAR_FE_FFT;
    for (int half = 4; half < POINTS; half *= 2) {
        const int32_t *twiddle = ear_fe_twiddles;
        for (int32_t *first = scratch.re_im; first < scratch.re_im + half; first += 2) {
            const int32_t c = twiddle[0], s = twiddle[1];
            for (int32_t *a = first; a < end; a += 4 * half) {
                butterfly(a, a + 2 * half, c, s, 0);
                butterfly(a + half, a + 3 * half, c, s, 1);
            }
            twiddle += EAR_FE_FFT / half;
        }
    }
}

/* From the complex FFT of half the length to the bins 1 ... POINTS - 1 of the real one. */
static void split(void) {
    for (int k = 1; k < POINTS / 2; k++) {
        int32_t *low = scratch.re_im + 2 * k, *top = scratch.re_im + 2 * (POINTS - k);
        const int32_t c = ear_fe_twiddles[2 * k], s = ear_fe_twiddles[2 * k + 1];
        const int32_t even_re = ((low[0] + top[0]) >> 1) + 1, even_im = ((low[1] - top[1]) >> 1) + 1;
        const int32_t odd_re = low[0] - top[0], odd_im = low[1] + top[1];
        const int32_t t_re = high(odd_re, c) + high(odd_im, s), t_im = high(odd_im, c) - high(odd_re, s);
        low[0] = (even_re + t_im) >> 1;
        low[1] = (even_im - t_re) >> 1;
        top[0] = (even_re - t_im) >> 1;
        top[1] = (even_im + t_re) >> 1;
    }
    scratch.re_im[POINTS] = (scratch.re_im[POINTS] + 1) >> 1;
    scratch.re_im[POINTS + 1] = (scratch.re_im[POINTS + 1] + 1) >> 1;
}

/* 10 log10 of a band's energy with EAR_FE_FRACTION bits, no lower than the floor. */
static int32_t decibels(uint64_t energy, int32_t offset) {
    int32_t log = EAR_FE_FLOOR;
    if (energy) {
        const uint32_t top = (uint32_t)(energy >> 32);
        const int zeros = top ? __builtin_clz(top) : 32 + __builtin_clz((uint32_t)energy);
        const uint32_t mantissa = (uint32_t)((energy << zeros) >> 32);
        const int32_t *segment = ear_fe_log2 + (mantissa >> 24 & 127);
        const int32_t rest = (int32_t)(mantissa >> 8 & 0xffff);
        log = (63 - zeros) * 65536 + segment[0] + (((segment[1] - segment[0]) * rest + 32768) >> 16) + offset;
        if (log < EAR_FE_FLOOR)
            log = EAR_FE_FLOOR;
    }
    return (int32_t)(((int64_t)log * EAR_FE_DECIBELS + (1 << (EAR_FE_DECIBEL_BITS - 1))) >> EAR_FE_DECIBEL_BITS);
}

/* The mel bands: a bin between two centres gives its share w to the upper band and the rest to the lower one. */
static void bands(int shift) {
    uint64_t rise_before = 0;
    const uint16_t *weight = ear_fe_mel_weights;
    for (int interval = 0; interval <= EAR_FE_BANDS; interval++) {
        uint64_t rise = 0, total = 0;
        for (int bin = ear_fe_mel_edges[interval]; bin < ear_fe_mel_edges[interval + 1]; bin++) {
            const int32_t *x = scratch.re_im + 2 * bin;
            const uint64_t power = (square(x[0]) + square(x[1]) + (1 << (POWER_BITS - 1))) >> POWER_BITS;
            rise += weighted(power, *weight++);
            total += power;
        }
        if (interval) {
            const uint64_t energy = rise_before + (total << WEIGHT_BITS) - rise;
            scratch.decibels[interval - 1] = decibels(energy, ear_fe_mel_offsets[interval - 1] - shift * 131072);
        }
        rise_before = rise;
    }
}

static int8_t quantised(int32_t value) {
    const int64_t scaled = ((int64_t)value * EAR_FE_MULTIPLIER + ((int64_t)1 << (EAR_FE_SHIFT - 1))) >> EAR_FE_SHIFT;
    const int64_t q = scaled + EAR_FE_ZERO_POINT;
    return (int8_t)(q < -128 ? -128 : q > 127 ? 127 : q);
}

static int32_t feature(int index) {
#if EAR_FE_COEFFICIENTS
    int64_t sum = (int64_t)1 << (EAR_FE_DCT_FRACTION - 1);
    for (int band = 0; band < EAR_FE_BANDS; band++)
        sum += (int64_t)ear_fe_dct[index * EAR_FE_BANDS + band] * scratch.decibels[band];
    return (int32_t)(sum >> EAR_FE_DCT_FRACTION);
#else
    return scratch.decibels[index];
#endif
}

void ear_frontend_frame(const int16_t *samples, int8_t *features) {
    const int shift = block_shift(samples);
    load(samples, shift);
    first_pass();
    passes();
    split();
    bands(shift);
    for (int i = 0; i < EAR_FE_FEATURES; i++)
        features[i] = quantised(feature(i));
}

#endif
