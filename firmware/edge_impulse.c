// Edge Impulse's AT commands: echo, answer, prompt. No answer holds a prompt: the client takes the first for the end.
#include "edge_impulse.h"

#include "dialect.h"
#include "model.h"
#include "ports/port.h"
#include "text.h"

#define COMMAND_BYTES 256u
#define ARGUMENTS 4u

ear_settings_t ear_settings;

static char command[COMMAND_BYTES + 1];
static uint32_t length;  // of it so far; COMMAND_BYTES + 1 once it is too long
static bool broken;      // by a 'b', whose carriage return still comes

static void copy(char *to, const char *from) {
    uint32_t i = 0;
    for (; from[i] && i + 1 < EAR_WORD_BYTES; i++) to[i] = from[i];
    to[i] = 0;
}

static void clear(void) {
    ear_settings = (ear_settings_t){.interval_ns = 1000000000u / EAR_RATE, .length_ms = 1000};
    copy(ear_settings.id, EAR_BUILD_ID);
    copy(ear_settings.label, "test");
    copy(ear_settings.key, "please-set-me");
}

bool ear_stopped(void) {
    for (int32_t byte; !broken && (byte = ear_text_read()) >= 0;) broken = byte == 'b';
    return broken || ear_text_over();
}

static void line(const char *key, const char *value) {
    ear_text_put(key);
    ear_text_put(value);
    ear_text_put("\r\n");
}

// A number of millionths with `decimals` of them, cut.
static void decimal(uint64_t millionths, uint32_t decimals) {
    uint32_t rest = (uint32_t)(millionths % 1000000u), unit = 100000u;
    ear_text_number(millionths / 1000000u);
    ear_text_put(".");
    for (; decimals--; rest %= unit, unit /= 10) ear_text_number(rest / unit);
}

static void sampling(void) {
    line("Label:     ", ear_settings.label);
    ear_text_put("Interval:  ");
    decimal(ear_settings.interval_ns, 4);
    ear_text_put(" ms.\r\nLength:    ");
    ear_text_number(ear_settings.length_ms);
    line(" ms.\r\nHMAC key:  ", ear_settings.key);
}

static void upload(void) {
    line("Api Key:   ", ear_settings.api_key);
    line("Host:      ", ear_settings.host);
    line("Path:      ", ear_settings.path);
}

static void config(char **unused) {
    (void)unused;
    ear_text_put("===== Device info =====\r\n");
    line("ID:         ", ear_settings.id);
    ear_text_put(
        "Type:       " EAR_BOARD "\r\nAT Version: 1.8.0\r\nData Transfer Baudrate: 115200\r\n\r\n"
        "===== Sensors ======\r\n");
    if (port_microphone) {
        ear_text_put("Name: Built-in microphone, Max sample length: ");
        decimal((uint64_t)ear_record_most() * 1000000u / EAR_RATE, 2);
        ear_text_put("s, Frequencies: [");
        ear_text_number(EAR_RATE);
        ear_text_put(".00Hz]\r\n");
    }
    ear_text_put(
        "\r\n===== Snapshot ======\r\nHas snapshot:         0\r\nSupports stream:      0\r\n"
        "Color depth:          Grayscale\r\n\r\n===== Inference ======\r\n");
    line("Sensor:           ", port_microphone && EAR_FRONTEND ? "1" : "-1");
    ear_text_put(
        "Model type:       classification\r\n\r\n===== WIFI =====\r\nSSID:      \r\nPassword:  \r\nSecurity:  0\r\n"
        "MAC:       \r\nConnected: 0\r\nPresent:   0\r\n\r\n===== Sampling parameters =====\r\n");
    sampling();
    ear_text_put("\r\n===== Upload settings =====\r\n");
    upload();
    ear_text_put("\r\n===== Remote management =====\r\n");
    line("URL:        ", ear_settings.url);
    ear_text_put("Connected:  0\r\nLast error: \r\n");
}

static void info(char **unused) {
    (void)unused;
    ear_text_put(
        "***********************\r\n* earkit's firmware   *\r\n***********************\r\n"
        "Firmware build date  : not kept, builds are repeatable\r\nML model author      : \r\n"
        "ML model name        : " EAR_MODEL_ID "\r\nML model ID          : " EAR_BUILD_ID "\r\n"
        "Model deploy version : 1\r\nEdge Impulse version : none, compiled by earkit\r\n");
    line("Used sensor          : ", port_microphone && EAR_FRONTEND ? "microphone" : "none");
}

