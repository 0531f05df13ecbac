// Received bytes that wait while the model runs: every frame that the credits let the host send, and some probes.
#ifndef EAR_RING_H
#define EAR_RING_H

#include "cortex.h"
#include "link.h"

#define RING_FRAME (EAR_LINK_BODY + 8u + 4u)  // header and CRC, COBS and the closing zero
#define RING_BYTES (EAR_LINK_SLOTS * RING_FRAME + 256u)

static struct {
    volatile uint32_t head, tail;  // written by the interrupt; by the reader
    volatile uint8_t bytes[RING_BYTES];
} ring;

EAR_INLINE uint32_t ring_after(uint32_t index) { return index + 1 == RING_BYTES ? 0 : index + 1; }

// A byte too many is dropped: the frame's CRC tells, and the host sends it again.
EAR_INLINE void ring_put(uint8_t byte) {
    uint32_t head = ring.head, next = ring_after(head);
    if (next == ring.tail) return;
    ring.bytes[head] = byte;
    ring.head = next;
}

EAR_INLINE uint32_t ring_room(void) {
    uint32_t head = ring.head, tail = ring.tail;
    return (tail > head ? tail : tail + RING_BYTES) - head - 1u;
}

EAR_INLINE bool ring_empty(void) { return ring.head == ring.tail; }

EAR_INLINE int32_t ring_take(void) {
    uint32_t tail = ring.tail;
    if (tail == ring.head) return -1;
    uint8_t byte = ring.bytes[tail];
    ring.tail = ring_after(tail);
    return byte;
}

#endif
