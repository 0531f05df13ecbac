// RP2040, from its datasheet: two Cortex-M0+ of which one works, flash over SPI behind a cache.
#include "cortex.h"

#define RESETS 0x4000C000u
#define RESET_BITS (1u << 5 | 1u << 8 | 1u << 12 | 1u << 22)
#define XOSC 0x40024000u
#define PLL_SYS 0x40028000u
#define CLOCKS 0x40008000u
#define IO_BANK 0x40014000u
#define PADS_BANK 0x4001C000u
#define PAD_ISOLATION 0u
#define UART 0x40034000u
#define UART_IRQ 20u
#define ADC 0x4004C000u
#define ADC_IRQ 22u
#define CLOCK_ADC_AT 0x60u
#define USB_IRQ 5u
#define RESET_USB (1u << 24)
#define RESET_PLL_USB (1u << 13)
#define PLL_USB 0x4002C000u
#define CLOCK_USB_AT 0x54u
#define SEND_WITHIN 800u  // RP2040-E15: what the host takes at a frame's end may hang the controller
#define WATCHDOG 0x40058000u
#define PSM 0x40010000u
#define WATCHED 0x0001FFFCu  // all but the oscillators

// The ROM's table of functions, 2.8.2.1: its place and that of the function that searches it, 16 bits each.
static uint32_t rom(const char *code) {
    const volatile uint16_t *volatile known = (const volatile uint16_t *)0x14u;
    uint32_t (*find)(const uint16_t *, uint32_t) = (uint32_t (*)(const uint16_t *, uint32_t))(uint32_t)known[2];
    return find((const uint16_t *)(uint32_t)known[0], (uint32_t)(uint8_t)code[0] | (uint32_t)(uint8_t)code[1] << 8);
}

#include "rp2.h"

#ifdef EAR_USB_VENDOR
// The chip has no number of its own, but the flash: command 4Bh, 4 idle bytes, 8 bytes of answer. SSI, 4.10.13; its
// chip select is forced by GPIO_QSPI_SS_CTRL, 2.19.6.2.
#define SSI_STATUS REGISTER(0x18000028u)
#define SSI_DATA REGISTER(0x18000060u)
#define SSI_CAN_SEND (1u << 1)
#define SSI_CAME (1u << 3)
#define SELECT REGISTER(0x4001800Cu)
#define SELECT_LOW (2u << 8)
#define SELECT_HIGH (3u << 8)
#define UNIQUE_COMMAND 0x4Bu
#define UNIQUE_BEFORE 5u

EAR_IN_RAM static void ask_flash(const rom_t *use, uint8_t *to) {
    use->connect();
    use->leave();
    SELECT = (SELECT & ~SELECT_HIGH) | SELECT_LOW;
    for (uint32_t i = 0; i < UNIQUE_BEFORE + USB_UNIQUE; i++) {
        EAR_AWAIT(SSI_STATUS & SSI_CAN_SEND);
        SSI_DATA = i ? 0 : UNIQUE_COMMAND;
        EAR_AWAIT(SSI_STATUS & SSI_CAME);
        uint8_t byte = (uint8_t)SSI_DATA;
        if (i >= UNIQUE_BEFORE) to[i - UNIQUE_BEFORE] = byte;
    }
    SELECT = SELECT | SELECT_HIGH;
    use->forget();
    use->enter();
}

static void (*volatile ask_in_ram)(const rom_t *, uint8_t *) = ask_flash;

static void unique_read(uint8_t *bytes) {
    rom_find();
    uint32_t before = ear_lock();
    ask_in_ram(&functions, bytes);
    ear_unlock(before);
}

