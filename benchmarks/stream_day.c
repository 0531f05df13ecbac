// The board's end of a long stream on the host: firmware/link.c, and an ear that checks what it is told.
#include "link.c"

#define SAID 65536u
#define RESULT_EVERY 16u  // messages: about as often as a model runs

static ear_link_t board;
static uint8_t said[SAID];
static uint32_t said_bytes;
static const uint8_t *sound;  // a power of two of bytes, over and over
static uint32_t sound_bytes;
static struct {
    uint64_t next, lost, repeated, wrong, results;  // samples but the last
} ear;

int32_t port_uart_read(void) { return -1; }
void port_idle(void) {}
void port_uart_write(const uint8_t *bytes, uint32_t length) {
    while (length-- && said_bytes < SAID) said[said_bytes++] = *bytes++;
}

void day_begin(const uint8_t *bytes, uint32_t length) {
    sound = bytes;
    sound_bytes = length;
    ear_link_init(&board, 1);
    said_bytes = 0;
    ear.next = ear.lost = ear.repeated = ear.wrong = ear.results = 0;
}

static void hear(const uint8_t *message, uint32_t length) {
    uint32_t samples = (length - 8) / 2, first = word_at(message + 4), gap = first - (uint32_t)ear.next;
    if (gap > INT32_MAX) ear.repeated += samples;
    if (gap > INT32_MAX) return;
    ear.lost += gap;
    ear.next += gap;
    for (uint32_t i = 0; i < 2 * samples; i++)
        ear.wrong += message[8 + i] != sound[(uint32_t)(2 * ear.next + i) & (sound_bytes - 1)];
    ear.next += samples;
    if (ear.next / samples % RESULT_EVERY) return;
    ear.results++;
    ear_answer(&board, EAR_STREAM_RESULT, EAR_OK, &ear.results, sizeof ear.results);
}

// A message waits while the last result is on its way: a board cannot say two things at once.
void day_feed(const uint8_t *bytes, uint32_t length) {
    while (length--) {
        ear_link_feed(&board, *bytes++);
        while (board.waiting && !board.unacked) ear_link_serve(&board, hear);
    }
}

uint32_t day_said(uint8_t *to) {
    uint32_t count = said_bytes;
    for (uint32_t i = 0; i < count; i++) to[i] = said[i];
    said_bytes = 0;
    return count;
}

void day_told(uint64_t to[7]) {
    const uint64_t told[7] = {ear.next, ear.lost, ear.repeated, ear.wrong, ear.results, board.damaged, board.duplicates};
    for (uint32_t i = 0; i < 7; i++) to[i] = told[i];
}
