// Core cycles in 64 bits: the DWT's counter where there is one, else SysTick; SysTick's interrupt extends both.
#ifndef EAR_CYCLES_H
#define EAR_CYCLES_H

#include "cortex.h"

#define DEBUG_DEMCR REGISTER(0xE000EDFCu)
#define DEMCR_TRACE (1u << 24)
#define DWT_CONTROL REGISTER(0xE0001000u)
#define DWT_CYCLES REGISTER(0xE0001004u)
#define DWT_UNLOCK REGISTER(0xE0001FB0u)  // Cortex-M7 only, elsewhere ignored
#define DWT_KEY 0xC5ACCE55u

static volatile uint32_t cycles_high, cycles_last;  // with the DWT: its wraps, and the last value seen
static volatile bool cycles_from_dwt;

EAR_INLINE uint64_t cycles_of_dwt(void) {
    uint32_t now = DWT_CYCLES;
    if (now < cycles_last) cycles_high++;
    cycles_last = now;
    return (uint64_t)cycles_high << 32 | now;
}

void SysTick_Handler(void);
void SysTick_Handler(void) {
    if (cycles_from_dwt)
        cycles_of_dwt();
    else
        cycles_high++;
}

const uint32_t port_unit = EAR_UNIT_CYCLES;

static void cycles_init(void) {
#if __ARM_ARCH >= 7
    DEBUG_DEMCR |= DEMCR_TRACE;
    DWT_UNLOCK = DWT_KEY;
    DWT_CYCLES = 0;
    DWT_CONTROL |= 1u;
    uint32_t first = DWT_CYCLES;
    __asm volatile("isb\n nop\n nop\n nop" ::: "memory");
    cycles_from_dwt = DWT_CYCLES != first;
#endif
    SYSTICK_RELOAD = SYSTICK_MASK;
    SYSTICK_VALUE = 0;
    SYSTICK_CONTROL = SYSTICK_ON;
}

uint64_t port_counter(void) {
    uint32_t before = ear_lock();
    uint64_t count;
    if (cycles_from_dwt) {
        count = cycles_of_dwt();
    } else {
        uint32_t high = cycles_high, value = SYSTICK_VALUE;
        if (SCB_ICSR & ICSR_SYSTICK_PENDING) {  // it wrapped just now
            high++;
            value = SYSTICK_VALUE;
        }
        count = (uint64_t)high * (SYSTICK_MASK + 1ull) + (SYSTICK_MASK - value);
    }
    ear_unlock(before);
    return count;
}

// Rest until an interrupt; only work is counted, so that SysTick need not wake the core ten times a second.
EAR_INLINE void cycles_sleep(void) {
    if (!cycles_from_dwt) SYSTICK_CONTROL = 0;
    ear_sleep();
    if (!cycles_from_dwt) SYSTICK_CONTROL = SYSTICK_ON;
}

#endif
