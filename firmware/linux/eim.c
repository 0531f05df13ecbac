// Edge Impulse's Linux runner: hello, classify, classify_continuous and set_threshold in JSON, each answer ends in NUL.
#include "dialect.h"
#include "line.h"
#include "request.h"
#include "runner.h"
#include "system.h"
#include "kernels/float_math.h"
#include "model.h"
#include "ports/port.h"
#include "text.h"

static const char *const labels[EAR_OUTPUT_BYTES] = {EAR_LABELS};
static ear_link_t silent;  // what text.c asks whether a HELLO has come
static bool greeted, pretty;
static float least;  // score, by set_threshold: what is below is told as 0; values of a regression have none

// Text in the form that people read when `pretty`: a line for each value.
static void say(const char *text) {
    static uint32_t depth;
    static bool quoted;
    static const char blank[] = "                ";
    if (!pretty) {
        ear_text_put(text);
        return;
    }
    for (; *text; text++) {
        const bool opens = *text == '{' || *text == '[', closes = *text == '}' || *text == ']';
        if (*text == '"') quoted = !quoted;  // no text of ours has a quote in it
        depth -= !quoted && closes;
        const char one[2] = {*text, 0};
        if (!quoted && closes) ear_text_put("\n");
        if (!quoted && closes) ear_text_put(blank + sizeof blank - 1 - 4 * depth);
        ear_text_put(one);
        depth += !quoted && opens;
        if (!quoted && *text == ':') ear_text_put(" ");
        if (quoted || (!opens && *text != ',')) continue;
        ear_text_put("\n");
        ear_text_put(blank + sizeof blank - 1 - 4 * depth);
    }
}

static void number(const char *before, uint64_t value) {
    say(before);
    ear_text_number(value);
}

static void begin(bool success) {
    say("{");
    if (ear_request.has_id) {
        say(ear_request.id < 0 ? "\"id\":-" : "\"id\":");
        ear_text_number(ear_request.id < 0 ? 0u - (uint64_t)ear_request.id : (uint64_t)ear_request.id);
        say(",");
    }
    say(success ? "\"success\":true" : "\"success\":false,\"error\":\"");
}

static void end(const char *text) {
    static const uint8_t zero = 0;
    say(text);
    ear_text_put("\n");
    if (!pretty) port_uart_write(&zero, 1);
}

static void error(const char *what) {
    begin(false);
    say(what);
    end("\"}");
}

static void names(void) {
    for (uint32_t i = 0; i < EAR_OUTPUT_BYTES; i++) {
        say(i ? ",\"" : "\"");
        say(labels[i]);
        say("\"");
    }
}

static void real(const char *before, float value, uint32_t decimals) {
    say(before);
    ear_text_real(value, decimals);
}

static void shared(void) {
    if (!ear_runner_shared()) {
        say(",\"features_shm_error\":\"there is no /dev/shm to write to\"");
        return;
    }
    say(",\"features_shm\":{\"name\":\"");
    say(ear_runner_shared());
    number("\",\"size_bytes\":", 4u * EAR_COUNT);
    number(",\"type\":\"float32\",\"elements\":", EAR_COUNT);
    say("}");
}

static void info(void) {
    begin(true);
    say(",\"project\":{\"id\":1,\"owner\":\"earkit\",\"name\":\"" EAR_MODEL_ID "\",\"deploy_version\":1,\"impulse_id\":1,"
        "\"impulse_name\":\"" EAR_BUILD_ID "\"}");
    number(",\"model_parameters\":{\"input_features_count\":", EAR_COUNT);
#if EAR_FRONTEND
    number(",\"sensor\":1,\"frequency\":", EAR_FE_RATE);
    real(",\"interval_ms\":", 1000.0f / (float)EAR_FE_RATE, 5);
#else
    say(",\"sensor\":-1,\"frequency\":0,\"interval_ms\":1");
#endif
    say(",\"axis_count\":1,\"image_input_width\":0,\"image_input_height\":0,\"image_input_frames\":0,"
        "\"image_channel_count\":0,\"image_resize_mode\":\"none\"");
    number(",\"label_count\":", EAR_OUTPUT_BYTES);
    say(",\"has_anomaly\":0,\"has_object_tracking\":false,\"labels\":[");
    names();
    say("],\"model_type\":\"classification\"");
    number(",\"slice_size\":", EAR_SLICE);
    say(EAR_SLICE ? ",\"use_continuous_mode\":true" : ",\"use_continuous_mode\":false");
    say(",\"has_performance_calibration\":false,\"inferencing_engine\":255,\"thresholds\":[");
    if (!EAR_VALUES) real("{\"id\":1,\"type\":\"classification\",\"min_score\":", least, 5);
    if (!EAR_VALUES) say("}");
    say("]},\"inferencing_engine\":{\"engine_type\":255,\"properties\":[]}");
    if (!pretty) shared();
    end("}");
}

