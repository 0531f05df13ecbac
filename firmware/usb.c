// A USB device of full speed with one serial port: USB 2.0, chapter 9; CDC 1.2 with its subclass PSTN 1.2.
//
// The board's TOML says EAR_USB_VENDOR, EAR_USB_PRODUCT and EAR_USB_TITLE.
#include "usb.h"

#define LOW(value) ((value) & 0xFFu)
#define HIGH(value) ((value) >> 8 & 0xFFu)

// bmRequestType, table 9-2
#define TO_HOST 0x80u
#define OF_CLASS 0x20u
#define TO_INTERFACE 1u
#define TO_ENDPOINT 2u

// Requests, table 9-4; of the class, PSTN table 13
enum { GET_STATUS, CLEAR_FEATURE, SET_FEATURE = 3, SET_ADDRESS = 5, GET_DESCRIPTOR, GET_CONFIGURATION = 8 };
enum { SET_CONFIGURATION = 9, GET_INTERFACE, SET_INTERFACE };
enum { SET_LINE_CODING = 0x20, GET_LINE_CODING, SET_CONTROL_LINE_STATE };
enum { DEVICE = 1, CONFIGURATION, STRING, INTERFACE, ENDPOINT, CLASS_INTERFACE = 0x24 };  // descriptors
enum { LANGUAGES, MAKER, TITLE, SERIAL };                                                  // strings
enum { CONTROL = 0, DATA = 1, INTERFACES = 2 };
enum { BULK = 2, INTERRUPT = 3 };
#define HALT 0u
#define DTR 1u
#define CODING_BYTES 7u
#define TOUCH_BAUD 1200u

static const uint8_t device_descriptor[] = {
    18, DEVICE, 0x00, 0x02,  // USB 2.0
    2, 0, 0,                 // class CDC
    USB_PACKET,
    LOW(EAR_USB_VENDOR), HIGH(EAR_USB_VENDOR), LOW(EAR_USB_PRODUCT), HIGH(EAR_USB_PRODUCT), 0x00, 0x01,
    MAKER, TITLE, SERIAL, 1,
};

static const uint8_t configuration_descriptor[] = {
    9, CONFIGURATION, 67, 0, INTERFACES, 1, 0, 0x80, 50,  // 100 mA from the bus
    9, INTERFACE, CONTROL, 0, 1, 2, 2, 0, 0,              // abstract control model, no protocol of a modem
    5, CLASS_INTERFACE, 0, 0x20, 0x01,                    // CDC 1.2
    5, CLASS_INTERFACE, 1, 0, DATA,                       // no call management
    4, CLASS_INTERFACE, 2, 2,                             // line coding and line state
    5, CLASS_INTERFACE, 6, CONTROL, DATA,                 // the union of both interfaces
    7, ENDPOINT, USB_NOTIFY, INTERRUPT, USB_NOTIFY_PACKET, 0, 255,
    9, INTERFACE, DATA, 0, 2, 10, 0, 0, 0,
    7, ENDPOINT, USB_OUT, BULK, USB_PACKET, 0, 0,
    7, ENDPOINT, USB_IN, BULK, USB_PACKET, 0, 0,
};
_Static_assert(sizeof configuration_descriptor == 67, "its own length");

static const char title[] = EAR_USB_TITLE;
_Static_assert(sizeof title <= 64, "boards/__init__.py checks it");

typedef struct {
    uint8_t type, request;
    uint16_t value, index, length;
} setup_t;

static struct {
    enum { IDLE, SENDING, RECEIVING, ENDING } stage;  // of the control transfer
    const uint8_t *from;                              // what is still to be sent
    uint32_t left;
    bool empty;                 // a packet without bytes must tell the end
    uint8_t address, configuration, lines;
    uint8_t halted;             // bit 0 NOTIFY, 1 OUT, 2 IN
    bool moves, touched;        // what the end of the transfer brings: the address; the touch
    uint8_t coding[CODING_BYTES];
    uint8_t text[128];  // the string or the short answer that is being sent
} usb;

static uint32_t least(uint32_t a, uint32_t b) { return a < b ? a : b; }

bool ear_usb_configured(void) { return usb.configuration != 0; }