// RP2040-E5, mended in B2: behind a hub that is busy the controller does not find the 0.8 ms of rest that must follow
// a reset. It is shown them over GPIO 15, whose level outside stays (PADS 2.19.6.3, USB 4.1.4).
#define CHIP_REVISION (REGISTER(0x40000000u) >> 28)  // SYSINFO 2.20
#define B2 2u
#define SHOWN 15u
#define SHOWN_FUNCTION (8u | 2u << 12 | 3u << 16)  // the controller's D+; output off; input high
#define LINE_STATE(status) ((status) >> 2 & 3u)
#define STATUS_CONNECTED (1u << 16)
#define TO_PADS 0xCu
#define PHY_DIRECT_AT 0x7Cu
#define PHY_OVERRIDE_AT 0x80u
#define PHY_PULL_UP 2u
#define OVERRIDE_PULL_UP 4u
#define RESET_LASTS (100u * MILLISECOND)  // at most, or there is no host

static void leave_reset(void) {
    if (CHIP_REVISION >= B2) return;
    for (uint64_t start = port_counter(); !LINE_STATE(REGISTER(USB + USB_STATUS_AT));)
        if (port_counter() - start > RESET_LASTS) return;
    uint32_t function = PIN_FUNCTION(SHOWN), pad = PIN_PAD(SHOWN);
    PIN_PAD(SHOWN) = pad | PAD_PULL_UP | PAD_PULL_DOWN;  // both: the pin keeps its level
    PIN_FUNCTION(SHOWN) = SHOWN_FUNCTION;
    SET(USB, PHY_DIRECT_AT) = PHY_PULL_UP;
    SET(USB, PHY_OVERRIDE_AT) = OVERRIDE_PULL_UP;
    USB_MUXING = TO_PADS;
    wait_for(MILLISECOND);
    EAR_AWAIT(REGISTER(USB + USB_STATUS_AT) & STATUS_CONNECTED);
    USB_MUXING = TO_PHY;
    CLEAR(USB, PHY_OVERRIDE_AT) = OVERRIDE_PULL_UP;
    PIN_FUNCTION(SHOWN) = function;
    PIN_PAD(SHOWN) = pad;
}

static _Noreturn void restart_to_rom(void) {  // 2.8.3.1.5; no LED blinks, the drive and PICOBOOT are there
    ((void (*)(uint32_t, uint32_t))rom("UB"))(0, 0);
    for (;;) {}
}
#endif

// The second stage of the boot ROM, 2.8.1.3.1: 252 bytes and their CRC-32 at the start of flash, run from RAM. It
// sets the serial flash interface (4.10.13) to the read command that every flash chip knows, 03h, at a quarter of
// the core's clock, and starts the vector table behind it.
__asm(
    ".syntax unified\n"
    ".section .rom_first, \"ax\", %progbits\n"
    ".thumb\n"
    ".balign 256\n"
    "1: ldr r0, 2f\n"
    "movs r1, #0\n"
    "str r1, [r0, #8]\n"  // SSIENR: off
    "movs r1, #4\n"
    "str r1, [r0, #20]\n"  // BAUDR
    "ldr r1, 3f\n"
    "str r1, [r0, #0]\n"  // CTRLR0: 32 bits, one line, command then data
    "ldr r1, 4f\n"
    "movs r2, #244\n"
    "str r1, [r0, r2]\n"  // SPI_CTRLR0: command 03h, 8 bits of it, 24 bits of address
    "movs r1, #0\n"
    "str r1, [r0, #4]\n"  // CTRLR1: one word a read
    "movs r1, #1\n"
    "str r1, [r0, #8]\n"  // SSIENR: on
    "ldr r0, 5f\n"
    "ldr r1, 6f\n"
    "str r0, [r1]\n"  // VTOR
    "ldr r1, [r0]\n"
    "msr msp, r1\n"
    "ldr r0, [r0, #4]\n"
    "bx r0\n"
    ".balign 4\n"
    "2: .word 0x18000000\n"
    "3: .word 0x001F0300\n"
    "4: .word 0x03000218\n"
    "5: .word 0x10000100\n"
    "6: .word 0xE000ED08\n"
    ".space 252 - (. - 1b)\n"
    ".word 0x6096465C\n"  // the checksum; tests/test_ports.py computes it
    ".text\n");
