// The link's device end: frames in, frames out, static memory only.
#include "link.h"

#include "ports/port.h"

#define HEADER 4u
#define CRC 4u

static uint32_t word_at(const uint8_t *bytes) {
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static uint8_t *bytes_of(ear_frame_t *frame) { return (uint8_t *)frame; }

static void copy(uint8_t *to, const uint8_t *from, uint32_t length) {
    while (length--) *to++ = *from++;
}

uint32_t ear_crc32(uint32_t crc, const uint8_t *bytes, uint32_t length) {
    static const uint32_t nibble[16] = {
        0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
        0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
    };
    crc = ~crc;
    while (length--) {
        crc ^= *bytes++;
        crc = crc >> 4 ^ nibble[crc & 15];
        crc = crc >> 4 ^ nibble[crc & 15];
    }
    return ~crc;
}

static void transmit(const uint8_t *bytes, uint32_t length) {
    static const uint8_t end = 0;
    for (uint32_t at = 0;;) {
        uint8_t run = 0;
        while (run < 254 && at + run < length && bytes[at + run]) run++;
        uint8_t code = (uint8_t)(run + 1);
        port_uart_write(&code, 1);
        port_uart_write(bytes + at, run);
        at += run;
        if (at == length) break;
        if (code != 255) at++;  // the zero that the code stands for
    }
    port_uart_write(&end, 1);
}

static uint32_t seed(const ear_link_t *link, uint8_t kind) { return kind == EAR_HELLO ? 0 : link->session; }

static void send(const ear_link_t *link, ear_frame_t *frame, uint32_t body) {
    frame->acknowledge = link->expected;
    frame->credit = (uint8_t)(EAR_LINK_SLOTS - link->waiting);
    uint32_t crc = ear_crc32(seed(link, frame->kind), bytes_of(frame), HEADER + body);
    for (uint32_t i = 0; i < CRC; i++) frame->body[body + i] = (uint8_t)(crc >> 8 * i);
    transmit(bytes_of(frame), HEADER + body + CRC);
}

// A frame without a body, such as ACK; needs no room for one.
static void send_short(const ear_link_t *link, uint8_t kind, uint8_t sequence) {
    uint8_t bytes[HEADER + CRC] = {kind, sequence, link->expected, (uint8_t)(EAR_LINK_SLOTS - link->waiting)};
    uint32_t crc = ear_crc32(seed(link, kind), bytes, HEADER);
    for (uint32_t i = 0; i < CRC; i++) bytes[HEADER + i] = (uint8_t)(crc >> 8 * i);
    transmit(bytes, sizeof bytes);
}

void ear_link_init(ear_link_t *link, uint32_t mode) {
    for (uint32_t i = 0; i < sizeof *link; i++) ((volatile uint8_t *)link)[i] = 0;
    link->mode = mode;
}

static void hello(ear_link_t *link, uint32_t length) {
    uint32_t session = word_at(link->in.body + 4);
    if (length != 8 || session == 0) return;
    if (session != link->session) {
        link->session = session;
        link->expected = link->next = link->waiting = link->first = 0;
        link->unacked = false;
        link->epoch++;
    }
    ear_frame_t *frame = &link->in;  // its content has been read
    const uint32_t words[4] = {EAR_LINK_VERSION, session, EAR_LINK_BODY, link->mode};
    for (uint32_t i = 0; i < sizeof words; i++) frame->body[i] = (uint8_t)(words[i / 4] >> 8 * (i % 4));
    frame->kind = EAR_HELLO;
    frame->sequence = 0;
    send(link, frame, sizeof words);
}

static void data(ear_link_t *link, uint32_t length) {
    if (link->in.sequence != link->expected || link->waiting == EAR_LINK_SLOTS) {
        link->duplicates += link->in.sequence != link->expected;
        send_short(link, EAR_ACK, 0);
        return;
    }
    ear_slot_t *slot = &link->slots[(link->first + link->waiting) % EAR_LINK_SLOTS];
    slot->length = length;
    copy((uint8_t *)slot->words, link->in.body, length);
    link->waiting++;
    link->expected++;
}

static void frame_end(ear_link_t *link) {
    uint32_t length = link->in_bytes;
    if (length == 0 && !link->overrun && link->run == 0) return;  // an empty frame: line noise or a wake-up
    if (link->overrun || link->run || length < HEADER + CRC ||
        ear_crc32(seed(link, link->in.kind), bytes_of(&link->in), length - CRC) != word_at(bytes_of(&link->in) + length - CRC)) {
        link->damaged++;
        return;
    }
    length -= HEADER + CRC;
    if (link->in.kind == EAR_HELLO) {
        hello(link, length);
        return;
    }
    if (link->session == 0) return;
    if (link->unacked && link->in.acknowledge == link->next) link->unacked = false;
    if (link->in.kind == EAR_DATA) data(link, length);
    if (link->in.kind == EAR_PROBE) {
        if (link->unacked) send(link, &link->out, link->out_body);
        send_short(link, EAR_ECHO, link->in.sequence);
    }
}

static void put(ear_link_t *link, uint8_t byte) {
    if (link->in_bytes < sizeof link->in)
        bytes_of(&link->in)[link->in_bytes++] = byte;
    else
        link->overrun = true;
}

void ear_link_feed(ear_link_t *link, uint8_t byte) {
    if (byte == 0) {
        frame_end(link);
        link->in_bytes = 0;
        link->run = 0;
        link->zero = link->overrun = false;
    } else if (link->run == 0) {
        if (link->zero) put(link, 0);
        link->run = (uint8_t)(byte - 1);
        link->zero = byte != 255;
    } else {
        put(link, byte);
        link->run--;
    }
}

void ear_link_poll(ear_link_t *link) {
    int32_t byte = port_uart_read();
    if (byte < 0) port_idle();
    for (; byte >= 0; byte = port_uart_read()) ear_link_feed(link, (uint8_t)byte);
}

void ear_link_serve(ear_link_t *link, void (*obey)(const uint8_t *message, uint32_t length)) {
    if (!link->waiting) {
        ear_link_poll(link);
        return;
    }
    const ear_slot_t *slot = &link->slots[link->first];
    uint8_t epoch = link->epoch;
    if (slot->length >= 4) obey((const uint8_t *)slot->words, slot->length);
    if (link->epoch != epoch) return;  // a new session has emptied the slots
    link->first = (uint8_t)((link->first + 1) % EAR_LINK_SLOTS);
    link->waiting--;
    send_short(link, EAR_ACK, 0);
}

uint8_t *ear_link_begin(ear_link_t *link) {
    for (uint8_t epoch = link->epoch; link->unacked;) {
        ear_link_poll(link);
        if (link->epoch != epoch) return 0;
    }
    return link->out.body;
}

void ear_link_commit(ear_link_t *link, uint32_t length) {
    link->out.kind = EAR_DATA;
    link->out.sequence = link->next++;
    link->out_body = length;
    link->unacked = true;
    send(link, &link->out, length);
}

bool ear_answer_parts(ear_link_t *link, uint8_t command, const ear_part_t *parts, uint32_t count) {
    uint32_t left = 0, taken = 0;  // taken: bytes of the part that is being sent
    for (uint32_t i = 0; i < count; i++) left += parts[i].bytes;
    do {
        uint8_t *body = ear_link_begin(link);
        if (!body) return false;
        uint32_t length = left < EAR_LINK_BODY - HEADER ? left : EAR_LINK_BODY - HEADER;
        left -= length;
        body[0] = command | 0x80u;
        body[1] = EAR_OK;
        body[2] = left > 0;
        body[3] = 0;
        for (uint32_t i = 0; i < length; i++) {
            for (; taken == parts->bytes; parts++) taken = 0;
            body[HEADER + i] = ((const uint8_t *)parts->data)[taken++];
        }
        ear_link_commit(link, HEADER + length);
    } while (left);
    return true;
}

bool ear_answer(ear_link_t *link, uint8_t command, uint8_t status, const void *data, uint32_t length) {
    const ear_part_t part = {data, length};
    if (status == EAR_OK) return ear_answer_parts(link, command, &part, 1);
    uint8_t *body = ear_link_begin(link);
    if (!body) return false;
    body[0] = command | 0x80u;
    body[1] = status;
    body[2] = body[3] = 0;
    ear_link_commit(link, HEADER);
    return true;
}
