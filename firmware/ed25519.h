// Ed25519 signatures (RFC 8032), verification only.
#ifndef EAR_ED25519_H
#define EAR_ED25519_H

#include <stdbool.h>
#include <stdint.h>

// A public key as whoever puts it here prepares it: no square root is taken on the board.
typedef struct {
    uint32_t bytes[8];    // as RFC 8032 writes it, in little-endian words
    uint32_t minus_x[8];  // the x coordinate of the negated point, in little-endian words
} ear_key_t;

bool ear_ed25519_verify(const uint8_t signature[64], const uint8_t *message, uint32_t length, const ear_key_t *key);

#endif
