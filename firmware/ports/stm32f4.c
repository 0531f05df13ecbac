// STM32F405, F407 and F446, from RM0090 and RM0390.
//
// EAR_PDM_CLOCK, EAR_PDM_DATA and EAR_PDM_FUNCTION are pins of I2S 2 where a PDM microphone hangs on it.
#include "cycles.h"

#define SECTOR 0x4000u
#define ACCESS_FAST (1u << 8 | 1u << 9 | 1u << 10)  // RM0390 3.8.1: prefetch, instruction cache, data cache
#define ACCESS_DATA_CACHE (1u << 10)
#define ACCESS_DATA_FORGET (1u << 12)

static void forget(uint32_t address, uint32_t bytes);
#include "stm32_sectors.h"

#ifdef EAR_PDM_CLOCK
#include "stm32f4_pdm.h"
EAR_INTERRUPTS interrupts[USART_IRQ + 1] = {[DMA_IRQ] = dma_handler, [USART_IRQ] = usart_handler};
#else
#include "no_microphone.h"
EAR_INTERRUPTS interrupts[USART_IRQ + 1] = {[USART_IRQ] = usart_handler};
#endif

// RM0390 3.4.2: the data cache may hold what was there before; it is emptied while it is off.
static void forget(uint32_t address, uint32_t bytes) {
    (void)address, (void)bytes;
    FLASH_ACCESS &= ~ACCESS_DATA_CACHE;
    FLASH_ACCESS |= ACCESS_DATA_FORGET;
    FLASH_ACCESS &= ~ACCESS_DATA_FORGET;
    FLASH_ACCESS |= ACCESS_DATA_CACHE;
}

void port_init(void) {
    clock_init();
    USART_CLOCK();
    button_init();
    cycles_init();
    usart_init();
    __asm volatile("cpsie i" ::: "memory");
}
