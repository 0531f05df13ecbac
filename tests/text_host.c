// firmware/text.c on the host: what it prints goes to a buffer.
#include "ports/port.h"
#include "text.h"

static uint8_t said[4096];
static uint32_t length;

void port_uart_write(const uint8_t *bytes, uint32_t count) {
    while (count--) said[length++] = *bytes++;
}

int32_t port_uart_read(void) { return -1; }

void port_idle(void) {}

void ear_link_feed(ear_link_t *link, uint8_t byte) { (void)link, (void)byte; }

const uint8_t *host_real(float value, uint32_t decimals) {
    static ear_link_t link;
    ear_text_begin(&link);
    length = 0;
    ear_text_real(value, decimals);
    said[length] = 0;
    return said;
}
