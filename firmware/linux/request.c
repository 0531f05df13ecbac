// An incremental JSON scanner: it keeps no text but the last keys, and finds the end of whatever it is given.
#include "request.h"

#define DEEPEST 64u

ear_request_t ear_request;

enum { IDLE, SKIP, FIRST_KEY, KEY, COLON, FIRST_VALUE, VALUE, AFTER, STRING, ESCAPE, NUMBER, WORD, LOST };

static struct {
    uint8_t state;
    bool name, answered;      // the string is a key; the request has been answered before its end
    bool quoted, escaped;     // of what is lost
    uint32_t bytes, depth;    // of the object so far
    uint64_t lists;           // a bit for each depth: an array
    char keys[2][EAR_KEY_BYTES];
    uint32_t length;          // of the key that comes
    const char *word;         // what is left of true, false or null
} scan;

static struct {
    enum { SIGN, ZERO, DIGITS, POINT, FRACTION, MARK, POWER_SIGN, POWER } state;
    bool negative, power_negative;
    uint64_t mantissa;
    int32_t exponent, power;
} number;

static const struct {
    const char *name;
    ear_asks_t asks;
} requests[] = {
    {"hello", EAR_ASKS_HELLO},
    {"classify", EAR_ASKS_CLASSIFY},
    {"classify_shm", EAR_ASKS_CLASSIFY_SHM},
    {"classify_continuous", EAR_ASKS_CONTINUOUS},
    {"classify_continuous_shm", EAR_ASKS_CONTINUOUS_SHM},
    {"set_threshold", EAR_ASKS_THRESHOLD},
    {"set_parameter", EAR_ASKS_PARAMETER},
};

static bool same(const char *a, const char *b) {
    while (*a && *a == *b) a++, b++;
    return *a == *b;
}

static void wrong(const char *what) {
    if (!ear_request.wrong) ear_request.wrong = what;
}

void ear_request_begin(void) {
    scan.state = IDLE;
    scan.depth = scan.bytes = 0;
}

static bool in_list(void) { return scan.depth && scan.lists >> (scan.depth - 1) & 1u; }

static bool takes_list(void) {
    return ear_request.asks == EAR_ASKS_CLASSIFY || ear_request.asks == EAR_ASKS_CONTINUOUS;
}

// The key of the first depth is whole: is it a request?
static void asked(void) {
    for (uint32_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        if (!same(scan.keys[0], requests[i].name)) continue;
        if (ear_request.asks) wrong("one request at a time");
        ear_request.asks = requests[i].asks;
    }
}

static bool asked_here(void) {
    for (uint32_t i = 0; i < sizeof requests / sizeof *requests; i++)
        if (requests[i].asks == ear_request.asks) return same(scan.keys[0], requests[i].name);
    return false;
}

static void found_number(double value) {
    const ear_asks_t asks = ear_request.asks;
    if (scan.depth == 1 && same(scan.keys[0], "id")) {
        const bool whole = value > -9.0e15 && value < 9.0e15 && (double)(int64_t)value == value;
        if (!whole) wrong("id is an integer");
        ear_request.has_id = whole;
        ear_request.id = whole ? (int64_t)value : 0;
    } else if (scan.depth == 1 && asked_here()) {
        ear_request.has_number = asks == EAR_ASKS_HELLO;
        ear_request.number = value;
        if (asks != EAR_ASKS_HELLO) wrong("a number is not what this request takes");
    } else if (scan.depth == 2 && asked_here() && takes_list() && in_list()) {
        if (ear_request.values < UINT32_MAX) ear_request_value(ear_request.values++, value);
    } else if (scan.depth == 2 && asked_here() && !in_list()) {
        const bool block = asks == EAR_ASKS_THRESHOLD && same(scan.keys[1], "id");
        if (block) ear_request.block = value;
        if (block || (asks != EAR_ASKS_THRESHOLD && !same(scan.keys[1], "elements"))) return;
        ear_request.has_number = true;
        ear_request.number = value;
        for (uint32_t i = 0; i < EAR_KEY_BYTES; i++) ear_request.key[i] = scan.keys[1][i];
    }
}

