// A runner's features, front end and model; its socket, its shared memory, and its end by signals.
#include "runner.h"

#include "dialect.h"
#include "line.h"
#include "request.h"
#include "system.h"
#include "ear.h"
#include "model.h"
#include "ports/port.h"
#include "text.h"
#if EAR_FRONTEND
#include "sound.h"
#endif

#define PATH_BYTES 108u  // of a socket's address
#define PART 1024u       // values that are read from shared memory at once
#define WAITING 16       // clients, while one is served
#define LOOK_MS 1000
#define LONG_PATH ": a socket's path has 1 to 106 bytes\n"
#define NO_SOCKET ": no socket can be made there\n"

ear_runner_t ear_runner;

static struct {
    char socket[PATH_BYTES], shared[32];  // to be removed at the end, empty: none
    int32_t memory;                       // file, 0: none
} own;

#if EAR_FRONTEND
static struct {
    bool going, heard;  // a stream has begun; its first window is full
    int16_t features[EAR_COUNT];
} runner;

static void run(void) {
    const uint64_t start = port_counter();
    ear_sound_input();
    ear_model_invoke(0);
    ear_runner.nanoseconds += port_counter() - start;
}

static void restart(void) {
    ear_sound_begin(EAR_STREAMS ? EAR_FE_FRAMES : 1);
    ear_model_reset();
    runner.heard = false;
}

// Let the front end hear `count` samples, silence where `samples` is 0.
static void hear(const int16_t *samples, uint32_t count) {
    for (uint32_t part; count; count -= part) {
        int16_t *place = ear_sound_place(&part);
        if (part > count) part = count;
        for (uint32_t i = 0; i < part; i++) place[i] = samples ? *samples++ : 0;
        if (!ear_sound_took(part)) continue;
        runner.heard = true;
        if (EAR_STREAMS) run();
    }
}

bool ear_runner_classify(bool continuous) {
    static uint32_t before;  // samples of this stream, until it has heard a window
    ear_runner.nanoseconds = 0;
    if (!continuous || !runner.going) restart();
    if (!continuous || !runner.going) before = 0;
    if (!continuous && EAR_STREAMS) hear(0, EAR_SILENCE);
    runner.going = continuous;
    hear(runner.features, continuous ? EAR_SLICE : EAR_COUNT);
    if (before < EAR_COUNT) before += continuous ? EAR_SLICE : EAR_COUNT;
    if (!EAR_STREAMS && runner.heard) run();
    ear_runner.output = ear_output;
    return runner.heard && before >= EAR_COUNT;
}

void ear_runner_begin(void) { runner.going = false; }

void ear_request_value(uint32_t index, double value) {
    const double near = value < 0.0 ? value - 0.5 : value + 0.5;
    if (index < EAR_COUNT)
        runner.features[index] = near >= 32767.0 ? INT16_MAX : near > -32768.0 ? (int16_t)near : INT16_MIN;
}
#else
static struct {
    int8_t features[EAR_COUNT];
} runner;

bool ear_runner_classify(bool continuous) {
    const uint64_t start = port_counter();
    (void)continuous;
    memcpy(ear_input, runner.features, EAR_COUNT);
    ear_model_reset();
    ear_model_invoke(0);
    ear_runner.nanoseconds = port_counter() - start;
    ear_runner.output = ear_output;
    return true;
}

void ear_runner_begin(void) {}

void ear_request_value(uint32_t index, double value) {
    if (index < EAR_COUNT) runner.features[index] = ear_text_int8((float)value, EAR_INPUT_SCALE, EAR_INPUT_ZERO_POINT);
}
#endif

const char *ear_runner_shared(void) {
    static const char folder[] = "/dev/shm", name[] = "/dev/shm/shm-";
    uint8_t drawn[6];
    if (own.memory) return own.shared + sizeof folder - 1;
    if (ear_system(SYS_GETRANDOM, ear_word(drawn), sizeof drawn, 0, 0, 0) != sizeof drawn) return 0;
    for (uint32_t i = 0; i < sizeof name; i++) own.shared[i] = name[i];
    for (uint32_t i = 0; i < 2 * sizeof drawn; i++)
        own.shared[sizeof name - 1 + i] = "0123456789abcdef"[drawn[i / 2] >> (i % 2 ? 0 : 4) & 15];
    ear_word_t file = ear_open(own.shared, EAR_READ_WRITE | EAR_CREATE | EAR_EXCLUSIVE, 0600);
    if (file < 0) {
        own.shared[0] = 0;
        return 0;
    }
    own.memory = (int32_t)file;
    if (ear_system(SYS_FTRUNCATE, file, 4 * EAR_COUNT, 0, 0, 0) < 0) return 0;
    return own.shared + sizeof folder - 1;
}

