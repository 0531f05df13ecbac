// RUNIMPULSE and its kin: the microphone, or what the host sends, through front end and model to lines of text.
#include "dialect.h"
#include "edge_impulse.h"
#include "kernels/float_math.h"
#include "model.h"
#include "ports/port.h"
#include "text.h"
#if EAR_FRONTEND
#include "frontend.h"
#endif

#define CHUNK 32u        // characters that the host sends before it waits for an answer
#define SLICES 4u        // of a window, in continuous mode
#define BLOCK 64u        // samples
#if EAR_FRONTEND
#define COUNT (EAR_FE_WINDOW + (EAR_FE_FRAMES - 1) * EAR_FE_HOP)  // samples of a window
#else
#define COUNT EAR_INPUT_BYTES
#endif

static const char *const labels[EAR_OUTPUT_BYTES] = {EAR_LABELS};

static void number(const char *before, uint64_t value, const char *after) {
    ear_text_put(before);
    ear_text_number(value);
    ear_text_put(after);
}

static void duration(const char *before, uint64_t count) {
    uint64_t micro = ear_text_micro(count, EAR_CLOCK_HZ);
    if (micro < 1000)
        number(before, micro, " us");
    else
        number(before, micro / 1000, " ms");
}

static void predictions(void) {
    float values[EAR_OUTPUT_BYTES];
    for (uint32_t i = 0; i < EAR_OUTPUT_BYTES; i++)
        values[i] = (float)(ear_output[i] - EAR_OUTPUT_ZERO_POINT) * EAR_OUTPUT_SCALE;
#if EAR_LOGITS
    float most = values[0], sum = 0.0f;
    for (uint32_t i = 1; i < EAR_OUTPUT_BYTES; i++) most = values[i] > most ? values[i] : most;
    for (uint32_t i = 0; i < EAR_OUTPUT_BYTES; i++) sum += values[i] = ear_float_exp(values[i] - most);
    for (uint32_t i = 0; i < EAR_OUTPUT_BYTES; i++) values[i] /= sum;
#endif
    for (uint32_t i = 0; i < EAR_OUTPUT_BYTES; i++) {
        ear_text_put("  ");
        ear_text_put(labels[i]);
        ear_text_put(": ");
        ear_text_real(values[i], 5);
        ear_text_put("\r\n");
    }
}

// Run the model and say what came of it, under `title`.
static void classify(uint64_t dsp, const char *title) {
    uint64_t start = port_counter();
    ear_model_invoke(0);
    uint64_t end = port_counter();
    duration("Timing: DSP ", dsp);
    duration(", inference ", end - start);
    ear_text_put(", anomaly 0 ms\r\n");
    ear_text_put(title);
    predictions();
}

void ear_run_settings(void) {
    number("Inferencing settings:\r\n\tFrame size: ", COUNT, "\r\n");
#if EAR_FRONTEND
    number("\tSample length: ", (uint64_t)COUNT * 1000u / EAR_RATE, " ms.\r\n");
#endif
    number("\tNo. of classes: ", EAR_OUTPUT_BYTES, "\r\n\tTimes: ");
    ear_text_put(port_unit == EAR_UNIT_CYCLES ? "cycles" : "estimated, instructions");
    number(" / ", EAR_CLOCK_HZ, " Hz\r\n");
}

#if EAR_FRONTEND
static struct {
    uint32_t held;  // samples in window
    uint32_t row;   // of the ring, next to be written
    uint32_t rows;  // since the begin
    uint64_t dsp;   // work since the last result
    int16_t window[EAR_FE_WINDOW];
    int8_t ring[EAR_FE_FRAMES][EAR_FE_FEATURES];
} heard;

static void begin(void) {
    heard.held = heard.row = heard.rows = 0;
    heard.dsp = 0;
}

static void hear(int16_t sample) {
    heard.window[heard.held++] = sample;
    if (heard.held < EAR_FE_WINDOW) return;
    uint64_t start = port_counter();
    ear_frontend_frame(heard.window, heard.ring[heard.row]);
    heard.dsp += port_counter() - start;
    heard.row = (heard.row + 1) % EAR_FE_FRAMES;
    heard.rows++;
    heard.held = EAR_FE_WINDOW - EAR_FE_HOP;
    for (uint32_t i = 0; i < heard.held; i++) heard.window[i] = heard.window[i + EAR_FE_HOP];
}

