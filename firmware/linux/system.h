// Linux's system calls on x86_64, aarch64 and armv7, without a C library. Below 0 a result is an error's number.
#ifndef EAR_LINUX_SYSTEM_H
#define EAR_LINUX_SYSTEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef long ear_word_t;  // of the machine: what a register holds
_Static_assert(sizeof(ear_word_t) == sizeof(void *), "registers hold pointers");

#if defined(__x86_64__)
enum {
    SYS_READ = 0, SYS_WRITE = 1, SYS_CLOSE = 3, SYS_MPROTECT = 10, SYS_RT_SIGACTION = 13, SYS_GETPID = 39,
    SYS_SOCKET = 41, SYS_BIND = 49, SYS_LISTEN = 50, SYS_CLONE = 56, SYS_EXECVE = 59, SYS_KILL = 62, SYS_FCNTL = 72,
    SYS_FTRUNCATE = 77, SYS_GETPPID = 110, SYS_CLOCK_GETTIME = 228, SYS_EXIT_GROUP = 231, SYS_OPENAT = 257,
    SYS_UNLINKAT = 263, SYS_RENAMEAT = 264, SYS_PPOLL = 271, SYS_ACCEPT4 = 288, SYS_DUP3 = 292, SYS_PIPE2 = 293,
    SYS_GETRANDOM = 318, SYS_LSEEK = 8,
};

static inline ear_word_t ear_system(ear_word_t call, ear_word_t a, ear_word_t b, ear_word_t c, ear_word_t d,
                                    ear_word_t e) {
    register ear_word_t fourth __asm("r10") = d, fifth __asm("r8") = e;
    __asm volatile("syscall"
                   : "+a"(call)
                   : "D"(a), "S"(b), "d"(c), "r"(fourth), "r"(fifth)
                   : "rcx", "r11", "memory");
    return call;
}
#elif defined(__aarch64__)
enum {
    SYS_DUP3 = 24, SYS_FCNTL = 25, SYS_UNLINKAT = 35, SYS_RENAMEAT = 38, SYS_FTRUNCATE = 46, SYS_OPENAT = 56,
    SYS_CLOSE = 57, SYS_PIPE2 = 59, SYS_LSEEK = 62, SYS_READ = 63, SYS_WRITE = 64, SYS_PPOLL = 73,
    SYS_EXIT_GROUP = 94, SYS_CLOCK_GETTIME = 113, SYS_KILL = 129, SYS_RT_SIGACTION = 134, SYS_GETPID = 172,
    SYS_GETPPID = 173, SYS_SOCKET = 198, SYS_BIND = 200, SYS_LISTEN = 201, SYS_CLONE = 220, SYS_EXECVE = 221,
    SYS_MPROTECT = 226, SYS_ACCEPT4 = 242, SYS_GETRANDOM = 278,
};

static inline ear_word_t ear_system(ear_word_t call, ear_word_t a, ear_word_t b, ear_word_t c, ear_word_t d,
                                    ear_word_t e) {
    register ear_word_t number __asm("x8") = call, first __asm("x0") = a, second __asm("x1") = b;
    register ear_word_t third __asm("x2") = c, fourth __asm("x3") = d, fifth __asm("x4") = e;
    __asm volatile("svc 0"
                   : "+r"(first)
                   : "r"(number), "r"(second), "r"(third), "r"(fourth), "r"(fifth)
                   : "memory");
    return first;
}
#elif defined(__arm__)
enum {
    SYS_READ = 3, SYS_WRITE = 4, SYS_CLOSE = 6, SYS_EXECVE = 11, SYS_LSEEK = 19, SYS_GETPID = 20, SYS_KILL = 37,
    SYS_FCNTL = 55, SYS_GETPPID = 64, SYS_FTRUNCATE = 93, SYS_CLONE = 120, SYS_MPROTECT = 125,
    SYS_RT_SIGACTION = 174, SYS_EXIT_GROUP = 248, SYS_CLOCK_GETTIME = 263, SYS_SOCKET = 281, SYS_BIND = 282,
    SYS_LISTEN = 284, SYS_OPENAT = 322, SYS_UNLINKAT = 328, SYS_RENAMEAT = 329, SYS_PPOLL = 336, SYS_DUP3 = 358,
    SYS_PIPE2 = 359, SYS_ACCEPT4 = 366, SYS_GETRANDOM = 384,
};

static inline ear_word_t ear_system(ear_word_t call, ear_word_t a, ear_word_t b, ear_word_t c, ear_word_t d,
                                    ear_word_t e) {
    register ear_word_t number __asm("r7") = call, first __asm("r0") = a, second __asm("r1") = b;
    register ear_word_t third __asm("r2") = c, fourth __asm("r3") = d, fifth __asm("r4") = e;
    __asm volatile("svc 0"
                   : "+r"(first)
                   : "r"(number), "r"(second), "r"(third), "r"(fourth), "r"(fifth)
                   : "memory");
    return first;
}
#else
#error "x86_64, aarch64 or armv7"
#endif

// The errors that are told apart, and flags and signals whose numbers the three machines share.
enum { EAR_ENOENT = 2, EAR_EINTR = 4, EAR_ENXIO = 6, EAR_EAGAIN = 11, EAR_EINVAL = 22, EAR_EPIPE = 32 };
enum { EAR_SIGHUP = 1, EAR_SIGINT = 2, EAR_SIGPIPE = 13, EAR_SIGTERM = 15, EAR_SIGCHLD = 17 };
enum { EAR_AT_CWD = -100, EAR_READ_ONLY = 0, EAR_READ_WRITE = 2, EAR_CREATE = 0100, EAR_EXCLUSIVE = 0200 };
enum { EAR_NONBLOCK = 04000, EAR_CLOEXEC = 02000000 };
enum { EAR_POLLIN = 1, EAR_POLLOUT = 4 };

typedef struct {
    int32_t file;
    int16_t events, happened;
} ear_poll_t;

static inline ear_word_t ear_word(const void *pointer) { return (ear_word_t)pointer; }

// Wait for one of `count` files, at most `milliseconds`, for ever below 0.
static inline ear_word_t ear_wait(ear_poll_t *files, uint32_t count, int32_t milliseconds) {
    const ear_word_t time[2] = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    return ear_system(SYS_PPOLL, ear_word(files), (ear_word_t)count, milliseconds < 0 ? 0 : ear_word(time), 0, 0);
}

static inline ear_word_t ear_read(int32_t file, void *to, uint32_t most) {
    return ear_system(SYS_READ, file, ear_word(to), (ear_word_t)most, 0, 0);
}

static inline ear_word_t ear_write(int32_t file, const void *from, uint32_t bytes) {
    return ear_system(SYS_WRITE, file, ear_word(from), (ear_word_t)bytes, 0, 0);
}

static inline ear_word_t ear_open(const char *path, int32_t flags, int32_t mode) {
    return ear_system(SYS_OPENAT, EAR_AT_CWD, ear_word(path), flags | EAR_CLOEXEC, mode, 0);
}

static inline void ear_close(int32_t file) { ear_system(SYS_CLOSE, file, 0, 0, 0, 0); }

static inline void ear_unlink(const char *path) { ear_system(SYS_UNLINKAT, EAR_AT_CWD, ear_word(path), 0, 0, 0); }

static inline _Noreturn void ear_exit(int32_t code) {
    for (;;) ear_system(SYS_EXIT_GROUP, code, 0, 0, 0, 0);
}

#endif
