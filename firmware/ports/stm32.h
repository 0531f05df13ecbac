// What the STM32 families share: GPIO, and the USART in its older and its newer layout.
//
// The family's file says GPIO_BASE and GPIO_CLOCK(port), USART_BASE, USART_IRQ and USART_HZ (or USART_DIVISOR), and
// USART_NEWER where status and data have registers of their own (F7, L4, H7). The board's TOML says EAR_TX, EAR_RX (16 * port + pin,
// port A = 0), EAR_UART_FUNCTION (alternate function), EAR_BUTTON and EAR_BUTTON_LEVEL (level while it is held).
#ifndef EAR_STM32_H
#define EAR_STM32_H

#include "cycles.h"
#include "ring.h"

// GPIO, RM0390 7.4; the same in RM0385 6.4, RM0432 8.5, RM0433 11.4.
#define GPIO(pin, offset) REGISTER(GPIO_BASE + 0x400u * ((pin) / 16u) + (offset))
#define GPIO_MODE 0x00u
#define GPIO_SPEED 0x08u
#define GPIO_PULL 0x0Cu
#define GPIO_INPUT 0x10u
#define GPIO_FUNCTION(pin) (0x20u + 4u * ((pin) % 16u / 8u))
#define PULL_UP 1u
#define PULL_DOWN 2u

static void pin_set(uint32_t pin, uint32_t offset, uint32_t bits, uint32_t value) {
    uint32_t at = offset < 0x20u ? pin % 16u * bits : pin % 8u * bits;
    GPIO(pin, offset) = (GPIO(pin, offset) & ~(((1u << bits) - 1u) << at)) | value << at;
}

static void pin_function(uint32_t pin, uint32_t function, uint32_t pull) {
    GPIO_CLOCK(pin / 16u);
    pin_set(pin, GPIO_PULL, 2, pull);
    pin_set(pin, GPIO_SPEED, 2, 2);
    pin_set(pin, GPIO_FUNCTION(pin), 4, function);
    pin_set(pin, GPIO_MODE, 2, 2);
}

// USART, RM0390 25.6 (older) and RM0385 31.8 (newer).
#ifdef USART_NEWER
#define USART_CONTROL_1 REGISTER(USART_BASE + 0x00u)
#define USART_BAUD REGISTER(USART_BASE + 0x0Cu)
#define USART_STATUS REGISTER(USART_BASE + 0x1Cu)
#define USART_CLEAR REGISTER(USART_BASE + 0x20u)
#define USART_RECEIVE REGISTER(USART_BASE + 0x24u)
#define USART_SEND REGISTER(USART_BASE + 0x28u)
#define USART_ON 0x2Du  // RXNEIE, TE, RE, UE
#else
#define USART_STATUS REGISTER(USART_BASE + 0x00u)
#define USART_RECEIVE REGISTER(USART_BASE + 0x04u)
#define USART_SEND REGISTER(USART_BASE + 0x04u)
#define USART_BAUD REGISTER(USART_BASE + 0x08u)
#define USART_CONTROL_1 REGISTER(USART_BASE + 0x0Cu)
#define USART_ON 0x202Cu  // UE, RXNEIE, TE, RE
#endif
#ifndef USART_DIVISOR
#define USART_DIVISOR ((USART_HZ + EAR_BAUD / 2u) / EAR_BAUD)
#endif
#define USART_OVERRUN (1u << 3)
#define USART_RECEIVED (1u << 5)
#define USART_SENT (1u << 6)
#define USART_ROOM (1u << 7)

// Take what has arrived; an overrun must be cleared or the newer USART stops and the older one interrupts for ever.
EAR_INLINE void usart_collect(void) {
    uint32_t status = USART_STATUS;
    if (status & (USART_RECEIVED | USART_OVERRUN)) {
        uint8_t byte = (uint8_t)USART_RECEIVE;
        if (status & USART_RECEIVED) ring_put(byte);
#ifdef USART_NEWER
        USART_CLEAR = USART_OVERRUN;
#endif
    }
}

static void usart_handler(void) { usart_collect(); }

static void usart_init(void) {
    pin_function(EAR_TX, EAR_UART_FUNCTION, 0);
    pin_function(EAR_RX, EAR_UART_FUNCTION, PULL_UP);
    USART_CONTROL_1 = 0;
    USART_BAUD = USART_DIVISOR;
    USART_CONTROL_1 = USART_ON;
    NVIC_ENABLE(USART_IRQ) = NVIC_BIT(USART_IRQ);
}

int32_t port_uart_read(void) { return ring_take(); }

void port_uart_write(const uint8_t *bytes, uint32_t length) {
    while (length--) {
        EAR_AWAIT(USART_STATUS & USART_ROOM);
        USART_SEND = *bytes++;
    }
}

void port_idle(void) {
    uint32_t before = ear_lock();
    if (ring_empty()) cycles_sleep();
    ear_unlock(before);
}

static void button_init(void) {
    GPIO_CLOCK(EAR_BUTTON / 16u);
    pin_set(EAR_BUTTON, GPIO_MODE, 2, 0);
    pin_set(EAR_BUTTON, GPIO_PULL, 2, EAR_BUTTON_LEVEL ? PULL_DOWN : PULL_UP);
}

bool port_boot_pin(void) { return (GPIO(EAR_BUTTON, GPIO_INPUT) >> EAR_BUTTON % 16u & 1u) == EAR_BUTTON_LEVEL; }

_Noreturn void port_reset(void) {
    EAR_AWAIT(USART_STATUS & USART_SENT);
    ear_system_reset();
}

#endif
