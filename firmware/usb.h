// A USB device of full speed with one serial port (CDC-ACM): what its control endpoint answers, and what it asks for.
//
// usb.c knows no controller: ports/rp2_usb.h and ports/nrf52_usb.h drive one each, ports/usb_port.h makes of both the
// UART that port.h means. All of it runs in the controller's interrupt, or with interrupts locked.
#ifndef EAR_USB_H
#define EAR_USB_H

#include <stdbool.h>
#include <stdint.h>

#define USB_PACKET 64u  // bytes, of every endpoint but NOTIFY
#define USB_SETUP 8u
#define USB_UNIQUE 8u  // bytes that no other chip has: the serial number is their digits

enum { USB_OUT = 0x02, USB_IN = 0x82, USB_NOTIFY = 0x81, USB_NOTIFY_PACKET = 8 };  // endpoints and their addresses

// The controller tells.
void ear_usb_reset(void);                     // the bus was reset
void ear_usb_setup(const uint8_t *bytes);     // USB_SETUP of them
void ear_usb_control_sent(void);              // the host has taken a packet, an empty one too
void ear_usb_control_received(const uint8_t *bytes, uint32_t length);
void ear_usb_addressed(uint8_t address);      // by a controller that obeys SET_ADDRESS by itself

// The controller does.
void usb_control_send(const uint8_t *bytes, uint32_t length);  // a packet of the data stage
void usb_control_receive(void);                                // let one come
void usb_control_end(bool to_host);                            // the status stage
void usb_control_stall(void);                                  // until the next setup
void usb_address(uint8_t address);
void usb_configure(bool on);  // the endpoints, each from DATA0 on
void usb_halt(uint8_t endpoint, bool on);  // off: from DATA0 on
const uint8_t *usb_unique(void);

// The port is told.
void usb_opened(bool open);  // configured anew, or no longer
void usb_listens(bool dtr);
void usb_touched(void);  // the host has left the port at 1200 baud

bool ear_usb_configured(void);

#endif
