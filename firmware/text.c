// Text on the UART for the outside dialects: what is a HELLO goes to the link, numbers are printed exactly.
#include "text.h"

#include "ports/port.h"

#define HELLO_CODE 2u    // first byte of a HELLO behind its zero: COBS, one byte follows before the next zero
#define HELLO_BYTES 40u  // more than a HELLO takes on the line

static ear_link_t *line;
static enum { TEXT, ZERO, FRAME } state;
static uint32_t taken;  // bytes of what may be a HELLO

void ear_text_begin(ear_link_t *link) {
    line = link;
    state = TEXT;
}

bool ear_text_over(void) { return line->session != 0; }

// Whether `byte` is text. A zero and HELLO_CODE begin a frame; one that gets too long was noise.
static bool is_text(uint8_t byte) {
    static const uint8_t zero = 0;
    if (byte == 0) {
        if (state == FRAME) port_uart_write(&zero, 1);  // ends what the host has read as text so far
        ear_link_feed(line, 0);
        state = ZERO;
        taken = 0;
        return false;
    }
    if (state == TEXT || (state == ZERO && byte != HELLO_CODE)) {
        state = TEXT;
        return true;
    }
    ear_link_feed(line, byte);
    state = FRAME;
    if (++taken == HELLO_BYTES) {
        ear_link_feed(line, 0);
        state = TEXT;
    }
    return false;
}

int32_t ear_text_read(void) {
    while (!ear_text_over()) {
        int32_t byte = port_uart_read();
        if (byte < 0) break;
        if (is_text((uint8_t)byte) || byte == 0) return byte;
    }
    return -1;
}

int32_t ear_text_wait(void) {
    for (;;) {
        int32_t byte = ear_text_read();
        if (byte >= 0 || ear_text_over()) return byte;
        port_idle();
    }
}

void ear_text_bytes(const uint8_t *bytes, uint32_t length) {
    if (!ear_text_over()) port_uart_write(bytes, length);
}

void ear_text_put(const char *text) {
    uint32_t length = 0;
    while (text[length]) length++;
    ear_text_bytes((const uint8_t *)text, length);
}

void ear_text_number(uint64_t value) {
    char digits[21];
    uint32_t at = sizeof digits - 1;
    digits[at] = 0;
    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    ear_text_put(digits + at);
}

void ear_text_hex(uint8_t byte) {
    static const char digits[] = "0123456789abcdef";
    const uint8_t text[2] = {(uint8_t)digits[byte >> 4], (uint8_t)digits[byte & 15]};
    ear_text_bytes(text, sizeof text);
}

// The nearest integer to mantissa * 2^power, halves to even; mantissa below 2^42, power at most 21.
static uint64_t scaled(uint64_t mantissa, int32_t power) {
    if (power >= 0) return mantissa << power;
    if (power < -63) return 0;
    uint32_t down = (uint32_t)-power;
    uint64_t whole = mantissa >> down, rest = mantissa - (whole << down), half = (uint64_t)1 << (down - 1);
    return whole + (rest > half || (rest == half && (whole & 1)));
}

void ear_text_real(float value, uint32_t decimals) {
    static const uint32_t tens[] = {1, 10, 100, 1000, 10000, 100000};
    union {
        float value;
        uint32_t bits;
    } number = {value};
    int32_t exponent = (int32_t)(number.bits >> 23 & 255);
    uint32_t mantissa = number.bits & 0x7FFFFFu;
    if (exponent == 255 && mantissa) {
        ear_text_put("nan");
        return;
    }
    if (number.bits >> 31) ear_text_put("-");
    if (exponent >= 127 + 46) {
        ear_text_put("inf");
        return;
    }
    if (exponent) mantissa |= 0x800000u;
    uint64_t shown = scaled((uint64_t)mantissa * tens[decimals], (exponent ? exponent : 1) - 150);
    ear_text_number(shown / tens[decimals]);
    uint32_t rest = (uint32_t)(shown % tens[decimals]);
    char digits[] = ".00000";
    for (uint32_t i = decimals; i; i--, rest /= 10) digits[i] = (char)('0' + rest % 10);
    ear_text_bytes((const uint8_t *)digits, decimals + 1);
}

bool ear_text_same(const char *a, const char *b) {
    while (*a && *a == *b) a++, b++;
    return *a == *b;
}

bool ear_text_parse(const char *text, uint32_t *value) {
    uint32_t sum = 0;
    if (!*text) return false;
    for (; *text; text++) {
        uint32_t digit = (uint32_t)(uint8_t)*text - '0';
        if (digit > 9 || sum > (INT32_MAX - digit) / 10) return false;
        sum = 10 * sum + digit;
    }
    *value = sum;
    return true;
}

uint64_t ear_text_micro(uint64_t count, uint32_t clock_hz) {
    return count / clock_hz * 1000000u + count % clock_hz * 1000000u / clock_hz;
}

int8_t ear_text_int8(float value, float scale, int32_t zero_point) {
    float steps = value / scale;
    if (!(steps > -1000.0f)) steps = -1000.0f;
    if (steps > 1000.0f) steps = 1000.0f;
    int32_t whole = (int32_t)(steps < 0.0f ? steps - 0.5f : steps + 0.5f) + zero_point;
    return (int8_t)(whole < -128 ? -128 : whole > 127 ? 127 : whole);
}
