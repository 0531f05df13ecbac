// What the start-up code knows about memory: the painted stack and the static data.
#ifndef EAR_STARTUP_H
#define EAR_STARTUP_H

#include <stdbool.h>
#include <stdint.h>

#define EAR_PAINT 0xA5A5A5A5u
#define EAR_STACK_GUARD_WORDS 4

uint32_t ear_stack_bytes(void);
uint32_t ear_stack_high_water(void);  // bytes of stack ever used
bool ear_stack_intact(void);          // the lowest words still carry paint
uint32_t ear_static_bytes(void);      // .data and .bss, the arena included

#endif
