// Ed25519 verification (RFC 8032, 5.1.7), written for small code: one formula adds and doubles points.
//
// All it works on is public, so its time may depend on it. Field elements are 8 words below 2^256, taken modulo
// p = 2^255 - 19 and brought below p only where they are compared.
#include "ed25519.h"

#include "sha512.h"

#define WORDS 8u
#define EACH(step) step(0) step(1) step(2) step(3) step(4) step(5) step(6) step(7)  // unrolled: twice as fast

typedef uint32_t field_t[WORDS];

typedef struct {
    field_t x, y, z, t;  // extended coordinates: X/Z, Y/Z, XY/Z
} point_t;

static const field_t TWICE_D = {0x26b2f159, 0xebd69b94, 0x8283b156, 0x00e0149a,
                                0xeef3d130, 0x198e80f2, 0x56dffce7, 0x2406d9dc};
static const field_t BASE_X = {0x8f25d51a, 0xc9562d60, 0x9525a7b2, 0x692cc760,
                               0xfdd6dc5c, 0xc0a4e231, 0xcd6e53fe, 0x216936d3};
static const field_t BASE_Y = {0x66666658, 0x66666666, 0x66666666, 0x66666666,
                               0x66666666, 0x66666666, 0x66666666, 0x66666666};
static const field_t ORDER = {0x5cf5d3ed, 0x5812631a, 0xa2f79cd6, 0x14def9de, 0, 0, 0, 0x10000000};
static const field_t ONE = {1};

static void copy(field_t to, const field_t from) {
    for (uint32_t i = 0; i < WORDS; i++) to[i] = from[i];
}

// Add `carry` times 2^256, which is `carry` times 38.
static void fold(field_t r, int64_t carry) {
    carry *= 38;
#define STEP(i) carry += r[i], r[i] = (uint32_t)carry, carry >>= 32;
    EACH(STEP)
#undef STEP
    r[0] += (uint32_t)(carry * 38);  // cannot carry again: r is near 0 or near 2^256
}

static void add(field_t r, const field_t a, const field_t b) {
    int64_t carry = 0;
#define STEP(i) carry += (int64_t)a[i] + b[i], r[i] = (uint32_t)carry, carry >>= 32;
    EACH(STEP)
#undef STEP
    fold(r, carry);
}

// Returns -1 when b was the greater one: r is then 2^256 too great.
static int64_t less(field_t r, const field_t a, const field_t b) {
    int64_t carry = 0;
#define STEP(i) carry += (int64_t)a[i] - b[i], r[i] = (uint32_t)carry, carry >>= 32;
    EACH(STEP)
#undef STEP
    return carry;
}

static void subtract(field_t r, const field_t a, const field_t b) { fold(r, less(r, a, b)); }

static void multiply(field_t r, const field_t a, const field_t b) {
    uint32_t wide[2 * WORDS] = {0};
    for (uint32_t i = 0; i < WORDS; i++) {
        uint32_t *row = wide + i, factor = a[i];
        uint64_t carry = 0;
#define STEP(j) carry += (uint64_t)factor * b[j] + row[j], row[j] = (uint32_t)carry, carry >>= 32;
        EACH(STEP)
#undef STEP
        row[WORDS] = (uint32_t)carry;
    }
    uint64_t carry = 0;
#define STEP(i) carry += (uint64_t)wide[i + WORDS] * 38 + wide[i], r[i] = (uint32_t)carry, carry >>= 32;
    EACH(STEP)
#undef STEP
    fold(r, (int64_t)carry);
}

// Fermat: a to the power of p - 2, whose bits are all 1 except bits 2 and 4.
static void invert(field_t r, const field_t a) {
    field_t power;
    copy(power, ONE);
    for (uint32_t bit = 255; bit--;) {
        multiply(power, power, power);
        if (bit != 2 && bit != 4) multiply(power, power, a);
    }
    copy(r, power);
}

