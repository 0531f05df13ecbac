// MLPerf Tiny's serial commands: words that end in '%', answers that end in "m-ready", time in microseconds.
#include "dialect.h"
#include "model.h"
#include "ports/port.h"
#include "text.h"

#define COMMAND_BYTES 80u
#define ELEMENTS (EAR_INPUT_BYTES / sizeof(int8_t))
#define WARMUPS 10u  // when `infer` does not say

#ifdef EAR_RECONSTRUCTS
_Static_assert(EAR_OUTPUT_BYTES == EAR_INPUT_BYTES, "what is compared with the input has its shape");
#endif

static char command[COMMAND_BYTES + 1];
static uint32_t length;  // of it so far; COMMAND_BYTES + 1 once it is too long

// What `db` loads: int8 values as the model takes them, or float32 that are quantised here.
static union {
    uint8_t bytes[4 * ELEMENTS];
    float reals[ELEMENTS];
} db;
static uint32_t expected, loaded;

// Take the next word off `*rest`; 0 when there is none.
static char *word(char **rest) {
    char *first = *rest;
    while (*first == ' ') first++;
    char *end = first;
    while (*end && *end != ' ') end++;
    *rest = end;
    if (*end) *(*rest)++ = 0;
    return *first ? first : 0;
}

static void say(const char *before, uint64_t number, const char *after) {
    ear_text_put(before);
    ear_text_number(number);
    ear_text_put(after);
}

static void refuse(const char *why) {
    ear_text_put("e-[");
    ear_text_put(why);
    ear_text_put("]\r\n");
}

static uint64_t microseconds(void) { return ear_text_micro(port_counter(), EAR_CLOCK_HZ); }

static void timestamp(uint64_t at) { say("m-lap-us-", at, "\r\n"); }

static void profile(void) {
    ear_text_put("m-profile-[ULPMark for tinyML Firmware V0.0.1, earkit: time ");
    ear_text_put(port_unit == EAR_UNIT_CYCLES ? "is cycles" : "is estimated, instructions");
    say(" / ", EAR_CLOCK_HZ, " Hz]\r\nm-model-[" EAR_MODEL_ID "]\r\n");
}

static void help(void) {
    ear_text_put(
        "earkit " EAR_MODEL_ID " on " EAR_BOARD "\r\n\r\n"
        "name            what this device is called\r\n"
        "profile         which model it runs, and what its time is\r\n"
        "timestamp       the time now, in microseconds\r\n"
        "db load N       begin an input of N bytes\r\n"
        "db HEX          its next bytes\r\n"
        "db print        what has been loaded\r\n"
        "infer N [W=10]  run the model W times, then N times between two timestamps\r\n"
        "results         the last output again\r\n"
        "help            this\r\n");
}

static int32_t digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

static void db_load(char *rest) {
    const char *count = word(&rest);
    uint32_t bytes;
    if (!count || !ear_text_parse(count, &bytes) || bytes == 0) {
        refuse("Command 'db load' needs a number of bytes");
        return;
    }
    loaded = expected = 0;
    if (bytes > sizeof db) {
        say("Supplied buffer size ", bytes, " exceeds maximum of ");
        say("", sizeof db, "\r\n");
        return;
    }
    expected = bytes;
    say("m-[Expecting ", bytes, " bytes]\r\n");
}

static void db_hex(const char *digits) {
    uint32_t count = 0;
    for (; digits[count]; count++)
        if (digit(digits[count]) < 0) {
            refuse("Invalid hex digit");
            return;
        }
    if (count % 2) {
        refuse("Insufficent number of hex digits");
        return;
    }
    if (loaded == expected) {
        refuse("No bytes are expected: send 'db load' first");
        return;
    }
    for (; *digits && loaded < expected; digits += 2)
        db.bytes[loaded++] = (uint8_t)(digit(digits[0]) << 4 | digit(digits[1]));
    if (loaded == expected) ear_text_put("m-load-done\r\n");
}

static void db_print(void) {
    for (uint32_t i = 0; i < loaded; i++) {
        ear_text_put(i % 8 ? "-" : "m-buffer-");
        ear_text_hex(db.bytes[i]);
        if (i % 8 == 7 || i + 1 == loaded) ear_text_put("\r\n");
    }
}

static void buffer(char *rest) {
    const char *what = word(&rest);
    if (!what)
        refuse("Command 'db' needs a subcommand");
    else if (ear_text_same(what, "load"))
        db_load(rest);
    else if (ear_text_same(what, "print"))
        db_print();
    else
        db_hex(what);
}

