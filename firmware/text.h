// What the outside dialects share: text in and out on the UART, beside a link that waits there for its HELLO.
#ifndef EAR_TEXT_H
#define EAR_TEXT_H

#include "link.h"

// Speak the dialect that was compiled in; returns once a HELLO has come: from then on the line is the link's.
void ear_dialect(ear_link_t *link);

void ear_text_begin(ear_link_t *link);
bool ear_text_over(void);     // a HELLO has come
int32_t ear_text_read(void);  // the next byte of text, 0 where what came before was none, -1 when nothing waits
int32_t ear_text_wait(void);  // the same, at rest until a byte comes; -1 only when the text is over

// These say nothing once the text is over.
void ear_text_put(const char *text);
void ear_text_bytes(const uint8_t *bytes, uint32_t length);
void ear_text_number(uint64_t value);
void ear_text_hex(uint8_t byte);

// `value` with 1 to 5 decimals as printf rounds it: the exact value, halves to even. From 2^46 on it is "inf".
void ear_text_real(float value, uint32_t decimals);

bool ear_text_same(const char *a, const char *b);

// The whole of `text` as a decimal number; false when it is none, or above 2^31 - 1.
bool ear_text_parse(const char *text, uint32_t *value);

// Microseconds of a difference of port_counter; of a port that counts instructions they are an estimate, an
// instruction a clock.
uint64_t ear_text_micro(uint64_t count, uint32_t clock_hz);

// A float as the model's input takes it, halves away from zero.
int8_t ear_text_int8(float value, float scale, int32_t zero_point);

#endif
