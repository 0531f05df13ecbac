// What the chips share: the Cortex-M's own registers (ARMv6-M, ARMv7-M and ARMv8-M reference manuals, B3).
#ifndef EAR_CORTEX_H
#define EAR_CORTEX_H

#include "port.h"

#define REGISTER(address) (*(volatile uint32_t *)(address))

#define NVIC_ENABLE(irq) REGISTER(0xE000E100u + 4u * ((irq) / 32u))   // set-enable
#define NVIC_DISABLE(irq) REGISTER(0xE000E180u + 4u * ((irq) / 32u))  // clear-enable
#define NVIC_UNPEND(irq) REGISTER(0xE000E280u + 4u * ((irq) / 32u))   // clear-pending
#define NVIC_BIT(irq) (1u << ((irq) % 32u))

#define SYSTICK_CONTROL REGISTER(0xE000E010u)
#define SYSTICK_RELOAD REGISTER(0xE000E014u)
#define SYSTICK_VALUE REGISTER(0xE000E018u)
#define SYSTICK_ON 7u  // core clock, interrupt, enable
#define SYSTICK_MASK 0xFFFFFFu

#define SCB_ICSR REGISTER(0xE000ED04u)
#define ICSR_SYSTICK_PENDING (1u << 26)
#define SCB_AIRCR REGISTER(0xE000ED0Cu)
#define AIRCR_RESET 0x05FA0004u

// An interrupt handler, and the chip's part of the vector table: it follows the core's sixteen entries.
typedef void (*ear_handler_t)(void);
#define EAR_INTERRUPTS __attribute__((section(".interrupts"), used)) static const ear_handler_t

// Code that runs from RAM, for while the flash cannot be read; reached through a pointer: RAM is far from flash.
#define EAR_IN_RAM __attribute__((noinline, used, section(".ram_code")))
#define EAR_INLINE static inline __attribute__((always_inline))

// A clock that never comes must not hang the board: every wait for one ends after this many looks.
#define EAR_PATIENCE 50000u  // 25 ms at 16 MHz: ten times what a crystal takes
#define EAR_AWAIT(condition)                                     \
    do {                                                         \
        for (uint32_t left = EAR_PATIENCE; left && !(condition); left--) {} \
    } while (0)

EAR_INLINE uint32_t ear_lock(void) {
    uint32_t before;
    __asm volatile("mrs %0, primask\n cpsid i" : "=r"(before)::"memory");
    return before;
}

EAR_INLINE void ear_unlock(uint32_t before) { __asm volatile("msr primask, %0" ::"r"(before) : "memory"); }

EAR_INLINE bool ear_in_handler(void) {
    uint32_t number;
    __asm volatile("mrs %0, ipsr" : "=r"(number));
    return number != 0;
}

// An interrupt that waits ends WFI though they are masked: none is lost between the look and the rest.
EAR_INLINE void ear_sleep(void) { __asm volatile("dsb\n wfi" ::: "memory"); }

// What the flash says after the work is done: the last word on whether it was.
static inline bool ear_blank(uint32_t address, uint32_t bytes) {
    const volatile uint32_t *word = (const volatile uint32_t *)address;
    for (uint32_t i = 0; i < bytes / 4; i++)
        if (word[i] != 0xFFFFFFFFu) return false;
    return true;
}

static inline bool ear_holds(uint32_t address, const uint32_t *words, uint32_t count) {
    const volatile uint32_t *word = (const volatile uint32_t *)address;
    for (uint32_t i = 0; i < count; i++)
        if (word[i] != words[i]) return false;
    return true;
}

static inline _Noreturn void ear_system_reset(void) {
    __asm volatile("dsb" ::: "memory");
    SCB_AIRCR = AIRCR_RESET;
    for (;;) {}
}

#endif
