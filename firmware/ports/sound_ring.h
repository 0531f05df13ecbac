// Samples of a running microphone that are not read yet: an interrupt puts them, the oldest go when none takes them.
#ifndef EAR_SOUND_RING_H
#define EAR_SOUND_RING_H

#include "cortex.h"

#define KEPT (EAR_MICROPHONE_KEPT + 1u)  // one place stays free

static struct {
    int16_t samples[KEPT];
    volatile uint32_t head, tail, lost;
} sound;

static uint32_t sound_after(uint32_t index) { return index + 1 == KEPT ? 0 : index + 1; }

static void sound_forget(void) { sound.head = sound.tail = sound.lost = 0; }

static void sound_put(int32_t value) {
    sound.samples[sound.head] = (int16_t)(value > INT16_MAX ? INT16_MAX : value < INT16_MIN ? INT16_MIN : value);
    sound.head = sound_after(sound.head);
    if (sound.head != sound.tail) return;
    sound.tail = sound_after(sound.tail);
    sound.lost++;
}

const bool port_microphone = true;

uint32_t port_microphone_read(int16_t *samples, uint32_t most) {
    uint32_t count = 0;
    while (count < most) {
        uint32_t before = ear_lock();  // the interrupt may move the tail
        bool some = sound.tail != sound.head;
        if (some) {
            samples[count++] = sound.samples[sound.tail];
            sound.tail = sound_after(sound.tail);
        }
        ear_unlock(before);
        if (!some) break;
    }
    return count;
}

uint32_t port_microphone_lost(void) { return sound.lost; }

#endif
