// What a runner of Edge Impulse does behind its words: features in, the model's output, sockets and shared memory.
#ifndef EAR_LINUX_RUNNER_H
#define EAR_LINUX_RUNNER_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    const int8_t *output;  // of the last run
    uint64_t nanoseconds;  // that the model took, the front end not counted
} ear_runner_t;
extern ear_runner_t ear_runner;

void ear_runner_begin(void);  // forget what was heard

// Classify the features that have come: a whole window by itself, or the next slice of a stream. False: a stream has
// not filled its first window yet.
bool ear_runner_classify(bool continuous);

const char *ear_runner_shared(void);           // the name of the shared memory, which is made now; 0: there is none

// Take so many features from there. Returns what is wrong with them, 0: nothing.
const char *ear_runner_from_shared(uint32_t values);

// Serve clients one after the other on a socket at `where`, or one on "stdin"; returns the exit code.
int32_t ear_runner_serve(const char *where, void (*serve)(void));

#endif
