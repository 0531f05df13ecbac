// RP2350, from its datasheet: a Cortex-M33 in the secure state; the ROM has set up the flash.
#include "cortex.h"

#define RESETS 0x40020000u
#define RESET_BITS (1u << 6 | 1u << 9 | 1u << 14 | 1u << 26)
#define XOSC 0x40048000u
#define PLL_SYS 0x40050000u
#define CLOCKS 0x40010000u
#define IO_BANK 0x40028000u
#define PADS_BANK 0x40038000u
#define PAD_ISOLATION (1u << 8)
#define UART 0x40070000u
#define UART_IRQ 33u
#define ADC 0x400A0000u
#define ADC_IRQ 35u
#define CLOCK_ADC_AT 0x6Cu
#define USB_IRQ 14u
#define RESET_USB (1u << 28)
#define RESET_PLL_USB (1u << 15)
#define PLL_USB 0x40058000u
#define CLOCK_USB_AT 0x60u
#define SEND_WITHIN 0u
#define WATCHDOG 0x400D8000u
#define PSM 0x40018000u
#define WATCHED 0x01FFFFF3u  // all but the oscillators

// The ROM's function that finds the others, 5.4.1; it wants to know that secure Arm code asks.
static uint32_t rom(const char *code) {
    const volatile uint16_t *volatile place = (const volatile uint16_t *)0x16u;
    uint32_t (*find)(uint32_t, uint32_t) = (uint32_t (*)(uint32_t, uint32_t))(uint32_t)*place;
    return find((uint32_t)(uint8_t)code[0] | (uint32_t)(uint8_t)code[1] << 8, 4u);
}

#include "rp2.h"

#ifdef EAR_USB_VENDOR
#define CHIP_INFO 1u       // what get_sys_info is to tell, 5.4.8.17: a word of what follows, the package, the number
#define TO_BOOTSEL 0x102u  // of reboot, 5.4.8.24: the drive and PICOBOOT; does not return

static void unique_read(uint8_t *bytes) {
    uint32_t words[4] = {0, 0, 0, 0};
    ((int32_t (*)(uint32_t *, uint32_t, uint32_t))rom("GS"))(words, 4, CHIP_INFO);
    for (uint32_t i = 0; i < USB_UNIQUE; i++) bytes[i] = (uint8_t)(words[3 - i / 4] >> (24u - 8u * (i % 4)));
}

static void leave_reset(void) {}

static _Noreturn void restart_to_rom(void) {
    ((int32_t (*)(uint32_t, uint32_t, uint32_t, uint32_t))rom("RB"))(TO_BOOTSEL, 1, 0, 0);
    for (;;) {}
}
#endif

// What the ROM looks for in the first 4 KB, 5.9.5: a block with one item, an executable for secure Arm on this chip.
__attribute__((section(".rom_behind"), used)) static const uint32_t image_definition[] = {
    0xFFFFDED3u,  // start
    0x10210142u,  // item: type 42h, one word, flags 1021h
    0x000001FFu,  // the last item
    0x00000000u,  // the loop of blocks ends at this one
    0xAB123579u,  // end
};
