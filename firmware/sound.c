// A window of samples, a ring of features.
#include "sound.h"

#include "model.h"

#if EAR_FRONTEND
#include "ear.h"
#include "frontend.h"

_Static_assert(EAR_FE_HOP <= EAR_FE_WINDOW, "frames must touch");
_Static_assert(EAR_FE_FRAMES * EAR_FE_FEATURES == EAR_INPUT_BYTES, "features must fill the input");

static struct {
    uint32_t hop_frames, hop_left;  // frames until the next result
    uint32_t held;                  // samples in window
    uint32_t row;                   // of the ring, next to be written
    int16_t window[EAR_FE_WINDOW];
    int8_t ring[EAR_FE_FRAMES][EAR_FE_FEATURES];
} sound;

void ear_sound_begin(uint32_t hop_frames) {
    sound.hop_frames = hop_frames;
    sound.hop_left = EAR_FE_FRAMES;
    sound.held = sound.row = 0;
}

int16_t *ear_sound_place(uint32_t *room) {
    *room = EAR_FE_WINDOW - sound.held;
    return sound.window + sound.held;
}

bool ear_sound_took(uint32_t samples) {
    sound.held += samples;
    if (sound.held < EAR_FE_WINDOW) return false;
    ear_frontend_frame(sound.window, sound.ring[sound.row]);
    sound.row = (sound.row + 1) % EAR_FE_FRAMES;
    sound.held = EAR_FE_WINDOW - EAR_FE_HOP;
    memmove(sound.window, sound.window + EAR_FE_HOP, sound.held * sizeof *sound.window);
    if (--sound.hop_left) return false;
    sound.hop_left = sound.hop_frames;
    return true;
}

void ear_sound_input(void) {
    const uint32_t older = (EAR_FE_FRAMES - sound.row) * EAR_FE_FEATURES;
    memcpy(ear_input, sound.ring[sound.row], older);
    memcpy(ear_input + older, sound.ring, EAR_INPUT_BYTES - older);
}
#endif
