// An analogue microphone on the ADC of the RP2040 and RP2350: four conversions are one sample.
//
// The crystal clocks it, 96 cycles a conversion. The mean of the sound, half of the supply, is taken away. The chip's
// file says ADC, ADC_IRQ and CLOCK_ADC_AT, the board's TOML EAR_ADC, a pin from 26 on. Sections: RP2040 datasheet.
#ifndef EAR_RP2_ADC_H
#define EAR_RP2_ADC_H

#include "sound_ring.h"

#define CLOCK_ADC REGISTER(CLOCKS + CLOCK_ADC_AT)  // 2.15.7
#define CLOCK_ADC_FROM_XOSC (1u << 11 | 3u << 5)
#define RESET_ADC 1u

// ADC, 4.9.6
#define ADC_CONTROL REGISTER(ADC + 0u)
#define ADC_FIFO_CONTROL REGISTER(ADC + 8u)
#define ADC_FIFO REGISTER(ADC + 0xCu)
#define ADC_DIVIDER REGISTER(ADC + 0x10u)
#define ADC_INTERRUPT REGISTER(ADC + 0x18u)
#define ADC_ON 1u
#define ADC_AGAIN_AND_AGAIN (1u << 3)
#define ADC_READY (1u << 8)
#define ADC_INPUT ((EAR_ADC - 26u) << 12)
#define FIFO_ON (2u << 24 | 1u)  // it asks when two wait; there is room for four
#define FIFO_EMPTY (1u << 8)
#define FIFO_SPILT (1u << 11)
#define CONVERSION 96u  // cycles
#define EACH 4u         // conversions a sample: 12 bits become 14
#define PIN_ANALOGUE 31u
#define PAD_OUTPUT_OFF (1u << 7)

static struct {
    uint32_t sum, count;
    int32_t level;  // what is left of the offset, 1/4096 of a step
} adc;

static void adc_handler(void) {
    if (ADC_FIFO_CONTROL & FIFO_SPILT) {
        ADC_FIFO_CONTROL = FIFO_ON | FIFO_SPILT;
        sound.lost++;
    }
    while (!(ADC_FIFO_CONTROL & FIFO_EMPTY)) {
        adc.sum += ADC_FIFO & 0xFFFu;
        if (++adc.count < EACH) continue;
        int32_t value = (int32_t)(adc.sum << 2) - 32768 - (adc.level >> 12);
        adc.level += value;
        adc.sum = adc.count = 0;
        sound_put(value);
    }
}

bool port_microphone_start(uint32_t rate) {
    if (rate < 1000u || rate > XOSC_HZ / CONVERSION / EACH) return false;
    port_microphone_stop();
    sound_forget();
    adc.sum = adc.count = 0;
    adc.level = 0;
    CLOCK_ADC = CLOCK_ADC_FROM_XOSC;
    CLEAR(RESETS, 0u) = RESET_ADC;
    EAR_AWAIT(RESETS_DONE & RESET_ADC);
    PIN_PAD(EAR_ADC) = PAD_OUTPUT_OFF;
    PIN_FUNCTION(EAR_ADC) = PIN_ANALOGUE;
    CLEAR(PADS_BANK, 4u + 4u * EAR_ADC) = PAD_ISOLATION;
    ADC_CONTROL = ADC_ON | ADC_INPUT;
    EAR_AWAIT(ADC_CONTROL & ADC_READY);
    if (!(ADC_CONTROL & ADC_READY)) return false;
    ADC_DIVIDER = XOSC_HZ / EACH * 64u / rate * 4u - 256u;  // cycles a conversion less one, in 1/256
    ADC_FIFO_CONTROL = FIFO_ON;
    ADC_INTERRUPT = 1;
    NVIC_ENABLE(ADC_IRQ) = NVIC_BIT(ADC_IRQ);
    ADC_CONTROL = ADC_ON | ADC_INPUT | ADC_AGAIN_AND_AGAIN;
    return true;
}

void port_microphone_stop(void) {
    NVIC_DISABLE(ADC_IRQ) = NVIC_BIT(ADC_IRQ);
    if (!(RESETS_DONE & RESET_ADC)) return;  // it has not been on
    ADC_CONTROL = 0;
    ADC_INTERRUPT = 0;
    ADC_FIFO_CONTROL = 0;
}

#endif
