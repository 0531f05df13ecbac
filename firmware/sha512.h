// SHA-512 (FIPS 180-4) of several runs of memory, one after the other.
#ifndef EAR_SHA512_H
#define EAR_SHA512_H

#include <stdint.h>

typedef struct {
    const uint8_t *bytes;
    uint32_t length;
} ear_run_t;

void ear_sha512(const ear_run_t *runs, uint32_t count, uint8_t digest[64]);

#endif