// A run of the model uses its input up: each takes it from the buffer anew.
static void run(void) {
    for (uint32_t i = 0; i < ELEMENTS; i++)
        ear_input[i] = expected == sizeof db ? ear_text_int8(db.reals[i], EAR_INPUT_SCALE, EAR_INPUT_ZERO_POINT)
                                              : (int8_t)db.bytes[i];
    ear_model_invoke(0);
}

static float real_output(uint32_t i) { return (float)(ear_output[i] - EAR_OUTPUT_ZERO_POINT) * EAR_OUTPUT_SCALE; }

static void results(void) {
    ear_text_put("m-results-[");
#ifdef EAR_RECONSTRUCTS
    float sum = 0.0f;
    for (uint32_t i = 0; i < ELEMENTS; i++) {
        float is = expected == sizeof db ? db.reals[i]
                                         : (float)((int8_t)db.bytes[i] - EAR_INPUT_ZERO_POINT) * EAR_INPUT_SCALE;
        float error = real_output(i) - is;
        sum += error * error;
    }
    ear_text_real(sum / (float)ELEMENTS, 3);
#else
    for (uint32_t i = 0; i < EAR_OUTPUT_BYTES; i++) {
        if (i) ear_text_put(",");
        ear_text_real(real_output(i), 3);
    }
#endif
    ear_text_put("]\r\n");
}

// Run `count` times; a byte that comes before the last run ends it: nobody waits for hours for a slip of the keys.
static bool repeat(uint32_t count, int32_t *byte) {
    while (count && *byte < 0 && !ear_text_over()) {
        run();
        *byte = ear_text_read();
        count--;
    }
    if (count) refuse("Stopped by a byte that came meanwhile");
    return count == 0;
}

// Returns a byte that came meanwhile, or -1.
static int32_t infer(char *rest) {
    uint32_t count = 1, warmups = WARMUPS;
    const char *given = word(&rest);
    if (given && (!ear_text_parse(given, &count) || count == 0)) {
        refuse("Inference iterations must be >0");
        return -1;
    }
    given = given ? word(&rest) : 0;
    if (given && !ear_text_parse(given, &warmups)) {
        refuse("Inference warmup must be >=0");
        return -1;
    }
    if (loaded != expected || (expected != ELEMENTS && expected != sizeof db)) {
        refuse("The input is not loaded: as many bytes as the model takes, or four times as many for float32");
        return -1;
    }
    int32_t byte = -1;
    ear_model_reset();
    say("m-warmup-start-", warmups, "\r\n");
    if (!repeat(warmups, &byte)) return byte;
    say("m-warmup-done\r\nm-infer-start-", count, "\r\n");
    uint64_t start = microseconds();
    if (!repeat(count, &byte)) return byte;
    uint64_t end = microseconds();
    timestamp(start);
    timestamp(end);
    ear_text_put("m-infer-done\r\n");
    results();
    return byte;
}

// Returns a byte that came while the model ran, or -1.
static int32_t obey(void) {
    char *rest = command;
    const char *verb = word(&rest);
    int32_t byte = -1;
    if (length > COMMAND_BYTES)
        refuse("Command of more than 80 characters");
    else if (!verb)
        refuse("Empty command");
    else if (ear_text_same(verb, "name"))
        ear_text_put("m-name-dut-[" EAR_BOARD "]\r\n");
    else if (ear_text_same(verb, "profile"))
        profile();
    else if (ear_text_same(verb, "timestamp"))
        timestamp(microseconds());
    else if (ear_text_same(verb, "help"))
        help();
    else if (ear_text_same(verb, "db"))
        buffer(rest);
    else if (ear_text_same(verb, "infer"))
        byte = infer(rest);
    else if (ear_text_same(verb, "results"))
        results();
    else {
        ear_text_put("e-[Unknown command: ");
        ear_text_put(verb);
        ear_text_put("]\r\n");
    }
    ear_text_put("m-ready\r\n");
    return byte;
}

void ear_dialect(ear_link_t *link) {
    ear_text_begin(link);
    ear_text_put("m-timestamp-mode-performance\r\n");
    timestamp(microseconds());
    ear_text_put("m-init-done\r\nm-ready\r\n");
    for (int32_t byte = -1; !ear_text_over();) {
        if (byte < 0) byte = ear_text_wait();
        if (byte < 0) return;
        if (byte == '%') {
            command[length < COMMAND_BYTES ? length : COMMAND_BYTES] = 0;
            byte = obey();
            length = 0;
            continue;
        }
        if (byte == 0) length = 0;
        if (byte >= ' ' && byte < 127) {
            if (length < COMMAND_BYTES) command[length] = (char)byte;
            if (length <= COMMAND_BYTES) length++;
        }
        byte = -1;
    }
}
