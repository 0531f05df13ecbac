// STM32H743, from RM0433: 400 MHz at voltage scale 1, buses at 200 and 100 MHz, USART 3.
//
// The board's TOML says EAR_HSE_HZ, EAR_HSE_BYPASS and what stm32.h wants. Flash is written 32 bytes at a time.
#include "cortex_m7.h"
#include "cycles.h"
#include "no_microphone.h"

// RCC, 8.7
#define RCC_CONTROL REGISTER(0x58024400u)
#define RCC_CONFIGURATION REGISTER(0x58024410u)
#define RCC_DOMAIN_1 REGISTER(0x58024418u)
#define RCC_DOMAIN_2 REGISTER(0x5802441Cu)
#define RCC_DOMAIN_3 REGISTER(0x58024420u)
#define RCC_PLL_INPUT REGISTER(0x58024428u)
#define RCC_PLL_CONFIGURATION REGISTER(0x5802442Cu)
#define RCC_PLL_1 REGISTER(0x58024430u)
#define RCC_AHB4 REGISTER(0x580244E0u)
#define RCC_APB1 REGISTER(0x580244E8u)
#define HSE_ON (1u << 16)
#define HSE_READY (1u << 17)
#define HSE_BYPASS (1u << 18)
#define PLL_ON (1u << 24)
#define PLL_READY (1u << 25)
#define PLL_FROM_HSE 2u
#define PLL_REFERENCE 2000000u
#define PLL_RANGE (1u << 2 | 1u << 16)  // reference of 2 to 4 MHz, wide VCO, output P
#define SWITCH_TO_PLL 3u
#define SWITCHED(configuration) ((configuration) >> 3 & 7u)
#define HSI_HZ 64000000u

// PWR, 6.8
#define PWR_STATUS REGISTER(0x58024804u)
#define PWR_SUPPLY REGISTER(0x5802480Cu)
#define PWR_DOMAIN_3 REGISTER(0x58024818u)
#define VOLTAGE_ACTIVE (1u << 13)  // in PWR_STATUS: settled; the same bit of PWR_DOMAIN_3: scale reached
#define SUPPLY_LDO 2u
#define SCALE_1 (3u << 14)

// FLASH, 4.9; the second bank's registers lie 0x100 behind
#define FLASH_ACCESS REGISTER(0x52002000u)
#define FLASH_KEY(bank) REGISTER(0x52002004u + 0x100u * (bank))
#define FLASH_CONTROL(bank) REGISTER(0x5200200Cu + 0x100u * (bank))
#define FLASH_STATUS(bank) REGISTER(0x52002010u + 0x100u * (bank))
#define FLASH_CLEAR(bank) REGISTER(0x52002014u + 0x100u * (bank))
#define ACCESS_200_MHZ (2u | 2u << 4)  // table 17: wait states, programming delay
#define STATUS_BUSY 7u                 // BSY, WBNE, QW
#define STATUS_ERRORS 0x06EE0000u
#define CONTROL_LOCK 1u
#define CONTROL_PROGRAM (2u | 3u << 4)  // 64 bits at a time inside
#define CONTROL_SECTOR(number) (4u | 3u << 4 | (number) << 8)
#define CONTROL_START (1u << 7)
#define FLASH_START 0x08000000u
#define BANK_OF(address) (((address) - FLASH_START) >> 20 & 1u)
#define SECTOR 0x20000u
#define WORDS 8u  // of a flash word

#define USART_BASE 0x40004800u
#define USART_IRQ 39u
static uint32_t core_hz = HSI_HZ;
#define USART_HZ (core_hz == HSI_HZ ? HSI_HZ : core_hz / 4u)
#define USART_NEWER
#define GPIO_BASE 0x58020000u
#define GPIO_CLOCK(port) (RCC_AHB4 |= 1u << (port))
#include "stm32.h"

EAR_INTERRUPTS interrupts[USART_IRQ + 1] = {[USART_IRQ] = usart_handler};

