// The USB controller of the nRF52840 (USBD): EasyDMA moves packets between its buffers and RAM, one at a time.
//
// It obeys SET_ADDRESS by itself, and takes one OUT packet more than was asked for into its own buffer. Sections:
// product specification 1.7, USBD 6.35, POWER 5.3.7. Errata of Revision 3: 171, 187 and 199; 166 is of isochronous
// endpoints.
#ifndef EAR_NRF52_USB_H
#define EAR_NRF52_USB_H

#include "usb_port.h"

// POWER, 5.3.7: whether a cable gives 5 V, and the byte that Arduino's bootloader looks at after a reset
#define POWER_PLUGGED_IN REGISTER(0x4000011Cu)
#define POWER_UNPLUGGED REGISTER(0x40000120u)
#define POWER_INTERRUPTS REGISTER(0x40000304u)
#define POWER_USB REGISTER(0x40000438u)
#define POWER_KEPT REGISTER(0x4000051Cu)
#define PLUG_INTERRUPTS (1u << 7 | 1u << 8)
#define USB_CABLE 1u
#define USB_REGULATED 2u
#define STAY_IN_ARDUINOS 0x4Eu
#define POWER_IRQ 0u

// USBD, 6.35.13
#define USBD(offset) REGISTER(0x40027000u + (offset))
#define USBD_START_IN(number) USBD(0x004u + 4u * (number))
#define USBD_START_OUT(number) USBD(0x028u + 4u * (number))
#define USBD_CONTROL_RECEIVE USBD(0x04Cu)
#define USBD_CONTROL_STATUS USBD(0x050u)
#define USBD_CONTROL_STALL USBD(0x054u)
#define USBD_RESET USBD(0x100u)
#define USBD_END_IN(number) USBD(0x108u + 4u * (number))
#define USBD_CONTROL_DONE USBD(0x128u)
#define USBD_END_OUT(number) USBD(0x130u + 4u * (number))
#define USBD_SETUP USBD(0x15Cu)
#define USBD_DATA USBD(0x160u)
#define USBD_INTERRUPTS USBD(0x304u)
#define USBD_CAUSE USBD(0x400u)
#define USBD_DATA_STATUS USBD(0x46Cu)
#define USBD_ADDRESS USBD(0x470u)
#define USBD_SETUP_BYTE(number) USBD(0x480u + 4u * (number))
#define USBD_SIZE(number) USBD(0x4A0u + 4u * (number))
#define USBD_ENABLE USBD(0x500u)
#define USBD_PULL_UP USBD(0x504u)
#define USBD_TOGGLE USBD(0x50Cu)
#define USBD_IN_ON USBD(0x510u)
#define USBD_OUT_ON USBD(0x514u)
#define USBD_STALL USBD(0x518u)
#define USBD_IN_PLACE(number) USBD(0x600u + 0x14u * (number))
#define USBD_IN_COUNT(number) USBD(0x604u + 0x14u * (number))
#define USBD_OUT_PLACE(number) USBD(0x700u + 0x14u * (number))
#define USBD_OUT_COUNT(number) USBD(0x704u + 0x14u * (number))
#define CAUSE_READY (1u << 11)
#define TOGGLE_DATA0 (1u << 8)
#define STALL_ON (1u << 8)
#define DATA_IN (1u << 2)
#define DATA_OUT (1u << 18)
#define RESET_DONE_SETUP_DATA (1u << 0 | 1u << 10 | 1u << 23 | 1u << 24)
#define SET_ADDRESS 5u
#define USB_IRQ 39u

#define ERRATA_KEY REGISTER(0x4006EC00u)
#define ERRATUM_171 REGISTER(0x4006EC14u)
#define ERRATUM_187 REGISTER(0x4006ED14u)
#define ERRATUM_199 REGISTER(0x40027C1Cu)

static struct {
    uint8_t out[USB_PACKET], in[USB_PACKET], control[USB_PACKET];  // EasyDMA reaches nothing but RAM
    bool wanted, waits;  // the next OUT packet: there is room for it; it is in the controller's buffer
} packets;

// FICR 4.4.1: DEVICEID
const uint8_t *usb_unique(void) {
    static uint8_t bytes[USB_UNIQUE];
    for (uint32_t i = 0; i < USB_UNIQUE; i++)
        bytes[i] = (uint8_t)(REGISTER(0x10000064u - 4u * (i / 4u)) >> (24u - 8u * (i % 4u)));
    return bytes;
}

// Erratum 199: while EasyDMA works the controller must be told so, or it forgets other tasks.
static void move(volatile uint32_t *task, volatile uint32_t *ended) {
    *ended = 0;
    ERRATUM_199 = 0x82;
    __asm volatile("dsb" ::: "memory");
    *task = 1;
    EAR_AWAIT(*ended);
    ERRATUM_199 = 0;
    __asm volatile("dsb" ::: "memory");
}

static void move_in(uint32_t number, uint8_t *from, const uint8_t *bytes, uint32_t length) {
    for (uint32_t i = 0; i < length; i++) from[i] = bytes[i];
    USBD_IN_PLACE(number) = (uint32_t)(uintptr_t)from;
    USBD_IN_COUNT(number) = length;
    move(&USBD_START_IN(number), &USBD_END_IN(number));
}

static uint32_t move_out(uint32_t number, uint8_t *to) {
    uint32_t length = USBD_SIZE(number);
    USBD_OUT_PLACE(number) = (uint32_t)(uintptr_t)to;
    USBD_OUT_COUNT(number) = length;
    move(&USBD_START_OUT(number), &USBD_END_OUT(number));
    return length;
}

void usb_control_send(const uint8_t *bytes, uint32_t length) { move_in(0, packets.control, bytes, length); }

