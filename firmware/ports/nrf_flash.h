// The flash controller of the nRF51 and nRF52: the core waits by itself while the flash is busy.
//
// The chip's file says PAGE, the bytes of one. Sections: nRF51 manual 6.1, nRF52840 specification 4.3.
#ifndef EAR_NRF_FLASH_H
#define EAR_NRF_FLASH_H

#include "cortex.h"

#define NVMC_READY REGISTER(0x4001E400u)
#define NVMC_MODE REGISTER(0x4001E504u)
#define NVMC_ERASE_PAGE REGISTER(0x4001E508u)
#define MODE_READ 0u
#define MODE_WRITE 1u
#define MODE_ERASE 2u

uint32_t port_flash_page(uint32_t address) {
    (void)address;
    return PAGE;
}

bool port_flash_erase(uint32_t address) {
    uint32_t start = address & ~(PAGE - 1u);
    if (ear_blank(start, PAGE)) return true;
    NVMC_MODE = MODE_ERASE;
    NVMC_ERASE_PAGE = start;
    EAR_AWAIT(NVMC_READY);
    NVMC_MODE = MODE_READ;
    return ear_blank(start, PAGE);
}

bool port_flash_program(uint32_t address, const uint32_t *words, uint32_t count) {
    volatile uint32_t *to = (volatile uint32_t *)address;
    NVMC_MODE = MODE_WRITE;
    for (uint32_t i = 0; i < count; i++) {
        to[i] = words[i];
        EAR_AWAIT(NVMC_READY);
    }
    NVMC_MODE = MODE_READ;
    return ear_holds(address, words, count);
}

#endif
