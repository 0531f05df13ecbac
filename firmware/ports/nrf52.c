// nRF52840 and nRF52833, from their product specifications (sections of the nRF52840's, version 1.7).
//
// The board's TOML says EAR_TX, EAR_RX (32 * port + pin), EAR_BAUD_REGISTER, EAR_BUTTON and EAR_BUTTON_LEVEL (level
// while it is held); EAR_PDM_CLOCK, EAR_PDM_DATA and EAR_PDM_POWER where a PDM microphone is wired.
#include "cycles.h"
#include "link.h"

// CLOCK, 5.4.3
#define CLOCK_START_CRYSTAL REGISTER(0x40000000u)
#define CLOCK_CRYSTAL_STARTED REGISTER(0x40000100u)

// GPIO, 6.9.2
#define GPIO(pin, offset) REGISTER(0x50000000u + 0x300u * ((pin) / 32u) + (offset))
#define GPIO_SET(pin) GPIO(pin, 0x508u)
#define GPIO_IN(pin) GPIO(pin, 0x510u)
#define GPIO_CONFIGURATION(pin) GPIO(pin, 0x700u + 4u * ((pin) % 32u))
#define PIN_OUTPUT 3u  // input buffer off
#define PIN_INPUT 0u
#define PIN_PULLED_UP 0xCu
#define PIN_PULLED_DOWN 4u

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

#define NVMC_CACHE REGISTER(0x4001E540u)  // 4.3.9
#define PAGE 4096u
#include "nrf_flash.h"

// Received bytes: the UARTE writes them round and round without the core; what counts them is the timer.
#define RING_BYTES (EAR_LINK_SLOTS * (EAR_LINK_BODY + 12u) + 256u)
static volatile uint8_t ring[RING_BYTES];
static uint32_t taken, place;  // bytes read since the start; where the next one lies

static uint32_t waiting(void) {
    COUNTER_CAPTURE = 1;
    return COUNTER_VALUE - taken;
}

static void uarte_init(void) {
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

bool port_boot_pin(void) { return (GPIO_IN(EAR_BUTTON) >> EAR_BUTTON % 32u & 1u) == EAR_BUTTON_LEVEL; }

_Noreturn void port_reset(void) { ear_system_reset(); }

#ifdef EAR_PDM_CLOCK
#include "nrf52_pdm.h"
#else
#include "no_microphone.h"
#endif

void port_init(void) {
    CLOCK_START_CRYSTAL = 1;
    EAR_AWAIT(CLOCK_CRYSTAL_STARTED);  // without it the RC oscillator goes on
    NVMC_CACHE = 1;
    GPIO_CONFIGURATION(EAR_BUTTON) = EAR_BUTTON_LEVEL ? PIN_PULLED_DOWN : PIN_PULLED_UP;
    cycles_init();
    uarte_init();
    __asm volatile("cpsie i" ::: "memory");
}
