// What a chip must offer: a UART, a counter, flash, reset and rest. One ports/<port>.c implements it.
// A program of an operating system (EAR_PROGRAM) has neither flash, nor a boot pin, nor port_init.
#ifndef EAR_PORT_H
#define EAR_PORT_H

#include <stdbool.h>
#include <stdint.h>

// The letter that survives a reset, at the top of RAM (linker symbol).
typedef struct {
    uint32_t magic;    // EAR_STAY, EAR_FAULT or anything else
    uint32_t pc;       // of the fault
    uint32_t address;  // of the fault, 0 when the core does not tell
    uint32_t started;  // address of the image that the bootloader has started last
} ear_handover_t;
extern volatile ear_handover_t ear_handover;

#define EAR_STAY 0x59415453u   // stay in the bootloader
#define EAR_FAULT 0x544C4146u  // the application crashed: stay and tell

void port_init(void);

// UART. Received bytes that are not yet read must be kept while the model runs: at least
// EAR_LINK_SLOTS frames, which is what the credits let the host send.
int32_t port_uart_read(void);  // next byte, or -1
void port_uart_write(const uint8_t *bytes, uint32_t length);

// Rest until a byte arrives, or samples while the microphone runs; may return early.
void port_idle(void);

// Counts executed instructions, core cycles or nanoseconds, see port_unit.
uint64_t port_counter(void);
#define EAR_UNIT_INSTRUCTIONS 0u
#define EAR_UNIT_CYCLES 1u
#define EAR_UNIT_NANOSECONDS 2u  // of a program, which an operating system may interrupt
extern const uint32_t port_unit;

// Flash, in absolute addresses. Erase sets the page that holds `address` to 0xFF, program can only clear bits.
// Pages may differ in size; each is aligned to its own.
uint32_t port_flash_page(uint32_t address);  // bytes of the page that holds `address`
bool port_flash_erase(uint32_t address);
bool port_flash_program(uint32_t address, const uint32_t *words, uint32_t count);

// Microphone, mono. While it runs, at least EAR_MICROPHONE_KEPT samples that are not yet read are kept, the latest.
extern const bool port_microphone;           // whether the board has one
bool port_microphone_start(uint32_t rate);   // Hz; false: it does not answer, or has no such rate
uint32_t port_microphone_read(int16_t *samples, uint32_t most);  // never waits; returns how many
uint32_t port_microphone_lost(void);  // since the start; they lay before those that the last read gave
void port_microphone_stop(void);
#define EAR_MICROPHONE_KEPT 4096u

// Whether the user holds the board's boot pin or button.
bool port_boot_pin(void);

_Noreturn void port_reset(void);  // once the UART has sent all it was given

#endif