// Without a crystal HSI feeds the PLL; without the PLL, or the voltage for it, HSI feeds the core.
static void clock_init(void) {
    if (SWITCHED(RCC_CONFIGURATION) == SWITCH_TO_PLL) {  // the bootloader has done it
        core_hz = EAR_CLOCK_HZ;
        return;
    }
    PWR_SUPPLY = SUPPLY_LDO;  // 6.4.1: must be written before the voltage can change
    EAR_AWAIT(PWR_STATUS & VOLTAGE_ACTIVE);
    PWR_DOMAIN_3 = SCALE_1;
    EAR_AWAIT(PWR_DOMAIN_3 & VOLTAGE_ACTIVE);
    if (!(PWR_DOMAIN_3 & VOLTAGE_ACTIVE)) return;
    RCC_CONTROL |= HSE_ON | (EAR_HSE_BYPASS ? HSE_BYPASS : 0u);
    EAR_AWAIT(RCC_CONTROL & HSE_READY);
    bool crystal = RCC_CONTROL & HSE_READY;
    RCC_PLL_INPUT = crystal ? EAR_HSE_HZ / PLL_REFERENCE << 4 | PLL_FROM_HSE : HSI_HZ / PLL_REFERENCE << 4;
    RCC_PLL_CONFIGURATION = PLL_RANGE;
    RCC_PLL_1 = (2u * (EAR_CLOCK_HZ / PLL_REFERENCE) - 1u) | 1u << 9;  // VCO at twice the core
    RCC_CONTROL |= PLL_ON;
    EAR_AWAIT(RCC_CONTROL & PLL_READY);
    if (!(RCC_CONTROL & PLL_READY)) return;
    RCC_DOMAIN_1 = 8u | 4u << 4;       // AHB by 2, APB3 by 2
    RCC_DOMAIN_2 = 4u << 4 | 4u << 8;  // APB1 and APB2 by 2
    RCC_DOMAIN_3 = 4u << 4;            // APB4 by 2
    FLASH_ACCESS = ACCESS_200_MHZ;
    RCC_CONFIGURATION = SWITCH_TO_PLL;
    EAR_AWAIT(SWITCHED(RCC_CONFIGURATION) == SWITCH_TO_PLL);
    core_hz = EAR_CLOCK_HZ;
}

uint32_t port_flash_page(uint32_t address) {
    (void)address;
    return SECTOR;
}

// The flash does not answer meanwhile, so this runs from RAM, and takes what the USART receives.
EAR_IN_RAM static uint32_t erase_sector(uint32_t bank, uint32_t sector) {
    FLASH_CLEAR(bank) = STATUS_ERRORS;
    FLASH_CONTROL(bank) = CONTROL_SECTOR(sector);
    FLASH_CONTROL(bank) |= CONTROL_START;
    barrier();
    while (FLASH_STATUS(bank) & STATUS_BUSY) usart_collect();
    return FLASH_STATUS(bank) & STATUS_ERRORS;
}

// A last flash word that is not full is filled with ones; its ECC lets nobody write it again.
EAR_IN_RAM static uint32_t program_words(volatile uint32_t *to, const uint32_t *words, uint32_t count) {
    uint32_t bank = BANK_OF((uint32_t)to);
    FLASH_CLEAR(bank) = STATUS_ERRORS;
    FLASH_CONTROL(bank) = CONTROL_PROGRAM;
    for (uint32_t i = 0; i < count && !(FLASH_STATUS(bank) & STATUS_ERRORS); i += WORDS) {
        volatile uint32_t whole[WORDS];  // the words may lie in flash, which is not read while it is written
        for (uint32_t k = 0; k < WORDS; k++) whole[k] = i + k < count ? words[i + k] : 0xFFFFFFFFu;
        barrier();
        for (uint32_t k = 0; k < WORDS; k++) to[i + k] = whole[k];
        barrier();
        while (FLASH_STATUS(bank) & STATUS_BUSY) usart_collect();
    }
    return FLASH_STATUS(bank) & STATUS_ERRORS;
}

typedef uint32_t (*erase_t)(uint32_t, uint32_t);
typedef uint32_t (*program_t)(volatile uint32_t *, const uint32_t *, uint32_t);

static uint32_t unlock(uint32_t bank) {
    uint32_t before = ear_lock();
    if (FLASH_CONTROL(bank) & CONTROL_LOCK) {  // 4.5.1: keys to an open lock would be a fault
        FLASH_KEY(bank) = 0x45670123u;
        FLASH_KEY(bank) = 0xCDEF89ABu;
    }
    return before;
}

static void lock(uint32_t before, uint32_t bank, uint32_t address, uint32_t bytes) {
    FLASH_CONTROL(bank) = CONTROL_LOCK;
    forget(address, bytes);
    ear_unlock(before);
}

bool port_flash_erase(uint32_t address) {
    uint32_t start = address & ~(SECTOR - 1u), bank = BANK_OF(address);
    if (ear_blank(start, SECTOR)) return true;
    uint32_t before = unlock(bank);
    uint32_t errors = ((erase_t)in_itcm((uint32_t)(uintptr_t)erase_sector))(bank, address / SECTOR % 8u);
    lock(before, bank, start, SECTOR);
    return errors == 0 && ear_blank(start, SECTOR);
}

bool port_flash_program(uint32_t address, const uint32_t *words, uint32_t count) {
    if (address % (4u * WORDS)) return false;
    uint32_t bank = BANK_OF(address), before = unlock(bank);
    program_t program = (program_t)in_itcm((uint32_t)(uintptr_t)program_words);
    uint32_t errors = program((volatile uint32_t *)address, words, count);
    lock(before, bank, address, 4u * count);
    return errors == 0 && ear_holds(address, words, count);
}

void port_init(void) {
    clock_init();
    caches_init();
    itcm_init();
    RCC_APB1 |= 1u << 18;  // USART 3
    button_init();
    cycles_init();
    usart_init();
    __asm volatile("cpsie i" ::: "memory");
}
