/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the files of the local APIC share: lapic.c (priorities, delivery, the CPU's side),
 * lapic_registers.c, lapic_timer.c, lapic_bus.c (messages).
 */
#pragma once

#include "device/chipset/lapic.h"

#define MSR_IA32_APIC_BASE    0x1bu
#define MSR_IA32_TSC_DEADLINE 0x6e0u
#define MSR_X2APIC_FIRST      0x800u

typedef enum LapicDelivery {
    LAPIC_FIXED,
    LAPIC_LOWEST,
    LAPIC_SMI,
    LAPIC_REMOTE_READ,
    LAPIC_NMI,
    LAPIC_INIT,
    LAPIC_STARTUP,
    LAPIC_EXTINT,
} LapicDelivery;

enum {
    LAPIC_PENDING_EXTINT = 256,
    LAPIC_PENDING_EOI = 257, /* perhaps something, if the guest has cleared the EOI bit */

    LVT_MASKED = 1 << 16,
    LVT_LEVEL = 1 << 15,
    LVT_REMOTE_IRR = 1 << 14,
    LVT_TIMER_ONE_SHOT = 0,
    LVT_TIMER_PERIODIC = 1,
    LVT_TIMER_DEADLINE = 2,

    SVR_ENABLE = 1 << 8,
    SVR_SUPPRESS_EOI = 1 << 12,

    ESR_SEND_ILLEGAL_VECTOR = 1 << 5,
    ESR_RECEIVE_ILLEGAL_VECTOR = 1 << 6,
    ESR_ILLEGAL_REGISTER = 1 << 7,
};

#define SVR_BITS 0x13ffu
#define ICR_BITS (UINT64_C(0xffffffff00000000) | 0xcdfff)
/* Bits of the local vector table that are not reserved. */
extern const uint32_t lapic_lvt_bits[LAPIC_LVT_COUNT];

/* What to tell the CPU when the lock is released. */
enum LapicAction {
    ACTION_RECHECK = 1 << 0,
    ACTION_NMI = 1 << 1,
    ACTION_INIT = 1 << 2,
};

/* A message on the bus: SDM 3A 10.6.2. */
typedef struct LapicMessage {
    uint32_t dest;
    bool wide; /* `dest` has 32 bits (an x2APIC sent it), else 8 */
    bool logical;
    bool level; /* trigger mode */
    uint8_t delivery;
    uint8_t vector;
} LapicMessage;

static inline bool lapic_is_enabled(const Lapic *lapic)
{
    return lapic->base_msr & APIC_BASE_ENABLE;
}

static inline bool lapic_is_x2apic(const Lapic *lapic)
{
    return lapic->base_msr & APIC_BASE_X2APIC;
}

static inline unsigned lapic_timer_mode(const Lapic *lapic)
{
    return lapic->lvt[LAPIC_LVT_TIMER] >> 17 & 3;
}

/* The lock of one LAPIC; unlocking tells the CPU what happened meanwhile. */
void lapic_lock(Lapic *lapic);
void lapic_unlock(Lapic *lapic);
/* Below: the caller holds the lock. */
uint8_t lapic_arbitration_priority(const Lapic *lapic);
void lapic_accept(Lapic *lapic, const LapicMessage *message);
void lapic_log_error(Lapic *lapic, uint32_t esr_bit);
/* An interrupt of the local vector table, if it is not masked. */
void lapic_deliver_local(Lapic *lapic, LapicLvt entry);

/* Below: the caller holds the lock. Computes `pending` after any change of what it depends on. */
void lapic_update_pending(Lapic *lapic);
uint8_t lapic_processor_priority(const Lapic *lapic);
/* A level-triggered LINT pin that is up requests once per EOI. */
void lapic_request_level_pin(Lapic *lapic, unsigned pin);
/* Returns the vector to broadcast to the I/O APICs, or -1: 10.8.5. */
int lapic_end_interrupt(Lapic *lapic);

/* vCPU thread, no lock held, before registers are looked at: ends the interrupt in service if the
 * guest said so by its EOI bit, which counts no more. */
void lapic_look_at_eoi_bit(Lapic *lapic);

/* lapic_registers.c. The caller holds the lock: everything but the id, the pins and
 * IA32_APIC_BASE as after power-up: 10.4.7.1. */
void lapic_clear_registers(Lapic *lapic);
/* No lock held. */
bool lapic_read_msr(void *obj, uint32_t msr, uint64_t *ret_value);
bool lapic_write_msr(void *obj, uint32_t msr, uint64_t value);

void lapic_get_state(void *obj, IntcState *state);
void lapic_set_state(void *obj, const IntcState *state);

/* lapic_timer.c; the caller holds the lock */
void lapic_timer_fire(void *obj);
/* Notes expiries up to now and arms the host timer for the next. */
void lapic_timer_update(Lapic *lapic);
void lapic_timer_stop(Lapic *lapic);
void lapic_timer_set_initial(Lapic *lapic, uint32_t count);
/* As it was when the registers had these values. */
void lapic_timer_go_on(Lapic *lapic, uint32_t initial, uint32_t current, uint64_t deadline);
void lapic_timer_set_divide(Lapic *lapic, uint32_t divide);
void lapic_timer_set_deadline(Lapic *lapic, uint64_t tsc);
uint32_t lapic_timer_current(Lapic *lapic);

/* lapic_bus.c; no lock held */
/* Carries out what was written to the ICR (x2APIC layout if `wide`). */
void lapic_send_ipi(Lapic *sender, uint64_t icr, bool wide);
