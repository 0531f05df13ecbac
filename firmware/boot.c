// The resident bootloader: starts the newest application that is whole, signed and not given up; takes new ones.
//
// Two images lie side by side where both fit. A new one overwrites the one that does not run. It is started on trial:
// when it has not answered the host until the next reset, the old one starts again.
#include "ed25519.h"
#include "image.h"
#include "link.h"
#include "sha256.h"

#define PAGES 64u  // that one answer describes
#define NONE 0xFFFFFFFFu

extern const uint8_t ear_app_origin[];  // linker symbols; the other two are numbers
extern const uint8_t ear_app_bytes[];
extern const uint8_t ear_app_second[];  // offset of the second image, 0 when there is room for one only

static const ear_key_t key = {EAR_KEY, EAR_KEY_MINUS_X};
static ear_link_t link;
static const ear_image_t *chosen, *other;  // the image to start, and the one that it may be replaced by
static uint32_t fault_pc, fault_address;

static uint32_t app_bytes(void) { return (uint32_t)(uintptr_t)ear_app_bytes; }

static uint32_t second(void) { return (uint32_t)(uintptr_t)ear_app_second; }

static uint32_t app_address(uint32_t offset) { return (uint32_t)(uintptr_t)ear_app_origin + offset; }

static uint32_t offset_of(const ear_image_t *image) { return (uint32_t)(uintptr_t)image - app_address(0); }

static bool same(const uint8_t *a, const uint8_t *b, uint32_t length) {
    while (length--)
        if (*a++ != *b++) return false;
    return true;
}

static bool fits(const ear_header_t *header, uint32_t offset) {
    return header->magic == EAR_IMAGE_MAGIC && header->version == EAR_IMAGE_VERSION && header->length >= 8 &&
           header->length <= app_bytes() - EAR_HEADER_BYTES - offset && header->address == app_address(offset);
}

// The header at `offset` when it is whole; its body may still be damaged.
static const ear_image_t *image_at(uint32_t offset) {
    const ear_image_t *image = (const ear_image_t *)(const void *)(ear_app_origin + offset);
    const ear_header_t *header = &image->header;
    if (!fits(header, offset)) return 0;
    return header->crc == ear_crc32(0, (const uint8_t *)header, EAR_CHECKED_BYTES) ? image : 0;
}

// Whether the body behind `offset` is the one that `header` means, and our key has signed it.
static uint8_t check(const ear_header_t *header, uint32_t offset) {
    uint8_t digest[32];
    ear_sha256(ear_app_origin + offset + EAR_HEADER_BYTES, header->length, digest);
    if (!same(digest, header->sha256, sizeof digest)) return EAR_MISMATCH;
    bool ours = ear_ed25519_verify(header->signature, (const uint8_t *)header, EAR_SIGNED_BYTES, &key);
    return ours ? EAR_OK : EAR_FOREIGN;
}

static bool sound(const ear_image_t *image) { return image && check(&image->header, offset_of(image)) == EAR_OK; }

// Programmers of other kinds write whole images without a mark: such a one is the newer of two.
static bool newer(const ear_image_t *a, const ear_image_t *b) {
    if (ear_marked(&a->old) != ear_marked(&b->old)) return ear_marked(&b->old);
    return !ear_marked(&a->tried) || ear_marked(&b->tried);
}

static void swap(void) {
    const ear_image_t *image = chosen;
    chosen = other;
    other = image;
}

static void choose(void) {
    const ear_image_t *first = image_at(0), *last = second() ? image_at(second()) : 0;
    bool last_is_newer = !first || (last && !newer(first, last));
    chosen = last_is_newer ? last : first;
    other = last_is_newer ? first : last;
    bool failed = chosen && other && ear_marked(&chosen->tried) && !ear_marked(&chosen->confirmed);
    if (failed) swap();
    if (sound(chosen)) return;
    swap();
    if (!sound(chosen)) chosen = 0;
}

static _Noreturn void start(void) {
    const uint32_t *vectors = (const uint32_t *)(const void *)(chosen + 1);
    if (other && !ear_marked(&chosen->old)) {
        ear_set_mark(&other->old);
        ear_set_mark(&chosen->tried);
    }
    ear_handover.started = (uint32_t)(uintptr_t)chosen;
    __asm volatile("cpsid i\n msr msp, %0\n bx %1" ::"r"(vectors[0]), "r"(vectors[1]) : "memory");
    __builtin_unreachable();
}

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

