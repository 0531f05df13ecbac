// Between an app's microphone and its model: what ears.c is on a board, without a link.
#include "listener.h"

#include "ear.h"
#include "model.h"
#include "sound.h"

static struct {
    uint32_t heard;    // samples
    uint32_t warm_up;  // before the first result that counts
    bool ready;
} listener;

bool ear_listener_begin(const ear_rules_t *rules) {
    listener.heard = 0;
    listener.warm_up = rules->warm_up;
    listener.ready = false;
    ear_sound_begin(rules->hop_frames);
    return ear_hear_start(rules);
}

uint32_t ear_listener_take(const int16_t *samples, uint32_t count, bool *due) {
    uint32_t taken = 0;
    *due = false;
    while (taken < count && !*due) {
        uint32_t room;
        int16_t *place = ear_sound_place(&room);
        if (room > count - taken) room = count - taken;
        memcpy(place, samples + taken, room * sizeof *samples);
        taken += room;
        *due = ear_sound_took(room);
    }
    listener.heard += taken;
    if (*due) ear_sound_input();
    return taken;
}

void ear_listener_lost(uint32_t count) {
    listener.heard += count;
}

uint32_t ear_listener_result(const int8_t *output, ear_event_t *events) {
    listener.ready = listener.ready || listener.heard >= listener.warm_up;
    return listener.ready ? ear_hear_result(listener.heard, output, events) : 0;
}
