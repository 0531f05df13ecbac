// The application: commands over the link, the front end, the model, results.
#include "adpcm.h"
#include "link.h"
#include "model.h"
#include "ports/port.h"
#include "startup.h"
#if !EAR_PROGRAM
#include "image.h"
#endif
#ifdef EAR_DIALECT
#include "text.h"
#endif
#if EAR_FRONTEND
#include "sound.h"
#endif
#if EAR_FRONTEND && EAR_MICROPHONE
#include "ears.h"
#endif

static ear_link_t link;

static void copy(void *to, const void *from, uint32_t length) {
    for (uint32_t i = 0; i < length; i++) ((uint8_t *)to)[i] = ((const uint8_t *)from)[i];
}

#if EAR_PROGRAM  // no bootloader has started it, nor can one replace it
#define MODE 2
static void confirm(void) {}
#else
#define MODE 1
extern const ear_image_t ear_image;  // linker symbol: the header before this application

// An image on trial has answered the host: it stays.
static void confirm(void) {
    if (ear_marked(&ear_image.tried)) ear_set_mark(&ear_image.confirmed);
}
#endif

static void info(void) {
    ear_info_t data = {
        .version = EAR_LINK_VERSION,
        .mode = MODE,
        .input_bytes = EAR_INPUT_BYTES,
        .output_bytes = EAR_OUTPUT_BYTES,
        .nodes = EAR_NODES,
        .arena_bytes = EAR_ARENA_BYTES,
#if EAR_FRONTEND
        .window = EAR_FE_WINDOW,
        .hop = EAR_FE_HOP,
        .frames = EAR_FE_FRAMES,
        .features = EAR_FE_FEATURES,
#endif
        .unit = port_unit,
        .damaged = link.damaged,
        .duplicates = link.duplicates,
    };
    static const char id[] = EAR_BUILD_ID;
    copy(data.build_id, id, sizeof id - 1 < sizeof data.build_id ? sizeof id - 1 : sizeof data.build_id);
    if (ear_answer(&link, EAR_INFO, EAR_OK, &data, sizeof data)) confirm();
}

// Whoever else wants the model ends listening by oneself.
static void ears_stop(void) {
#if EAR_FRONTEND && EAR_MICROPHONE
    ear_ears_stop();
#endif
}

// The inputs arrive in order; they lie in the arena, so a run of the model uses them up.
static uint32_t loaded;

// Copy bytes that begin at `offset` of all inputs together.
static void scatter(uint32_t offset, const uint8_t *from, uint32_t bytes) {
    for (const struct ear_end *end = ear_inputs; bytes; end++) {
        if (offset >= end->bytes) {
            offset -= end->bytes;
            continue;
        }
        uint32_t part = end->bytes - offset < bytes ? end->bytes - offset : bytes;
        copy((uint8_t *)end->data + offset, from, part);
        from += part;
        bytes -= part;
        offset = 0;
    }
}

// Answer with a head and all outputs.
static bool answer_outputs(uint8_t command, const void *head, uint32_t bytes) {
    ear_part_t parts[1 + EAR_OUTPUTS] = {{head, bytes}};
    for (uint32_t i = 0; i < EAR_OUTPUTS; i++)
        parts[1 + i] = (ear_part_t){ear_outputs[i].data, ear_outputs[i].bytes};
    return ear_answer_parts(&link, command, parts, 1 + EAR_OUTPUTS);
}

static void load(const uint32_t *arguments, uint32_t length) {
    uint32_t offset = arguments[0], bytes = length - 4;
    ears_stop();
    if (offset == 0) loaded = 0;
    if (offset != loaded || bytes > EAR_INPUT_BYTES - loaded) {
        loaded = UINT32_MAX;  // INFER will refuse it
        return;
    }
    scatter(offset, (const uint8_t *)(arguments + 1), bytes);
    loaded += bytes;
}

static bool take_input(void) {
    bool whole = loaded == EAR_INPUT_BYTES;
    loaded = 0;
    return whole;
}

static void infer(void) {
    if (!take_input()) {
        ear_answer(&link, EAR_INFER, EAR_MISSING, 0, 0);
        return;
    }
    uint64_t start = port_counter();
    uint64_t empty = port_counter() - start;
    start = port_counter();
    ear_model_invoke(0);
    uint64_t count = port_counter() - start;
    if (count > empty) count -= empty;  // a system may have run somebody else between two looks at its clock
    answer_outputs(EAR_INFER, &count, sizeof count);
}

