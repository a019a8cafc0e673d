/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The seam between a CPU and its local interrupt controller.
 *
 * Intc is what a vCPU asks of its local APIC; IntcCpuOps is what the APIC asks of its CPU. Both are
 * called from any thread unless said otherwise. Intc is called without the board lock
 * (take_interrupt and an EOI may take it). IntcCpuOps may be called with it held (a device's MSI, a
 * timer): they note the event, kick the vCPU and never wait; tsc and tsc_hz are called with the
 * APIC's own lock held and take none.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* A local APIC as engines with local APICs of their own take it over and give it back: the register
 * page of xAPIC mode (SDM 3A table 10-1) in either mode, the upper half of ICR at 310h. */
typedef struct IntcState {
    uint8_t regs[0x400];
    uint64_t base;         /* IA32_APIC_BASE */
    uint64_t tsc_deadline; /* IA32_TSC_DEADLINE */
} IntcState;

enum { /* in the page */
       INTC_ID = 0x20,
       INTC_ISR = 0x100,
       INTC_TMR = 0x180,
       INTC_IRR = 0x200,
       INTC_LVT_TIMER = 0x320,
       INTC_TIMER_INITIAL = 0x380,
       INTC_TIMER_CURRENT = 0x390,
};

typedef struct Intc {
    /* A vector of sufficient priority or an ExtINT is pending. Cheap. */
    bool (*has_interrupt)(void *obj);
    /* The vector to deliver (moved to in-service), or -1. vCPU thread. */
    int (*take_interrupt)(void *obj);
    uint8_t (*get_cr8)(void *obj);
    void (*set_cr8)(void *obj, uint8_t value);
    /* IA32_APIC_BASE, 0x800-0x8ff and IA32_TSC_DEADLINE; false: #GP. vCPU thread. */
    bool (*read_msr)(void *obj, uint32_t msr, uint64_t *ret_value);
    bool (*write_msr)(void *obj, uint32_t msr, uint64_t value);
    /* The xAPIC page at the address in IA32_APIC_BASE. vCPU thread. */
    uint64_t (*mmio_read)(void *obj, uint64_t offset, unsigned size);
    void (*mmio_write)(void *obj, uint64_t offset, unsigned size, uint64_t value);
    /* INIT (`init`) or RESET. */
    void (*reset)(void *obj, bool init);
    uint64_t (*apic_base)(void *obj);
    /* Where in RAM, 4-byte aligned, the guest has a bit 0 that means: it may clear this instead of
     * writing EOI. UINT64_MAX: nowhere. NULL: the controller knows no such thing. vCPU thread. */
    void (*set_eoi_bit)(void *obj, uint64_t address);
    /* The guest's TSC was set: a pending TSC deadline is computed anew. vCPU thread. */
    void (*tsc_changed)(void *obj);
    /* VM paused, vCPU thread. NULL both: the controller is nothing that engines have of their own.
     */
    void (*get_state)(void *obj, IntcState *state);
    void (*set_state)(void *obj, const IntcState *state);
} Intc;

typedef struct IntcCpuOps {
    /* Something may be deliverable now: look again. */
    void (*interrupt_pending)(void *vcpu);
    void (*nmi)(void *vcpu);
    void (*init)(void *vcpu);
    void (*startup)(void *vcpu, uint8_t vector);
    uint64_t (*tsc)(void *vcpu); /* the guest's counter now */
    uint64_t (*tsc_hz)(void *vcpu);
} IntcCpuOps;
