// The registers of the emulated boards with Cortex-M0+ to M33: UART, idle, reset, counter, flash, microphone.
#include "port.h"

typedef struct {
    volatile uint32_t data;      // UART, one byte; reading gives 0x100 and the byte, 0 when none waits
    volatile uint32_t boot_pin;  // 1 while it is held
    volatile uint32_t idle;      // a write rests until a byte arrives
    volatile uint32_t reset;     // a write resets the board
    volatile uint32_t count_lo;  // executed instructions; reading it latches count_hi
    volatile uint32_t count_hi;
    volatile uint32_t flash_address;
    volatile uint32_t flash_erase;    // a write erases the page at flash_address
    volatile uint32_t flash_program;  // a write clears bits of the word at flash_address, which moves on
    volatile uint32_t flash_error;    // reads 1 after a refused operation, then 0
    volatile uint32_t microphone;     // a write starts it at that many Hz, 0 stops it; reads 0 while it is off
    volatile uint32_t sample;         // reading gives 0x10000 and the next one, 0 when none waits
    volatile uint32_t samples_lost;   // since the start
} registers_t;

#define REGISTERS ((registers_t *)0x40000000u)

const uint32_t port_unit = EAR_UNIT_INSTRUCTIONS;
#define PAGE 4096u

void port_init(void) {}

int32_t port_uart_read(void) {
    uint32_t data = REGISTERS->data;
    return data ? (int32_t)(data & 0xFFu) : -1;
}

void port_uart_write(const uint8_t *bytes, uint32_t length) {
    while (length--) REGISTERS->data = *bytes++;
}

void port_idle(void) { REGISTERS->idle = 1; }

uint64_t port_counter(void) {
    uint32_t low = REGISTERS->count_lo;
    return (uint64_t)REGISTERS->count_hi << 32 | low;
}

uint32_t port_flash_page(uint32_t address) {
    (void)address;
    return PAGE;
}

bool port_flash_erase(uint32_t address) {
    REGISTERS->flash_address = address;
    REGISTERS->flash_erase = 1;
    return REGISTERS->flash_error == 0;
}

bool port_flash_program(uint32_t address, const uint32_t *words, uint32_t count) {
    REGISTERS->flash_address = address;
    while (count--) REGISTERS->flash_program = *words++;
    return REGISTERS->flash_error == 0;
}

const bool port_microphone = true;

bool port_microphone_start(uint32_t rate) {
    REGISTERS->microphone = rate;
    return REGISTERS->microphone != 0;
}

uint32_t port_microphone_read(int16_t *samples, uint32_t most) {
    for (uint32_t taken = 0; taken < most; taken++) {
        uint32_t sample = REGISTERS->sample;
        if (!sample) return taken;
        samples[taken] = (int16_t)sample;
    }
    return most;
}

uint32_t port_microphone_lost(void) { return REGISTERS->samples_lost; }

void port_microphone_stop(void) { REGISTERS->microphone = 0; }

bool port_boot_pin(void) { return REGISTERS->boot_pin != 0; }

_Noreturn void port_reset(void) {
    for (;;) REGISTERS->reset = 1;
}