static void send(void) {
    uint32_t length = least(usb.left, USB_PACKET);
    const uint8_t *from = usb.from;
    usb.from += length;
    usb.left -= length;
    if (length < USB_PACKET) usb.empty = false;
    usb_control_send(from, length);
}

static bool end(void) {
    usb.stage = ENDING;
    usb_control_end(true);
    return true;
}

static bool answer(const setup_t *setup, const uint8_t *bytes, uint32_t length) {
    if (setup->length == 0) return end();
    usb.stage = SENDING;
    usb.from = bytes;
    usb.left = least(length, setup->length);
    usb.empty = length < setup->length;
    send();
    return true;
}

static bool answer_short(const setup_t *setup, uint8_t first, uint32_t length) {
    usb.text[0] = first;
    usb.text[1] = 0;
    return answer(setup, usb.text, length);
}

static uint8_t digit(uint32_t value) { return (uint8_t)(value < 10 ? '0' + value : 'A' + value - 10); }

static void put_text(const char *text) {
    uint32_t at = 2;
    for (; *text; at += 2) usb.text[at] = (uint8_t)*text++;
    usb.text[0] = (uint8_t)at;
}

static void put_serial(void) {
    const uint8_t *unique = usb_unique();
    usb.text[0] = 2 + 4 * USB_UNIQUE;
    for (uint32_t i = 0; i < 2 * USB_UNIQUE; i++)
        usb.text[2 + 2 * i] = digit(unique[i / 2] >> (i % 2 ? 0 : 4) & 15u);
}

static bool answer_string(const setup_t *setup) {
    for (uint32_t i = 0; i < sizeof usb.text; i++) usb.text[i] = 0;
    switch (LOW(setup->value)) {
        case LANGUAGES:
            usb.text[0] = 4;
            usb.text[2] = 0x09;  // English, United States
            usb.text[3] = 0x04;
            break;
        case MAKER: put_text("earkit"); break;
        case TITLE: put_text(title); break;
        case SERIAL: put_serial(); break;
        default: return false;
    }
    usb.text[1] = STRING;
    return answer(setup, usb.text, usb.text[0]);
}

static bool answer_descriptor(const setup_t *setup) {
    if (HIGH(setup->value) == STRING) return answer_string(setup);
    if (LOW(setup->value) != 0) return false;
    switch (HIGH(setup->value)) {
        case DEVICE: return answer(setup, device_descriptor, sizeof device_descriptor);
        case CONFIGURATION: return answer(setup, configuration_descriptor, sizeof configuration_descriptor);
        default: return false;
    }
}

static bool configure(uint16_t number) {
    if (number > 1 || usb.address == 0) return false;
    usb.configuration = (uint8_t)number;
    usb.halted = 0;
    usb_configure(number != 0);
    usb_opened(number != 0);
    return end();
}

static bool of_device(const setup_t *setup) {
    switch (setup->type << 8 | setup->request) {
        case TO_HOST << 8 | GET_STATUS: return answer_short(setup, 0, 2);  // powered by the bus, wakes no host
        case TO_HOST << 8 | GET_DESCRIPTOR: return answer_descriptor(setup);
        case TO_HOST << 8 | GET_CONFIGURATION: return answer_short(setup, usb.configuration, 1);
        case SET_CONFIGURATION: return configure(setup->value);
        case SET_ADDRESS:
            if (setup->value > 127 || usb.configuration) return false;
            usb.address = (uint8_t)setup->value;
            usb.moves = true;
            return end();
        default: return false;
    }
}

static bool of_interface(const setup_t *setup) {
    if (!usb.configuration || setup->index >= INTERFACES) return false;
    switch (setup->type << 8 | setup->request) {
        case (TO_HOST | TO_INTERFACE) << 8 | GET_STATUS: return answer_short(setup, 0, 2);
        case (TO_HOST | TO_INTERFACE) << 8 | GET_INTERFACE: return answer_short(setup, 0, 1);
        case TO_INTERFACE << 8 | SET_INTERFACE: return setup->value == 0 && end();
        default: return false;
    }
}

static uint8_t halt_bit(uint16_t endpoint) {
    switch (endpoint) {
        case USB_NOTIFY: return 1;
        case USB_OUT: return 2;
        case USB_IN: return 4;
        default: return 0;
    }
}