static void images(void) {
    const ear_images_t data = {
        .free = chosen && offset_of(chosen) == 0 ? second() : 0,
        .running = chosen ? offset_of(chosen) : NONE,
        .running_bytes = chosen ? chosen->header.length + EAR_HEADER_BYTES : 0,
        .second = second(),
    };
    const ear_part_t parts[2] = {{&data, sizeof data}, {key.bytes, sizeof key.bytes}};
    ear_answer_parts(&link, EAR_IMAGES, parts, 2);
}

// Where the page that holds `offset` begins, and its length; 0 when it is not all the application's.
static uint32_t page_at(uint32_t offset, uint32_t *start) {
    if (offset >= app_bytes()) return 0;
    uint32_t bytes = port_flash_page(app_address(offset));
    *start = (app_address(offset) & ~(bytes - 1)) - app_address(0);
    return *start <= offset ? bytes : 0;
}

// What each page holds of a stretch, as lengths and CRCs.
static void pages(uint32_t offset, uint32_t length) {
    static uint32_t found[2 * PAGES];
    uint32_t count = 0, begin;
    if (offset > app_bytes() || length > app_bytes() - offset) {
        ear_answer(&link, EAR_PAGES, EAR_BAD, 0, 0);
        return;
    }
    for (uint32_t end = offset + length; offset < end && count < 2 * PAGES;) {
        uint32_t bytes = page_at(offset, &begin);
        if (!bytes) break;
        uint32_t left = begin + bytes - offset;
        if (left > end - offset) left = end - offset;
        found[count++] = left;
        found[count++] = ear_crc32(0, ear_app_origin + offset, left);
        offset += left;
    }
    ear_answer(&link, EAR_PAGES, EAR_OK, found, count * sizeof *found);
}

// The page that holds `offset`; tells where it begins and how long it is.
static void erase(uint32_t offset) {
    uint32_t page[2] = {0, 0};
    page[1] = page_at(offset, &page[0]);
    uint8_t status = !page[1] ? EAR_BAD : port_flash_erase(app_address(page[0])) ? EAR_OK : EAR_FLASH;
    ear_answer(&link, EAR_ERASE, status, page, sizeof page);
}

// Behind the first header only: that one is COMMIT's.
static void write(const uint32_t *arguments, uint32_t bytes) {
    uint32_t offset = arguments[0], end = app_bytes();
    if (offset % 4 || bytes % 4 || offset < EAR_HEADER_BYTES || offset > end || bytes > end - offset) return;
    port_flash_program(app_address(offset), arguments + 1, bytes / 4);
}

// The header goes into flash last, and only when the body is the one that it means.
static void commit(uint32_t offset, const ear_header_t *header) {
    uint8_t status = EAR_BAD;
    if ((offset == 0 || offset == second()) && fits(header, offset)) status = check(header, offset);
    if (status == EAR_OK) {
        const ear_image_t *beside = offset ? image_at(0) : second() ? image_at(second()) : 0;
        if (beside) ear_set_mark(&beside->old);
        port_flash_program(app_address(offset), (const uint32_t *)(const void *)header, sizeof *header / 4);
        if (!image_at(offset)) status = EAR_FLASH;
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
        case EAR_RESET: return 4;
        case EAR_PAGES: return 8;
        case EAR_COMMIT: return 4 + sizeof(ear_header_t);
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
        case EAR_IMAGES: images(); break;
        case EAR_PAGES: pages(arguments[0], arguments[1]); break;
        case EAR_ERASE: erase(arguments[0]); break;
        case EAR_WRITE: write(arguments, length - 8); break;
        case EAR_COMMIT: commit(arguments[0], (const ear_header_t *)(const void *)(arguments + 1)); break;
        case EAR_RESET: reset(arguments[0]); break;
        default: ear_answer(&link, command, EAR_UNKNOWN, 0, 0);
    }
}

// A crash keeps the bootloader, unless there is another image than the one that crashed.
int main(void) {
    uint32_t why = ear_handover.magic;
    ear_handover.magic = 0;
    choose();
    bool crashed = why == EAR_FAULT && (!chosen || ear_handover.started == (uint32_t)(uintptr_t)chosen);
    if (chosen && !crashed && why != EAR_STAY && !port_boot_pin()) start();
    if (crashed) {
        fault_pc = ear_handover.pc;
        fault_address = ear_handover.address;
    }
    ear_link_init(&link, 0);
    for (;;) ear_link_serve(&link, obey);
}
