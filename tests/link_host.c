// The device end of the link on the host: a link, what it heard as messages, and what it said as bytes.
#include "link.c"

#define SAID 65536u

static ear_link_t link_under_test;
static uint8_t said[SAID];
static uint32_t said_bytes;
static uint8_t heard[SAID];
static uint32_t heard_bytes;

int32_t port_uart_read(void) { return -1; }
void port_idle(void) {}
void port_uart_write(const uint8_t *bytes, uint32_t length) {
    while (length-- && said_bytes < SAID) said[said_bytes++] = *bytes++;
}

void host_init(void) {
    ear_link_init(&link_under_test, 1);
    said_bytes = heard_bytes = 0;
}

static void keep(const uint8_t *message, uint32_t length) {
    if (heard_bytes + length + 2 > SAID) return;
    heard[heard_bytes++] = (uint8_t)length;
    heard[heard_bytes++] = (uint8_t)(length >> 8);
    while (length--) heard[heard_bytes++] = *message++;
}

void host_feed(const uint8_t *bytes, uint32_t length) {
    while (length--) {
        ear_link_feed(&link_under_test, *bytes++);
        while (link_under_test.waiting) ear_link_serve(&link_under_test, keep);
    }
}

// Feed without taking messages out, as a board does that is busy.
void host_feed_busy(const uint8_t *bytes, uint32_t length) {
    while (length--) ear_link_feed(&link_under_test, *bytes++);
}

uint32_t host_waiting(void) { return link_under_test.waiting; }

bool host_say(const uint8_t *bytes, uint32_t length) {
    return !link_under_test.unacked && ear_answer(&link_under_test, 1, EAR_OK, bytes, length);
}

static uint32_t take(uint8_t *to, const uint8_t *from, uint32_t *length) {
    uint32_t count = *length;
    for (uint32_t i = 0; i < count; i++) to[i] = from[i];
    *length = 0;
    return count;
}

uint32_t host_heard(uint8_t *to) { return take(to, heard, &heard_bytes); }
uint32_t host_said(uint8_t *to) { return take(to, said, &said_bytes); }
uint32_t host_damaged(void) { return link_under_test.damaged; }
