// The microphone of a board that has none.
#ifndef EAR_NO_MICROPHONE_H
#define EAR_NO_MICROPHONE_H

#include "port.h"

const bool port_microphone = false;

bool port_microphone_start(uint32_t rate) {
    (void)rate;
    return false;
}

uint32_t port_microphone_read(int16_t *samples, uint32_t most) {
    (void)samples, (void)most;
    return 0;
}

uint32_t port_microphone_lost(void) { return 0; }

void port_microphone_stop(void) {}

#endif