static void ok(void) { ear_text_put("OK\r\n"); }

static void get_id(char **unused) {
    (void)unused;
    line("", ear_settings.id);
}

static void set_id(char **arguments) {
    copy(ear_settings.id, arguments[0]);
    ok();
}

static void get_sampling(char **unused) {
    (void)unused;
    sampling();
}

// Milliseconds with up to six decimals, in nanoseconds; 0 for anything else or above a second.
static uint32_t nanoseconds(const char *text) {
    uint32_t sum = 0, unit = 1000000u;
    bool fraction = false;
    for (; *text; text++) {
        if (*text == '.' && !fraction) {
            fraction = true;
            continue;
        }
        uint32_t digit = (uint32_t)(uint8_t)*text - '0';
        if (digit > 9 || sum > 100000000u) return 0;
        if (fraction) unit /= 10;
        sum = fraction ? sum + digit * unit : 10 * sum + digit * unit;
    }
    return sum;
}

static void set_sampling(char **arguments) {
    uint32_t length_ms, interval = nanoseconds(arguments[1]);
    if (!ear_text_parse(arguments[2], &length_ms) || length_ms == 0 || interval == 0) {
        ear_text_put("ERR: needs label, interval in ms, length in ms, HMAC key\r\n");
        return;
    }
    copy(ear_settings.label, arguments[0]);
    copy(ear_settings.key, arguments[3]);
    ear_settings.interval_ns = interval;
    ear_settings.length_ms = length_ms;
    ok();
}

static void get_upload(char **unused) {
    (void)unused;
    upload();
}

static void set_upload(char **arguments) {
    copy(ear_settings.api_key, arguments[0]);
    copy(ear_settings.path, arguments[1]);
    ok();
}

static void set_host(char **arguments) {
    copy(ear_settings.host, arguments[0]);
    ok();
}

static void set_url(char **arguments) {
    copy(ear_settings.url, arguments[0]);
    ok();
}

static void clear_config(char **unused) {
    (void)unused;
    clear();
    ok();
}

static void sample_start(char **arguments) {
    if (*arguments[0] && !ear_text_same(arguments[0], "Built-in microphone")) {
        ear_text_put("ERR: no such sensor, only Built-in microphone\r\n");
        return;
    }
    ear_record();
}

static void read_buffer(char **arguments) {
    uint32_t from, to;
    if (ear_text_same(arguments[2], "y") || !ear_text_parse(arguments[0], &from) ||
        !ear_text_parse(arguments[1], &to))
        ear_text_put("ERR: needs first byte, last byte + 1, n: there is one baud rate only\r\n");
    else
        ear_record_read(from, to);
}

static void run_once(char **unused) {
    (void)unused;
    ear_run(false);
}

static void run_continuous(char **unused) {
    (void)unused;
    ear_run(true);
}

static void run_static(char **arguments) {
    uint32_t count;
    if (ear_text_parse(arguments[1], &count))
        ear_run_static(count);
    else
        ear_text_put("ERR: needs y or n, number of float32\r\n");
}

static void reset(char **unused) {
    (void)unused;
    port_reset();
}

static void help(char **unused);

enum { RUN = 1, READ = 2, WRITE = 4 };

