// Smoothing, threshold and refractory time, in integers; see kit/detect.py for their meaning.
#include "model.h"

#if EAR_FRONTEND && EAR_MICROPHONE
#include "hear.h"

#define HISTORY (8u * EAR_OUTPUT_BYTES > 2048u ? 8u * EAR_OUTPUT_BYTES : 2048u)

static struct {
    ear_rules_t rules;
    uint32_t count, next;  // results in the history, and the place of the next one
    bool open;
    ear_event_t event;
    uint32_t sums[EAR_OUTPUT_BYTES];
    uint32_t ended[EAR_OUTPUT_BYTES];  // sample of the last result of a class's last event
    uint8_t quiet[EAR_OUTPUT_BYTES];   // 1 until that is long ago
    int8_t history[HISTORY];
} hear;

bool ear_hear_start(const ear_rules_t *rules) {
    hear.rules = *rules;
    hear.count = hear.next = 0;
    hear.open = false;
    for (uint32_t i = 0; i < EAR_OUTPUT_BYTES; i++) hear.sums[i] = hear.quiet[i] = 0;
    return rules->hop_frames && rules->averaged && rules->averaged <= EAR_AVERAGED &&
           rules->averaged * EAR_OUTPUT_BYTES <= HISTORY;
}

// 2^31 * e^(-scale * steps)
static uint32_t power(uint32_t steps) {
    uint32_t result = 1u << 31;
    for (const uint32_t *factor = hear.rules.factors; steps; steps >>= 1, factor++)
        if (steps & 1u) result = (uint32_t)((uint64_t)result * *factor >> 32);
    return result;
}

// Add the shares of an output to the sums, or take them away.
static void add(const int8_t *output, bool away) {
    int32_t most = INT8_MIN;
    uint64_t total = 0, inverse = 0;
    if (!hear.rules.unit) {
        for (uint32_t i = 0; i < EAR_OUTPUT_BYTES; i++) most = output[i] > most ? output[i] : most;
        for (uint32_t i = 0; i < EAR_OUTPUT_BYTES; i++) total += power((uint32_t)(most - output[i]));
        inverse = ((uint64_t)1 << 63) / total;
    }
    for (uint32_t i = 0; i < EAR_OUTPUT_BYTES; i++) {
        const int32_t steps = output[i] - hear.rules.zero_point;
        uint32_t share = steps > 0 ? (uint32_t)steps * hear.rules.unit : 0;
        if (!hear.rules.unit)
            share = (uint32_t)((power((uint32_t)(most - output[i])) * inverse + ((uint64_t)1 << 38)) >> 39);
        if (share > EAR_ONE) share = EAR_ONE;
        hear.sums[i] += away ? 0u - share : share;
    }
}

static void remember(const int8_t *output) {
    int8_t *place = hear.history + hear.next * EAR_OUTPUT_BYTES;
    if (hear.count == hear.rules.averaged)
        add(place, true);
    else
        hear.count++;
    for (uint32_t i = 0; i < EAR_OUTPUT_BYTES; i++) place[i] = output[i];
    add(place, false);
    hear.next = (hear.next + 1) % hear.rules.averaged;
}

// Whether a class is still to be silent; a day's samples do not wrap around, since it is asked at each result.
static bool silent(uint32_t label, uint32_t sample) {
    for (uint32_t i = 0; i < EAR_OUTPUT_BYTES; i++)
        if (hear.quiet[i] && sample - hear.ended[i] >= hear.rules.quiet) hear.quiet[i] = 0;
    return hear.quiet[label];
}

uint32_t ear_hear_mean(uint32_t label) {
    return hear.count ? hear.sums[label] / hear.count : 0;
}

bool ear_hear_end(ear_event_t *event) {
    if (!hear.open) return false;
    hear.open = false;
    hear.ended[hear.event.label] = hear.event.last;
    hear.quiet[hear.event.label] = 1;
    *event = hear.event;
    return true;
}

uint32_t ear_hear_result(uint32_t sample, const int8_t *output, ear_event_t *events) {
    uint32_t best = 0, changes = 0;
    remember(output);
    for (uint32_t i = 1; i < EAR_OUTPUT_BYTES; i++)
        if (hear.sums[i] > hear.sums[best]) best = i;
    const uint32_t share = hear.sums[best] / hear.count;
    const bool sure = hear.sums[best] >= hear.rules.threshold * hear.count;
    if (hear.open && sure && best == hear.event.label) {
        hear.event.last = sample;
        if (share > hear.event.share) hear.event.share = share;
        return 0;
    }
    if (ear_hear_end(events)) {
        events++;
        changes = 1;
    }
    if (!silent(best, sample) && sure) {
        hear.open = true;
        *events = hear.event = (ear_event_t){best, sample, sample, share};
        changes |= 2;
    }
    return changes;
}
#endif
