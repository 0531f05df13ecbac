// nRF52840 and nRF52833, from their product specifications (sections of the nRF52840's, version 1.7).
//
// The board's TOML says EAR_BUTTON (32 * port + pin) and EAR_BUTTON_LEVEL (level while it is held); EAR_PDM_CLOCK,
// EAR_PDM_DATA and EAR_PDM_POWER where a PDM microphone is wired. The link is in nrf52_usb.h or nrf52_uarte.h.
#include "cycles.h"

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

#define NVMC_CACHE REGISTER(0x4001E540u)  // 4.3.9
#define PAGE 4096u
#include "nrf_flash.h"

#ifdef EAR_USB_VENDOR
#include "nrf52_usb.h"
#else
#include "nrf52_uarte.h"
#endif

bool port_boot_pin(void) { return (GPIO_IN(EAR_BUTTON) >> EAR_BUTTON % 32u & 1u) == EAR_BUTTON_LEVEL; }

#ifndef EAR_USB_VENDOR
_Noreturn void port_reset(void) { ear_system_reset(); }
#endif

#ifdef EAR_PDM_CLOCK
#include "nrf52_pdm.h"
#define OF_PDM [PDM_IRQ] = pdm_handler
#else
#include "no_microphone.h"
#define OF_PDM [0] = 0
#endif

#ifdef EAR_USB_VENDOR
EAR_INTERRUPTS interrupts[USB_IRQ + 1] = {OF_PDM, [POWER_IRQ] = power_handler, [USB_IRQ] = usb_handler};
#elif defined EAR_PDM_CLOCK
EAR_INTERRUPTS interrupts[PDM_IRQ + 1] = {OF_PDM};
#endif

void port_init(void) {
    CLOCK_START_CRYSTAL = 1;
    EAR_AWAIT(CLOCK_CRYSTAL_STARTED);  // without it the RC oscillator goes on
    NVMC_CACHE = 1;
    GPIO_CONFIGURATION(EAR_BUTTON) = EAR_BUTTON_LEVEL ? PIN_PULLED_DOWN : PIN_PULLED_UP;
    cycles_init();
    link_init();
    __asm volatile("cpsie i" ::: "memory");
}
