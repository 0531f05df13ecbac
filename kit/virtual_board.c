// The emulated boards' registers and instruction counter: Unicorn calls these for each block and each register.
//
// Built for the host on first use (kit/counter.py), without a C library; the layout of machine_t is repeated there,
// the registers are those of firmware/ports/virtual.c.
#include <stdbool.h>
#include <stdint.h>

#define CACHE (1u << 16)
#define FIFO (1u << 20)
#define PAGE 4096u
#define AIR (1u << 16)  // samples
#define KEPT 4096u      // samples that the microphone keeps, EAR_MICROPHONE_KEPT
#define WAKE 128u       // samples that end a rest

enum { RUNNING = 0, IDLE = 1, RESET = 2, LIMIT = 3, BREATHLESS = 4 };  // the last: the air must be filled up

typedef int32_t (*uc_emu_stop_t)(void *uc);

typedef struct {
    uint8_t *flash, *ram;
    uint64_t flash_origin, flash_bytes, ram_origin, ram_bytes;
    uint64_t protected_bytes;  // the bootloader at the start of flash, which the controller refuses to change
    uc_emu_stop_t stop;
    uint64_t instructions, limit, latched;
    uint64_t flash_changes, flash_ends;  // operations; the one that is done by half, when the power goes
    uint64_t block_address, block_bytes;  // the one that was entered last
    uint64_t clock_hz, rested;    // cycles for which the core rested while the microphone ran
    uint64_t heard_since;         // the time at which it was started
    uint64_t air_start, air_at, air_end;  // samples of the air: first one heard, next one to be read, given so far
    uint64_t samples_lost;
    uint32_t rate, air_rate, air_over;  // Hz; of the microphone while it runs, of the air; no more air will come
    uint32_t state, boot_pin, flash_address, flash_error;
    uint32_t rx_head, rx_tail, tx_head, tx_tail;  // free-running indices into the FIFOs
    struct {
        uint32_t address;
        uint16_t size, count;
    } cache[CACHE];
    uint8_t rx[FIFO], tx[FIFO];
    int16_t air[AIR];
} machine_t;

uint64_t ear_machine_bytes(void) { return sizeof(machine_t); }

// Forget what the reset core had translated; lines and memories stay as they are.
void ear_reset(machine_t *machine) {
    for (uint32_t i = 0; i < CACHE; i++) machine->cache[i].size = 0;
    machine->state = RUNNING;
    machine->flash_error = 0;
    machine->rate = 0;
}

static const uint8_t *memory_at(const machine_t *machine, uint64_t address, uint32_t size) {
    if (address >= machine->flash_origin && address + size <= machine->flash_origin + machine->flash_bytes)
        return machine->flash + (address - machine->flash_origin);
    if (address >= machine->ram_origin && address + size <= machine->ram_origin + machine->ram_bytes)
        return machine->ram + (address - machine->ram_origin);
    return 0;
}

// Thumb: a first halfword of 0b11101, 0b11110 or 0b11111 begins a 32-bit instruction.
static uint32_t count_block(const machine_t *machine, uint64_t address, uint32_t size) {
    const uint8_t *code = memory_at(machine, address, size);
    uint32_t count = 0;
    if (!code) return 0;
    for (uint32_t at = 0; at + 1 < size; count++) at += code[at + 1] >> 3 >= 0x1D ? 4 : 2;
    return count;
}

// UC_HOOK_BLOCK
void ear_on_block(void *uc, uint64_t address, uint32_t size, void *user) {
    machine_t *machine = user;
    uint32_t slot = (uint32_t)(address >> 1) % CACHE;
    if (machine->cache[slot].address != (uint32_t)address || machine->cache[slot].size != (uint16_t)size) {
        machine->cache[slot].address = (uint32_t)address;
        machine->cache[slot].size = (uint16_t)size;
        machine->cache[slot].count = (uint16_t)count_block(machine, address, size);
    }
    machine->instructions += machine->cache[slot].count;
    machine->block_address = address;
    machine->block_bytes = size;
    if (machine->instructions >= machine->limit) {
        machine->state = LIMIT;
        machine->stop(uc);
    }
}

// A block counts when it is entered. After a stop inside one, take back what it has not executed before `pc`.
void ear_settle(machine_t *machine, uint64_t pc) {
    uint64_t left = machine->block_address + machine->block_bytes - pc;
    if (left <= machine->block_bytes) machine->instructions -= count_block(machine, pc, (uint32_t)left);
    machine->block_bytes = 0;
}

static void halt(void *uc, machine_t *machine, uint32_t state) {
    machine->state = state;
    machine->stop(uc);
}

// The microphone's clock: an instruction takes a cycle, and so does rest. The n-th sample since the start is there
// n * clock_hz / rate cycles after it; a core that does not fetch it in time loses it.
static uint64_t now(const machine_t *machine) { return machine->instructions + machine->rested; }

static uint64_t due_at(const machine_t *machine, uint64_t sample) {
    uint64_t cycles = (sample - machine->air_start) * machine->clock_hz;
    return machine->heard_since + (cycles + machine->rate - 1) / machine->rate;
}

// Samples of the air that have been heard; those that found no room are lost.
static uint64_t heard(machine_t *machine) {
    uint64_t end = machine->air_start + (now(machine) - machine->heard_since) * machine->rate / machine->clock_hz;
    if (end > machine->air_end) end = machine->air_end;
    if (end > machine->air_at + KEPT) {
        machine->samples_lost += end - KEPT - machine->air_at;
        machine->air_at = end - KEPT;
    }
    return end;
}

