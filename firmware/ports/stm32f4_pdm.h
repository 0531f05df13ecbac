// A PDM microphone on the STM32F4's I2S 2: the bus's clock drives it, DMA gathers its bits, the core decimates.
//
// I2S clock of 51.2 MHz by 50: 1.024 MHz, 64 bits a sample at 16 kHz (RM0090 28.4.4). Sections are of RM0090.
#ifndef EAR_STM32F4_PDM_H
#define EAR_STM32F4_PDM_H

#include "pdm.h"
#include "sound_ring.h"

#define RCC_I2S_PLL REGISTER(0x40023884u)  // 7.3.23: N of 256 at 1 MHz, R of 5
#define I2S_PLL_ON (1u << 26)
#define I2S_PLL_READY (1u << 27)

// SPI 2 as I2S, 28.5
#define I2S_INTERRUPTS REGISTER(0x40003804u)
#define I2S_DATA 0x4000380Cu
#define I2S_CONFIGURATION REGISTER(0x4000381Cu)
#define I2S_PRESCALER REGISTER(0x40003820u)
#define I2S_TO_DMA 1u
#define I2S_MASTER_RECEIVES (1u << 11 | 3u << 8 | 1u << 4)  // I2S mode, 16 bits, data left of the frame's start
#define I2S_ENABLE (1u << 10)

// DMA 1, stream 3, 10.5
#define DMA_FLAGS REGISTER(0x40026000u)
#define DMA_CLEAR REGISTER(0x40026008u)
#define DMA_CONTROL REGISTER(0x40026058u)
#define DMA_COUNT REGISTER(0x4002605Cu)
#define DMA_FROM REGISTER(0x40026060u)
#define DMA_TO REGISTER(0x40026064u)
#define DMA_CIRCLES (1u << 13 | 1u << 11 | 1u << 10 | 1u << 8)  // 16 bits both sides, memory advances, circular
#define DMA_INTERRUPTS (1u << 4 | 1u << 3)                      // all and half
#define DMA_ENABLE 1u
#define DMA_ALL_DONE (1u << 27)
#define DMA_HALF_DONE (1u << 26)
#define DMA_STREAM_FLAGS (0x3Du << 22)
#define DMA_IRQ 14u

#define BLOCK 32u  // samples in half of the DMA's buffer: 2 ms

static struct {
    uint16_t bits[2][BLOCK * 4u];
    ear_pdm_t filter;
} pdm;

static void take_block(const volatile uint16_t *bits) {
    for (uint32_t i = 0; i < BLOCK; i++, bits += 4) {
        uint32_t first = (uint32_t)bits[0] << 16 | bits[1], second = (uint32_t)bits[2] << 16 | bits[3];
        sound_put(ear_pdm_sample(&pdm.filter, first, second));
    }
}

static void dma_handler(void) {
    uint32_t flags = DMA_FLAGS;
    DMA_CLEAR = DMA_STREAM_FLAGS;
    if (flags & DMA_HALF_DONE) take_block(pdm.bits[0]);
    if (flags & DMA_ALL_DONE) take_block(pdm.bits[1]);
}

bool port_microphone_start(uint32_t rate) {
    if (rate != 16000u) return false;
    port_microphone_stop();
    sound_forget();
    pdm.filter = (ear_pdm_t){0};
    RCC_AHB1 |= 1u << 21;  // DMA 1
    RCC_APB1 |= 1u << 14;  // SPI 2
    RCC_I2S_PLL = 256u << 6 | 5u << 28;
    RCC_CONTROL |= I2S_PLL_ON;
    EAR_AWAIT(RCC_CONTROL & I2S_PLL_READY);
    if (!(RCC_CONTROL & I2S_PLL_READY)) return false;
    pin_function(EAR_PDM_CLOCK, EAR_PDM_FUNCTION, 0);
    pin_function(EAR_PDM_DATA, EAR_PDM_FUNCTION, 0);
    DMA_CLEAR = DMA_STREAM_FLAGS;
    DMA_FROM = I2S_DATA;
    DMA_TO = (uint32_t)(uintptr_t)pdm.bits;
    DMA_COUNT = sizeof pdm.bits / 2u;
    DMA_CONTROL = DMA_CIRCLES | DMA_INTERRUPTS;
    DMA_CONTROL |= DMA_ENABLE;
    NVIC_ENABLE(DMA_IRQ) = NVIC_BIT(DMA_IRQ);
    I2S_PRESCALER = 25;
    I2S_CONFIGURATION = I2S_MASTER_RECEIVES;
    I2S_INTERRUPTS = I2S_TO_DMA;
    I2S_CONFIGURATION |= I2S_ENABLE;
    return true;
}

void port_microphone_stop(void) {
    NVIC_DISABLE(DMA_IRQ) = NVIC_BIT(DMA_IRQ);
    DMA_CONTROL &= ~DMA_ENABLE;
    EAR_AWAIT(!(DMA_CONTROL & DMA_ENABLE));
    I2S_CONFIGURATION &= ~I2S_ENABLE;
    RCC_CONTROL &= ~I2S_PLL_ON;
}

#endif
