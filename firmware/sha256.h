// SHA-256 (FIPS 180-4) of a run of memory.
#ifndef EAR_SHA256_H
#define EAR_SHA256_H

#include <stdint.h>

void ear_sha256(const uint8_t *bytes, uint32_t length, uint8_t digest[32]);

#endif