// Bring below p: 2^255 counts as 19; then 19 more reach 2^255 only from p on.
static void settle(field_t r) {
    static const field_t nineteen = {19};
    uint32_t top = r[WORDS - 1] >> 31;
    r[WORDS - 1] &= 0x7FFFFFFFu;
    if (top) add(r, r, nineteen);
    field_t more;
    add(more, r, nineteen);
    if (more[WORDS - 1] >> 31) copy(r, more);
    r[WORDS - 1] &= 0x7FFFFFFFu;
}

// Complete for all points of the curve, equal ones included (Hisil, Wong, Carter and Dawson, 2008, 3.1).
static void add_points(point_t *r, const point_t *a, const point_t *b) {
    field_t A, B, C, D, u, v;
    subtract(u, a->y, a->x);
    subtract(v, b->y, b->x);
    multiply(A, u, v);
    add(u, a->y, a->x);
    add(v, b->y, b->x);
    multiply(B, u, v);
    multiply(C, a->t, b->t);
    multiply(C, C, TWICE_D);
    multiply(D, a->z, b->z);
    add(D, D, D);
    subtract(u, B, A);
    add(v, B, A);
    subtract(A, D, C);
    add(B, D, C);
    multiply(r->x, u, A);
    multiply(r->y, B, v);
    multiply(r->t, u, v);
    multiply(r->z, A, B);
}

static void set_point(point_t *point, const field_t x, const field_t y) {
    copy(point->x, x);
    copy(point->y, y);
    copy(point->z, ONE);
    multiply(point->t, x, y);
}

// A number of 512 bits modulo the order of the base point.
static void reduce(field_t r, const uint8_t bytes[64]) {
    for (uint32_t i = 0; i < WORDS; i++) r[i] = 0;
    for (uint32_t bit = 512; bit--;) {
        uint32_t carry = bytes[bit / 8] >> bit % 8 & 1;
        for (uint32_t i = 0; i < WORDS; i++) {
            uint32_t out = r[i] >> 31;
            r[i] = r[i] << 1 | carry;
            carry = out;
        }
        field_t rest;
        if (less(rest, r, ORDER) == 0) copy(r, rest);
    }
}

static uint32_t bit_of(const field_t number, uint32_t bit) { return number[bit / 32] >> bit % 32 & 1; }

bool ear_ed25519_verify(const uint8_t signature[64], const uint8_t *message, uint32_t length, const ear_key_t *key) {
    field_t s = {0}, y, h, rest;
    for (uint32_t i = 0; i < 32; i++) s[i / 4] |= (uint32_t)signature[32 + i] << 8 * (i % 4);
    if (less(rest, s, ORDER) == 0) return false;  // RFC 8032 wants S below the order
    const ear_run_t runs[3] = {{signature, 32}, {(const uint8_t *)key->bytes, 32}, {message, length}};
    uint8_t digest[64];
    ear_sha512(runs, 3, digest);
    reduce(h, digest);

    point_t table[3], sum;  // base point, negated key, both
    copy(y, key->bytes);
    y[WORDS - 1] &= 0x7FFFFFFFu;
    set_point(&table[0], BASE_X, BASE_Y);
    set_point(&table[1], key->minus_x, y);
    add_points(&table[2], &table[0], &table[1]);
    static const field_t zero;
    set_point(&sum, zero, ONE);
    for (uint32_t bit = 253; bit--;) {
        add_points(&sum, &sum, &sum);
        uint32_t which = bit_of(s, bit) | bit_of(h, bit) << 1;
        if (which) add_points(&sum, &sum, &table[which - 1]);
    }
    invert(h, sum.z);
    multiply(y, sum.y, h);
    multiply(rest, sum.x, h);
    settle(y);
    settle(rest);
    y[WORDS - 1] |= rest[0] << 31;
    uint32_t differ = 0;
    for (uint32_t i = 0; i < 32; i++) differ |= (y[i / 4] >> 8 * (i % 4) & 0xFFu) ^ signature[i];
    return differ == 0;
}