// Whatever else than a number comes as a value.
static void found_other(void) {
    if (scan.depth == 2 && asked_here() && takes_list()) wrong("features are numbers");
    if (scan.depth == 1 && same(scan.keys[0], "id")) wrong("id is an integer");
    if (scan.depth == 1 && ear_request.asks == EAR_ASKS_HELLO && asked_here()) wrong("hello is a number");
}

static void number_begin(uint8_t byte) {
    number.negative = byte == '-';
    number.state = byte == '-' ? SIGN : byte == '0' ? ZERO : DIGITS;
    number.mantissa = byte == '-' ? 0 : (uint64_t)(byte - '0');
    number.exponent = number.power = 0;
    number.power_negative = false;
}

static void digit(uint8_t byte, bool behind_point) {
    const bool room = number.mantissa < UINT64_MAX / 10 - 1;
    if (room) number.mantissa = 10 * number.mantissa + (uint64_t)(byte - '0');
    if (room == behind_point && number.exponent > -100000 && number.exponent < 100000)
        number.exponent += room ? -1 : 1;
}

// Take another byte of a number; false when it is not of the number.
static bool number_goes_on(uint8_t byte) {
    const bool is_digit = byte >= '0' && byte <= '9', mark = byte == 'e' || byte == 'E';
    switch (number.state) {
        case SIGN:
            if (!is_digit) return false;
            number.state = byte == '0' ? ZERO : DIGITS;
            number.mantissa = (uint64_t)(byte - '0');
            return true;
        case ZERO:
        case DIGITS:
            if (is_digit && number.state == ZERO) return false;
            if (is_digit) digit(byte, false);
            if (byte == '.') number.state = POINT;
            if (mark) number.state = MARK;
            return is_digit || byte == '.' || mark;
        case POINT:
        case FRACTION:
            if (mark && number.state == POINT) return false;
            if (mark) number.state = MARK;
            if (is_digit) number.state = FRACTION;
            if (is_digit) digit(byte, true);
            return is_digit || mark;
        default: break;
    }
    if (number.state == MARK && (byte == '+' || byte == '-')) {
        number.power_negative = byte == '-';
        number.state = POWER_SIGN;
        return true;
    }
    if (is_digit && number.power < 100000) number.power = 10 * number.power + (byte - '0');
    if (is_digit) number.state = POWER;
    return is_digit;
}

static bool number_whole(void) {
    return number.state == ZERO || number.state == DIGITS || number.state == FRACTION || number.state == POWER;
}

// Exact as long as digits and power of ten are, which integers and short decimals are.
static double number_value(void) {
    double value = (double)number.mantissa, ten = 10.0, scale = 1.0;
    const int32_t exponent = number.exponent + (number.power_negative ? -number.power : number.power);
    uint32_t left = exponent < 0 ? 0u - (uint32_t)exponent : (uint32_t)exponent;
    for (left = left > 400 ? 400 : left; left; left >>= 1, ten *= ten)
        if (left & 1u) scale *= ten;
    if (number.mantissa) value = exponent < 0 ? value / scale : value * scale;
    return number.negative ? -value : value;
}

// From here on only braces, brackets and quotes are looked at, to find the end.
static void lose(const char *why) {
    wrong(why);
    if (scan.state != LOST) {
        scan.escaped = scan.state == ESCAPE;
        scan.quoted = scan.escaped || scan.state == STRING;
    }
    scan.state = LOST;
}

static void lost(uint8_t byte) {
    if (scan.quoted) {
        if (!scan.escaped && byte == '"') scan.quoted = false;
        scan.escaped = !scan.escaped && byte == '\\';
        return;
    }
    if (byte == '"') scan.quoted = true;
    if ((byte == '{' || byte == '[') && scan.depth < UINT32_MAX) scan.depth++;
    if (byte == '}' || byte == ']') scan.depth--;
}

static void open(bool list) {
    if (scan.depth == DEEPEST) {
        lose("nested too deeply");
        lost('{');
        return;
    }
    const bool fits = list == takes_list() && ear_request.asks != EAR_ASKS_HELLO;
    if (scan.depth == 1 && asked_here() && !fits) wrong("not what this request takes");
    if (scan.depth >= 1 && !(scan.depth == 1 && asked_here())) found_other();
    const uint64_t bit = (uint64_t)1 << scan.depth++;
    scan.lists = list ? scan.lists | bit : scan.lists & ~bit;
    scan.state = list ? FIRST_VALUE : FIRST_KEY;
}

