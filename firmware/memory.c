/* memory.c: memcpy, memmove and memset for compilers whose runtime library lacks them (arm-none-eabi-gcc -lgcc). */
#pragma GCC optimize("no-tree-loop-distribute-patterns") /* or these loops would call themselves */

#include <stddef.h>
#include <stdint.h>

void *memcpy(void *restrict to, const void *restrict from, size_t bytes);
void *memmove(void *to, const void *from, size_t bytes);
void *memset(void *to, int value, size_t bytes);

typedef uint32_t __attribute__((may_alias)) word_t;

#define ALIGNED(pointer) (((uintptr_t)(pointer) & 3) == 0)

void *memcpy(void *restrict to, const void *restrict from, size_t bytes) {
    uint8_t *out = to;
    const uint8_t *in = from;
    if (ALIGNED(out) && ALIGNED(in))
        for (; bytes >= 4; bytes -= 4, out += 4, in += 4)
            *(word_t *)(void *)out = *(const word_t *)(const void *)in;
    while (bytes--)
        *out++ = *in++;
    return to;
}

void *memmove(void *to, const void *from, size_t bytes) {
    uint8_t *out = to;
    const uint8_t *in = from;
    if ((uintptr_t)out - (uintptr_t)in >= bytes)
        return memcpy(to, from, bytes);
    while (bytes--)
        out[bytes] = in[bytes];
    return to;
}

void *memset(void *to, int value, size_t bytes) {
    uint8_t *out = to;
    const uint32_t word = (uint8_t)value * 0x01010101u;
    for (; bytes && !ALIGNED(out); --bytes)
        *out++ = (uint8_t)value;
    for (; bytes >= 4; bytes -= 4, out += 4)
        *(word_t *)(void *)out = word;
    while (bytes--)
        *out++ = (uint8_t)value;
    return to;
}
