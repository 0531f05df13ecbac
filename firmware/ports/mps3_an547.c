// The Cortex-M55 of Arm's AN547 as QEMU emulates it: ITCM stands for flash, DTCM for RAM, SysTick counts.
#include "no_microphone.h"

#define REGISTER(address) (*(volatile uint32_t *)(address))

#define UART_DATA REGISTER(0x49303000u)
#define UART_STATE REGISTER(0x49303004u)  // bit 0: cannot take a byte, bit 1: a byte waits
#define UART_CONTROL REGISTER(0x49303008u)
#define UART_INTERRUPT REGISTER(0x4930300Cu)
#define UART_DIVIDER REGISTER(0x49303010u)
#define UART_RX_INTERRUPT 2u

#define SYSTICK_CONTROL REGISTER(0xE000E010u)
#define SYSTICK_RELOAD REGISTER(0xE000E014u)
#define SYSTICK_VALUE REGISTER(0xE000E018u)
#define SYSTICK_ON 7u
#define SYSTICK_MASK 0xFFFFFFu

#define NVIC_ENABLE_1 REGISTER(0xE000E104u)
#define NVIC_DISABLE_1 REGISTER(0xE000E184u)
#define NVIC_UNPEND_1 REGISTER(0xE000E284u)
#define UART_IRQS (3u << 1)  // 33 and 34: receive and transmit of UART 0
#define AIRCR REGISTER(0xE000ED0Cu)
#define AIRCR_RESET 0x05FA0004u

const uint32_t port_unit = EAR_UNIT_INSTRUCTIONS;
#define PAGE 4096u

static volatile uint32_t wraps;  // of SysTick

void SysTick_Handler(void);
void SysTick_Handler(void) { wraps++; }

void port_init(void) {
    UART_DIVIDER = 16;
    UART_CONTROL = 0xB;  // transmit, receive, receive interrupt
    SYSTICK_RELOAD = SYSTICK_MASK;
    SYSTICK_VALUE = 0;
    SYSTICK_CONTROL = SYSTICK_ON;
    __asm volatile("cpsid i");  // the UART only wakes from WFI, SysTick is let in by port_counter
}

int32_t port_uart_read(void) { return UART_STATE & 2u ? (int32_t)(UART_DATA & 0xFFu) : -1; }

void port_uart_write(const uint8_t *bytes, uint32_t length) {
    while (length--) {
        while (UART_STATE & 1u) {}
        UART_DATA = *bytes++;
    }
}

// SysTick stands still meanwhile: it would wake the core, and the emulator would race through idle time.
void port_idle(void) {
    SYSTICK_CONTROL = 0;
    UART_INTERRUPT = UART_RX_INTERRUPT;
    NVIC_UNPEND_1 = UART_IRQS;
    NVIC_ENABLE_1 = UART_IRQS;
    if (!(UART_STATE & 2u)) __asm volatile("dsb\n wfi" ::: "memory");
    NVIC_DISABLE_1 = UART_IRQS;
    SYSTICK_CONTROL = SYSTICK_ON;
}

// QEMU with -icount shift=5 runs an instruction in 32 ns; SysTick ticks at 32 MHz: 128 ticks are 125 instructions.
uint64_t port_counter(void) {
    __asm volatile("cpsie i\n isb\n cpsid i" ::: "memory");  // let a waiting wrap be counted
    uint32_t high = wraps, low = SYSTICK_MASK - SYSTICK_VALUE;
    return ((uint64_t)high * (SYSTICK_MASK + 1ull) + low) * 125u / 128u;
}

uint32_t port_flash_page(uint32_t address) {
    (void)address;
    return PAGE;
}

bool port_flash_erase(uint32_t address) {
    volatile uint32_t *page = (volatile uint32_t *)(address & ~(PAGE - 1));
    for (uint32_t i = 0; i < PAGE / 4; i++) page[i] = 0xFFFFFFFFu;
    return true;
}

bool port_flash_program(uint32_t address, const uint32_t *words, uint32_t count) {
    volatile uint32_t *to = (volatile uint32_t *)address;
    while (count--) *to++ &= *words++;
    return true;
}

bool port_boot_pin(void) { return false; }

_Noreturn void port_reset(void) {
    while (UART_STATE & 1u) {}
    __asm volatile("dsb" ::: "memory");
    AIRCR = AIRCR_RESET;
    for (;;) {}
}
