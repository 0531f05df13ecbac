// Requests of Edge Impulse's Linux protocol: JSON objects byte by byte, with no end but their last brace.
#ifndef EAR_LINUX_REQUEST_H
#define EAR_LINUX_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#define EAR_MESSAGE_BYTES 33554432u  // of a request at most
#define EAR_KEY_BYTES 24u            // of a key that is looked at, its ending zero included

typedef enum {
    EAR_ASKS_NOTHING,
    EAR_ASKS_HELLO,
    EAR_ASKS_CLASSIFY,
    EAR_ASKS_CLASSIFY_SHM,
    EAR_ASKS_CONTINUOUS,
    EAR_ASKS_CONTINUOUS_SHM,
    EAR_ASKS_THRESHOLD,
    EAR_ASKS_PARAMETER,
} ear_asks_t;

typedef struct {
    ear_asks_t asks;
    const char *wrong;  // what is wrong with it, 0: nothing
    bool has_id, has_number;
    int64_t id;
    double number;  // of hello, the elements of shared memory, or a threshold
    double block;   // that a threshold is of
    char key[EAR_KEY_BYTES];  // of that threshold
    uint32_t values;          // in the array
} ear_request_t;

extern ear_request_t ear_request;

void ear_request_begin(void);  // of a new client

// Take a byte; true when a request is whole, or so wrong that it is answered before its end. Any bytes are safe.
bool ear_request_feed(uint8_t byte);

void ear_request_value(uint32_t index, double value);  // of an array, told as it comes; eim.c has it

#endif
