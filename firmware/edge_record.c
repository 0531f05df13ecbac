// SAMPLESTART and READBUFFER: the microphone into free RAM as Edge Impulse's signed acquisition format (CBOR).
#include "dialect.h"
#include "edge_impulse.h"
#include "ports/port.h"
#include "sha256.h"
#include "text.h"

#define BLOCK 64u         // bytes that SHA-256 takes at once
#define DIGEST 32u
#define HEADER_MOST 512u  // bytes of the CBOR before the samples

// RAM between the static data and the letter at its top belongs to nobody.
extern uint32_t ear_bss_end[];

static uint32_t used;  // bytes of the file in free RAM

// Behind a block for the signature.
static uint8_t *file(void) { return (uint8_t *)ear_bss_end + BLOCK; }

static uint32_t room(void) {
    uintptr_t top = (uintptr_t)&ear_handover, bottom = (uintptr_t)file() + HEADER_MOST;
    return top > bottom ? (uint32_t)(top - bottom) : 0;
}

uint32_t ear_record_most(void) { return room() / 2; }

static void byte(uint32_t value) { file()[used++] = (uint8_t)value; }

static void text(const char *value) {
    uint32_t length = 0;
    while (value[length]) length++;
    if (length < 24) {
        byte(0x60 + length);
    } else {
        byte(0x78);
        byte(length);
    }
    while (*value) byte((uint8_t)*value++);
}

// Write the head of the file; return where its signature stands.
static uint32_t head(void) {
    static const char reference[] = "Ref-BINARY-i16";
    union {
        float value;
        uint32_t bits;
    } interval = {1000.0f / (float)EAR_RATE};
    used = 0;
    byte(0xA3);
    text("protected");
    byte(0xA2);
    text("ver");
    text("v1");
    text("alg");
    text("HS256");
    text("signature");
    byte(0x78);
    byte(2 * DIGEST);
    uint32_t signature = used;
    for (uint32_t i = 0; i < 2 * DIGEST; i++) byte('0');
    text("payload");
    byte(0xA5);
    text("device_name");
    text(ear_settings.id);
    text("device_type");
    text(EAR_BOARD);
    text("interval_ms");
    byte(0xFA);
    for (uint32_t i = 4; i--;) byte(interval.bits >> 8 * i & 255u);
    text("sensors");
    byte(0x81);
    byte(0xA2);
    text("name");
    text("audio");
    text("units");
    text("wav");
    text("values");
    byte(0x9F);
    uint32_t spaces = (0u - (used + 1 + sizeof reference - 1 + 1)) % 4;  // the samples are aligned
    byte(0x60 + sizeof reference - 1 + spaces);
    for (uint32_t i = 0; i < sizeof reference - 1; i++) byte((uint8_t)reference[i]);
    while (spaces--) byte(' ');
    byte(0xFF);
    return signature;
}

// HMAC-SHA-256 (RFC 2104) of the file, in hexadecimal, into its place.
static void sign(uint32_t place) {
    static const char digits[] = "0123456789abcdef";
    uint8_t outer[BLOCK + DIGEST], digest[DIGEST], *inner = file() - BLOCK;
    bool end = false;
    for (uint32_t i = 0; i < BLOCK; i++) {
        end = end || ear_settings.key[i] == 0;
        uint8_t key = end ? 0 : (uint8_t)ear_settings.key[i];
        inner[i] = key ^ 0x36;
        outer[i] = key ^ 0x5C;
    }
    ear_sha256(inner, BLOCK + used, outer + BLOCK);
    ear_sha256(outer, sizeof outer, digest);
    for (uint32_t i = 0; i < DIGEST; i++) {
        file()[place + 2 * i] = (uint8_t)digits[digest[i] >> 4];
        file()[place + 2 * i + 1] = (uint8_t)digits[digest[i] & 15];
    }
}

static bool hear(int16_t *samples, uint32_t count) {
    for (uint32_t taken = 0; taken < count;) {
        if (ear_stopped()) return false;
        uint32_t more = port_microphone_read(samples + taken, count - taken);
        if (!more) port_idle();
        taken += more;
    }
    return true;
}

static bool possible(uint64_t samples) {
    uint64_t interval = 1000000000u / EAR_RATE, asked = ear_settings.interval_ns;
    uint64_t off = asked > interval ? asked - interval : interval - asked;
    if (!port_microphone) {
        ear_text_put("ERR: this board has no microphone\r\n");
    } else if (off * 10 > interval) {  // the client may round the interval to two decimals
        ear_text_put("ERR: the microphone samples at ");
        ear_text_number(EAR_RATE);
        ear_text_put(" Hz only\r\n");
    } else if (samples > ear_record_most()) {
        ear_text_put("ERR: no room for more than ");
        ear_text_number((uint64_t)ear_record_most() * 1000u / EAR_RATE);
        ear_text_put(" ms\r\n");
    } else {
        return true;
    }
    return false;
}

void ear_record(void) {
    uint64_t samples = (uint64_t)ear_settings.length_ms * EAR_RATE / 1000u;
    if (!possible(samples)) return;
    uint32_t signature = head();
    if (!port_microphone_start(EAR_RATE)) {
        used = 0;
        ear_text_put("ERR: the microphone does not answer\r\n");
        return;
    }
    ear_text_put("Sampling...\r\n");
    bool done = hear((int16_t *)(void *)(file() + used), (uint32_t)samples);
    uint32_t lost = port_microphone_lost();
    port_microphone_stop();
    if (!done || lost) {
        used = 0;
        ear_text_put(done ? "ERR: samples were lost\r\n" : "ERR: stopped\r\n");
        return;
    }
    used += 2 * (uint32_t)samples;
    ear_text_put("Done sampling\r\nProcessing...\r\n");
    sign(signature);
    ear_text_put("Done processing\r\nUploading...\r\nFile name: /ram/");
    ear_text_put(ear_settings.label);
    ear_text_put("\r\nNot uploading file, not connected to WiFi. Used buffer, from=0, to=");
    ear_text_number(used);
    ear_text_put(".\r\n");
}

void ear_record_read(uint32_t from, uint32_t to) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if (from > to || to > used) {
        ear_text_put("ERR: the buffer holds ");
        ear_text_number(used);
        ear_text_put(" bytes\r\n");
        return;
    }
    for (; from < to; from += 3) {
        uint32_t bits = 0, left = to - from < 3 ? to - from : 3;
        for (uint32_t i = 0; i < 3; i++) bits = bits << 8 | (i < left ? file()[from + i] : 0u);
        uint8_t out[4];
        for (uint32_t i = 0; i < 4; i++) out[i] = (uint8_t)(i <= left ? digits[bits >> (18 - 6 * i) & 63] : '=');
        ear_text_bytes(out, sizeof out);
    }
    ear_text_put("\r\n");
}
