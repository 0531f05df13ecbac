// nRF51822: nRF51 Series Reference Manual 3.0.1. A Cortex-M0 without a vector table of its own place and without
// SysTick: the bootloader's table hands interrupts on to whichever program runs, and TIMER 0 counts.
//
// The board's TOML says EAR_TX, EAR_RX, EAR_BAUD_REGISTER, EAR_BUTTON and EAR_BUTTON_LEVEL (level while it is held).
#include "cortex.h"
#include "no_microphone.h"
#include "ring.h"

// CLOCK, 13.1
#define CLOCK_START_CRYSTAL REGISTER(0x40000000u)
#define CLOCK_CRYSTAL_STARTED REGISTER(0x40000100u)

// GPIO, 14.2
#define GPIO_IN REGISTER(0x50000510u)
#define GPIO_SET REGISTER(0x50000508u)
#define GPIO_CONFIGURATION(pin) REGISTER(0x50000700u + 4u * (pin))
#define PIN_OUTPUT 3u   // input buffer off
#define PIN_PULLED_UP 0xCu
#define PIN_PULLED_DOWN 4u

// UART, 29.10
#define UART_START_RX REGISTER(0x40002000u)
#define UART_START_TX REGISTER(0x40002008u)
#define UART_RECEIVED REGISTER(0x40002108u)
#define UART_SENT REGISTER(0x4000211Cu)
#define UART_INTERRUPTS REGISTER(0x40002304u)
#define UART_ENABLE REGISTER(0x40002500u)
#define UART_PIN_TX REGISTER(0x4000250Cu)
#define UART_PIN_RX REGISTER(0x40002514u)
#define UART_RX REGISTER(0x40002518u)
#define UART_TX REGISTER(0x4000251Cu)
#define UART_BAUD REGISTER(0x40002524u)
#define UART_ON 4u
#define UART_IRQ 2u
#define RECEIVED_INTERRUPT (1u << 2)

// TIMER 0, 18.4: 32 bits at 16 MHz, the core's clock
#define TIMER_START REGISTER(0x40008000u)
#define TIMER_STOP REGISTER(0x40008004u)
#define TIMER_CAPTURE REGISTER(0x40008040u)
#define TIMER_MODE REGISTER(0x40008504u)
#define TIMER_BITS REGISTER(0x40008508u)
#define TIMER_PRESCALER REGISTER(0x40008510u)
#define TIMER_CAPTURED REGISTER(0x40008540u)

#define PAGE 1024u
#include "nrf_flash.h"

// The core reads the table at address 0 for ever. Whose handler is meant says the last word of the letter: RAM that
// bootloader and application leave alone. It points to the table of the one that runs, where the UART's own handler
// stands behind the entry of its interrupt.
extern const ear_handler_t ear_vectors[];
#define TABLE_IN_FORCE REGISTER((uint32_t)(uintptr_t)&ear_handover + 28u)

__attribute__((naked)) static void hand_on(void) {
    __asm volatile(
        "ldr r0, =ear_handover + 28\n"
        "ldr r0, [r0]\n"
        "ldr r0, [r0, #76]\n"  // 4 * (16 + UART_IRQ + 1)
        "bx r0\n"
        ".ltorg");
}

static void receive(void) {
    while (UART_RECEIVED) {
        UART_RECEIVED = 0;
        ring_put((uint8_t)UART_RX);
    }
}

EAR_INTERRUPTS interrupts[] = {[UART_IRQ] = hand_on, [UART_IRQ + 1] = receive};

const uint32_t port_unit = EAR_UNIT_CYCLES;

void port_init(void) {
    CLOCK_START_CRYSTAL = 1;
    EAR_AWAIT(CLOCK_CRYSTAL_STARTED);  // without it the RC oscillator goes on, 2 % off at worst
    TIMER_MODE = 0;
    TIMER_BITS = 3;
    TIMER_PRESCALER = 0;
    TIMER_START = 1;
    GPIO_CONFIGURATION(EAR_BUTTON) = EAR_BUTTON_LEVEL ? PIN_PULLED_DOWN : PIN_PULLED_UP;
    GPIO_SET = 1u << EAR_TX;
    GPIO_CONFIGURATION(EAR_TX) = PIN_OUTPUT;
    GPIO_CONFIGURATION(EAR_RX) = PIN_PULLED_UP;
    UART_PIN_TX = EAR_TX;
    UART_PIN_RX = EAR_RX;
    UART_BAUD = EAR_BAUD_REGISTER;
    UART_ENABLE = UART_ON;
    UART_START_RX = 1;
    UART_START_TX = 1;
    UART_INTERRUPTS = RECEIVED_INTERRUPT;
    TABLE_IN_FORCE = (uint32_t)(uintptr_t)ear_vectors;
    NVIC_ENABLE(UART_IRQ) = NVIC_BIT(UART_IRQ);
    __asm volatile("cpsie i" ::: "memory");
}

int32_t port_uart_read(void) { return ring_take(); }

void port_uart_write(const uint8_t *bytes, uint32_t length) {
    while (length--) {
        UART_SENT = 0;
        UART_TX = *bytes++;
        EAR_AWAIT(UART_SENT);
    }
}

void port_idle(void) {
    uint32_t before = ear_lock();
    TIMER_STOP = 1;
    if (ring_empty()) ear_sleep();
    TIMER_START = 1;
    ear_unlock(before);
}

// A wrap is noticed when the next count is taken: right for spans below 2^32 cycles, 268 s of work.
uint64_t port_counter(void) {
    static uint32_t high, last;
    TIMER_CAPTURE = 1;
    uint32_t now = TIMER_CAPTURED;
    if (now < last) high++;
    last = now;
    return (uint64_t)high << 32 | now;
}

bool port_boot_pin(void) { return (GPIO_IN >> EAR_BUTTON & 1u) == EAR_BUTTON_LEVEL; }

_Noreturn void port_reset(void) { ear_system_reset(); }
