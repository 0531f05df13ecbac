// The link's device end: COBS frames with CRC-32, sequence numbers and credits, and the commands they carry.
//
// Frame = COBS(kind, sequence, acknowledge, credit, body[0..EAR_LINK_BODY], CRC-32 of all before it) 0x00.
// The CRC goes on from the session's number (from 0 in HELLO): a frame of another session counts as damaged.
// All recovery is the host's: the board has no timer. When the host hears nothing it sends a PROBE; the board
// sends its unacknowledged frame again and answers ECHO, which tells the host what got lost the other way.
#ifndef EAR_LINK_H
#define EAR_LINK_H

#include <stdbool.h>
#include <stdint.h>

#define EAR_LINK_VERSION 2u
#define EAR_LINK_BODY 520u  // 512 bytes and what names them
#define EAR_LINK_SLOTS 4u

enum {
    EAR_HELLO = 1,  // host: u32 version, u32 session. board: u32 version, u32 session, u32 body, u32 mode
    EAR_DATA = 2,   // one message of at most EAR_LINK_BODY bytes
    EAR_ACK = 3,    // header only
    EAR_PROBE = 4,  // host: sequence holds a nonce
    EAR_ECHO = 5,   // board: the nonce comes back
};

typedef struct {
    uint8_t kind, sequence, acknowledge, credit;
    uint8_t body[EAR_LINK_BODY + 4];  // and the CRC
} ear_frame_t;

typedef struct {
    uint32_t length;
    uint32_t words[EAR_LINK_BODY / 4];
} ear_slot_t;

typedef struct {
    ear_slot_t slots[EAR_LINK_SLOTS];  // received messages in order
    ear_frame_t in, out;
    uint32_t mode;      // told in HELLO: that of ear_info_t
    uint32_t session;   // chosen by the host, 0 before the first HELLO
    uint32_t in_bytes;  // decoded so far
    uint32_t out_body;  // bytes of the unacknowledged message
    uint32_t damaged, duplicates;
    uint8_t first, waiting;       // ring of slots
    uint8_t expected, next;       // sequence numbers
    uint8_t run;                  // bytes left in the COBS group
    bool zero, overrun, unacked;  // a zero belongs before the next group; frame too long; out awaits its ack
    uint8_t epoch;                // moves with every new session
} ear_link_t;

void ear_link_init(ear_link_t *link, uint32_t mode);

// Take one received byte. Any byte sequence is safe.
void ear_link_feed(ear_link_t *link, uint8_t byte);

// Feed what the UART holds; rest when it holds nothing.
void ear_link_poll(ear_link_t *link);

// Hand the oldest message (word-aligned, at least 4 bytes) to `obey` and free its slot, or poll.
void ear_link_serve(ear_link_t *link, void (*obey)(const uint8_t *message, uint32_t length));

// The body of the next message: wait until the last one is acknowledged, then write into it. 0: session ended.
uint8_t *ear_link_begin(ear_link_t *link);
void ear_link_commit(ear_link_t *link, uint32_t length);

uint32_t ear_crc32(uint32_t crc, const uint8_t *bytes, uint32_t length);  // start with 0