// By reading and not by mapping: a client that cuts the file short is no fault here.
const char *ear_runner_from_shared(uint32_t values) {
    static const char unread[] = "the shared memory cannot be read";
    float part[PART];
    if (!own.memory || ear_system(SYS_LSEEK, own.memory, 0, 0, 0, 0) != 0) return unread;
    for (uint32_t done = 0, count; done < values; done += count) {
        count = values - done < PART ? values - done : PART;
        if (ear_read(own.memory, part, 4 * count) != (ear_word_t)(4 * count)) return unread;
        for (uint32_t i = 0; i < count; i++) {
            if (part[i] != part[i]) return "features are numbers";
            ear_request_value(done + i, (double)part[i]);
        }
    }
    return 0;
}

static void remove(void) {
    if (own.socket[0]) ear_unlink(own.socket);
    if (own.shared[0]) ear_unlink(own.shared);
}

static void stopped(int32_t signal) {
    remove();
    ear_exit(128 + signal);
}

// As the kernel wants it. There is no way back from `stopped`; x86_64 asks for one all the same.
static void on_signal(int32_t signal, ear_word_t action) {
    enum { RESTORER = 0x04000000 };
    const struct {
        ear_word_t action, flags, restorer;
        uint64_t mask;
    } set = {action, RESTORER, action, 0};
    ear_system(SYS_RT_SIGACTION, signal, ear_word(&set), 0, sizeof set.mask, 0);
}

static int32_t refuse(const char *path, const char *why) {
    ear_say(path);
    ear_say(why);
    return 1;
}

// Whether nothing is there, or a socket that another runner left.
static bool takes_socket(const char *path) {
    const ear_word_t there = ear_open(path, EAR_READ_ONLY | EAR_NONBLOCK, 0);  // opening a socket gives ENXIO
    if (there >= 0) ear_close((int32_t)there);
    return there == -EAR_ENOENT || there == -EAR_ENXIO;
}

// A socket at `path` on which clients may connect as soon as they see it: it gets its name when it listens.
static int32_t listening(const char *path) {
    struct {
        uint16_t family;
        char path[PATH_BYTES];
    } address = {1, {0}};
    uint32_t length = 0;
    for (; path[length]; length++) {
        if (length == PATH_BYTES - 2) return -refuse(path, LONG_PATH);
        address.path[length] = path[length];
    }
    if (!length) return -refuse(path, LONG_PATH);
    address.path[length] = '~';
    if (!takes_socket(path) || !takes_socket(address.path))
        return -refuse(path, ": something else than a socket is there, or with a ~ behind\n");
    ear_unlink(address.path);
    const ear_word_t file = ear_system(SYS_SOCKET, 1, 1 | EAR_CLOEXEC, 0, 0, 0);
    if (ear_system(SYS_BIND, file, ear_word(&address), (ear_word_t)(sizeof address.family + length + 2), 0, 0) < 0)
        return -refuse(path, NO_SOCKET);
    if (ear_system(SYS_LISTEN, file, WAITING, 0, 0, 0) < 0 ||
        ear_system(SYS_RENAMEAT, EAR_AT_CWD, ear_word(address.path), EAR_AT_CWD, ear_word(path), 0) < 0) {
        ear_unlink(address.path);
        return -refuse(path, NO_SOCKET);
    }
    for (uint32_t i = 0; i < length; i++) own.socket[i] = path[i];
    return (int32_t)file;
}

static bool is_stdin(const char *where) {
    static const char name[] = "stdin";
    for (uint32_t i = 0; i < sizeof name; i++)
        if (where[i] != name[i]) return false;
    return true;
}

int32_t ear_runner_serve(const char *where, void (*serve)(void)) {
    static const int32_t ends[] = {EAR_SIGHUP, EAR_SIGINT, EAR_SIGTERM};
    const ear_word_t parent = ear_system(SYS_GETPPID, 0, 0, 0, 0, 0);
    for (uint32_t i = 0; i < sizeof ends / sizeof *ends; i++) on_signal(ends[i], (ear_word_t)stopped);
    on_signal(EAR_SIGPIPE, 1);
    if (is_stdin(where)) {
        ear_line_open(0, 1, false);
        serve();
        remove();
        return 0;
    }
    const int32_t file = listening(where);
    if (file < 0) return 1;
    do {  // until the one who started us has gone, who may never come
        ear_poll_t come = {file, EAR_POLLIN, 0};
        if (ear_wait(&come, 1, LOOK_MS) <= 0) continue;
        const ear_word_t client = ear_system(SYS_ACCEPT4, file, 0, 0, EAR_CLOEXEC, 0);
        if (client < 0) continue;
        ear_line_open((int32_t)client, (int32_t)client, false);
        serve();
        ear_close((int32_t)client);
    } while (ear_system(SYS_GETPPID, 0, 0, 0, 0, 0) == parent);
    remove();
    return 0;
}
