// STM32F4 and F7, whose clock tree and flash controller are the same; sections are of RM0390 (F7: RM0385).
//
// The file of the family says SECTOR (bytes of the first four), ACCESS_FAST and forget() (caches with old contents);
// the board's TOML EAR_HSE_HZ, EAR_HSE_BYPASS (1: a clock comes in, 0: a crystal), EAR_UART, what stm32.h wants.
#ifndef EAR_STM32_SECTORS_H
#define EAR_STM32_SECTORS_H

#include "cycles.h"

// RCC, 6.3
#define RCC_CONTROL REGISTER(0x40023800u)
#define RCC_PLL REGISTER(0x40023804u)
#define RCC_CONFIGURATION REGISTER(0x40023808u)
#define RCC_AHB1 REGISTER(0x40023830u)
#define RCC_APB1 REGISTER(0x40023840u)
#define RCC_APB2 REGISTER(0x40023844u)
#define HSE_ON (1u << 16)
#define HSE_READY (1u << 17)
#define HSE_BYPASS (1u << 18)
#define PLL_ON (1u << 24)
#define PLL_READY (1u << 25)
#define PLL_FROM_HSE (1u << 22)
#define SWITCH_TO_PLL 2u
#define SWITCHED(configuration) ((configuration) >> 2 & 3u)
#define APB_DIVIDED (5u << 10 | 4u << 13)  // APB1 by 4, APB2 by 2
#define HSI_HZ 16000000u

// PWR, 5.4
#define PWR_CONTROL REGISTER(0x40007000u)
#define PWR_STATUS REGISTER(0x40007004u)
#define OVERDRIVE (1u << 16)  // in both registers, and its switch above it

// FLASH, 3.8
#define FLASH_ACCESS REGISTER(0x40023C00u)
#define FLASH_KEY REGISTER(0x40023C04u)
#define FLASH_STATUS REGISTER(0x40023C0Cu)
#define FLASH_CONTROL REGISTER(0x40023C10u)
#define STATUS_ERRORS 0xF2u  // OPERR, WRPERR, PGAERR, PGPERR, and PGSERR (F4) or ERSERR (F7)
#define STATUS_BUSY (1u << 16)
#define CONTROL_PROGRAM 1u
#define CONTROL_SECTOR(number) (2u | (number) << 3)
#define CONTROL_WORDS (2u << 8)  // 32 bits at a time: 2.7 V and more
#define CONTROL_START (1u << 16)
#define CONTROL_LOCK (1u << 31)
#define FLASH_START 0x08000000u

#if EAR_UART == 1
#define USART_BASE 0x40011000u
#define USART_IRQ 37u
#define USART_CLOCK() (RCC_APB2 |= 1u << 4)
#define USART_DIVIDER 2u
#elif EAR_UART == 2
#define USART_BASE 0x40004400u
#define USART_IRQ 38u
#define USART_CLOCK() (RCC_APB1 |= 1u << 17)
#define USART_DIVIDER 4u
#else
#error "this port knows USART 1 and 2"
#endif

static uint32_t core_hz = HSI_HZ;
#define USART_HZ (core_hz == HSI_HZ ? HSI_HZ : core_hz / USART_DIVIDER)
#define GPIO_BASE 0x40020000u
#define GPIO_CLOCK(port) (RCC_AHB1 |= 1u << (port))
#include "stm32.h"