static uint32_t marks[EAR_NODES + 1];

static void mark(uint32_t node) { marks[node] = (uint32_t)port_counter(); }

static void profile(void) {
    if (!take_input()) {
        ear_answer(&link, EAR_PROFILE, EAR_MISSING, 0, 0);
        return;
    }
    void (*volatile before)(uint32_t) = mark;
    void (*call)(uint32_t) = before;
    call(0);
    call(EAR_NODES);
    uint64_t empty = marks[EAR_NODES] - marks[0];
    ear_model_invoke(call);
    for (uint32_t i = 0; i != EAR_NODES; i++) marks[i] = marks[i + 1] - marks[i];
    const ear_part_t parts[2] = {{&empty, sizeof empty}, {marks, EAR_NODES * sizeof *marks}};
    ear_answer_parts(&link, EAR_PROFILE, parts, 2);
}

static const ear_watch_t *watched;
static uint32_t to_watch, seen;

static void watch(uint32_t node) {
    for (; seen < to_watch && watched[seen].node < node; seen++) {
        const uint8_t *at = ear_at(watched[seen].offset, watched[seen].bytes);
        marks[seen] = at ? ear_crc32(0, at, watched[seen].bytes) : 0;
    }
}

static void check(const uint32_t *arguments, uint32_t length) {
    watched = (const ear_watch_t *)(const void *)arguments;
    to_watch = length / sizeof *watched;
    seen = 0;
    bool whole = take_input(), fits = to_watch <= EAR_NODES + 1;
    if (!whole || !fits) {
        ear_answer(&link, EAR_CHECK, fits ? EAR_MISSING : EAR_BAD, 0, 0);
        return;
    }
    ear_model_invoke(watch);
    ear_answer(&link, EAR_CHECK, EAR_OK, marks, seen * (uint32_t)sizeof *marks);
}

static void spin(uint32_t counts) {
    uint64_t start = port_counter(), taken;
    do taken = port_counter() - start;
    while (taken < counts);
    ear_answer(&link, EAR_SPIN, EAR_OK, &taken, sizeof taken);
}

#if EAR_FRONTEND
static struct {
    bool running, features_only;
    uint32_t taken, dropped;  // samples
    uint64_t count;           // work since the last result
} stream;

static void stream_start(const uint32_t *arguments) {
    bool good = arguments[0] > 0;
    ears_stop();
    ear_sound_begin(arguments[0]);
    stream.running = good;
    stream.features_only = arguments[1] != 0;
    stream.taken = stream.dropped = 0;
    stream.count = 0;
    ear_model_reset();
    ear_answer(&link, EAR_STREAM_START, good ? EAR_OK : EAR_BAD, 0, 0);
}

static void stream_result(uint64_t *start) {
    ear_sound_input();
    loaded = 0;
    if (!stream.features_only) ear_model_invoke(0);
    struct {
        uint32_t taken, dropped;
        uint64_t count;
    } head = {stream.taken, stream.dropped, stream.count + port_counter() - *start};
    const ear_part_t parts[2] = {{&head, sizeof head},
                                 {stream.features_only ? ear_input : ear_output,
                                  stream.features_only ? EAR_INPUT_BYTES : EAR_OUTPUT_BYTES}};
    stream.running = ear_answer_parts(&link, EAR_STREAM_RESULT, parts, 2);
    stream.count = 0;
    *start = port_counter();
}

// `coded` samples are ADPCM.
static void stream_data(const uint32_t *arguments, uint32_t length, bool coded) {
    const int16_t *samples = (const int16_t *)(arguments + 1);
    ear_adpcm_t adpcm = ear_adpcm_begin((const uint8_t *)samples);
    uint32_t left = coded ? (length - 8) * 2 : (length - 4) / 2;
    uint64_t start = port_counter();
    uint32_t gap = arguments[0] - stream.taken;  // samples that the host had to skip
    if (!stream.running || gap > INT32_MAX) return;
    stream.dropped += gap;
    stream.taken += gap;
    for (uint32_t part; left && stream.running; left -= part) {
        int16_t *place = ear_sound_place(&part);
        if (part > left) part = left;
        for (uint32_t i = 0; i < part; i++) *place++ = coded ? ear_adpcm_next(&adpcm) : *samples++;
        stream.taken += part;
        if (ear_sound_took(part)) stream_result(&start);
    }
    stream.count += port_counter() - start;
}