// Commands. Request: u8 command, 3 zero bytes, arguments. Answer: u8 command | 0x80, u8 status, u8 more, u8 0,
// data; the data of an answer is cut into messages of which all but the last have `more` set.
enum {
    EAR_INFO = 1,           // -> ear_info_t
    EAR_LOAD = 2,           // u32 offset, bytes of all inputs in order; no answer, trouble shows at INFER
    EAR_INFER = 3,          // -> u64 count, all outputs in order
    EAR_PROFILE = 4,        // -> u64 empty interval, u32 per node
    EAR_STREAM_START = 5,   // u32 hop in frames, u32 features only
    EAR_STREAM_DATA = 6,    // u32 index of the first sample, int16 samples; no answer
    EAR_STREAM_STOP = 7,    // -> u32 samples taken, u32 samples dropped
    EAR_STREAM_RESULT = 8,  // unasked: u32 samples taken, u32 dropped, u64 count, output or features
    EAR_MEMORY = 9,         // -> ear_memory_t
    EAR_FORGET = 11,        // the states of the model are as after a reset
    EAR_CHECK = 14,         // ear_watch_t each, by rising node -> u32 CRC of each; an inference of the loaded input
    EAR_SPIN = 15,          // u32 counts -> u64 counts: waits so long by its own counter
    EAR_HEAR_START = 22,    // ear_rules_t: listen through the board's own microphone
    EAR_HEAR_STATE = 23,    // -> ear_ears_t
    EAR_HEAR_STOP = 24,     // -> ear_ears_t, behind the last events
    EAR_HEARD = 25,         // unasked: u32 1 for an event that has ended, 2 for one that begins; ear_event_t
    EAR_RESET = 10,         // u32 1: stay in the bootloader; answered before the reset
    EAR_ERASE = 16,         // u32 offset in the application area -> u32 offset, u32 bytes of the page there
    EAR_WRITE = 17,         // u32 offset, words; no answer, trouble shows at COMMIT
    EAR_PAGES = 18,         // u32 offset, u32 bytes -> u32 bytes, u32 CRC-32 of what each page holds of them
    EAR_COMMIT = 19,        // u32 offset, header; written last, and only when body and signature match it
    EAR_IMAGES = 20,        // -> ear_images_t, 32 bytes of public key
    EAR_STREAM_ADPCM = 21,  // as STREAM_DATA, the samples as in adpcm.h; no answer
};

enum {
    EAR_OK = 0,
    EAR_UNKNOWN = 1,   // no such command in this mode
    EAR_BAD = 2,       // argument out of range
    EAR_MISSING = 3,   // input not loaded
    EAR_FLASH = 4,     // erase or program refused
    EAR_MISMATCH = 5,  // SHA-256 wrong
    EAR_FOREIGN = 6,   // signed with another key
    EAR_DEAF = 7,      // the microphone does not start at the model's rate
};

typedef struct {
    uint32_t version, mode;  // mode 0 bootloader, 1 application, 2 program without a bootloader
    uint32_t input_bytes, output_bytes, nodes, arena_bytes;
    uint32_t window, hop, frames, features;  // front end; zero when the model has none
    uint32_t unit, app_bytes;
    uint32_t fault_pc, fault_address;  // bootloader: the application's last crash
    uint32_t damaged, duplicates;      // frames on this link
    char build_id[16];
} ear_info_t;

typedef struct {
    uint32_t stack_bytes, stack_high_water, arena_bytes, arena_high_water, static_bytes;
    uint32_t stack_intact, arena_intact;
} ear_memory_t;

typedef struct {
    uint32_t free;     // offset at which a new image overwrites none that runs
    uint32_t running;  // offset of the image that the next reset starts, all ones without any
    uint32_t running_bytes;
    uint32_t second;   // offset of the second image, 0 when there is room for one only
} ear_images_t;
// Bytes that node `node` of the model has just made, counted through the arenas and then the states.
typedef struct {
    uint32_t node, offset, bytes;
} ear_watch_t;
// The board's own microphone since its start.
typedef struct {
    uint64_t work;               // of front end, model and smoothing, in the counter's unit
    uint32_t running, rate;      // Hz
    uint32_t taken, lost;        // samples; `taken` counts the lost ones too
    uint32_t results, untold;    // events that found no room to wait for the host
    uint32_t worst_work;         // from one result to the next
    uint32_t worst_delay;        // samples that had come when the one behind a result was heard
} ear_ears_t;

// Answer `command` with `length` bytes; false when the session ended meanwhile.
bool ear_answer(ear_link_t *link, uint8_t command, uint8_t status, const void *data, uint32_t length);

typedef struct {
    const void *data;
    uint32_t bytes;
} ear_part_t;

// The same for an answer of several parts.
bool ear_answer_parts(ear_link_t *link, uint8_t command, const ear_part_t *parts, uint32_t count);

#endif
