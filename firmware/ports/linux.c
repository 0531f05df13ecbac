// A computer with Linux: two open files for a UART, a counter of nanoseconds, arecord or a file for a microphone.
#include "../linux/line.h"
#include "../linux/system.h"
#include "port.h"

#define NANOSECONDS 1000000000u
#define MONOTONIC 1       // clock
#define SET_PIPE_BYTES 1031  // of fcntl
#define SET_FLAGS 4
#define KEPT_BYTES 1048576  // of the microphone's pipe, where the kernel gives so many
#define FIRST_SOUND_MS 5000
#define PATH_BYTES 4096u

const char *const *ear_environment;
const char *ear_microphone;
const uint32_t port_unit = EAR_UNIT_NANOSECONDS;
const bool port_microphone = true;

static struct {
    int32_t in, out;
    bool last, closed;
    uint32_t first, held, unsent;
    uint8_t input[16384], output[16384];
} line;

void ear_line_open(int32_t in, int32_t out, bool last) {
    line.in = in;
    line.out = out;
    line.last = last;
    line.closed = false;
    line.first = line.held = line.unsent = 0;
}

bool ear_line_closed(void) { return line.closed; }

static void end(int32_t code) {
    line.closed = true;
    line.unsent = 0;
    if (!line.last) return;
    ear_child_stop();
    ear_exit(code);
}

static void flush(void) {
    uint32_t sent = 0;
    while (sent < line.unsent) {
        ear_word_t bytes = ear_write(line.out, line.output + sent, line.unsent - sent);
        if (bytes == -EAR_EAGAIN) {
            ear_poll_t room = {line.out, EAR_POLLOUT, 0};
            ear_wait(&room, 1, -1);
        } else if (bytes < 0 && bytes != -EAR_EINTR) {
            end(1);
        } else if (bytes > 0) {
            sent += (uint32_t)bytes;
        }
    }
    line.unsent = 0;
}

static bool ready(int32_t file) {
    ear_poll_t one = {file, EAR_POLLIN, 0};
    return ear_wait(&one, 1, 0) > 0;
}

int32_t port_uart_read(void) {
    if (line.first < line.held) return line.input[line.first++];
    if (line.closed) return -1;
    flush();
    if (!ready(line.in)) return -1;
    ear_word_t bytes = ear_read(line.in, line.input, sizeof line.input);
    if (bytes == -EAR_EAGAIN || bytes == -EAR_EINTR) return -1;
    if (bytes <= 0) {
        end(bytes < 0);
        return -1;
    }
    line.held = (uint32_t)bytes;
    line.first = 1;
    return line.input[0];
}

// What ends with a zero, as every frame does, goes out at once.
void port_uart_write(const uint8_t *bytes, uint32_t length) {
    if (line.closed) return;
    for (uint32_t i = 0; i < length; i++) {
        if (line.unsent == sizeof line.output) flush();
        line.output[line.unsent++] = bytes[i];
    }
    if (length && !bytes[length - 1]) flush();
}

uint64_t port_counter(void) {
    ear_word_t time[2];  // seconds, nanoseconds
    ear_system(SYS_CLOCK_GETTIME, MONOTONIC, ear_word(time), 0, 0, 0);
    return (uint64_t)time[0] * NANOSECONDS + (uint64_t)time[1];
}

_Noreturn void port_reset(void) {
    static const char itself[] = "/proc/self/exe";
    const char *const arguments[] = {itself, ear_microphone ? "--microphone" : 0, ear_microphone, 0};
    flush();
    ear_child_stop();
    ear_system(SYS_EXECVE, ear_word(itself), ear_word(arguments), ear_word(ear_environment), 0, 0);
    ear_exit(1);
}

static struct {
    int32_t file, words, child;  // all 0 while there is none; words: what the child says on stderr
    bool odd;                    // a byte of half a sample is kept
    uint8_t half;
    uint32_t rate, lost, marks;  // Hz; samples; exclamation marks before the number of
    uint64_t microseconds;       // that are lost
} sound;

static bool begins(const char *text, const char *with) {
    while (*with && *text == *with) text++, with++;
    return !*with;
}

// Try the arguments' first word in each folder of $PATH; returns when it is in none.
static void execute(const char *const *arguments) {
    static char path[PATH_BYTES];
    const char *folder = "/usr/bin:/bin";
    for (const char *const *variable = ear_environment; *variable; variable++)
        if (begins(*variable, "PATH=")) folder = *variable + 5;
    while (*folder) {
        uint32_t length = 0;
        for (; *folder && *folder != ':'; folder++)
            if (length < PATH_BYTES / 2) path[length++] = *folder;
        if (*folder) folder++;
        path[length++] = '/';
        for (const char *name = arguments[0]; *name && length < PATH_BYTES - 1; name++) path[length++] = *name;
        path[length] = 0;
        ear_system(SYS_EXECVE, ear_word(path), ear_word(arguments), ear_word(ear_environment), 0, 0);
    }
}

