// SHA-256 (FIPS 180-4), written for small code: one block at a time, a 16-word rolling schedule.
#include "sha256.h"

static const uint32_t K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t turn(uint32_t x, uint32_t n) { return x >> n | x << (32 - n); }

static void block(uint32_t state[8], uint32_t w[16]) {
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3];  // in registers, and not an array
    uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
    for (uint32_t t = 0; t < 64; t++) {
        if (t >= 16) {
            uint32_t x = w[(t + 1) & 15], y = w[(t + 14) & 15];
            w[t & 15] += (turn(x, 7) ^ turn(x, 18) ^ x >> 3) + w[(t + 9) & 15] + (turn(y, 17) ^ turn(y, 19) ^ y >> 10);
        }
        uint32_t t1 = h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + (g ^ (e & (f ^ g))) + K[t] + w[t & 15];
        uint32_t t2 = (turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) | (c & (a | b)));
        h = g, g = f, f = e, e = d + t1;
        d = c, c = b, b = a, a = t1 + t2;
    }
    const uint32_t sums[8] = {a, b, c, d, e, f, g, h};
    for (uint32_t i = 0; i < 8; i++) state[i] += sums[i];
}

// Byte `i` of the padded message: the message, 0x80, zeros, the length in bits.
static uint32_t padded(const uint8_t *bytes, uint32_t length, uint32_t i, uint32_t total) {
    if (i < length) return bytes[i];
    if (i == length) return 0x80;
    uint32_t left = total - 1 - i;
    return left < 5 ? (uint32_t)(((uint64_t)length << 3) >> (8 * left)) & 0xFFu : 0;
}

void ear_sha256(const uint8_t *bytes, uint32_t length, uint8_t digest[32]) {
    uint32_t state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    uint32_t total = (length + 9 + 63) & ~63u;
    for (uint32_t at = 0; at < total; at += 64) {
        uint32_t w[16];
        for (uint32_t i = 0; i < 16; i++) {
            const uint8_t *four = bytes + at + 4 * i;
            if (at + 64 <= length) {
                w[i] = (uint32_t)four[0] << 24 | (uint32_t)four[1] << 16 | (uint32_t)four[2] << 8 | four[3];
                continue;
            }
            w[i] = 0;
            for (uint32_t j = 0; j < 4; j++) w[i] = w[i] << 8 | padded(bytes, length, at + 4 * i + j, total);
        }
        block(state, w);
    }
    for (uint32_t i = 0; i < 32; i++) digest[i] = (uint8_t)(state[i / 4] >> (24 - 8 * (i % 4)));
}