static const struct {
    const char *name;
    void (*obey)(char **arguments);
    uint32_t forms;
    const char *about;
} verbs[] = {
    {"HELP", help, RUN, "this"},
    {"INFO", info, RUN, "what runs here"},
    {"CONFIG", config, READ, "what this device has and is set to"},
    {"CLEARCONFIG", clear_config, RUN, "the settings as after a reset"},
    {"DEVICEID", get_id, READ, "the id"},
    {"DEVICEID", set_id, WRITE, "ID"},
    {"SAMPLESETTINGS", get_sampling, READ, "how a recording is taken"},
    {"SAMPLESETTINGS", set_sampling, WRITE, "LABEL,INTERVAL_MS,LENGTH_MS,HMAC_KEY"},
    {"UPLOADSETTINGS", get_upload, READ, "where it would go"},
    {"UPLOADSETTINGS", set_upload, WRITE, "API_KEY,PATH"},
    {"UPLOADHOST", set_host, WRITE, "HOST"},
    {"MGMTSETTINGS", set_url, WRITE, "URL"},
    {"SAMPLESTART", sample_start, RUN | WRITE, "SENSOR: record"},
    {"READBUFFER", read_buffer, WRITE, "FROM,TO,n: the recording in base64"},
    {"RUNIMPULSE", run_once, RUN, "classify window after window; b stops it"},
    {"RUNIMPULSECONT", run_continuous, RUN, "classify a sliding window"},
    {"RUNIMPULSEDEBUG", run_once, RUN | WRITE, "n: as RUNIMPULSE, which has no picture to show"},
    {"RUNIMPULSESTATIC", run_static, WRITE, "n,COUNT: classify COUNT float32 that follow in base64"},
    {"RESET", reset, RUN, "start again"},
};
#define VERBS (sizeof verbs / sizeof *verbs)

static void help(char **unused) {
    (void)unused;
    for (uint32_t i = 0; i < VERBS; i++) {
        ear_text_put("AT+");
        ear_text_put(verbs[i].name);
        ear_text_put(verbs[i].forms == READ ? "?  " : verbs[i].forms & WRITE ? "=" : "  ");
        line("", verbs[i].about);
    }
}

static void refuse(const char *what, const char *which) {
    ear_text_put(what);
    ear_text_put(" (");
    ear_text_put(which);
    ear_text_put(")\r\n");
}

// Cut `text` at its commas; arguments that are not there are empty.
static void split(char *text, char **arguments) {
    static char none[1];
    for (uint32_t i = 0; i < ARGUMENTS; i++) {
        arguments[i] = text;
        while (*text && *text != ',') text++;
        if (*text && i + 1 < ARGUMENTS)
            *text++ = 0;
        else if (i + 1 < ARGUMENTS)
            text = none;
    }
}

static void obey(void) {
    char *arguments[ARGUMENTS], *end = command + 3;
    if (!length) return;
    if (length > COMMAND_BYTES) {
        refuse("Not a valid AT command", "longer than 256 characters");
        return;
    }
    if (ear_text_same(command, "AT")) {
        ok();
        return;
    }
    if (command[0] != 'A' || command[1] != 'T' || command[2] != '+') {
        refuse("Not a valid AT command", command);
        return;
    }
    while (*end && *end != '?' && *end != '=') end++;
    uint32_t form = *end == '?' ? READ : *end == '=' ? WRITE : RUN;
    char mark = *end;
    *end = 0;
    split(mark ? end + 1 : end, arguments);
    bool known = false;
    for (uint32_t i = 0; i < VERBS; i++) {
        if (!ear_text_same(command + 3, verbs[i].name)) continue;
        if (verbs[i].forms & form) {
            verbs[i].obey(arguments);
            return;
        }
        known = true;
    }
    if (known && form == READ) *end = '?', end[1] = 0;
    if (known && form == WRITE) *end = '=', end[1] = 0;
    refuse(known ? "No handler for command!" : "Command not found!", command);
}

// A '>' would look like the prompt when it is told again.
static void take(uint8_t byte) {
    if (byte == '>') byte = '_';
    if (length < COMMAND_BYTES) command[length] = (char)byte;
    if (length <= COMMAND_BYTES) length++;
    ear_text_bytes(&byte, 1);
}

void ear_dialect(ear_link_t *link) {
    ear_text_begin(link);
    clear();
    ear_text_put("\r\nType AT+HELP to see a list of commands.\r\n" "> ");
    for (int32_t byte; (byte = ear_text_wait()) >= 0;) {
        bool expected = broken && byte == '\r';
        broken = false;
        if (expected) continue;
        if (byte == 0) length = 0;
        if (byte >= ' ' && byte < 127) take((uint8_t)byte);
        if ((byte == 8 || byte == 127) && length) {
            length = length > COMMAND_BYTES ? COMMAND_BYTES : length - 1;
            ear_text_put("\b \b");
        }
        if (byte != '\r') continue;
        ear_text_put("\r\n");
        command[length < COMMAND_BYTES ? length : COMMAND_BYTES] = 0;
        obey();
        length = 0;
        ear_text_put("> ");
    }
}
