// The USB controller of the RP2040 and RP2350 as a device: buffers in its own RAM, one packet at a time.
//
// The chip's file says USB_IRQ, RESET_USB, RESET_PLL_USB, PLL_USB, CLOCK_USB_AT, SEND_WITHIN (µs of a frame in which a
// packet may be given to the controller, 0: any time), unique_read() and leave_reset(). Sections: RP2040 datasheet;
// RP2350's controller has the same registers, and a PHY that must be let out of its isolation.
#ifndef EAR_RP2_USB_H
#define EAR_RP2_USB_H

#include "usb_port.h"

#define SET(base, offset) REGISTER((base) + 0x2000u + (offset))  // 2.1.2: atomic bit set

// Clock of 48 MHz: the crystal by 100, by 5, by 5 (2.18.2), and CLOCKS, 2.15.7
#define CLOCK_USB REGISTER(CLOCKS + CLOCK_USB_AT)
#define CLOCK_USB_FROM_PLL (1u << 11)

// Registers, 4.1.4
#define USB 0x50110000u
#define USB_ADDRESS REGISTER(USB + 0u)
#define USB_MAIN REGISTER(USB + 0x40u)
#define USB_FRAME REGISTER(USB + 0x48u)
#define USB_SIE_AT 0x4Cu
#define USB_STATUS_AT 0x50u
#define USB_DONE_AT 0x58u
#define USB_STALL_ARM REGISTER(USB + 0x68u)
#define USB_MUXING REGISTER(USB + 0x74u)
#define USB_POWER REGISTER(USB + 0x78u)
#define USB_ENABLED_AT 0x90u
#define USB_ASKED REGISTER(USB + 0x98u)
#define CONTROLLER_ON 1u  // and the PHY not isolated
#define TO_PHY 9u         // with its pull-up by SIE_CTRL
#define POWER_ASSUMED 0xCu
#define SIE_EACH_BUFFER (1u << 29)  // of the control endpoint raises its interrupt
#define SIE_PULL_UP (1u << 16)
#define STATUS_SETUP (1u << 17)
#define STATUS_RESET (1u << 19)
#define ENABLE_DONE (1u << 4)
#define ENABLE_RESET (1u << 12)
#define ENABLE_SETUP (1u << 16)
#define ENABLE_FRAME (1u << 17)

// Its RAM, 4.1.2.4: the setup packet, endpoint controls, buffer controls, buffers
#define RAM_AT(offset) (0x50100000u + (offset))
#define RAM_BYTES 4096u
#define ENDPOINT_IN(number) REGISTER(RAM_AT(8u * (number)))
#define ENDPOINT_OUT(number) REGISTER(RAM_AT(8u * (number) + 4u))
#define BUFFER_IN(number) REGISTER(RAM_AT(0x80u + 8u * (number)))
#define BUFFER_OUT(number) REGISTER(RAM_AT(0x84u + 8u * (number)))
#define ENDPOINT_ON (1u << 31 | 1u << 29)  // an interrupt each buffer
#define ENDPOINT_TYPE(type) ((type) << 26)
#define CONTROL_BYTES RAM_AT(0x100u)
#define NOTIFY_AT 0x180u
#define OUT_AT 0x1C0u
#define IN_AT 0x200u

// Buffer controls, 4.1.2.5
#define FULL (1u << 15)
#define DATA1 (1u << 13)
#define STALL (1u << 11)
#define AVAILABLE (1u << 10)
#define LENGTH 0x3FFu
#define DONE_CONTROL_IN 1u
#define DONE_CONTROL_OUT 2u
#define DONE_IN (1u << 4)
#define DONE_OUT (1u << 5)

static struct {
    uint32_t control, in, out;  // the next packet's DATA0 or DATA1
    uint32_t length;            // of the one that waits for the host
    uint32_t frame;             // when this frame began, in cycles
    bool told, used, late;      // that is known; a packet has come in this one; one waits for the next
    uint8_t unique[USB_UNIQUE];
} packets;