void usb_control_receive(void) { USBD_CONTROL_RECEIVE = 1; }

// Nothing tells when the host has taken the status: leave_bus() gives it time.
void usb_control_end(bool to_host) {
    USBD_CONTROL_STATUS = 1;
    if (to_host) ear_usb_control_sent();
}

void usb_control_stall(void) { USBD_CONTROL_STALL = 1; }

void usb_address(uint8_t address) { (void)address; }  // the controller has it already

static void controller_send(const uint8_t *bytes, uint32_t length) { move_in(2, packets.in, bytes, length); }

static void fetch(void) {
    packets.wanted = packets.waits = false;
    uint32_t length = move_out(2, packets.out);  // from now on the controller takes another one
    packet_received(packets.out, length);
}

static void controller_receive(void) {
    packets.wanted = true;
    if (packets.waits) fetch();
}

void usb_configure(bool on) {
    packets.wanted = packets.waits = false;
    USBD_IN_ON = on ? 7u : 1u;
    USBD_OUT_ON = on ? 5u : 1u;
    if (!on) return;
    usb_halt(USB_NOTIFY, false);
    usb_halt(USB_IN, false);
    usb_halt(USB_OUT, false);
}

// Written to USBD_SIZE, whatever it is lets a packet come (6.35.9.2).
void usb_halt(uint8_t endpoint, bool on) {
    USBD_STALL = endpoint | (on ? STALL_ON : 0u);
    if (on) return;
    USBD_TOGGLE = endpoint;  // chosen first, then set
    USBD_TOGGLE = endpoint | TOGGLE_DATA0;
    if (endpoint == USB_OUT && !packets.waits) USBD_SIZE(2) = 0;
}

static bool happened(volatile uint32_t *event) {
    if (!*event) return false;
    *event = 0;
    (void)*event;  // the write has arrived
    return true;
}

static void data_handler(void) {
    uint32_t status = USBD_DATA_STATUS;
    USBD_DATA_STATUS = status;
    if (status & DATA_IN) packet_sent();
    if (status & DATA_OUT) {
        packets.waits = true;
        if (packets.wanted) fetch();
    }
}

static void setup_handler(void) {
    uint8_t setup[USB_SETUP];
    for (uint32_t i = 0; i < USB_SETUP; i++) setup[i] = (uint8_t)USBD_SETUP_BYTE(i);
    if (setup[0] == 0 && setup[1] == SET_ADDRESS) return;
    ear_usb_addressed((uint8_t)USBD_ADDRESS);
    ear_usb_setup(setup);
}

static void usb_handler(void) {
    if (happened(&USBD_RESET)) {
        USBD_DATA_STATUS = USBD_DATA_STATUS;
        usb_configure(false);
        ear_usb_reset();
    }
    if (happened(&USBD_DATA)) data_handler();
    bool done = happened(&USBD_CONTROL_DONE), setup = happened(&USBD_SETUP);
    if (setup) {  // what is done was of the transfer before
        setup_handler();
    } else if (done) {
        if (USBD_SETUP_BYTE(0) & 0x80u)
            ear_usb_control_sent();
        else
            ear_usb_control_received(packets.control, move_out(0, packets.control));
    }
}

static void controller_detach(void) {
    NVIC_DISABLE(USB_IRQ) = NVIC_BIT(USB_IRQ);
    USBD_PULL_UP = 0;
}

static bool controller_attached(void) { return USBD_ENABLE && USBD_PULL_UP; }

// Without its cable the controller has no power.
static void power_handler(void) {
    happened(&POWER_PLUGGED_IN);
    if (!happened(&POWER_UNPLUGGED) || !attached) return;
    controller_detach();
    USBD_ENABLE = 0;
    ear_usb_reset();
    attached = false;
}

// Errata 171 and 187: this keeps its power on while it is being enabled.
static void hold_power(bool on) {
    bool locked = ERRATA_KEY == 0;
    if (locked) ERRATA_KEY = 0x9375u;
    ERRATUM_187 = on ? 3u : 0;
    ERRATUM_171 = on ? 0xC0u : 0;
    if (locked) ERRATA_KEY = 0x9375u;
}

static bool controller_start(void) {
    POWER_INTERRUPTS = PLUG_INTERRUPTS;
    NVIC_ENABLE(POWER_IRQ) = NVIC_BIT(POWER_IRQ);
    if (!(POWER_USB & USB_CABLE)) return false;
    USBD_ENABLE = 0;
    USBD_CAUSE = CAUSE_READY;
    hold_power(true);
    USBD_ENABLE = 1;
    EAR_AWAIT(USBD_CAUSE & CAUSE_READY);
    USBD_CAUSE = CAUSE_READY;
    hold_power(false);
    EAR_AWAIT(POWER_USB & USB_REGULATED);
    ear_usb_reset();
    USBD_INTERRUPTS = RESET_DONE_SETUP_DATA;
    NVIC_ENABLE(USB_IRQ) = NVIC_BIT(USB_IRQ);
    USBD_PULL_UP = 1;
    return true;
}

static _Noreturn void restart(void) { ear_system_reset(); }

static _Noreturn void restart_to_rom(void) {
    POWER_KEPT = STAY_IN_ARDUINOS;
    ear_system_reset();
}

// It begins with the first look for a byte. Arduino's bootloader may have left interrupts that have no handler here.
static void link_init(void) {
    for (uint32_t irq = 0; irq <= USB_IRQ; irq += 32u) {
        NVIC_DISABLE(irq) = 0xFFFFFFFFu;
        NVIC_UNPEND(irq) = 0xFFFFFFFFu;
    }
}

#endif
