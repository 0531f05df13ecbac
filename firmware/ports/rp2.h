// RP2040 and RP2350: clocks, pins and the ROM's flash functions, which both have at other addresses.
//
// The chip's file says the bases, RESET_BITS (IO_BANK0, PADS_BANK0, PLL_SYS, UART0), PAD_ISOLATION, WATCHED (what a
// watchdog reset restarts) and rom(code). The board's TOML says EAR_BUTTON and EAR_BUTTON_LEVEL, and EAR_ADC where a
// microphone hangs on a pin. The link is in rp2_usb.h or rp2_uart.h. Sections: RP2040 datasheet; the RP2350
// datasheet's registers have the same names.
#ifndef EAR_RP2_H
#define EAR_RP2_H

#include "cycles.h"
#include "ring.h"

#define CLEAR(base, offset) REGISTER((base) + 0x3000u + (offset))  // 2.1.2: atomic bit clear

#define RESETS_DONE REGISTER(RESETS + 8u)  // 2.14.3

// XOSC, 2.16.7: 12 MHz
#define XOSC_CONTROL REGISTER(XOSC + 0u)
#define XOSC_STATUS REGISTER(XOSC + 4u)
#define XOSC_STARTUP REGISTER(XOSC + 0xCu)
#define XOSC_ON (0xFABu << 12 | 0xAA0u)
#define XOSC_STABLE (1u << 31)
#define XOSC_HZ 12000000u

// PLL, 2.18.4
#define PLL_STATUS REGISTER(PLL_SYS + 0u)
#define PLL_POWER REGISTER(PLL_SYS + 4u)
#define PLL_FEEDBACK REGISTER(PLL_SYS + 8u)
#define PLL_DIVIDERS REGISTER(PLL_SYS + 0xCu)
#define PLL_LOCKED (1u << 31)
#define POWER_VCO (1u << 5 | 1u)
#define POWER_DIVIDERS (1u << 3)
#define DIVIDER_1 (EAR_CLOCK_HZ <= 133000000u ? 6u : 5u)  // the second divides by 2; the VCO stays below 1.6 GHz
#define FEEDBACK (EAR_CLOCK_HZ / 1000u * DIVIDER_1 * 2u / (XOSC_HZ / 1000u))

// CLOCKS, 2.15.7
#define CLOCK_REF REGISTER(CLOCKS + 0x30u)
#define CLOCK_REF_IS REGISTER(CLOCKS + 0x38u)
#define CLOCK_SYS REGISTER(CLOCKS + 0x3Cu)
#define CLOCK_SYS_IS REGISTER(CLOCKS + 0x44u)
#define CLOCK_PERIPHERALS REGISTER(CLOCKS + 0x48u)
#define FROM_XOSC 2u
#define FROM_PLL 1u  // the auxiliary source, which is the PLL at reset
#define PERIPHERALS_ON (1u << 11)

// Pins: IO_BANK0 2.19.6.1, PADS_BANK0 2.19.6.3, SIO 2.3.1.7
#define PIN_FUNCTION(pin) REGISTER(IO_BANK + 4u + 8u * (pin))
#define PIN_PAD(pin) REGISTER(PADS_BANK + 4u + 4u * (pin))
#define PIN_LEVELS REGISTER(0xD0000004u)
#define FUNCTION_UART 2u
#define FUNCTION_SIO 5u
#define PAD_INPUT (1u << 6)
#define PAD_PULL_UP (1u << 3)
#define PAD_PULL_DOWN (1u << 2)

// Watchdog, 4.7.6, and what it restarts, 2.13.5
#define WATCHDOG_CONTROL REGISTER(WATCHDOG + 0u)
#define WATCHDOG_TRIGGER (1u << 31)
#define PSM_WATCHED REGISTER(PSM + 8u)

#define FLASH_START 0x10000000u
#define SECTOR 4096u
#define PAGE 256u

static uint32_t core_hz = XOSC_HZ;

// Without the crystal nothing can be said at a known speed; without the PLL the crystal's 12 MHz remain.
static void clock_init(void) {
    if (CLOCK_SYS_IS & 2u) {  // the bootloader has done it
        core_hz = EAR_CLOCK_HZ;
        return;
    }
    XOSC_STARTUP = 47;  // 1 ms
    XOSC_CONTROL = XOSC_ON;
    EAR_AWAIT(XOSC_STATUS & XOSC_STABLE);
    CLOCK_REF = FROM_XOSC;
    EAR_AWAIT(CLOCK_REF_IS & 1u << FROM_XOSC);
    PLL_STATUS = 1;  // the crystal undivided
    PLL_FEEDBACK = FEEDBACK;
    CLEAR(PLL_SYS, 4u) = POWER_VCO;
    EAR_AWAIT(PLL_STATUS & PLL_LOCKED);
    if (!(PLL_STATUS & PLL_LOCKED)) return;
    PLL_DIVIDERS = DIVIDER_1 << 16 | 2u << 12;
    CLEAR(PLL_SYS, 4u) = POWER_DIVIDERS;
    CLOCK_SYS = FROM_PLL;
    EAR_AWAIT(CLOCK_SYS_IS & 1u << FROM_PLL);
    core_hz = EAR_CLOCK_HZ;
}