static void unique_read(uint8_t *bytes);
static void leave_reset(void);  // where the controller needs help, once the bus was reset

const uint8_t *usb_unique(void) { return packets.unique; }

// AVAILABLE comes last, once the rest has crossed to the controller's clock (4.1.2.5.1).
static void give(volatile uint32_t *buffer, uint32_t value) {
    *buffer = value;
    __asm volatile("nop\n nop\n nop\n nop\n nop\n nop\n nop\n nop\n nop\n nop\n nop\n nop" ::: "memory");
    *buffer = value | AVAILABLE;
}

static void put_bytes(uint32_t at, const uint8_t *bytes, uint32_t length) {
    volatile uint8_t *to = (volatile uint8_t *)at;
    while (length--) *to++ = *bytes++;
}

void usb_control_send(const uint8_t *bytes, uint32_t length) {
    put_bytes(CONTROL_BYTES, bytes, length);
    give(&BUFFER_IN(0), FULL | packets.control | length);
    packets.control ^= DATA1;
}

void usb_control_receive(void) { give(&BUFFER_OUT(0), DATA1 | USB_PACKET); }

void usb_control_end(bool to_host) {
    if (to_host)
        give(&BUFFER_IN(0), FULL | DATA1);
    else
        give(&BUFFER_OUT(0), DATA1 | USB_PACKET);
}

void usb_control_stall(void) {
    USB_STALL_ARM = 3;
    BUFFER_IN(0) = STALL;
    BUFFER_OUT(0) = STALL;
}

void usb_address(uint8_t address) { USB_ADDRESS = address; }

static void send_now(void) { give(&BUFFER_IN(2), FULL | packets.in | packets.length); }

static bool frame_is_young(void) {
#if SEND_WITHIN
    return packets.told && (uint32_t)port_counter() - packets.frame < SEND_WITHIN * (MILLISECOND / 1000u);
#else
    return true;
#endif
}

static void send_in_time(void) {
    packets.used = true;
    packets.late = !frame_is_young();
    if (!packets.late) {
        send_now();
        return;
    }
    (void)USB_FRAME;  // one that began before is of no use
    SET(USB, USB_ENABLED_AT) = ENABLE_FRAME;
}

static void controller_send(const uint8_t *bytes, uint32_t length) {
    put_bytes(RAM_AT(IN_AT), bytes, length);
    packets.length = length;
    send_in_time();
}

static void frame_begins(void) {
    (void)USB_FRAME;  // ends what asks
    packets.frame = (uint32_t)port_counter();
    packets.told = packets.used;
    if (packets.late) send_now();
    if (!packets.used) CLEAR(USB, USB_ENABLED_AT) = ENABLE_FRAME;
    packets.used = packets.late = false;
}

// Interrupts were locked for long: a frame that waits to be told of began nobody knows when.
static void link_was_blind(void) {
    if (!SEND_WITHIN || !attached) return;
    (void)USB_FRAME;
    packets.told = false;
}

static void controller_receive(void) { give(&BUFFER_OUT(2), packets.out | USB_PACKET); }

void usb_configure(bool on) {
    uint32_t enabled = on ? ENDPOINT_ON : 0;
    packets.in = packets.out = 0;
    packets.late = false;
    BUFFER_IN(1) = BUFFER_IN(2) = BUFFER_OUT(2) = 0;
    ENDPOINT_IN(1) = enabled | ENDPOINT_TYPE(3u) | NOTIFY_AT;
    ENDPOINT_OUT(2) = enabled | ENDPOINT_TYPE(2u) | OUT_AT;
    ENDPOINT_IN(2) = enabled | ENDPOINT_TYPE(2u) | IN_AT;
}

void usb_halt(uint8_t endpoint, bool on) {
    uint32_t state = on ? STALL : 0;
    if (endpoint == USB_NOTIFY) BUFFER_IN(1) = state;
    if (endpoint == USB_OUT) {
        BUFFER_OUT(2) = state;
        packets.out = 0;
        if (!on) receive_packet();
    }
    if (endpoint == USB_IN) {
        BUFFER_IN(2) = state;
        packets.in = 0;
        if (!on && sending.busy) send_in_time();
    }
}

