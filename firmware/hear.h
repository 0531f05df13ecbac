// From the model's int8 outputs to events: the integers of kit/detect.py, bit for bit.
//
// An output becomes shares of EAR_ONE (its probabilities), the shares of the last results are summed, and the
// largest sum makes an event while it reaches the threshold.
#ifndef EAR_HEAR_H
#define EAR_HEAR_H

#include <stdbool.h>
#include <stdint.h>

#define EAR_ONE (1u << 24)  // a probability of 1
#define EAR_AVERAGED 255u   // most results in a sum: it fits 32 bits

// What the host sends with EAR_HEAR_START.
typedef struct {
    uint32_t hop_frames;  // between two results
    uint32_t warm_up;     // samples before the first result that counts: a whole window
    uint32_t averaged;    // results
    uint32_t threshold;   // share
    uint32_t quiet;       // samples from the last result of an event to the first of the next one of its class
    int32_t zero_point;   // of the output
    uint32_t unit;        // share of a step of an output of probabilities; 0: softmax is still to be done
    uint32_t factors[8];  // e^(-scale * 2^k) in units of 2^-32, for that softmax
} ear_rules_t;

typedef struct {
    uint32_t label;        // class
    uint32_t first, last;  // samples before which the inputs of its first and last result ended
    uint32_t share;        // the largest mean so far
} ear_event_t;

// Begin with rules; false when so many results of so many classes are not remembered.
bool ear_hear_start(const ear_rules_t *rules);

// Take the output whose input ended before `sample`. Write the events it ends and begins, at most two, in this
// order; return bit 0 for one that ended, bit 1 for one that began.
uint32_t ear_hear_result(uint32_t sample, const int8_t *output, ear_event_t *events);

// The mean share of a class in the last results, as the threshold sees it.
uint32_t ear_hear_mean(uint32_t label);

// End the event that lasts, if any, and write it; returns whether there was one.
bool ear_hear_end(ear_event_t *event);

#endif