static void close(void) {
    scan.depth--;
    scan.state = AFTER;
}

static void value(uint8_t byte) {
    scan.state = WORD;
    if (byte == '{' || byte == '[') {
        open(byte == '[');
    } else if (byte == '"') {
        scan.state = STRING;
        scan.name = false;
        found_other();
    } else if (byte == '-' || (byte >= '0' && byte <= '9')) {
        scan.state = NUMBER;
        number_begin(byte);
    } else if (byte == 't' || byte == 'f' || byte == 'n') {
        scan.word = byte == 't' ? "rue" : byte == 'f' ? "alse" : "ull";
        found_other();
    } else {
        lose("not JSON");
        lost(byte);
    }
}

static void string(uint8_t byte) {
    if (scan.state == ESCAPE) {
        scan.state = STRING;
        byte = '\\';
    } else if (byte == '\\') {
        scan.state = ESCAPE;
        return;
    } else if (byte == '"') {
        scan.state = scan.name ? COLON : AFTER;
        if (!scan.name || scan.depth > 2) return;
        scan.keys[scan.depth - 1][scan.length < EAR_KEY_BYTES ? scan.length : 0] = 0;
        if (scan.depth == 1) asked();
        return;
    }
    if (scan.name && scan.depth <= 2 && scan.length < EAR_KEY_BYTES)
        scan.keys[scan.depth - 1][scan.length++] = (char)byte;
}

static void structure(uint8_t byte) {
    const bool list = in_list();
    switch (scan.state) {
        case COLON:
            if (byte != ':') break;
            scan.state = VALUE;
            return;
        case AFTER:
            if (byte == (list ? ']' : '}')) {
                close();
                return;
            }
            if (byte != ',') break;
            scan.state = list ? VALUE : KEY;
            return;
        case FIRST_KEY:
        case KEY:
            if (byte == '}' && scan.state == FIRST_KEY) {
                close();
                return;
            }
            if (byte != '"') break;
            scan.state = STRING;
            scan.name = true;
            scan.length = 0;
            return;
        case FIRST_VALUE:
            if (byte == ']') {
                close();
                return;
            }
            value(byte);
            return;
        default: value(byte); return;
    }
    lose("not JSON");
    lost(byte);
}

static void scalar(uint8_t byte) {
    if (scan.state == WORD) {
        if (byte != (uint8_t)*scan.word) {
            lose("not JSON");
            lost(byte);
        } else if (!*++scan.word) {
            scan.state = AFTER;
        }
        return;
    }
    if (number_goes_on(byte)) return;
    scan.state = AFTER;
    if (number_whole())
        found_number(number_value());
    else
        lose("not JSON");
    if (scan.state == LOST)
        lost(byte);
    else if (byte > ' ')
        structure(byte);
}

static bool begin(uint8_t byte) {
    if (byte == '{') {
        ear_request = (ear_request_t){.asks = EAR_ASKS_NOTHING};
        scan.state = FIRST_KEY;
        scan.depth = scan.bytes = 1;
        scan.lists = 0;
        scan.answered = false;
        scan.keys[0][0] = scan.keys[1][0] = 0;
        return false;
    }
    if (byte == '\n' || byte == 0) scan.state = IDLE;
    if (byte <= ' ' || scan.state == SKIP) return false;
    scan.state = SKIP;  // until the line ends, or an object begins
    ear_request = (ear_request_t){.wrong = "not a JSON object"};
    return true;
}

bool ear_request_feed(uint8_t byte) {
    if (!scan.depth) return begin(byte);
    if (scan.state == LOST)
        lost(byte);
    else if (scan.state == STRING || scan.state == ESCAPE)
        string(byte);
    else if (scan.state == NUMBER || scan.state == WORD)
        scalar(byte);
    else if (byte > ' ')
        structure(byte);
    if (!scan.depth) scan.state = IDLE;
    if (!scan.depth && !scan.answered) return true;
    if (scan.answered || ++scan.bytes != EAR_MESSAGE_BYTES) return false;
    lose("a message has at most 33554432 bytes");
    scan.answered = true;
    return true;
}