static void stream_stop(void) {
    const uint32_t data[2] = {stream.taken, stream.dropped};
    stream.running = false;
    ear_answer(&link, EAR_STREAM_STOP, EAR_OK, data, sizeof data);
}
#endif

#if EAR_FRONTEND && EAR_MICROPHONE
static void hear_start(const ear_rules_t *rules) {
    stream.running = false;
    loaded = 0;
    ear_answer(&link, EAR_HEAR_START, ear_ears_start(rules), 0, 0);
}
#endif

static void memory(void) {
    const ear_memory_t data = {
        .stack_bytes = ear_stack_bytes(),
        .stack_high_water = ear_stack_high_water(),
        .arena_bytes = EAR_ARENA_BYTES,
        .arena_high_water = ear_arena_high_water(),
        .static_bytes = ear_static_bytes(),
        .stack_intact = ear_stack_intact(),
        .arena_intact = ear_arena_intact() != 0,
    };
    ear_answer(&link, EAR_MEMORY, EAR_OK, &data, sizeof data);
}

static void forget(void) {
    ear_model_reset();
    ear_answer(&link, EAR_FORGET, EAR_OK, 0, 0);
}

static void reset(uint32_t to_boot) {
#if EAR_PROGRAM
    if (to_boot) {
        ear_answer(&link, EAR_RESET, EAR_UNKNOWN, 0, 0);
        return;
    }
#endif
    ear_answer(&link, EAR_RESET, EAR_OK, 0, 0);
    ears_stop();
#if !EAR_PROGRAM
    ear_handover.magic = to_boot ? EAR_STAY : 0;
#endif
    port_reset();
}

// Bytes of arguments that each command needs at least.
static uint32_t least(uint8_t command) {
    switch (command) {
        case EAR_LOAD:
        case EAR_SPIN:
        case EAR_STREAM_DATA:
        case EAR_RESET: return 4;
        case EAR_STREAM_ADPCM:
        case EAR_STREAM_START: return 8;
#if EAR_FRONTEND && EAR_MICROPHONE
        case EAR_HEAR_START: return sizeof(ear_rules_t);
#endif
        default: return 0;
    }
}

static void obey(const uint8_t *message, uint32_t length) {
    uint8_t command = message[0];
    const uint32_t *arguments = (const uint32_t *)(const void *)(message + 4);
    if (length < 4 + least(command)) {
        ear_answer(&link, command, EAR_BAD, 0, 0);
        return;
    }
    switch (command) {
        case EAR_INFO: info(); break;
        case EAR_LOAD: load(arguments, length - 4); break;
        case EAR_INFER: infer(); break;
        case EAR_PROFILE: profile(); break;
#if EAR_FRONTEND
        case EAR_STREAM_START: stream_start(arguments); break;
        case EAR_STREAM_DATA: stream_data(arguments, length - 4, false); break;
        case EAR_STREAM_ADPCM: stream_data(arguments, length - 4, true); break;
        case EAR_STREAM_STOP: stream_stop(); break;
#endif
#if EAR_FRONTEND && EAR_MICROPHONE
        case EAR_HEAR_START: hear_start((const ear_rules_t *)(const void *)arguments); break;
        case EAR_HEAR_STATE: ear_ears_state(&link, command); break;
        case EAR_HEAR_STOP: ear_ears_end(&link); break;
#endif
        case EAR_MEMORY: memory(); break;
        case EAR_FORGET: forget(); break;
        case EAR_CHECK: check(arguments, length - 4); break;
        case EAR_SPIN: spin(arguments[0]); break;
        case EAR_RESET: reset(arguments[0]); break;
        default: ear_answer(&link, command, EAR_UNKNOWN, 0, 0);
    }
}

int main(void) {
    ear_link_init(&link, MODE);
    ear_model_init();
#ifdef EAR_DIALECT
    ear_dialect(&link);
#endif
#if EAR_FRONTEND && EAR_MICROPHONE
    for (;;) {
        bool more = ear_ears_listen();
        ear_ears_tell(&link);
        int32_t byte;
        while (more && (byte = port_uart_read()) >= 0) ear_link_feed(&link, (uint8_t)byte);
        if (!more || link.waiting) ear_link_serve(&link, obey);  // which rests when there is nothing to do
    }
#else
    for (;;) ear_link_serve(&link, obey);
#endif
}