static bool of_endpoint(const setup_t *setup) {
    uint8_t bit = usb.configuration ? halt_bit(setup->index) : 0;
    bool control = LOW(setup->index & 0x7Fu) == 0 && setup->index <= 0x80u;
    if (setup->type & TO_HOST) {
        if (setup->request != GET_STATUS || !(bit || control)) return false;
        return answer_short(setup, (usb.halted & bit) != 0, 2);
    }
    bool on = setup->request == SET_FEATURE;
    if ((!on && setup->request != CLEAR_FEATURE) || setup->value != HALT || !(bit || control)) return false;
    if (bit) {
        usb.halted = (uint8_t)(on ? usb.halted | bit : usb.halted & ~bit);
        usb_halt((uint8_t)setup->index, on);
    }
    return end();
}

static uint32_t baud(void) {
    return (uint32_t)usb.coding[0] | (uint32_t)usb.coding[1] << 8 | (uint32_t)usb.coding[2] << 16 |
           (uint32_t)usb.coding[3] << 24;
}

static bool of_class(const setup_t *setup) {
    if (!usb.configuration || setup->index != CONTROL) return false;
    switch (setup->type << 8 | setup->request) {
        case (TO_HOST | OF_CLASS | TO_INTERFACE) << 8 | GET_LINE_CODING:
            return answer(setup, usb.coding, CODING_BYTES);
        case (OF_CLASS | TO_INTERFACE) << 8 | SET_LINE_CODING:
            if (setup->length != CODING_BYTES) return false;
            usb.stage = RECEIVING;
            usb_control_receive();
            return true;
        case (OF_CLASS | TO_INTERFACE) << 8 | SET_CONTROL_LINE_STATE:
            usb.lines = (uint8_t)setup->value;
            usb.touched = !(usb.lines & DTR) && baud() == TOUCH_BAUD;
            usb_listens(usb.lines & DTR);
            return end();
        default: return false;
    }
}

static bool obey(const setup_t *setup) {
    if (!(setup->type & TO_HOST) && setup->length && setup->request != SET_LINE_CODING) return false;
    if (setup->type & OF_CLASS) return of_class(setup);
    switch (setup->type & ~TO_HOST) {
        case 0: return of_device(setup);
        case TO_INTERFACE: return of_interface(setup);
        case TO_ENDPOINT: return of_endpoint(setup);
        default: return false;
    }
}

void ear_usb_setup(const uint8_t *bytes) {
    const setup_t setup = {
        .type = bytes[0],
        .request = bytes[1],
        .value = (uint16_t)(bytes[2] | bytes[3] << 8),
        .index = (uint16_t)(bytes[4] | bytes[5] << 8),
        .length = (uint16_t)(bytes[6] | bytes[7] << 8),
    };
    usb.stage = IDLE;
    usb.moves = usb.touched = false;
    if (!obey(&setup)) usb_control_stall();
}

void ear_usb_control_sent(void) {
    if (usb.stage == SENDING) {
        if (usb.left || usb.empty)
            send();
        else
            usb_control_end(false);
    } else if (usb.stage == ENDING) {
        usb.stage = IDLE;
        if (usb.moves) usb_address(usb.address);
        if (usb.touched) usb_touched();
        usb.moves = usb.touched = false;
    }
}

void ear_usb_control_received(const uint8_t *bytes, uint32_t length) {
    if (usb.stage == RECEIVING) {
        if (length != CODING_BYTES) {
            usb.stage = IDLE;
            usb_control_stall();
            return;
        }
        for (uint32_t i = 0; i < CODING_BYTES; i++) usb.coding[i] = bytes[i];
        end();
    } else {
        usb.stage = IDLE;  // the host has seen enough
    }
}

void ear_usb_addressed(uint8_t address) { usb.address = address; }

void ear_usb_reset(void) {
    static const uint8_t usual[CODING_BYTES] = {0x00, 0xC2, 0x01, 0, 0, 0, 8};  // 115200 baud, 8 bits
    usb.stage = IDLE;
    usb.address = usb.configuration = usb.lines = usb.halted = 0;
    usb.moves = usb.touched = false;
    for (uint32_t i = 0; i < CODING_BYTES; i++) usb.coding[i] = usual[i];
    usb_opened(false);
}
