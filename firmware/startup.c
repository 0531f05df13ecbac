// Reset: vector table, FPU, stack paint, .data and .bss, then main. A fault leaves a letter and resets.
#include "startup.h"

#include "ports/port.h"

extern uint32_t ear_stack_limit[], ear_stack_top[];
extern uint32_t ear_data_start[], ear_data_end[], ear_data_load[], ear_bss_start[], ear_bss_end[];

#define SCB_VTOR (*(volatile uint32_t *)0xE000ED08u)
#define SCB_BFAR (*(volatile uint32_t *)0xE000ED38u)
#define SCB_CFSR (*(volatile uint32_t *)0xE000ED28u)
#define SCB_CPACR (*(volatile uint32_t *)0xE000ED88u)
#define BFAR_VALID 0x8000u

int main(void);
_Noreturn void Reset_Handler(void);
_Noreturn void Fault_Handler(void);
__attribute__((weak)) void SysTick_Handler(void) {}

typedef void (*handler_t)(void);

__attribute__((section(".vectors"), used)) static const struct {
    uint32_t *stack;
    handler_t handlers[15];
} vectors = {ear_stack_top,
             {(handler_t)Reset_Handler, (handler_t)Fault_Handler, (handler_t)Fault_Handler, (handler_t)Fault_Handler,
              (handler_t)Fault_Handler, (handler_t)Fault_Handler, (handler_t)Fault_Handler, 0, 0, 0,
              (handler_t)Fault_Handler, (handler_t)Fault_Handler, 0, (handler_t)Fault_Handler, SysTick_Handler}};

// Runs without a usable .data: only registers and the stack.
_Noreturn void Reset_Handler(void) {
    SCB_VTOR = (uint32_t)(uintptr_t)&vectors;
#ifdef __ARM_FP
    SCB_CPACR |= 0xFu << 20;
    __asm volatile("dsb\n isb" ::: "memory");
#endif
    uint32_t *here = (uint32_t *)__builtin_frame_address(0) - 16;
    for (volatile uint32_t *word = ear_stack_limit; word < here; word++) *word = EAR_PAINT;
    const volatile uint32_t *from = ear_data_load;
    for (volatile uint32_t *word = ear_data_start; word < ear_data_end; word++) *word = *from++;
    for (volatile uint32_t *word = ear_bss_start; word < ear_bss_end; word++) *word = 0;
    port_init();
    main();
    port_reset();
}

// The stacked frame is r0-r3, r12, lr, pc, xpsr.
__attribute__((used)) _Noreturn static void fault(const uint32_t *frame) {
    ear_handover.pc = frame[6];
#if __ARM_ARCH >= 7 && __ARM_ARCH_PROFILE == 'M'
    ear_handover.address = SCB_CFSR & BFAR_VALID ? SCB_BFAR : 0;
#else
    ear_handover.address = 0;
#endif
    ear_handover.magic = EAR_FAULT;
    port_reset();
}

__attribute__((naked)) void Fault_Handler(void) {
    __asm volatile("mrs r0, msp\n ldr r1, =fault\n bx r1\n .ltorg");
}

uint32_t ear_stack_bytes(void) { return (uint32_t)(ear_stack_top - ear_stack_limit) * 4; }

uint32_t ear_stack_high_water(void) {
    const volatile uint32_t *word = ear_stack_limit;
    while (word < ear_stack_top && *word == EAR_PAINT) word++;
    return (uint32_t)((uintptr_t)ear_stack_top - (uintptr_t)word);
}

bool ear_stack_intact(void) {
    for (uint32_t i = 0; i < EAR_STACK_GUARD_WORDS; i++)
        if (((volatile uint32_t *)ear_stack_limit)[i] != EAR_PAINT) return false;
    return true;
}

uint32_t ear_static_bytes(void) {
    return (uint32_t)((uintptr_t)ear_data_end - (uintptr_t)ear_data_start) +
           (uint32_t)((uintptr_t)ear_bss_end - (uintptr_t)ear_bss_start);
}
