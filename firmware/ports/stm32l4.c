// STM32L4R5, from RM0432: 120 MHz from HSI16 through the PLL, LPUART 1, flash written 64 bits at a time.
//
// The board's TOML says what stm32.h wants.
#include "cycles.h"
#include "no_microphone.h"

// RCC, 6.4
#define RCC_CONTROL REGISTER(0x40021000u)
#define RCC_CONFIGURATION REGISTER(0x40021008u)
#define RCC_PLL REGISTER(0x4002100Cu)
#define RCC_AHB2 REGISTER(0x4002104Cu)
#define RCC_APB1_FIRST REGISTER(0x40021058u)
#define RCC_APB1_SECOND REGISTER(0x4002105Cu)
#define HSI_ON (1u << 8)
#define HSI_READY (1u << 10)
#define PLL_ON (1u << 24)
#define PLL_READY (1u << 25)
#define PLL_FROM_HSI 2u
#define PLL_BY_2 (1u << 4)      // 8 MHz into the VCO
#define PLL_OUTPUT (1u << 24)   // R, by 2
#define SWITCH_TO_HSI 1u
#define SWITCH_TO_PLL 3u
#define SWITCHED(configuration) ((configuration) >> 2 & 3u)
#define AHB_BY_2 (8u << 4)
#define HSI_HZ 16000000u

// PWR, 5.4
#define PWR_CONTROL_2 REGISTER(0x40007004u)
#define PWR_CONTROL_5 REGISTER(0x40007080u)
#define PORT_G_SUPPLIED (1u << 9)
#define NO_BOOST (1u << 8)

// FLASH, 3.7
#define FLASH_ACCESS REGISTER(0x40022000u)
#define FLASH_KEY REGISTER(0x40022008u)
#define FLASH_STATUS REGISTER(0x40022010u)
#define FLASH_CONTROL REGISTER(0x40022014u)
#define ACCESS_FAST (5u | 1u << 8 | 1u << 9 | 1u << 10)  // wait states of 120 MHz, prefetch, both caches
#define ACCESS_DATA_CACHE (1u << 10)
#define ACCESS_DATA_FORGET (1u << 12)
#define STATUS_ERRORS 0xC3FAu
#define STATUS_BUSY (1u << 16)
#define CONTROL_PROGRAM 1u
#define CONTROL_PAGE(number) (2u | ((number) & 255u) << 3 | ((number) >> 8 & 1u) << 11)  // page, bank
#define CONTROL_START (1u << 16)
#define CONTROL_LOCK (1u << 31)
#define FLASH_START 0x08000000u
#define PAGE 4096u

// LPUART 1, 47.7: its divisor counts 1/256 of a bit
#define USART_BASE 0x40008000u
#define USART_IRQ 70u
static uint32_t core_hz = HSI_HZ;
#define LPUART_DIVISOR(hz) ((uint32_t)((256ull * (hz) + EAR_BAUD / 2u) / EAR_BAUD))
#define USART_DIVISOR (core_hz == HSI_HZ ? LPUART_DIVISOR(HSI_HZ) : LPUART_DIVISOR(EAR_CLOCK_HZ))
#define USART_NEWER
#define GPIO_BASE 0x48000000u
#define GPIO_CLOCK(port) (RCC_AHB2 |= 1u << (port))
#include "stm32.h"

EAR_INTERRUPTS interrupts[USART_IRQ + 1] = {[USART_IRQ] = usart_handler};