// VCO in: 1 MHz; VCO out: twice the core. Without a crystal HSI feeds the PLL; without the PLL HSI feeds the core.
static void clock_init(void) {
    if (SWITCHED(RCC_CONFIGURATION) == SWITCH_TO_PLL) {  // the bootloader has done it
        core_hz = EAR_CLOCK_HZ;
        return;
    }
    RCC_APB1 |= 1u << 28;  // PWR
    RCC_CONTROL |= HSE_ON | (EAR_HSE_BYPASS ? HSE_BYPASS : 0u);
    EAR_AWAIT(RCC_CONTROL & HSE_READY);
    bool crystal = RCC_CONTROL & HSE_READY;
    RCC_PLL = (crystal ? EAR_HSE_HZ / 1000000u | PLL_FROM_HSE : HSI_HZ / 1000000u) |
              EAR_CLOCK_HZ / 500000u << 6 | 7u << 24 | 2u << 28;
    RCC_CONTROL |= PLL_ON;
    EAR_AWAIT(RCC_CONTROL & PLL_READY);
    if (!(RCC_CONTROL & PLL_READY)) return;
    if (EAR_CLOCK_HZ > 168000000u) {  // 5.1.4: first the voltage, then the switch
        PWR_CONTROL |= OVERDRIVE;
        EAR_AWAIT(PWR_STATUS & OVERDRIVE);
        PWR_CONTROL |= OVERDRIVE << 1;
        EAR_AWAIT(PWR_STATUS & OVERDRIVE << 1);
    }
    FLASH_ACCESS = ACCESS_FAST | (EAR_CLOCK_HZ - 1u) / 30000000u;  // wait states at 2.7 V and more, 3.4.1
    RCC_CONFIGURATION = APB_DIVIDED | SWITCH_TO_PLL;
    EAR_AWAIT(SWITCHED(RCC_CONFIGURATION) == SWITCH_TO_PLL);
    core_hz = EAR_CLOCK_HZ;
}

// Four sectors of SECTOR bytes, one of four times as many, then of eight times as many (3.3).
uint32_t port_flash_page(uint32_t address) {
    uint32_t offset = address - FLASH_START;
    return offset < 4u * SECTOR ? SECTOR : offset < 8u * SECTOR ? 4u * SECTOR : 8u * SECTOR;
}

static uint32_t sector_of(uint32_t address) {
    uint32_t offset = address - FLASH_START;
    return offset < 4u * SECTOR ? offset / SECTOR : 4u + offset / (8u * SECTOR);
}

// The flash does not answer meanwhile, so this runs from RAM, and takes what the USART receives.
EAR_IN_RAM static uint32_t erase_sector(uint32_t sector) {
    FLASH_STATUS = STATUS_ERRORS;
    FLASH_CONTROL = CONTROL_SECTOR(sector) | CONTROL_WORDS;
    FLASH_CONTROL |= CONTROL_START;
    __asm volatile("dsb" ::: "memory");
    while (FLASH_STATUS & STATUS_BUSY) usart_collect();
    return FLASH_STATUS & STATUS_ERRORS;
}

EAR_IN_RAM static uint32_t program_words(volatile uint32_t *to, const uint32_t *words, uint32_t count) {
    FLASH_STATUS = STATUS_ERRORS;
    FLASH_CONTROL = CONTROL_PROGRAM | CONTROL_WORDS;
    while (count-- && !(FLASH_STATUS & STATUS_ERRORS)) {
        *to++ = *words++;
        __asm volatile("dsb" ::: "memory");
        while (FLASH_STATUS & STATUS_BUSY) usart_collect();
    }
    return FLASH_STATUS & STATUS_ERRORS;
}

static uint32_t (*volatile erase_from_ram)(uint32_t) = erase_sector;
static uint32_t (*volatile program_from_ram)(volatile uint32_t *, const uint32_t *, uint32_t) = program_words;

static uint32_t unlock(void) {
    uint32_t before = ear_lock();
    FLASH_KEY = 0x45670123u;  // 3.5.1
    FLASH_KEY = 0xCDEF89ABu;
    return before;
}

static void lock(uint32_t before, uint32_t address, uint32_t bytes) {
    FLASH_CONTROL = CONTROL_LOCK;
    forget(address, bytes);
    ear_unlock(before);
}

bool port_flash_erase(uint32_t address) {
    uint32_t bytes = port_flash_page(address), start = address & ~(bytes - 1u);
    if (ear_blank(start, bytes)) return true;
    uint32_t before = unlock();
    uint32_t errors = erase_from_ram(sector_of(address));
    lock(before, start, bytes);
    return errors == 0 && ear_blank(start, bytes);
}

bool port_flash_program(uint32_t address, const uint32_t *words, uint32_t count) {
    uint32_t before = unlock();
    uint32_t errors = program_from_ram((volatile uint32_t *)address, words, count);
    lock(before, address, 4u * count);
    return errors == 0 && ear_holds(address, words, count);
}

#endif
