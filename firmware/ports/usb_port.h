// The UART of port.h over USB: bytes from the host wait in the ring of ring.h, bytes to it in another.
//
// Flow is controlled by the bus: an OUT packet is let in when the ring has room for it, so that none is dropped. The
// controller's file says what usb.h and this one want, or leaves restart() and restart_to_rom() to the chip's.
#ifndef EAR_USB_PORT_H
#define EAR_USB_PORT_H

#include "../usb.h"
#include "cycles.h"
#include "ring.h"

#define SENDING_BYTES 1024u
#define MILLISECOND (EAR_CLOCK_HZ / 1000u)  // cycles
#define PATIENCE (100u * MILLISECOND)       // with a host that takes nothing
#define DETACHED (10u * MILLISECOND)        // that a host sees it

static bool controller_start(void);     // pull-up included; false: no cable yet
static bool controller_attached(void);  // left so by whoever ran before
static void controller_detach(void);
static void controller_send(const uint8_t *bytes, uint32_t length);  // a packet to the endpoint USB_IN
static void controller_receive(void);                                // let one come to USB_OUT
static _Noreturn void restart(void);
static _Noreturn void restart_to_rom(void);  // to the chip's own bootloader

static struct {
    volatile uint32_t head, tail;  // written by the program; by the interrupt
    uint8_t bytes[SENDING_BYTES];
    volatile bool busy, deaf;  // the controller has a packet; the host takes none
    bool full;                 // the last packet was: the host waits for more, or for an empty one
} sending;
static volatile bool held_back;  // the host, by NAK
static volatile bool attached;

static void wait_for(uint32_t cycles) {
    uint64_t start = port_counter();
    while (port_counter() - start < cycles) {}
}

static void attach(void) {
    if (attached) return;
    if (controller_attached()) {
        controller_detach();
        wait_for(DETACHED);
    }
    attached = controller_start();
}

static uint32_t to_send(void) { return (sending.head - sending.tail) % SENDING_BYTES; }

static void send_packet(void) {
    uint8_t packet[USB_PACKET];
    uint32_t length = to_send();
    if (sending.busy || !ear_usb_configured() || (length == 0 && !sending.full)) return;
    if (length > USB_PACKET) length = USB_PACKET;
    for (uint32_t i = 0; i < length; i++) packet[i] = sending.bytes[(sending.tail + i) % SENDING_BYTES];
    sending.tail = (sending.tail + length) % SENDING_BYTES;
    sending.busy = true;
    sending.full = length == USB_PACKET;
    controller_send(packet, length);
}

static void packet_sent(void) {
    sending.busy = sending.deaf = false;
    send_packet();
}

static void receive_packet(void) {
    held_back = ring_room() < USB_PACKET;
    if (!held_back) controller_receive();
}

static void packet_received(const volatile uint8_t *bytes, uint32_t length) {
    while (length--) ring_put(*bytes++);
    receive_packet();
}

void usb_opened(bool open) {
    sending.tail = sending.head;
    sending.busy = sending.deaf = sending.full = held_back = false;
    if (open) receive_packet();
}

void usb_listens(bool dtr) {
    if (!dtr) sending.tail = sending.head;  // whoever opens the port next wants none of it
}

static bool in_application(void) {
    extern const uint8_t ear_vectors[], ear_flash_origin[];  // linker symbols
    return (uintptr_t)ear_vectors != (uintptr_t)ear_flash_origin;
}

static void leave_bus(void) {
    if (!attached) return;
    wait_for(2u * MILLISECOND);  // what the controller does not tell of goes out: a status stage
    controller_detach();
    wait_for(DETACHED);
}

void usb_touched(void) {
    leave_bus();
    if (!in_application()) restart_to_rom();
    ear_handover.magic = EAR_STAY;
    restart();
}

int32_t port_uart_read(void) {
    attach();
    int32_t byte = ring_take();
    if (held_back && ring_room() >= USB_PACKET) {
        uint32_t before = ear_lock();
        if (held_back) receive_packet();
        ear_unlock(before);
    }
    return byte;
}

// Whether room comes for a byte more: as long as a host is there and takes packets.
static bool room_comes(void) {
    if (to_send() < SENDING_BYTES - 1u) return true;
    uint64_t start = port_counter();
    while (!sending.deaf && ear_usb_configured()) {
        uint32_t tail = sending.tail;
        if (to_send() < SENDING_BYTES - 1u) return true;
        if (tail == sending.tail && port_counter() - start > PATIENCE) sending.deaf = true;
    }
    return false;
}

void port_uart_write(const uint8_t *bytes, uint32_t length) {
    if (!ear_usb_configured()) return;
    for (; length-- && room_comes(); sending.head = (sending.head + 1u) % SENDING_BYTES)
        sending.bytes[sending.head] = *bytes++;
    uint32_t before = ear_lock();
    send_packet();
    ear_unlock(before);
}

void port_idle(void) {
    uint32_t before = ear_lock();
    attach();
    if (ring_empty()) cycles_sleep();
    ear_unlock(before);
}

_Noreturn void port_reset(void) {
    uint64_t start = port_counter();
    while (!ear_in_handler() && ear_usb_configured() && (sending.busy || to_send()) && !sending.deaf)
        if (port_counter() - start > PATIENCE) break;
    leave_bus();
    restart();
}

#endif