static void start_microphone(void *uc, machine_t *machine, uint32_t rate) {
    if (rate && rate == machine->air_rate && machine->air_at == machine->air_end && !machine->air_over) {
        halt(uc, machine, BREATHLESS);  // the core writes again when it goes on
        return;
    }
    machine->rate = rate == machine->air_rate ? rate : 0;
    machine->heard_since = now(machine);
    machine->air_start = machine->air_at;
    machine->samples_lost = 0;
}

static uint32_t next_sample(machine_t *machine) {
    if (!machine->rate || heard(machine) == machine->air_at) return 0;
    return 0x10000u | (uint16_t)machine->air[machine->air_at++ % AIR];
}

// Rest until a byte comes, or WAKE samples are there.
static void rest(void *uc, machine_t *machine) {
    if (machine->rx_head != machine->rx_tail) return;
    uint64_t wanted = machine->air_at + WAKE;
    if (machine->rate && heard(machine) >= wanted) return;
    if (machine->air_over && wanted > machine->air_end) wanted = machine->air_end;
    if (!machine->rate || machine->tx_head != machine->tx_tail || wanted == machine->air_at) {
        halt(uc, machine, IDLE);
    } else if (wanted > machine->air_end) {
        halt(uc, machine, BREATHLESS);
    } else if (due_at(machine, wanted) > now(machine)) {
        machine->rested += due_at(machine, wanted) - now(machine);
    }
}

// Put samples into the air; returns how many found room. None at all: no more will come.
uint32_t ear_breathe(machine_t *machine, const int16_t *samples, uint32_t count) {
    uint32_t taken = 0;
    heard(machine);
    machine->air_over = count == 0;
    while (taken < count && machine->air_end - machine->air_at < AIR)
        machine->air[machine->air_end++ % AIR] = samples[taken++];
    return taken;
}

// The instruction at which there will be no air left.
uint64_t ear_breathless(const machine_t *machine) {
    if (!machine->rate || machine->air_over) return UINT64_MAX;
    uint64_t at = due_at(machine, machine->air_end);
    return at > machine->rested ? at - machine->rested : 0;
}

// UC MMIO read of the register at `offset`.
uint64_t ear_on_read(void *uc, uint64_t offset, uint32_t size, void *user) {
    machine_t *machine = user;
    (void)uc, (void)size;
    bool waiting = machine->rx_head != machine->rx_tail;
    switch (offset) {
        case 0x00: return waiting ? 0x100u | machine->rx[machine->rx_tail++ % FIFO] : 0;
        case 0x04: return machine->boot_pin;
        case 0x10: return (uint32_t)(machine->latched = machine->instructions);
        case 0x14: return machine->latched >> 32;
        case 0x24: {
            uint32_t error = machine->flash_error;
            machine->flash_error = 0;
            return error;
        }
        case 0x28: return machine->rate;
        case 0x2C: return next_sample(machine);
        case 0x30: return (uint32_t)machine->samples_lost;
        default: return 0;
    }
}

// Where the flash controller would write `size` bytes, or 0 with the error set.
static uint8_t *flash_target(machine_t *machine, uint32_t address, uint32_t size) {
    uint64_t offset = (uint64_t)address - machine->flash_origin;
    if (address < machine->flash_origin || offset < machine->protected_bytes ||
        offset + size > machine->flash_bytes || address % 4) {
        machine->flash_error = 1;
        return 0;
    }
    machine->flash_changes++;
    if (machine->flash_ends && machine->flash_changes > machine->flash_ends) return 0;
    return machine->flash + offset;
}

static void erase(machine_t *machine) {
    uint8_t *page = flash_target(machine, machine->flash_address / PAGE * PAGE, PAGE);
    uint32_t done = machine->flash_changes == machine->flash_ends ? PAGE / 2 : PAGE;
    for (uint32_t i = 0; page && i < done; i++) page[i] = 0xFF;
}

static void program(machine_t *machine, uint32_t word) {
    uint8_t *bytes = flash_target(machine, machine->flash_address, 4);
    uint32_t done = machine->flash_changes == machine->flash_ends ? 2 : 4;
    for (uint32_t i = 0; bytes && i < done; i++) bytes[i] &= (uint8_t)(word >> 8 * i);
    machine->flash_address += 4;
}

// UC MMIO write.
void ear_on_write(void *uc, uint64_t offset, uint32_t size, uint64_t value, void *user) {
    machine_t *machine = user;
    (void)size;
    switch (offset) {
        case 0x00:
            machine->tx[machine->tx_head++ % FIFO] = (uint8_t)value;
            if (machine->tx_head - machine->tx_tail > FIFO) machine->tx_tail = machine->tx_head - FIFO;
            break;
        case 0x08: rest(uc, machine); break;
        case 0x0C: halt(uc, machine, RESET); break;
        case 0x18: machine->flash_address = (uint32_t)value; break;
        case 0x1C: erase(machine); break;
        case 0x20: program(machine, (uint32_t)value); break;
        case 0x28: start_microphone(uc, machine, (uint32_t)value); break;
        default: break;
    }
}

// Put bytes on the board's receive line; returns how many found room.
uint32_t ear_send(machine_t *machine, const uint8_t *bytes, uint32_t length) {
    uint32_t taken = 0;
    while (taken < length && machine->rx_head - machine->rx_tail < FIFO) machine->rx[machine->rx_head++ % FIFO] = bytes[taken++];
    return taken;
}

// Take what the board has sent, at most `length` bytes.
uint32_t ear_receive(machine_t *machine, uint8_t *bytes, uint32_t length) {
    uint32_t taken = 0;
    while (taken < length && machine->tx_tail != machine->tx_head) bytes[taken++] = machine->tx[machine->tx_tail++ % FIFO];
    return taken;
}