static void pin_init(uint32_t pin, uint32_t function, uint32_t pull) {
    PIN_PAD(pin) = PAD_INPUT | pull;
    PIN_FUNCTION(pin) = function;
    CLEAR(PADS_BANK, 4u + 4u * pin) = PAD_ISOLATION;
}

static _Noreturn void restart(void) {
    PSM_WATCHED = WATCHED;
    WATCHDOG_CONTROL = WATCHDOG_TRIGGER;
    for (;;) {}
}

#ifdef EAR_USB_VENDOR
#include "rp2_usb.h"
#else
#include "rp2_uart.h"
#endif

#ifdef EAR_ADC
#include "rp2_adc.h"
EAR_INTERRUPTS interrupts[ADC_IRQ + 1] = {[LINK_IRQ] = link_handler, [ADC_IRQ] = adc_handler};
#else
#include "no_microphone.h"
EAR_INTERRUPTS interrupts[LINK_IRQ + 1] = {[LINK_IRQ] = link_handler};
#endif

void port_init(void) {
    CLEAR(RESETS, 0u) = RESET_BITS;
    EAR_AWAIT((RESETS_DONE & RESET_BITS) == RESET_BITS);
    clock_init();
    pin_init(EAR_BUTTON, FUNCTION_SIO, EAR_BUTTON_LEVEL ? PAD_PULL_DOWN : PAD_PULL_UP);
    link_init();
    cycles_init();
    __asm volatile("cpsie i" ::: "memory");
}

uint32_t port_flash_page(uint32_t address) {
    (void)address;
    return SECTOR;
}

// The ROM's functions, 2.8.3.1.3. Between leave and enter no code in flash can run, an interrupt's neither.
typedef struct {
    void (*connect)(void);
    void (*leave)(void);
    void (*erase)(uint32_t offset, uint32_t bytes, uint32_t block, uint8_t command);
    void (*program)(uint32_t offset, const uint8_t *bytes, uint32_t count);
    void (*forget)(void);
    void (*enter)(void);
} rom_t;
static rom_t functions;
static uint8_t page[PAGE];  // what is programmed must lie in RAM

EAR_IN_RAM static void work_in_flash(const rom_t *use, uint32_t offset, bool erase) {
    use->connect();
    use->leave();
    if (erase)
        use->erase(offset, SECTOR, 65536u, 0xD8u);
    else
        use->program(offset, page, PAGE);
    use->forget();
    use->enter();
}

static void (*volatile in_ram)(const rom_t *, uint32_t, bool) = work_in_flash;

static void rom_find(void) {
    functions.connect = (void (*)(void))rom("IF");
    functions.leave = (void (*)(void))rom("EX");
    functions.erase = (void (*)(uint32_t, uint32_t, uint32_t, uint8_t))rom("RE");
    functions.program = (void (*)(uint32_t, const uint8_t *, uint32_t))rom("RP");
    functions.forget = (void (*)(void))rom("FC");
    functions.enter = (void (*)(void))rom("CX");
}

static void work(uint32_t offset, bool erase) {
    rom_find();
    uint32_t before = ear_lock();
    in_ram(&functions, offset, erase);
    link_was_blind();
    ear_unlock(before);
}

bool port_flash_erase(uint32_t address) {
    uint32_t start = address & ~(SECTOR - 1u);
    if (!ear_blank(start, SECTOR)) work(start - FLASH_START, true);
    return ear_blank(start, SECTOR);
}

// Flash pages are programmed whole: around the words, with ones, which change nothing.
bool port_flash_program(uint32_t address, const uint32_t *words, uint32_t count) {
    const uint8_t *bytes = (const uint8_t *)words;
    uint32_t end = address + 4u * count;
    for (uint32_t start = address & ~(PAGE - 1u); start < end; start += PAGE) {
        for (uint32_t i = 0; i < PAGE; i++) {
            uint32_t at = start + i;
            page[i] = at >= address && at < end ? bytes[at - address] : 0xFFu;
        }
        work(start - FLASH_START, false);
    }
    return ear_holds(address, words, count);
}

bool port_boot_pin(void) { return (PIN_LEVELS >> EAR_BUTTON & 1u) == EAR_BUTTON_LEVEL; }

#endif
