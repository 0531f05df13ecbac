// The line of a program: two open files in place of a UART, and what the program was called with.
#ifndef EAR_LINUX_LINE_H
#define EAR_LINUX_LINE_H

#include <stdbool.h>
#include <stdint.h>

extern const char *const *ear_environment;
extern const char *ear_microphone;  // of --microphone: a file of samples, or the name of an ALSA device; 0: its own

// Speak on two open files. `last`: the program ends when the other end has gone.
void ear_line_open(int32_t in, int32_t out, bool last);
bool ear_line_closed(void);  // the other end has gone

void ear_child_stop(void);  // the program that records

void ear_say(const char *text);  // on stderr

// The Linux runner's protocol of Edge Impulse on a socket at `where`, or on "stdin"; "--print-info" tells of the
// model and ends. Returns the exit code.
int32_t ear_eim(const char *where);

#endif