static int32_t child_start(const char *const *arguments) {
    int32_t ends[2], words[2];
    if (ear_system(SYS_PIPE2, ear_word(ends), EAR_CLOEXEC, 0, 0, 0) < 0) return -1;
    if (ear_system(SYS_PIPE2, ear_word(words), EAR_CLOEXEC, 0, 0, 0) < 0) {
        ear_close(ends[0]);
        ear_close(ends[1]);
        return -1;
    }
    ear_word_t child = ear_system(SYS_CLONE, EAR_SIGCHLD, 0, 0, 0, 0);
    if (child == 0) {
        ear_word_t nothing = ear_open("/dev/null", EAR_READ_ONLY, 0);
        ear_system(SYS_DUP3, nothing, 0, 0, 0, 0);  // the link's input is not the child's
        ear_system(SYS_DUP3, ends[1], 1, 0, 0, 0);
        ear_system(SYS_DUP3, words[1], 2, 0, 0, 0);
        execute(arguments);
        ear_say(arguments[0]);
        ear_say(": not found\n");
        ear_exit(127);
    }
    ear_close(ends[1]);
    ear_close(words[1]);
    if (child < 0) {
        ear_close(ends[0]);
        ear_close(words[0]);
        return -1;
    }
    sound.child = (int32_t)child;
    sound.words = words[0];
    ear_system(SYS_FCNTL, ends[0], SET_PIPE_BYTES, KEPT_BYTES, 0, 0);
    return ends[0];
}

void ear_child_stop(void) {
    if (sound.child) ear_system(SYS_KILL, sound.child, EAR_SIGTERM, 0, 0, 0);
    sound.child = 0;
}

static const char *digits(uint32_t number, char *last) {
    do *--last = (char)('0' + number % 10);
    while (number /= 10);
    return last;
}

// A name with a slash is a file of int16 samples at the model's rate, or a pipe of them; others are ALSA's.
bool port_microphone_start(uint32_t rate) {
    char text[12] = {0};
    const char *name = ear_microphone ? ear_microphone : "default", *slash = name;
    while (*slash && *slash != '/') slash++;
    port_microphone_stop();
    sound.odd = false;
    sound.rate = rate;
    sound.lost = sound.marks = 0;
    if (*slash) {
        ear_word_t file = ear_open(name, EAR_READ_ONLY | EAR_NONBLOCK, 0);
        sound.file = file > 0 ? (int32_t)file : 0;
        return file > 0;
    }
    const char *const arguments[] = {"arecord", "-q", "-D", name, "-t", "raw", "-f", "S16_LE", "-c", "1",
                                     "-r", digits(rate, text + sizeof text - 1), 0};
    int32_t file = child_start(arguments);
    if (file < 0) return false;
    sound.file = file;
    ear_poll_t first = {file, EAR_POLLIN, 0};
    if (ear_wait(&first, 1, FIRST_SOUND_MS) > 0 && first.happened & EAR_POLLIN) return true;
    port_microphone_stop();
    return false;
}

// arecord says "overrun!!! (at least 1.250 ms long)", in any language, of what it has lost.
static void overrun(uint8_t letter) {
    const bool digit = letter >= '0' && letter <= '9';
    if (letter == '!') {
        sound.marks++;
        sound.microseconds = 0;
    } else if (letter == '\n' || sound.marks < 3) {
        sound.marks = 0;
    } else if (digit && sound.microseconds < NANOSECONDS) {
        sound.microseconds = 10 * sound.microseconds + (letter - '0');
    } else if (letter == 'm' && sound.microseconds) {
        sound.lost += (uint32_t)(sound.microseconds * sound.rate / 1000000u);
        sound.marks = 0;
    }
}

// Pass on what the child says; it would stop if nobody read it.
static void complaints(void) {
    uint8_t said[256];
    while (sound.words && ready(sound.words)) {
        const ear_word_t bytes = ear_read(sound.words, said, sizeof said);
        if (bytes <= 0) {
            ear_close(sound.words);
            sound.words = 0;
            return;
        }
        ear_write(2, said, (uint32_t)bytes);
        for (ear_word_t i = 0; i < bytes; i++) overrun(said[i]);
    }
}

uint32_t port_microphone_read(int16_t *samples, uint32_t most) {
    uint8_t *to = (uint8_t *)samples;
    complaints();
    if (!sound.file || !most || !ready(sound.file)) return 0;
    to[0] = sound.half;
    ear_word_t bytes = ear_read(sound.file, to + sound.odd, 2 * most - sound.odd);
    if (bytes == -EAR_EAGAIN || bytes == -EAR_EINTR) return 0;
    if (bytes <= 0) {  // the file is over, or the program behind the pipe has ended
        port_microphone_stop();
        return 0;
    }
    const uint32_t have = (uint32_t)bytes + sound.odd;
    sound.odd = have & 1u;
    if (sound.odd) sound.half = to[have - 1];
    return have / 2;
}

uint32_t port_microphone_lost(void) { return sound.lost; }

void port_microphone_stop(void) {
    complaints();
    if (sound.file) ear_close(sound.file);
    if (sound.words) ear_close(sound.words);
    sound.file = sound.words = 0;
    ear_child_stop();
}

void port_idle(void) {
    ear_poll_t files[2] = {{line.in, EAR_POLLIN, 0}, {sound.file, EAR_POLLIN, 0}};
    flush();
    if (!line.closed) ear_wait(files, sound.file ? 2 : 1, -1);
}

void ear_say(const char *text) {
    uint32_t length = 0;
    while (text[length]) length++;
    ear_write(2, text, length);
}