static void buffers_done(uint32_t done) {
    CLEAR(USB, USB_DONE_AT) = done;
    if (done & DONE_CONTROL_IN) ear_usb_control_sent();
    if (done & DONE_CONTROL_OUT)
        ear_usb_control_received((const uint8_t *)CONTROL_BYTES, BUFFER_OUT(0) & LENGTH);
    if (done & DONE_IN) {
        packets.in ^= DATA1;
        packet_sent();
    }
    if (done & DONE_OUT) {
        packets.out ^= DATA1;
        packet_received((const volatile uint8_t *)RAM_AT(OUT_AT), BUFFER_OUT(2) & LENGTH);
    }
}

#define LINK_IRQ USB_IRQ

static void link_handler(void) {
    uint32_t done = REGISTER(USB + USB_DONE_AT), status = REGISTER(USB + USB_STATUS_AT);
    if (SEND_WITHIN && USB_ASKED & ENABLE_FRAME) frame_begins();
    if (done) buffers_done(done);
    if (status & STATUS_RESET) {
        CLEAR(USB, USB_STATUS_AT) = STATUS_RESET;
        usb_address(0);
        usb_configure(false);
        ear_usb_reset();
        leave_reset();
    }
    if (status & STATUS_SETUP) {
        CLEAR(USB, USB_STATUS_AT) = STATUS_SETUP;
        BUFFER_IN(0) = BUFFER_OUT(0) = 0;  // whatever was left of the last transfer
        packets.control = DATA1;
        ear_usb_setup((const uint8_t *)RAM_AT(0u));
    }
}

static void usb_clock(void) {
    REGISTER(PLL_USB + 0u) = 1;
    REGISTER(PLL_USB + 8u) = 100;
    CLEAR(PLL_USB, 4u) = POWER_VCO;
    EAR_AWAIT(REGISTER(PLL_USB + 0u) & PLL_LOCKED);
    REGISTER(PLL_USB + 0xCu) = 5u << 16 | 5u << 12;
    CLEAR(PLL_USB, 4u) = POWER_DIVIDERS;
    CLOCK_USB = CLOCK_USB_FROM_PLL;
}

static bool controller_attached(void) {
    return (RESETS_DONE & RESET_USB) && (REGISTER(USB + USB_SIE_AT) & SIE_PULL_UP);
}

static void controller_detach(void) {
    NVIC_DISABLE(USB_IRQ) = NVIC_BIT(USB_IRQ);
    CLEAR(USB, USB_SIE_AT) = SIE_PULL_UP;
}

static bool controller_start(void) {
    CLOCK_USB = 0;
    SET(RESETS, 0u) = RESET_USB | RESET_PLL_USB;
    CLEAR(RESETS, 0u) = RESET_USB | RESET_PLL_USB;
    EAR_AWAIT((RESETS_DONE & (RESET_USB | RESET_PLL_USB)) == (RESET_USB | RESET_PLL_USB));
    usb_clock();
    unique_read(packets.unique);
    for (uint32_t at = 0; at < RAM_BYTES; at += 4) REGISTER(RAM_AT(at)) = 0;
    ear_usb_reset();
    USB_MUXING = TO_PHY;
    USB_POWER = POWER_ASSUMED;
    USB_MAIN = CONTROLLER_ON;
    REGISTER(USB + USB_ENABLED_AT) = ENABLE_DONE | ENABLE_RESET | ENABLE_SETUP;
    NVIC_ENABLE(USB_IRQ) = NVIC_BIT(USB_IRQ);
    REGISTER(USB + USB_SIE_AT) = SIE_EACH_BUFFER | SIE_PULL_UP;
    return true;
}

static void link_init(void) {}  // begins with the first look for a byte

#endif
