// What lies before an application in flash: its signed header, and the two marks of its first start.
#ifndef EAR_IMAGE_H
#define EAR_IMAGE_H

#include "ports/port.h"

#define EAR_IMAGE_MAGIC 0x4B524145u
#define EAR_IMAGE_VERSION 2u
#define EAR_HEADER_BYTES 512u
#define EAR_SIGNED_BYTES 64u    // of the header, which the signature covers
#define EAR_CHECKED_BYTES 128u  // which its CRC-32 covers

typedef struct {
    uint32_t magic, version;
    uint32_t length;     // of the body, which follows EAR_HEADER_BYTES after the header
    uint32_t address;    // of the header: the body is linked for one place
    uint8_t sha256[32];  // of the body
    char build_id[16];
    uint8_t signature[64];  // Ed25519 of all before it
    uint32_t crc;           // of all before it
    uint32_t erased[7];
} ear_header_t;

// A mark is set when it is no longer erased; 32 bytes are what the coarsest flash programs at once.
typedef struct {
    uint32_t words[8];
} ear_mark_t;

typedef struct {
    ear_header_t header;
    ear_mark_t old;  // by the bootloader, when a newer image is there
    ear_mark_t free[2];
    ear_mark_t tried;  // by the bootloader, before it starts an image that another one could replace
    ear_mark_t more[3];
    ear_mark_t confirmed;  // by the application, once it has answered the host
    ear_mark_t rest[3];
} ear_image_t;
_Static_assert(sizeof(ear_image_t) == EAR_HEADER_BYTES, "the body follows");

static inline bool ear_marked(const ear_mark_t *mark) { return mark->words[0] != 0xFFFFFFFFu; }

static inline void ear_set_mark(const ear_mark_t *mark) {
    static const ear_mark_t zeros;
    if (ear_marked(mark)) return;
    port_flash_program((uint32_t)(uintptr_t)mark, zeros.words, sizeof zeros / 4);
}

#endif
