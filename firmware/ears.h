// Listening through the board's own microphone: sound, model, events that wait for the host.
#ifndef EAR_EARS_H
#define EAR_EARS_H

#include "hear.h"
#include "link.h"

// Begin: the model's states are as new. Returns EAR_OK, EAR_BAD or EAR_DEAF.
uint8_t ear_ears_start(const ear_rules_t *rules);
void ear_ears_stop(void);

// Take what the microphone has, at most a frame of it; returns whether there may be more.
bool ear_ears_listen(void);

// Send the oldest event, once the host has the one before.
void ear_ears_tell(ear_link_t *link);

// Answer `command` with ear_ears_t.
void ear_ears_state(ear_link_t *link, uint8_t command);

// Stop, send the events that are left, and answer EAR_HEAR_STOP.
void ear_ears_end(ear_link_t *link);

#endif
