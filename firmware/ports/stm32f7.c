// STM32F746, from RM0385; clock tree and flash as on the F4.
#include "cortex_m7.h"
#include "cycles.h"
#include "no_microphone.h"

#define SECTOR 0x8000u
#define ACCESS_FAST (1u << 8 | 1u << 9)  // RM0385 3.7.1: prefetch, accelerator
#define USART_NEWER
#include "stm32_sectors.h"

EAR_INTERRUPTS interrupts[USART_IRQ + 1] = {[USART_IRQ] = usart_handler};

void port_init(void) {
    clock_init();
    caches_init();
    itcm_init();
    erase_from_ram = (uint32_t (*)(uint32_t))in_itcm((uint32_t)(uintptr_t)erase_sector);
    program_from_ram = (uint32_t (*)(volatile uint32_t *, const uint32_t *, uint32_t))in_itcm(
        (uint32_t)(uintptr_t)program_words);
    USART_CLOCK();
    button_init();
    cycles_init();
    usart_init();
    __asm volatile("cpsie i" ::: "memory");
}