static void scores(float *values) {
    for (uint32_t i = 0; i < EAR_OUTPUT_BYTES; i++)
        values[i] = (float)(ear_runner.output[i] - EAR_OUTPUT_ZERO_POINT) * EAR_OUTPUT_SCALE;
#if EAR_LOGITS
    float most = values[0], sum = 0.0f;
    for (uint32_t i = 1; i < EAR_OUTPUT_BYTES; i++) most = values[i] > most ? values[i] : most;
    for (uint32_t i = 0; i < EAR_OUTPUT_BYTES; i++) sum += values[i] = ear_float_exp(values[i] - most);
    for (uint32_t i = 0; i < EAR_OUTPUT_BYTES; i++) values[i] /= sum;
#endif
}

// The answer to classify, whose features are at hand.
static void classify(bool continuous) {
    float values[EAR_OUTPUT_BYTES];
    const uint64_t start = port_counter();
    const bool heard = ear_runner_classify(continuous);
    const uint64_t whole = port_counter() - start;
    scores(values);
    begin(true);
    say(",\"result\":{\"classification\":{");
    for (uint32_t i = 0; i < EAR_OUTPUT_BYTES; i++) {
        say(i ? ",\"" : "\"");
        say(labels[i]);
        real("\":", heard && (EAR_VALUES || !(values[i] < least)) ? values[i] : 0.0f, 5);
    }
    real("}},\"timing\":{\"dsp\":", (float)(whole - ear_runner.nanoseconds) / 1e6f, 3);
    real(",\"classification\":", (float)ear_runner.nanoseconds / 1e6f, 3);
    end(",\"anomaly\":0,\"json\":0,\"stdin\":0}}");
}

static void features(uint32_t wanted, bool continuous, bool in_memory) {
    const double given = in_memory && ear_request.has_number ? ear_request.number : (double)ear_request.values;
    if (given != (double)wanted || (in_memory && !ear_request.has_number)) {
        begin(false);
        number("this request needs ", wanted);
        say(" features, got ");
        ear_text_number(given > 0 && given < 9e15 ? (uint64_t)given : 0);
        end("\"}");
        return;
    }
    const char *wrong = in_memory ? ear_runner_from_shared(wanted) : 0;
    if (wrong)
        error(wrong);
    else
        classify(continuous);
}

static void hello(void) {
    if (greeted || !ear_request.has_number || ear_request.number != 1.0) {
        error(greeted ? "is initialized already" : "hello is 1, the only version");
        return;
    }
    greeted = true;
    info();
}

static void threshold(void) {
    static const char key[] = "min_score";
    uint32_t i = 0;
    while (key[i] && ear_request.key[i] == key[i]) i++;
    if (EAR_VALUES) {
        error("values have no threshold");
    } else if (ear_request.block != 1.0) {
        error("the only block with a threshold has the id 1");
    } else if (!ear_request.has_number || key[i] != ear_request.key[i]) {
        error("the only threshold is min_score");
    } else {
        least = (float)ear_request.number;
        begin(true);
        end("}");
    }
}

static void answer(void) {
    if (ear_request.wrong) {
        error(ear_request.wrong);
        return;
    }
    if (ear_request.asks != EAR_ASKS_HELLO && ear_request.asks != EAR_ASKS_NOTHING && !greeted) {
        error("should initialize first");
        return;
    }
    switch (ear_request.asks) {
        case EAR_ASKS_HELLO: hello(); break;
        case EAR_ASKS_CLASSIFY: features(EAR_COUNT, false, false); break;
        case EAR_ASKS_CLASSIFY_SHM: features(EAR_COUNT, false, true); break;
#if EAR_SLICE
        case EAR_ASKS_CONTINUOUS: features(EAR_SLICE, true, false); break;
        case EAR_ASKS_CONTINUOUS_SHM: features(EAR_SLICE, true, true); break;
#endif
        case EAR_ASKS_THRESHOLD: threshold(); break;
        case EAR_ASKS_PARAMETER: error("this model has no parameters"); break;
        default: error("unknown request");
    }
}

// Answer one client until it has gone.
static void serve(void) {
    greeted = false;
    least = 0.0f;
    ear_request_begin();
    ear_runner_begin();
    while (!ear_line_closed()) {
        const int32_t byte = port_uart_read();
        if (byte < 0) {
            port_idle();
        } else if (ear_request_feed((uint8_t)byte)) {
            answer();
        }
    }
}

int32_t ear_eim(const char *where) {
    ear_text_begin(&silent);
    ear_model_init();
    pretty = where[0] == '-';
    if (pretty) {
        ear_line_open(0, 1, false);
        ear_request.has_id = true;
        ear_request.id = 1;
        info();
        port_uart_read();  // sends what was said
        return 0;
    }
    return ear_runner_serve(where, serve);
}
