// The link of the RP2040 and RP2350 over UART 0, an Arm PL011. Section: RP2040 datasheet, 4.2.8.
//
// The chip's file says UART and UART_IRQ, the board's TOML EAR_TX and EAR_RX.
#ifndef EAR_RP2_UART_H
#define EAR_RP2_UART_H

#include "ring.h"

#define UART_DATA REGISTER(UART + 0u)
#define UART_FLAGS REGISTER(UART + 0x18u)
#define UART_DIVIDER REGISTER(UART + 0x24u)
#define UART_FRACTION REGISTER(UART + 0x28u)
#define UART_LINE REGISTER(UART + 0x2Cu)
#define UART_CONTROL REGISTER(UART + 0x30u)
#define UART_LEVELS REGISTER(UART + 0x34u)
#define UART_INTERRUPTS REGISTER(UART + 0x38u)
#define FLAG_BUSY (1u << 3)
#define FLAG_EMPTY (1u << 4)
#define FLAG_FULL (1u << 5)
#define LINE_8_BITS_FIFO 0x70u
#define UART_ON 0x301u             // receive, transmit, enable
#define RECEIVE_INTERRUPTS 0x50u  // FIFO filled to an eighth; bytes wait and none has come for 32 bits
#define LINK_IRQ UART_IRQ

static void link_handler(void) {
    while (!(UART_FLAGS & FLAG_EMPTY)) ring_put((uint8_t)UART_DATA);
}

static void link_was_blind(void) {}  // the FIFO has kept what came

static void link_init(void) {
    CLOCK_PERIPHERALS = PERIPHERALS_ON;
    pin_init(EAR_TX, FUNCTION_UART, 0);
    pin_init(EAR_RX, FUNCTION_UART, PAD_PULL_UP);
    uint32_t divisor = (core_hz * 4u + EAR_BAUD / 2u) / EAR_BAUD;  // in 1/64
    UART_DIVIDER = divisor >> 6;
    UART_FRACTION = divisor & 63u;
    UART_LINE = LINE_8_BITS_FIFO;
    UART_LEVELS = 0;
    UART_CONTROL = UART_ON;
    UART_INTERRUPTS = RECEIVE_INTERRUPTS;
    NVIC_ENABLE(UART_IRQ) = NVIC_BIT(UART_IRQ);
}

int32_t port_uart_read(void) { return ring_take(); }

void port_uart_write(const uint8_t *bytes, uint32_t length) {
    while (length--) {
        EAR_AWAIT(!(UART_FLAGS & FLAG_FULL));
        UART_DATA = *bytes++;
    }
}

void port_idle(void) {
    uint32_t before = ear_lock();
    if (ring_empty()) cycles_sleep();
    ear_unlock(before);
}

_Noreturn void port_reset(void) {
    EAR_AWAIT(!(UART_FLAGS & FLAG_BUSY));
    restart();
}

#endif
