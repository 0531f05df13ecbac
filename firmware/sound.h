// Samples in, frames of features on, the model's input out: for the stream of the link and the microphone.
#ifndef EAR_SOUND_H
#define EAR_SOUND_H

#include <stdbool.h>
#include <stdint.h>

// Forget what was heard; results are due once the input is full, and then each `hop_frames`.
void ear_sound_begin(uint32_t hop_frames);

// Where the next samples belong, at most `room` of them.
int16_t *ear_sound_place(uint32_t *room);

// So many were put there; returns whether a result is due.
bool ear_sound_took(uint32_t samples);

// Put the features into the model's input.
void ear_sound_input(void);

#endif
