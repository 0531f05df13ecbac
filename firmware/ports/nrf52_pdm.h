// The nRF52's PDM interface (6.15.7): it decimates by itself and writes 16 kHz samples block by block into RAM.
#ifndef EAR_NRF52_PDM_H
#define EAR_NRF52_PDM_H

#include "cortex.h"

#define PDM(offset) REGISTER(0x4001D000u + (offset))
#define PDM_START PDM(0x000u)
#define PDM_STOP PDM(0x004u)
#define PDM_STARTED PDM(0x100u)
#define PDM_STOPPED PDM(0x104u)
#define PDM_END PDM(0x108u)
#define PDM_INTERRUPTS PDM(0x304u)
#define PDM_ENABLE PDM(0x500u)
#define PDM_RATE PDM(0x504u)
#define PDM_MODE PDM(0x508u)
#define PDM_GAIN_LEFT PDM(0x518u)
#define PDM_RATIO PDM(0x520u)
#define PDM_PIN_CLOCK PDM(0x540u)
#define PDM_PIN_DATA PDM(0x544u)
#define PDM_PLACE PDM(0x560u)
#define PDM_COUNT PDM(0x564u)
#define RATE_1280_KHZ 0x0A000000u
#define RATIO_80 1u  // 1280 kHz by 80: 16 kHz
#define MODE_MONO 1u
#define GAIN_20_DB 0x50u
#define STARTED_AND_END (1u << 0 | 1u << 2)
#define PDM_IRQ 29u

#define BLOCK 256u
#define BLOCKS 32u  // a power of two; one is being written, one is told to be next
_Static_assert(BLOCKS >= EAR_MICROPHONE_KEPT / BLOCK + 2u, "too few blocks");

static struct {
    int16_t samples[BLOCKS][BLOCK];
    volatile uint32_t written;  // blocks since the start
    uint32_t next;              // block that the interface is told about
    uint32_t read, lost;        // samples since the start
} sound;

// At each start of a block the place of the next one is told (6.15.4).
static void pdm_handler(void) {
    if (PDM_STARTED) {
        PDM_STARTED = 0;
        sound.next = sound.next + 1 == BLOCKS ? 0 : sound.next + 1;
        PDM_PLACE = (uint32_t)(uintptr_t)sound.samples[sound.next];
    }
    if (PDM_END) {
        PDM_END = 0;
        sound.written++;
    }
    (void)PDM_END;
}

const bool port_microphone = true;

bool port_microphone_start(uint32_t rate) {
    if (rate != 16000u) return false;
    port_microphone_stop();
    sound.written = sound.next = sound.read = sound.lost = 0;
    GPIO_CONFIGURATION(EAR_PDM_POWER) = PIN_OUTPUT;
    GPIO_SET(EAR_PDM_POWER) = 1u << EAR_PDM_POWER % 32u;
    GPIO_CONFIGURATION(EAR_PDM_CLOCK) = PIN_OUTPUT;
    GPIO_CONFIGURATION(EAR_PDM_DATA) = PIN_INPUT;
    PDM_PIN_CLOCK = EAR_PDM_CLOCK;
    PDM_PIN_DATA = EAR_PDM_DATA;
    PDM_RATE = RATE_1280_KHZ;
    PDM_RATIO = RATIO_80;
    PDM_MODE = MODE_MONO;
    PDM_GAIN_LEFT = GAIN_20_DB;
    PDM_PLACE = (uint32_t)(uintptr_t)sound.samples[0];
    PDM_COUNT = BLOCK;
    PDM_STARTED = PDM_END = 0;
    PDM_INTERRUPTS = STARTED_AND_END;
    PDM_ENABLE = 1;
    NVIC_ENABLE(PDM_IRQ) = NVIC_BIT(PDM_IRQ);
    PDM_START = 1;
    return true;
}

uint32_t port_microphone_read(int16_t *samples, uint32_t most) {
    uint32_t written = sound.written * BLOCK, count = written - sound.read;
    if (count > EAR_MICROPHONE_KEPT) {
        sound.lost += count - EAR_MICROPHONE_KEPT;
        sound.read = written - EAR_MICROPHONE_KEPT;
        count = EAR_MICROPHONE_KEPT;
    }
    if (count > most) count = most;
    for (uint32_t i = 0; i < count; i++, sound.read++)
        samples[i] = sound.samples[sound.read / BLOCK % BLOCKS][sound.read % BLOCK];
    return count;
}

uint32_t port_microphone_lost(void) { return sound.lost; }

void port_microphone_stop(void) {
    if (!PDM_ENABLE) return;
    PDM_STOPPED = 0;
    PDM_STOP = 1;
    EAR_AWAIT(PDM_STOPPED);
    NVIC_DISABLE(PDM_IRQ) = NVIC_BIT(PDM_IRQ);
    PDM_ENABLE = 0;
}

#endif