// Without the PLL the core stays on HSI16.
static void clock_init(void) {
    RCC_APB1_FIRST |= 1u << 28;  // PWR
    PWR_CONTROL_2 |= PORT_G_SUPPLIED;
    if (SWITCHED(RCC_CONFIGURATION) == SWITCH_TO_PLL) {  // the bootloader has done it
        core_hz = EAR_CLOCK_HZ;
        return;
    }
    RCC_CONTROL |= HSI_ON;
    EAR_AWAIT(RCC_CONTROL & HSI_READY);
    RCC_CONFIGURATION = SWITCH_TO_HSI;
    RCC_PLL = PLL_FROM_HSI | PLL_BY_2 | EAR_CLOCK_HZ / 4000000u << 8 | PLL_OUTPUT;
    RCC_CONTROL |= PLL_ON;
    EAR_AWAIT(RCC_CONTROL & PLL_READY);
    if (!(RCC_CONTROL & PLL_READY)) return;
    PWR_CONTROL_5 &= ~NO_BOOST;  // 5.1.8: above 80 MHz, with a pause at half the speed
    FLASH_ACCESS = ACCESS_FAST;
    RCC_CONFIGURATION = AHB_BY_2 | SWITCH_TO_PLL;
    EAR_AWAIT(SWITCHED(RCC_CONFIGURATION) == SWITCH_TO_PLL);
    for (volatile uint32_t pause = 0; pause < 100; pause++) {}
    RCC_CONFIGURATION = SWITCH_TO_PLL;
    core_hz = EAR_CLOCK_HZ;
}

uint32_t port_flash_page(uint32_t address) {
    (void)address;
    return PAGE;
}

// The flash does not answer meanwhile, so this runs from RAM, and takes what the UART receives.
EAR_IN_RAM static uint32_t erase_page(uint32_t page) {
    FLASH_STATUS = STATUS_ERRORS;
    FLASH_CONTROL = CONTROL_PAGE(page);
    FLASH_CONTROL |= CONTROL_START;
    while (FLASH_STATUS & STATUS_BUSY) usart_collect();
    return FLASH_STATUS & STATUS_ERRORS;
}

// A last half that is missing is filled with ones; its ECC lets nobody write it again.
EAR_IN_RAM static uint32_t program_words(volatile uint32_t *to, const uint32_t *words, uint32_t count) {
    FLASH_STATUS = STATUS_ERRORS;
    FLASH_CONTROL = CONTROL_PROGRAM;
    for (uint32_t i = 0; i < count && !(FLASH_STATUS & STATUS_ERRORS); i += 2) {
        to[i] = words[i];
        __asm volatile("isb" ::: "memory");
        to[i + 1] = i + 1 < count ? words[i + 1] : 0xFFFFFFFFu;
        __asm volatile("dsb" ::: "memory");
        while (FLASH_STATUS & STATUS_BUSY) usart_collect();
    }
    return FLASH_STATUS & STATUS_ERRORS;
}

static uint32_t (*volatile erase_from_ram)(uint32_t) = erase_page;
static uint32_t (*volatile program_from_ram)(volatile uint32_t *, const uint32_t *, uint32_t) = program_words;

static uint32_t unlock(void) {
    uint32_t before = ear_lock();
    FLASH_KEY = 0x45670123u;  // 3.3.5
    FLASH_KEY = 0xCDEF89ABu;
    return before;
}

static void lock(uint32_t before) {
    FLASH_CONTROL = CONTROL_LOCK;
    FLASH_ACCESS &= ~ACCESS_DATA_CACHE;  // it may hold what was there before
    FLASH_ACCESS |= ACCESS_DATA_FORGET;
    FLASH_ACCESS &= ~ACCESS_DATA_FORGET;
    FLASH_ACCESS |= ACCESS_DATA_CACHE;
    ear_unlock(before);
}

bool port_flash_erase(uint32_t address) {
    uint32_t start = address & ~(PAGE - 1u);
    if (ear_blank(start, PAGE)) return true;
    uint32_t before = unlock();
    uint32_t errors = erase_from_ram((start - FLASH_START) / PAGE);
    lock(before);
    return errors == 0 && ear_blank(start, PAGE);
}

bool port_flash_program(uint32_t address, const uint32_t *words, uint32_t count) {
    if (address % 8u) return false;
    uint32_t before = unlock();
    uint32_t errors = program_from_ram((volatile uint32_t *)address, words, count);
    lock(before);
    return errors == 0 && ear_holds(address, words, count);
}

void port_init(void) {
    clock_init();
    RCC_APB1_SECOND |= 1u;  // LPUART 1
    button_init();
    cycles_init();
    usart_init();
    __asm volatile("cpsie i" ::: "memory");
}
