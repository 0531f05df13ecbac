// Microphone, features, model, events: one frame at a time, so that the link is served in between.
#include "model.h"

#if EAR_FRONTEND && EAR_MICROPHONE
#include "ears.h"
#include "ports/port.h"
#include "sound.h"

#define EAR_EVENTS 8u  // that may wait for the host

typedef struct {
    uint32_t kind;  // as EAR_HEARD tells it
    ear_event_t event;
} heard_t;

static struct {
    uint32_t warm_up, answered;  // samples before which the input of the last result ended
    bool late;                   // behind that result, the microphone has not been empty yet
    uint32_t first, waiting;     // of events
    heard_t events[EAR_EVENTS];
    uint64_t work;               // since the last result
    ear_ears_t told;
} ears;

void ear_ears_stop(void) {
    if (ears.told.running) port_microphone_stop();
    ears.told.running = 0;
}

uint8_t ear_ears_start(const ear_rules_t *rules) {
    ear_ears_stop();
    ear_sound_begin(rules->hop_frames);
    ear_model_reset();
    ears.warm_up = rules->warm_up;
    ears.late = false;
    ears.waiting = 0;
    ears.work = 0;
    ears.told = (ear_ears_t){.rate = EAR_FE_RATE};
    if (!ear_hear_start(rules)) return EAR_BAD;
    ears.told.running = port_microphone_start(EAR_FE_RATE);
    return ears.told.running ? EAR_OK : EAR_DEAF;
}

// Keep an event for the host; the oldest gives way.
static void ears_keep(uint32_t kind, const ear_event_t *event) {
    if (ears.waiting == EAR_EVENTS) {
        ears.first = (ears.first + 1) % EAR_EVENTS;
        ears.waiting--;
        ears.told.untold++;
    }
    ears.events[(ears.first + ears.waiting++) % EAR_EVENTS] = (heard_t){kind, *event};
}

static void ears_result(void) {
    ear_event_t events[2];
    ear_sound_input();
    ear_model_invoke(0);
    if (!ears.late) ears.answered = ears.told.taken;
    ears.late = true;
    if (!ears.told.results && ears.told.taken < ears.warm_up) return;
    ears.told.results++;
    uint32_t changes = ear_hear_result(ears.told.taken, ear_output, events);
    if (changes & 1u) ears_keep(1, &events[0]);
    if (changes & 2u) ears_keep(2, &events[changes & 1u]);
}

bool ear_ears_listen(void) {
    if (!ears.told.running) return false;
    uint32_t room, lost;
    int16_t *place = ear_sound_place(&room);
    uint32_t took = port_microphone_read(place, room);
    lost = port_microphone_lost();
    ears.told.taken += took + lost - ears.told.lost;
    ears.told.lost = lost;
    if (took < room && ears.late) {  // the microphone is empty
        uint32_t delay = ears.told.taken - ears.answered;
        if (delay > ears.told.worst_delay) ears.told.worst_delay = delay;
        ears.late = false;
    }
    uint64_t start = port_counter();
    bool due = ear_sound_took(took);
    if (took < room) return false;
    if (due) ears_result();
    uint64_t work = port_counter() - start;
    ears.told.work += work;
    ears.work += work;
    if (!due) return true;
    if (ears.work > ears.told.worst_work) ears.told.worst_work = (uint32_t)ears.work;
    ears.work = 0;
    return true;
}

void ear_ears_tell(ear_link_t *link) {
    if (!ears.waiting || !link->session || link->unacked) return;
    const heard_t *heard = &ears.events[ears.first];
    ears.first = (ears.first + 1) % EAR_EVENTS;
    ears.waiting--;
    ear_answer(link, EAR_HEARD, EAR_OK, heard, sizeof *heard);
}

void ear_ears_state(ear_link_t *link, uint8_t command) {
    ear_answer(link, command, EAR_OK, &ears.told, sizeof ears.told);
}

void ear_ears_end(ear_link_t *link) {
    ear_event_t event;
    ear_ears_stop();
    if (ear_hear_end(&event)) ears_keep(1, &event);
    while (ears.waiting && ear_link_begin(link)) ear_ears_tell(link);
    ear_ears_state(link, EAR_HEAR_STOP);
}
#endif
