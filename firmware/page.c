// The ear of a web page, for wasm: int16 samples in; int8 results, their sums and events out.
//
// One unit with what it is made of, since the page also draws what those parts keep: the bands and the sums.
#include "frontend.c"
#include "hear.c"
#include "sound.c"

// What the page and the ear tell each other, in words.
struct {
    ear_rules_t rules;      // set before ear_page_start
    uint32_t room;          // samples that fit at ear_page_place
    uint32_t taken;         // samples since the start
    uint32_t averaged;      // results in the sums
    ear_event_t events[2];  // as ear_hear_result writes them
    uint32_t sums[EAR_OUTPUT_BYTES];
    int32_t decibels[EAR_FE_BANDS];  // of the last frame, with EAR_FE_FRACTION bits
} ear_page;

_Static_assert(sizeof(ear_page) == 4 * (15 + 3 + 8 + EAR_OUTPUT_BYTES + EAR_FE_BANDS), "worker.js reads words");

void ear_page_start(void);
int16_t *ear_page_place(void);
uint32_t ear_page_took(uint32_t samples);
void ear_page_run(void);
uint32_t ear_page_judge(void);
uint32_t ear_page_end(void);

// Forget what was heard. The rules average no more results than are remembered: who sets them sees to it.
void ear_page_start(void) {
    ear_model_init();
    ear_sound_begin(ear_page.rules.hop_frames);
    ear_page.taken = ear_page.averaged = 0;
    ear_hear_start(&ear_page.rules);
}

// Where the next samples belong.
int16_t *ear_page_place(void) {
    return ear_sound_place(&ear_page.room);
}

// So many were put there. Returns 0, 1 with a new frame's decibels, or 3 when the model is to run besides.
uint32_t ear_page_took(uint32_t samples) {
    const bool whole = samples == ear_page.room;
    ear_page.taken += samples;
    const bool due = ear_sound_took(samples);
    if (whole) memcpy(ear_page.decibels, scratch.decibels, sizeof ear_page.decibels);
    return (uint32_t)whole | (uint32_t)due << 1;
}

void ear_page_run(void) {
    ear_sound_input();
    ear_model_invoke(0);
}

// Judge the result; as ear_hear_result, or 4 before a whole window was heard.
uint32_t ear_page_judge(void) {
    if (ear_page.taken < ear_page.rules.warm_up) return 4;
    const uint32_t changes = ear_hear_result(ear_page.taken, ear_output, ear_page.events);
    ear_page.averaged = hear.count;
    memcpy(ear_page.sums, hear.sums, sizeof ear_page.sums);
    return changes;
}

// End the event that lasts; returns whether there was one.
uint32_t ear_page_end(void) {
    return ear_hear_end(ear_page.events);
}
