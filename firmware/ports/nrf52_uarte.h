// The link of the nRF52 over its UARTE, which receives without the core.
//
// The board's TOML says EAR_TX and EAR_RX (32 * port + pin) and EAR_BAUD_REGISTER. Sections: nRF52840's, version 1.7.
#ifndef EAR_NRF52_UARTE_H
#define EAR_NRF52_UARTE_H

#include "cycles.h"
#include "link.h"

// UARTE 0, 6.34.9
#define UARTE(offset) REGISTER(0x40002000u + (offset))
#define UARTE_START_RX UARTE(0x000u)
#define UARTE_START_TX UARTE(0x008u)
#define UARTE_RECEIVED UARTE(0x108u)
#define UARTE_SENT_ALL UARTE(0x120u)
#define UARTE_SHORTCUTS UARTE(0x200u)
#define UARTE_INTERRUPTS UARTE(0x304u)
#define UARTE_ENABLE UARTE(0x500u)
#define UARTE_PIN_TX UARTE(0x50Cu)
#define UARTE_PIN_RX UARTE(0x514u)
#define UARTE_BAUD UARTE(0x524u)
#define UARTE_RX_PLACE UARTE(0x534u)
#define UARTE_RX_MOST UARTE(0x538u)
#define UARTE_TX_PLACE UARTE(0x544u)
#define UARTE_TX_COUNT UARTE(0x548u)
#define UARTE_ON 8u
#define UARTE_IRQ 2u
#define RX_STARTS_AGAIN (1u << 5)
#define RECEIVED_INTERRUPT (1u << 2)

// TIMER 1, 6.30.4, counts received bytes, told by channel 0 of the PPI, 6.16.4
#define COUNTER_START REGISTER(0x40009000u)
#define COUNTER_COUNT 0x40009008u
#define COUNTER_CAPTURE REGISTER(0x40009040u)
#define COUNTER_MODE REGISTER(0x40009504u)
#define COUNTER_BITS REGISTER(0x40009508u)
#define COUNTER_VALUE REGISTER(0x40009540u)
#define PPI_ON REGISTER(0x4001F504u)
#define PPI_EVENT REGISTER(0x4001F510u)
#define PPI_TASK REGISTER(0x4001F514u)

// Received bytes: the UARTE writes them round and round without the core; what counts them is the timer.
#define RING_BYTES (EAR_LINK_SLOTS * (EAR_LINK_BODY + 12u) + 256u)
static volatile uint8_t ring[RING_BYTES];
static uint32_t taken, place;  // bytes read since the start; where the next one lies

static uint32_t waiting(void) {
    COUNTER_CAPTURE = 1;
    return COUNTER_VALUE - taken;
}

static void link_init(void) {
    GPIO_SET(EAR_TX) = 1u << EAR_TX % 32u;
    GPIO_CONFIGURATION(EAR_TX) = PIN_OUTPUT;
    GPIO_CONFIGURATION(EAR_RX) = PIN_PULLED_UP;
    UARTE_ENABLE = 0;  // the bootloader's may be running
    COUNTER_MODE = 2;
    COUNTER_BITS = 3;
    COUNTER_START = 1;
    PPI_EVENT = (uint32_t)(uintptr_t)&UARTE_RECEIVED;
    PPI_TASK = COUNTER_COUNT;
    PPI_ON = 1;
    COUNTER_CAPTURE = 1;
    taken = COUNTER_VALUE;
    UARTE_PIN_TX = EAR_TX;
    UARTE_PIN_RX = EAR_RX;
    UARTE_BAUD = EAR_BAUD_REGISTER;
    UARTE_RX_PLACE = (uint32_t)(uintptr_t)ring;
    UARTE_RX_MOST = RING_BYTES;
    UARTE_SHORTCUTS = RX_STARTS_AGAIN;
    UARTE_ENABLE = UARTE_ON;
    UARTE_INTERRUPTS = RECEIVED_INTERRUPT;
    UARTE_START_RX = 1;
}

int32_t port_uart_read(void) {
    uint32_t count = waiting();
    if (count == 0) return -1;
    if (count > RING_BYTES) {  // overwritten: the CRC of a frame tells, the host sends it again
        uint32_t lost = count - RING_BYTES;
        taken += lost;
        place = (place + lost) % RING_BYTES;
    }
    uint8_t byte = ring[place];
    place = place + 1 == RING_BYTES ? 0 : place + 1;
    taken++;
    return byte;
}

// The UARTE sends from RAM only.
void port_uart_write(const uint8_t *bytes, uint32_t length) {
    static uint8_t block[32];
    while (length) {
        uint32_t part = length < sizeof block ? length : sizeof block;
        for (uint32_t i = 0; i < part; i++) block[i] = *bytes++;
        length -= part;
        UARTE_TX_PLACE = (uint32_t)(uintptr_t)block;
        UARTE_TX_COUNT = part;
        UARTE_SENT_ALL = 0;
        __asm volatile("dsb" ::: "memory");
        UARTE_START_TX = 1;
        EAR_AWAIT(UARTE_SENT_ALL);
    }
}

// The interrupt of a received byte is let in here only, and only to end the rest: it has no handler.
void port_idle(void) {
    uint32_t before = ear_lock();
    UARTE_RECEIVED = 0;
    (void)UARTE_RECEIVED;  // the write has arrived
    NVIC_UNPEND(UARTE_IRQ) = NVIC_BIT(UARTE_IRQ);
    NVIC_ENABLE(UARTE_IRQ) = NVIC_BIT(UARTE_IRQ);
    if (waiting() == 0) cycles_sleep();
    NVIC_DISABLE(UARTE_IRQ) = NVIC_BIT(UARTE_IRQ);
    ear_unlock(before);
}

#endif
