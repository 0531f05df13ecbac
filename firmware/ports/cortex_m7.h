// The Cortex-M7's caches (ARMv7-M reference manual, B2.2.7) and code in ITCM: DTCM, where .data lies, runs none.
#ifndef EAR_CORTEX_M7_H
#define EAR_CORTEX_M7_H

#include "cortex.h"

#define SCB_CCR REGISTER(0xE000ED14u)
#define CCR_CACHES (1u << 16 | 1u << 17)  // data, instructions
#define SCB_CCSIDR REGISTER(0xE000ED80u)
#define SCB_CSSELR REGISTER(0xE000ED84u)
#define CACHE_FORGET_INSTRUCTIONS REGISTER(0xE000EF50u)
#define CACHE_FORGET_LINE REGISTER(0xE000EF5Cu)     // of the data cache, by address
#define CACHE_FORGET_SET_WAY REGISTER(0xE000EF60u)  // of the data cache
#define CACHE_LINE 32u

EAR_INLINE void barrier(void) { __asm volatile("dsb\n isb" ::: "memory"); }

// Once after a reset: later the data cache holds what RAM does not.
static void caches_init(void) {
    if (SCB_CCR & CCR_CACHES) return;
    SCB_CSSELR = 0;
    barrier();
    uint32_t sets = SCB_CCSIDR >> 13 & 0x7FFFu, ways = SCB_CCSIDR >> 3 & 0x3FFu;
    for (uint32_t set = 0; set <= sets; set++)
        for (uint32_t way = 0; way <= ways; way++) CACHE_FORGET_SET_WAY = way << 30 | set << 5;
    CACHE_FORGET_INSTRUCTIONS = 0;
    barrier();
    SCB_CCR |= CCR_CACHES;
    barrier();
}

// Flash has changed below the data cache.
static void forget(uint32_t address, uint32_t bytes) {
    barrier();
    for (uint32_t line = address & ~(CACHE_LINE - 1u); line < address + bytes; line += CACHE_LINE)
        CACHE_FORGET_LINE = line;
    barrier();
}

#define ITCM_CODE 0x00000100u  // not at 0: a pointer to it would be null
extern const uint32_t ear_ram_code_start[], ear_ram_code_end[];  // linker symbols

// Copy the code that runs from RAM to ITCM.
static void itcm_init(void) {
    volatile uint32_t *to = (volatile uint32_t *)ITCM_CODE;
    for (const volatile uint32_t *from = ear_ram_code_start; from < ear_ram_code_end; from++) *to++ = *from;
    barrier();
}

// Where a function of that code lies there.
static uint32_t in_itcm(uint32_t function) { return function - (uint32_t)(uintptr_t)ear_ram_code_start + ITCM_CODE; }

#endif
