// Listening in an app: sound comes in pieces of any size, results and events come out. One listener a process.
#ifndef EAR_LISTENER_H
#define EAR_LISTENER_H

#include "hear.h"

// Forget what was heard, and begin with rules; false when so many results of so many classes are not remembered.
bool ear_listener_begin(const ear_rules_t *rules);

// Take samples until a result is due, in which case the model's input is filled. Returns how many were taken.
uint32_t ear_listener_take(const int16_t *samples, uint32_t count, bool *due);

// Count samples that were lost: times of events stay right.
void ear_listener_lost(uint32_t count);

// Take the model's output for the input that was filled last; as ear_hear_result.
uint32_t ear_listener_result(const int8_t *output, ear_event_t *events);

#endif
