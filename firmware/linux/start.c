// From the kernel to main: a stack of our own that is painted, the words of the command line, no C library.
#include "../startup.h"

#include "line.h"
#include "system.h"

#define STACK_BYTES 262144
#define WALL_BYTES 65536  // at the low end of the stack, which nobody may touch: the largest page there is
#define TEXT(x) #x
#define NUMBER(x) TEXT(x)
#define STACK_TOP "ear_stack + " NUMBER(STACK_BYTES)

int main(void);

__attribute__((aligned(WALL_BYTES), used)) uint32_t ear_stack[STACK_BYTES / 4];
static uint32_t *const stack_limit = ear_stack + WALL_BYTES / 4, *const stack_top = ear_stack + STACK_BYTES / 4;
static const ear_word_t *auxiliary;

// The kernel's stack holds the number of arguments, them, a zero, the environment, a zero, the auxiliary vector.
#if defined(__x86_64__)
__asm(".globl _start\n_start:\n xor %ebp, %ebp\n mov %rsp, %rdi\n lea " STACK_TOP "(%rip), %rsp\n call ear_start\n");
#elif defined(__aarch64__)
__asm(".globl _start\n_start:\n mov x29, #0\n mov x30, #0\n mov x0, sp\n adrp x1, " STACK_TOP
      "\n add x1, x1, :lo12:" STACK_TOP "\n mov sp, x1\n bl ear_start\n");
#else
__asm(".globl _start\n_start:\n mov r11, #0\n mov lr, #0\n mov r0, sp\n ldr r1, =" STACK_TOP
      "\n mov sp, r1\n bl ear_start\n .ltorg\n");
#endif

static bool same(const char *a, const char *b) {
    while (*a && *a == *b) a++, b++;
    return *a == *b;
}

static int32_t usage(void) {
    ear_say("usage: PROGRAM [--microphone FILE|DEVICE], which speaks earkit's link on stdin and stdout\n"
#if EAR_EIM
            "       PROGRAM SOCKET | stdin | --print-info, as Edge Impulse's Linux runners\n"
#endif
    );
    return 2;
}

__attribute__((used)) _Noreturn void ear_start(const ear_word_t *words) {
    const ear_word_t count = words[0];
    const char *const *arguments = (const char *const *)(words + 1);
    ear_environment = arguments + count + 1;
    const char *const *end = ear_environment;
    while (*end) end++;
    auxiliary = (const ear_word_t *)(end + 1);
    ear_system(SYS_MPROTECT, ear_word(ear_stack), WALL_BYTES, 0, 0, 0);
    volatile uint32_t *here = (uint32_t *)__builtin_frame_address(0) - 64;
    for (volatile uint32_t *word = stack_limit; word < here; word++) *word = EAR_PAINT;
    if (count == 3 && same(arguments[1], "--microphone")) {
        ear_microphone = arguments[2];
    } else if (count > 1) {
#if EAR_EIM
        const bool known = arguments[1][0] != '-' || same(arguments[1], "--print-info");
        ear_exit(count == 2 && known ? ear_eim(arguments[1]) : usage());
#else
        ear_exit(usage());
#endif
    }
    ear_line_open(0, 1, true);
    ear_exit(main());
}

uint32_t ear_stack_bytes(void) { return STACK_BYTES - WALL_BYTES; }

uint32_t ear_stack_high_water(void) {
    const volatile uint32_t *word = stack_limit;
    while (word < stack_top && *word == EAR_PAINT) word++;
    return (uint32_t)((uintptr_t)stack_top - (uintptr_t)word);
}

bool ear_stack_intact(void) {
    for (uint32_t i = 0; i < EAR_STACK_GUARD_WORDS; i++)
        if (((volatile uint32_t *)stack_limit)[i] != EAR_PAINT) return false;
    return true;
}

// What the program's headers say of its writable segments, without the stack.
uint32_t ear_static_bytes(void) {
    enum { HEADERS = 3, COUNT = 5, WIDE = sizeof(ear_word_t) == 8, WRITABLE = 2, LOADED = 1 };
    const uint32_t size = WIDE ? 56 : 32, flags_at = WIDE ? 4 : 24, bytes_at = WIDE ? 40 : 20;
    const uint8_t *header = 0;
    ear_word_t count = 0;
    uint32_t sum = 0;
    for (const ear_word_t *entry = auxiliary; entry[0]; entry += 2) {
        if (entry[0] == HEADERS) header = (const uint8_t *)entry[1];
        if (entry[0] == COUNT) count = entry[1];
    }
    for (; header && count; count--, header += size)
        if (*(const uint32_t *)(const void *)header == LOADED &&
            *(const uint32_t *)(const void *)(header + flags_at) & WRITABLE)
            sum += (uint32_t) * (const ear_word_t *)(const void *)(header + bytes_at);
    return sum - STACK_BYTES;
}
