// The resident bootloader: starts the application when its SHA-256 is right, else takes a new one over the link.
#include "link.h"
#include "ports/port.h"
#include "sha256.h"

#define IMAGE_MAGIC 0x4B524145u
#define IMAGE_VERSION 1u
#define HEADER_BYTES 512u

typedef struct {
    uint32_t magic, version, length;
    uint8_t sha256[32];
    char build_id[16];
    uint32_t crc;  // of all before it
} header_t;

extern const uint8_t ear_app_origin[];  // linker symbols; ear_app_bytes is a number
extern const uint8_t ear_app_bytes[];

static ear_link_t link;

static uint32_t app_bytes(void) { return (uint32_t)(uintptr_t)ear_app_bytes; }

static uint32_t app_address(uint32_t offset) { return (uint32_t)(uintptr_t)ear_app_origin + offset; }

static bool same(const uint8_t *a, const uint8_t *b, uint32_t length) {
    while (length--)
        if (*a++ != *b++) return false;
    return true;
}

static bool matches(const header_t *header) {
    if (header->magic != IMAGE_MAGIC || header->version != IMAGE_VERSION || header->length < 8 ||
        header->length > app_bytes() - HEADER_BYTES ||
        header->crc != ear_crc32(0, (const uint8_t *)header, sizeof *header - 4))
        return false;
    uint8_t digest[32];
    ear_sha256(ear_app_origin + HEADER_BYTES, header->length, digest);
    return same(digest, header->sha256, sizeof digest);
}

static _Noreturn void start_application(void) {
    const uint32_t *vectors = (const uint32_t *)(const void *)(ear_app_origin + HEADER_BYTES);
    __asm volatile("cpsid i\n msr msp, %0\n bx %1" ::"r"(vectors[0]), "r"(vectors[1]) : "memory");
    __builtin_unreachable();
}

static uint32_t fault_pc, fault_address;

static void info(void) {
    ear_info_t data = {
        .version = EAR_LINK_VERSION,
        .unit = port_unit,
        .app_bytes = app_bytes(),
        .fault_pc = fault_pc,
        .fault_address = fault_address,
        .damaged = link.damaged,
        .duplicates = link.duplicates,
    };
    ear_answer(&link, EAR_INFO, EAR_OK, &data, sizeof data);
}

// The page that holds `offset`; tells where it begins and how long it is.
static void erase(uint32_t offset) {
    uint32_t page[2] = {0, offset < app_bytes() ? port_flash_page(app_address(offset)) : 0};
    page[0] = (app_address(offset) & ~(page[1] - 1)) - app_address(0);
    uint8_t status = !page[1] || page[0] > offset ? EAR_BAD : port_flash_erase(app_address(offset)) ? EAR_OK : EAR_FLASH;
    ear_answer(&link, EAR_ERASE, status, page, sizeof page);
}

// Behind the header only: the header is COMMIT's.
static void write(const uint32_t *arguments, uint32_t bytes) {
    uint32_t offset = arguments[0];
    if (offset % 4 || bytes % 4 || offset < HEADER_BYTES || offset > app_bytes() || bytes > app_bytes() - offset) return;
    port_flash_program(app_address(offset), arguments + 1, bytes / 4);
}

static void verify(uint32_t length) {
    uint8_t digest[32];
    if (length > app_bytes() - HEADER_BYTES) {
        ear_answer(&link, EAR_VERIFY, EAR_BAD, 0, 0);
        return;
    }
    ear_sha256(ear_app_origin + HEADER_BYTES, length, digest);
    ear_answer(&link, EAR_VERIFY, EAR_OK, digest, sizeof digest);
}

static void commit(const uint32_t *header) {
    uint8_t status = EAR_MISMATCH;
    if (matches((const header_t *)(const void *)header)) {
        bool done = port_flash_program(app_address(0), header, sizeof(header_t) / 4);
        status = done && matches((const header_t *)(const void *)ear_app_origin) ? EAR_OK : EAR_FLASH;
    }
    ear_answer(&link, EAR_COMMIT, status, 0, 0);
}

static void reset(uint32_t to_boot) {
    ear_answer(&link, EAR_RESET, EAR_OK, 0, 0);
    ear_handover.magic = to_boot ? EAR_STAY : 0;
    port_reset();
}

// Bytes of arguments that each command needs at least.
static uint32_t least(uint8_t command) {
    switch (command) {
        case EAR_ERASE:
        case EAR_WRITE:
        case EAR_VERIFY:
        case EAR_RESET: return 4;
        case EAR_COMMIT: return sizeof(header_t);
        default: return 0;
    }
}

static void obey(const uint8_t *message, uint32_t length) {
    uint8_t command = message[0];
    const uint32_t *arguments = (const uint32_t *)(const void *)(message + 4);
    if (length < 4 + least(command)) {
        ear_answer(&link, command, EAR_BAD, 0, 0);
        return;
    }
    switch (command) {
        case EAR_INFO: info(); break;
        case EAR_ERASE: erase(arguments[0]); break;
        case EAR_WRITE: write(arguments, length - 8); break;
        case EAR_VERIFY: verify(arguments[0]); break;
        case EAR_COMMIT: commit(arguments); break;
        case EAR_RESET: reset(arguments[0]); break;
        default: ear_answer(&link, command, EAR_UNKNOWN, 0, 0);
    }
}

int main(void) {
    uint32_t why = ear_handover.magic;
    ear_handover.magic = 0;
    if (why == EAR_FAULT) {
        fault_pc = ear_handover.pc;
        fault_address = ear_handover.address;
    } else if (why != EAR_STAY && !port_boot_pin() && matches((const header_t *)(const void *)ear_app_origin)) {
        start_application();
    }
    ear_link_init(&link, 0);
    for (;;) ear_link_serve(&link, obey);
}
