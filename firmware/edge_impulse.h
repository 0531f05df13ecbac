// Edge Impulse's AT commands: the settings that they keep, and what runs and records for them.
#ifndef EAR_EDGE_IMPULSE_H
#define EAR_EDGE_IMPULSE_H

#include <stdbool.h>
#include <stdint.h>

#define EAR_WORD_BYTES 65u  // of a setting, its ending zero included

// Kept until the next reset.
typedef struct {
    char id[EAR_WORD_BYTES], label[EAR_WORD_BYTES], key[EAR_WORD_BYTES];  // key: of the signature
    char host[EAR_WORD_BYTES], path[EAR_WORD_BYTES], api_key[EAR_WORD_BYTES], url[EAR_WORD_BYTES];
    uint32_t interval_ns, length_ms;
} ear_settings_t;
extern ear_settings_t ear_settings;

// Whether the user wants what is running to stop, or the link has taken the line.
bool ear_stopped(void);

void ear_run_settings(void);         // says how inference runs
void ear_run(bool continuous);       // on the microphone until ear_stopped
void ear_run_static(uint32_t count); // on `count` float32 that the host sends in base64

uint32_t ear_record_most(void);  // samples that the free RAM holds
void ear_record(void);           // from the microphone into free RAM
void ear_record_read(uint32_t from, uint32_t to);

#endif