static void classify_heard(const char *title) {
    for (uint32_t i = 0; i < EAR_FE_FRAMES; i++)
        for (uint32_t k = 0; k < EAR_FE_FEATURES; k++)
            ear_input[i * EAR_FE_FEATURES + k] = heard.ring[(heard.row + i) % EAR_FE_FRAMES][k];
    uint64_t dsp = heard.dsp;
    heard.dsp = 0;
    classify(dsp, title);
}

// Hear until there are so many rows; false when it was stopped.
static bool gather(uint32_t rows) {
    int16_t block[BLOCK];
    while (heard.rows < rows) {
        if (ear_stopped()) return false;
        uint32_t count = port_microphone_read(block, BLOCK);
        if (!count) port_idle();
        for (uint32_t i = 0; i < count; i++) hear(block[i]);
    }
    return true;
}

static void say_lost(uint32_t *told) {
    uint32_t lost = port_microphone_lost();
    if (lost != *told) number("Samples lost: ", lost - *told, "\r\n");
    *told = lost;
}

void ear_run(bool continuous) {
    ear_run_settings();
    if (!port_microphone || !port_microphone_start(EAR_RATE)) {
        number("ERR: no microphone that hears ", EAR_RATE, " Hz\r\n");
        return;
    }
    ear_text_put("Starting inferencing, press 'b' to break\r\n");
    uint32_t slice = EAR_FE_FRAMES / SLICES ? EAR_FE_FRAMES / SLICES : 1, wanted = EAR_FE_FRAMES, lost = 0;
    begin();
    for (;;) {
        if (!continuous) ear_text_put("Recording...\r\n");
        if (!gather(wanted)) break;
        if (!continuous) ear_text_put("Recording done\r\n");
        say_lost(&lost);
        classify_heard("#Classification predictions:\r\n");
        if (continuous) {
            heard.rows = EAR_FE_FRAMES - slice;
        } else {
            begin();
        }
    }
    port_microphone_stop();
    ear_text_put("Inferencing stopped by user\r\n");
}

static void take(uint32_t index, float value) {
    (void)index;
    float near = value < 0.0f ? value - 0.5f : value + 0.5f;
    hear(near >= 32767.0f ? INT16_MAX : near > -32768.0f ? (int16_t)near : INT16_MIN);
}
#else
static int8_t features[COUNT];

void ear_run(bool continuous) {
    (void)continuous;
    ear_text_put("ERR: this model has no front end for sound, only RUNIMPULSESTATIC\r\n");
}

static void take(uint32_t index, float value) {
    features[index] = ear_text_int8(value, EAR_INPUT_SCALE, EAR_INPUT_ZERO_POINT);
}
#endif

// The six bits that a character stands for, 64 for the padding, -1 for anything else.
static int32_t six(int32_t c) {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : c == '=' ? 64 : -1;
}

// Take `count` float32, little end first; false when something else came. There is no clock to run out here.
static bool receive(uint32_t count) {
    const uint32_t characters = (4 * count + 2) / 3 * 4;
    uint32_t bits = 0, held = 0, taken = 0, word = 0, bytes = 0;
    for (uint32_t i = 1; i <= characters; i++) {
        int32_t value = six(ear_text_wait());
        if (value < 0) return false;
        bits = bits << 6 | ((uint32_t)value & 63);
        held += 6;
        if (held >= 8) {
            held -= 8;
            word |= (bits >> held & 255u) << 8 * bytes++;
            if (bytes == 4 && taken < count) take(taken++, ear_of_bits(word));
            if (bytes == 4) word = bytes = 0;
        }
        if (i % CHUNK == 0 || i == characters) number("OK ", taken, " \r\n");
    }
    return taken == count;
}

void ear_run_static(uint32_t count) {
    if (count != COUNT) {
        number("ERR: this model takes ", COUNT, " values\r\n");
        return;
    }
#if EAR_FRONTEND
    begin();
#endif
    number("OK CHUNK=", CHUNK, "\r\n");
    if (!receive(count)) {
        ear_text_put("TIMEOUT\r\nEND OUTPUT\r\n");
        return;
    }
    number("TRANSFER COMPLETED ", count, "\r\n");
#if EAR_FRONTEND
    classify_heard("Predictions:\r\n");
#else
    for (uint32_t i = 0; i < COUNT; i++) ear_input[i] = features[i];
    classify(0, "Predictions:\r\n");
#endif
    ear_text_put("RESULT 0\r\nEND OUTPUT\r\n");
}
