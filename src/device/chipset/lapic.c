/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The local APIC: registers, priorities, acceptance, acknowledgement, and the CPU's side (Intc).
 *
 * Invariants: no bit below 16 in IRR and ISR; while SVR's enable bit is 0 all LVT entries are masked;
 * `pending` is what take_interrupt() would deliver. Threads: lapic.h.
 */
#include "device/chipset/lapic_internal.h"

#include "base/bits.h"
#include "base/guest_log.h"

#define VERSION_VALUE (0x14u | (LAPIC_LVT_COUNT - 1) << 16 | 1u << 24) /* EOI suppression */

/* Register numbers: MMIO offset / 16, MSR - 0x800. */
enum {
    REG_ID = 0x02,
    REG_VERSION = 0x03,
    REG_TPR = 0x08,
    REG_APR = 0x09,
    REG_PPR = 0x0a,
    REG_EOI = 0x0b,
    REG_RRD = 0x0c,
    REG_LDR = 0x0d,
    REG_DFR = 0x0e,
    REG_SVR = 0x0f,
    REG_ISR = 0x10,
    REG_TMR = 0x18,
    REG_IRR = 0x20,
    REG_ESR = 0x28,
    REG_ICR = 0x30,
    REG_ICR_HIGH = 0x31,
    REG_LVT = 0x32, /* timer, thermal, perf, LINT0, LINT1, error */
    REG_TIMER_INITIAL = 0x38,
    REG_TIMER_CURRENT = 0x39,
    REG_TIMER_DIVIDE = 0x3e,
    REG_SELF_IPI = 0x3f,
    REG_COUNT = 0x40,
};

/* Who may do what: SDM 3A tables 10-1 and 10-6. */
enum { X_R = 1, X_W = 2, X2_R = 4, X2_W = 8, RO = X_R | X2_R, RW = RO | X_W | X2_W };

static const uint8_t register_access[REG_COUNT] = {
    [REG_ID] = RO | X_W,
    [REG_VERSION] = RO,
    [REG_TPR] = RW,
    [REG_APR] = X_R,
    [REG_PPR] = RO,
    [REG_EOI] = X_R | X_W | X2_W,
    [REG_RRD] = X_R,
    [REG_LDR] = RO | X_W,
    [REG_DFR] = X_R | X_W,
    [REG_SVR] = RW,
    [REG_ISR ... REG_IRR + 7] = RO,
    [REG_ESR] = RW,
    [REG_ICR] = RW,
    [REG_ICR_HIGH] = X_R | X_W,
    [REG_LVT ... REG_LVT + LAPIC_LVT_COUNT - 1] = RW,
    [REG_TIMER_INITIAL] = RW,
    [REG_TIMER_CURRENT] = RO,
    [REG_TIMER_DIVIDE] = RW,
    [REG_SELF_IPI] = X2_W,
};

/* Bits that are not reserved; others raise #GP in x2APIC mode. */
static const uint32_t lvt_bits[LAPIC_LVT_COUNT] = {
    [LAPIC_LVT_TIMER] = 0x710ff,  [LAPIC_LVT_THERMAL] = 0x117ff, [LAPIC_LVT_PERF] = 0x117ff,
    [LAPIC_LVT_LINT0] = 0x1f7ff,  [LAPIC_LVT_LINT1] = 0x1f7ff,   [LAPIC_LVT_ERROR] = 0x110ff,
};
#define LVT_READ_ONLY (1u << 12 | LVT_REMOTE_IRR)
#define SVR_BITS 0x13ffu
#define ICR_BITS (UINT64_C(0xffffffff00000000) | 0xcdfff)
#define ICR_STATUS (1u << 12)

/* ---- vectors and priorities ---------------------------------------------------------------- */

static int highest_vector(const uint32_t bitmap[8])
{
    for (int i = 7; i >= 0; i--) {
        if (bitmap[i])
            return i * 32 + 31 - __builtin_clz(bitmap[i]);
    }
    return -1;
}

static void vector_set(uint32_t bitmap[8], uint8_t vector, bool on)
{
    uint32_t bit = 1u << (vector & 31);
    bitmap[vector >> 5] = on ? bitmap[vector >> 5] | bit : bitmap[vector >> 5] & ~bit;
}

static bool vector_test(const uint32_t bitmap[8], uint8_t vector)
{
    return bitmap[vector >> 5] & 1u << (vector & 31);
}

static uint8_t class_of(int vector)
{
    return vector < 0 ? 0 : vector & 0xf0;
}

/* 10.8.3.1 */
static uint8_t processor_priority(const Lapic *lapic)
{
    uint8_t in_service = class_of(highest_vector(lapic->isr));
    return (lapic->tpr & 0xf0) >= in_service ? lapic->tpr : in_service;
}

/* 10.6.2.4 */
uint8_t lapic_arbitration_priority(const Lapic *lapic)
{
    uint8_t task = lapic->tpr & 0xf0;
    uint8_t in_service = class_of(highest_vector(lapic->isr));
    uint8_t requested = class_of(highest_vector(lapic->irr));
    if (task >= requested && task > in_service)
        return lapic->tpr;
    return MAX(task, MAX(in_service, requested));
}

/* Is the 8259A's INTR passed on to the CPU? */
static bool extint_pending(const Lapic *lapic)
{
    if (!lapic_is_enabled(lapic)) /* the pin is the CPU's INTR itself */
        return lapic->bsp && lapic->lint_level[0];
    uint32_t lint0 = lapic->lvt[LAPIC_LVT_LINT0];
    bool through = !(lint0 & LVT_MASKED) && bits_get(lint0, 8, 3) == LAPIC_EXTINT;
    return lapic->extint_message || (through && lapic->lint_level[0]);
}

static int find_pending(const Lapic *lapic)
{
    if (extint_pending(lapic))
        return LAPIC_PENDING_EXTINT;
    if (!lapic_is_enabled(lapic))
        return -1;
    int vector = highest_vector(lapic->irr);
    return class_of(vector) > (processor_priority(lapic) & 0xf0) ? vector : -1;
}

static void update_pending(Lapic *lapic)
{
    int pending = find_pending(lapic);
    if (pending >= 0 && pending != lapic->pending)
        lapic->actions |= ACTION_RECHECK;
    __atomic_store_n(&lapic->pending, pending, __ATOMIC_SEQ_CST);
}

/* ---- acceptance ---------------------------------------------------------------------------- */

void lapic_lock(Lapic *lapic)
{
    g_mutex_lock(&lapic->lock);
}

void lapic_unlock(Lapic *lapic)
{
    unsigned actions = lapic->actions;
    lapic->actions = 0;
    g_mutex_unlock(&lapic->lock);
    if (actions & ACTION_RECHECK)
        lapic->cpu_ops->interrupt_pending(lapic->vcpu);
    if (actions & ACTION_NMI)
        lapic->cpu_ops->nmi(lapic->vcpu);
    if (actions & ACTION_INIT)
        lapic->cpu_ops->init(lapic->vcpu);
}

static void request(Lapic *lapic, uint8_t vector, bool level)
{
    if (vector < 16) {
        lapic_log_error(lapic, ESR_RECEIVE_ILLEGAL_VECTOR);
        return;
    }
    vector_set(lapic->irr, vector, true);
    vector_set(lapic->tmr, vector, level);
    update_pending(lapic);
}

/* The error interrupt is raised once until ESR is written again: 10.5.3. */
void lapic_log_error(Lapic *lapic, uint32_t esr_bit)
{
    bool armed = !lapic->esr_logged;
    lapic->esr_logged |= esr_bit;
    if (armed)
        lapic_deliver_local(lapic, LAPIC_LVT_ERROR);
}

void lapic_accept(Lapic *lapic, const LapicMessage *message)
{
    switch (message->delivery) {
    case LAPIC_FIXED:
    case LAPIC_LOWEST:
        if (lapic->svr & SVR_ENABLE)
            request(lapic, message->vector, message->level);
        break;
    case LAPIC_NMI:
        lapic->actions |= ACTION_NMI;
        break;
    case LAPIC_INIT:
        lapic->actions |= ACTION_INIT;
        break;
    case LAPIC_EXTINT:
        lapic->extint_message = true;
        update_pending(lapic);
        break;
    default: /* SMI: there is no SMM; start-up is the bus's business */
        break;
    }
}

void lapic_deliver_local(Lapic *lapic, LapicLvt entry)
{
    uint32_t lvt = lapic->lvt[entry];
    if (lvt & LVT_MASKED)
        return;
    bool fixed = entry == LAPIC_LVT_TIMER || entry == LAPIC_LVT_ERROR;
    unsigned delivery = fixed ? LAPIC_FIXED : bits_get(lvt, 8, 3);
    if (entry == LAPIC_LVT_PERF)
        lapic->lvt[entry] |= LVT_MASKED; /* 10.5.1: "set automatically" */
    if (delivery == LAPIC_FIXED)
        request(lapic, lvt & 0xff, lvt & lvt_bits[entry] & LVT_LEVEL);
    else if (delivery == LAPIC_NMI)
        lapic->actions |= ACTION_NMI;
    else if (delivery == LAPIC_INIT)
        lapic->actions |= ACTION_INIT;
}

/* A level-triggered LINT pin that is up requests once per EOI. */
static void request_level_pin(Lapic *lapic, unsigned pin)
{
    uint32_t *lvt = &lapic->lvt[LAPIC_LVT_LINT0 + pin];
    bool level_fixed = (*lvt & LVT_LEVEL) && bits_get(*lvt, 8, 3) == LAPIC_FIXED;
    if (!level_fixed || (*lvt & (LVT_MASKED | LVT_REMOTE_IRR)) || !lapic->lint_level[pin])
        return;
    if ((*lvt & 0xff) >= 16)
        *lvt |= LVT_REMOTE_IRR;
    lapic_deliver_local(lapic, LAPIC_LVT_LINT0 + pin);
}

static void set_pin(Lapic *lapic, unsigned pin, bool level)
{
    uint32_t lvt = lapic->lvt[LAPIC_LVT_LINT0 + pin];
    bool rising = level && !lapic->lint_level[pin];
    bool edge = !(lvt & LVT_LEVEL) || bits_get(lvt, 8, 3) != LAPIC_FIXED;
    lapic->lint_level[pin] = level;
    if (lapic_is_enabled(lapic) && rising && edge)
        lapic_deliver_local(lapic, LAPIC_LVT_LINT0 + pin);
    else if (!lapic_is_enabled(lapic) && rising && pin == 1 && lapic->bsp)
        lapic->actions |= ACTION_NMI; /* the pin is the CPU's NMI itself */
    else if (lapic_is_enabled(lapic))
        request_level_pin(lapic, pin);
    update_pending(lapic);
}

static void lint_set(void *obj, unsigned n, bool level)
{
    LapicBus *bus = obj;
    for (unsigned i = 0; i < bus->count; i++) {
        lapic_lock(bus->lapics[i]);
        set_pin(bus->lapics[i], n, level);
        lapic_unlock(bus->lapics[i]);
    }
}

IrqLine lapic_bus_lint(LapicBus *bus, unsigned n)
{
    g_assert(n < 2);
    return (IrqLine){.set = lint_set, .obj = bus, .n = n};
}

void lapic_local_interrupt(Lapic *lapic, LapicLvt source)
{
    lapic_lock(lapic);
    lapic_deliver_local(lapic, source);
    lapic_unlock(lapic);
}

/* ---- acknowledgement ----------------------------------------------------------------------- */

/* INTA for the 8259A pair: outside the lock, for the answer comes under the board's. */
static int take_extint(Lapic *lapic)
{
    lapic->extint_message = false;
    update_pending(lapic);
    lapic_unlock(lapic);
    return lapic->bus && lapic->bus->acknowledge_pic
               ? lapic->bus->acknowledge_pic(lapic->bus->pic_obj)
               : -1;
}

static int intc_take_interrupt(void *obj)
{
    Lapic *lapic = obj;
    lapic_lock(lapic);
    int vector = lapic->pending;
    if (vector == LAPIC_PENDING_EXTINT)
        return take_extint(lapic);
    if (vector >= 0) {
        vector_set(lapic->irr, vector, false);
        vector_set(lapic->isr, vector, true);
        update_pending(lapic);
    }
    lapic_unlock(lapic);
    return vector;
}

static bool intc_has_interrupt(void *obj)
{
    const Lapic *lapic = obj;
    return __atomic_load_n(&lapic->pending, __ATOMIC_SEQ_CST) >= 0;
}

/* Returns the vector to broadcast to the I/O APICs, or -1: 10.8.5. */
static int end_of_interrupt(Lapic *lapic)
{
    int vector = highest_vector(lapic->isr);
    if (vector < 0)
        return -1;
    vector_set(lapic->isr, vector, false);
    update_pending(lapic);
    if (!vector_test(lapic->tmr, vector))
        return -1;
    for (unsigned pin = 0; pin < 2; pin++) {
        uint32_t *lvt = &lapic->lvt[LAPIC_LVT_LINT0 + pin];
        if ((*lvt & 0xff) != vector || !(*lvt & LVT_REMOTE_IRR))
            continue;
        *lvt &= ~LVT_REMOTE_IRR;
        request_level_pin(lapic, pin);
    }
    return lapic->svr & SVR_SUPPRESS_EOI ? -1 : vector;
}

/* ---- registers ----------------------------------------------------------------------------- */

static uint32_t read_ldr(const Lapic *lapic)
{
    if (!lapic_is_x2apic(lapic))
        return lapic->ldr;
    return (lapic->apic_id >> 4) << 16 | 1u << (lapic->apic_id & 15);
}

static uint32_t register_read(Lapic *lapic, unsigned reg)
{
    if (reg >= REG_ISR && reg < REG_TMR)
        return lapic->isr[reg - REG_ISR];
    if (reg >= REG_TMR && reg < REG_IRR)
        return lapic->tmr[reg - REG_TMR];
    if (reg >= REG_IRR && reg < REG_ESR)
        return lapic->irr[reg - REG_IRR];
    if (reg >= REG_LVT && reg < REG_LVT + LAPIC_LVT_COUNT)
        return lapic->lvt[reg - REG_LVT];
    switch (reg) {
    case REG_ID: return lapic_is_x2apic(lapic) ? lapic->apic_id : lapic->apic_id << 24;
    case REG_VERSION: return VERSION_VALUE;
    case REG_TPR: return lapic->tpr;
    case REG_APR: return lapic_arbitration_priority(lapic);
    case REG_PPR: return processor_priority(lapic);
    case REG_LDR: return read_ldr(lapic);
    case REG_DFR: return lapic->dfr;
    case REG_SVR: return lapic->svr;
    case REG_ESR: return lapic->esr;
    case REG_ICR: return lapic->icr;
    case REG_ICR_HIGH: return lapic->icr >> 32;
    case REG_TIMER_INITIAL: return lapic->timer_initial;
    case REG_TIMER_CURRENT: return lapic_timer_current(lapic);
    case REG_TIMER_DIVIDE: return lapic->timer_divide;
    default: return 0;
    }
}

static void write_svr(Lapic *lapic, uint32_t value)
{
    lapic->svr = value & SVR_BITS;
    if (value & SVR_ENABLE)
        return;
    for (unsigned i = 0; i < LAPIC_LVT_COUNT; i++)
        lapic->lvt[i] |= LVT_MASKED;
    update_pending(lapic);
}

static void write_lvt(Lapic *lapic, LapicLvt entry, uint32_t value)
{
    uint32_t old = lapic->lvt[entry];
    value = (value & lvt_bits[entry] & ~LVT_READ_ONLY) | (old & LVT_READ_ONLY);
    if (!(lapic->svr & SVR_ENABLE))
        value |= LVT_MASKED;
    if (!(value & LVT_LEVEL))
        value &= ~LVT_REMOTE_IRR;
    if (entry == LAPIC_LVT_TIMER) {
        lapic_timer_update(lapic); /* what expired so far did so under the old entry */
        if (((old ^ value) >> 17 & 3) && ((old | value) >> 17 & LVT_TIMER_DEADLINE))
            lapic_timer_stop(lapic);
    }
    lapic->lvt[entry] = value;
    if (entry == LAPIC_LVT_TIMER)
        lapic_timer_update(lapic);
    if (entry == LAPIC_LVT_LINT0 || entry == LAPIC_LVT_LINT1)
        request_level_pin(lapic, entry - LAPIC_LVT_LINT0);
    update_pending(lapic);
}

/* What needs no call to the outside. */
static void register_write(Lapic *lapic, unsigned reg, uint32_t value)
{
    if (reg >= REG_LVT && reg < REG_LVT + LAPIC_LVT_COUNT) {
        write_lvt(lapic, reg - REG_LVT, value);
        return;
    }
    switch (reg) {
    case REG_TPR:
        lapic->tpr = value;
        update_pending(lapic);
        break;
    case REG_LDR: lapic->ldr = value & 0xff000000; break;
    case REG_DFR: lapic->dfr = value | 0x0fffffff; break;
    case REG_SVR: write_svr(lapic, value); break;
    case REG_ESR:
        lapic->esr = lapic->esr_logged;
        lapic->esr_logged = 0;
        break;
    case REG_ICR_HIGH: lapic->icr = (lapic->icr & 0xffffffff) | (uint64_t)(value & 0xff000000) << 32; break;
    case REG_TIMER_INITIAL: lapic_timer_set_initial(lapic, value); break;
    case REG_TIMER_DIVIDE: lapic_timer_set_divide(lapic, value); break;
    default: break; /* read-only */
    }
}

static void write_eoi(Lapic *lapic)
{
    lapic_lock(lapic);
    int vector = end_of_interrupt(lapic);
    lapic_unlock(lapic);
    if (vector >= 0 && lapic->bus && lapic->bus->eoi)
        lapic->bus->eoi(lapic->bus->eoi_obj, vector);
}

static void write_icr(Lapic *lapic, uint64_t value, bool wide)
{
    lapic_lock(lapic);
    lapic->icr = value & ICR_BITS & ~(uint64_t)ICR_STATUS;
    uint64_t icr = lapic->icr;
    lapic_unlock(lapic);
    if (lapic->bus)
        lapic_send_ipi(lapic, icr, wide);
}

static bool in_xapic_mode(Lapic *lapic)
{
    uint64_t base = __atomic_load_n(&lapic->base_msr, __ATOMIC_RELAXED);
    return (base & APIC_BASE_ENABLE) && !(base & APIC_BASE_X2APIC);
}

static void log_illegal_register(Lapic *lapic)
{
    lapic_lock(lapic);
    lapic_log_error(lapic, ESR_ILLEGAL_REGISTER);
    lapic_unlock(lapic);
}

uint64_t lapic_mmio_read(Lapic *lapic, uint64_t offset, unsigned size)
{
    unsigned reg = offset >> 4 & 0xff;
    if (!in_xapic_mode(lapic))
        return ~UINT64_C(0) >> (64 - 8 * size);
    if (reg >= REG_COUNT || !(register_access[reg] & X_R)) {
        log_illegal_register(lapic);
        return 0;
    }
    if ((offset & 15) >= 4) /* only the first 4 of 16 bytes are there */
        return 0;
    lapic_lock(lapic);
    uint64_t value = register_read(lapic, reg);
    lapic_unlock(lapic);
    return (value >> 8 * (offset & 3)) & (~UINT64_C(0) >> (64 - 8 * size));
}

void lapic_mmio_write(Lapic *lapic, uint64_t offset, unsigned size, uint64_t value)
{
    unsigned reg = offset >> 4 & 0xff;
    if (!in_xapic_mode(lapic) || (offset & 15))
        return;
    if (reg >= REG_COUNT || !(register_access[reg] & (X_R | X_W))) {
        log_illegal_register(lapic);
        return;
    }
    if (reg == REG_EOI) {
        write_eoi(lapic);
    } else if (reg == REG_ICR) {
        write_icr(lapic, (lapic->icr & UINT64_C(0xffffffff00000000)) | (uint32_t)value, false);
    } else {
        lapic_lock(lapic);
        register_write(lapic, reg, value);
        lapic_unlock(lapic);
    }
}

/* ---- MSRs ---------------------------------------------------------------------------------- */

/* The bits a write to an x2APIC register may set: 10.12.1.2 and the registers' figures. */
static uint64_t x2apic_valid_bits(unsigned reg)
{
    if (reg >= REG_LVT && reg < REG_LVT + LAPIC_LVT_COUNT)
        return lvt_bits[reg - REG_LVT];
    switch (reg) {
    case REG_TPR:
    case REG_SELF_IPI: return 0xff;
    case REG_SVR: return SVR_BITS;
    case REG_ICR: return ICR_BITS;
    case REG_TIMER_INITIAL: return UINT32_MAX;
    case REG_TIMER_DIVIDE: return 0xb;
    default: return 0; /* EOI, ESR */
    }
}

static bool x2apic_read(Lapic *lapic, unsigned reg, uint64_t *ret_value)
{
    if (!lapic_is_x2apic(lapic) || reg >= REG_COUNT || !(register_access[reg] & X2_R))
        return false;
    lapic_lock(lapic);
    *ret_value = reg == REG_ICR ? lapic->icr : register_read(lapic, reg);
    lapic_unlock(lapic);
    return true;
}

static bool x2apic_write(Lapic *lapic, unsigned reg, uint64_t value)
{
    if (!lapic_is_x2apic(lapic) || reg >= REG_COUNT || !(register_access[reg] & X2_W))
        return false;
    if (value & ~x2apic_valid_bits(reg))
        return false;
    if (reg == REG_EOI) {
        write_eoi(lapic);
    } else if (reg == REG_ICR) {
        write_icr(lapic, value, true);
    } else {
        lapic_lock(lapic);
        if (reg == REG_SELF_IPI)
            lapic_accept(lapic, &(LapicMessage){.delivery = LAPIC_FIXED, .vector = value});
        else
            register_write(lapic, reg, value);
        lapic_unlock(lapic);
    }
    return true;
}

/* Everything but the id, the pins and IA32_APIC_BASE: 10.4.7.1. */
static void clear_registers(Lapic *lapic)
{
    memset(lapic->isr, 0, sizeof(lapic->isr));
    memset(lapic->irr, 0, sizeof(lapic->irr));
    memset(lapic->tmr, 0, sizeof(lapic->tmr));
    for (unsigned i = 0; i < LAPIC_LVT_COUNT; i++)
        lapic->lvt[i] = LVT_MASKED;
    lapic->tpr = 0;
    lapic->ldr = 0;
    lapic->dfr = UINT32_MAX;
    lapic->svr = 0xff;
    lapic->esr = lapic->esr_logged = 0;
    lapic->icr = 0;
    lapic->timer_divide = 0;
    lapic->extint_message = false;
    lapic_timer_stop(lapic);
    update_pending(lapic);
}

/* 10.12.5: from off only to xAPIC, from xAPIC to both others, from x2APIC only to off. */
static bool base_transition_allowed(const Lapic *lapic, uint64_t value)
{
    uint64_t both = APIC_BASE_ENABLE | APIC_BASE_X2APIC;
    uint64_t from = lapic->base_msr & both, to = value & both;
    if (to == APIC_BASE_X2APIC || (to == both && !lapic->x2apic))
        return false;
    return from == to || from == APIC_BASE_ENABLE || (from == 0 && to == APIC_BASE_ENABLE) ||
           (from == both && to == 0);
}

static bool write_base(Lapic *lapic, uint64_t value)
{
    uint64_t valid = (bits_get(~UINT64_C(0), 0, lapic->phys_bits) & ~UINT64_C(0xfff)) |
                     APIC_BASE_BSP | APIC_BASE_ENABLE | APIC_BASE_X2APIC;
    if ((value & ~valid) || !base_transition_allowed(lapic, value))
        return false;
    lapic_lock(lapic);
    uint64_t changed = lapic->base_msr ^ value;
    __atomic_store_n(&lapic->base_msr, value, __ATOMIC_SEQ_CST);
    if (changed & APIC_BASE_ENABLE)
        clear_registers(lapic);
    else if (changed & APIC_BASE_X2APIC)
        lapic->icr &= UINT32_MAX; /* 10.12.5.1: ICR_HI is not preserved */
    lapic_unlock(lapic);
    return true;
}

static bool intc_read_msr(void *obj, uint32_t msr, uint64_t *ret_value)
{
    Lapic *lapic = obj;
    if (msr == MSR_IA32_APIC_BASE) {
        *ret_value = lapic->base_msr;
        return true;
    }
    if (msr == MSR_IA32_TSC_DEADLINE) {
        lapic_lock(lapic);
        if (lapic_timer_mode(lapic) == LVT_TIMER_DEADLINE)
            lapic_timer_update(lapic);
        *ret_value = lapic->tsc_deadline;
        lapic_unlock(lapic);
        return true;
    }
    return x2apic_read(lapic, msr - MSR_X2APIC_FIRST, ret_value);
}

static bool intc_write_msr(void *obj, uint32_t msr, uint64_t value)
{
    Lapic *lapic = obj;
    if (msr == MSR_IA32_APIC_BASE)
        return write_base(lapic, value);
    if (msr == MSR_IA32_TSC_DEADLINE) {
        lapic_lock(lapic);
        lapic_timer_set_deadline(lapic, value);
        lapic_unlock(lapic);
        return true;
    }
    return x2apic_write(lapic, msr - MSR_X2APIC_FIRST, value);
}

/* ---- the CPU's side ------------------------------------------------------------------------ */

static uint8_t intc_get_cr8(void *obj)
{
    const Lapic *lapic = obj;
    return lapic->tpr >> 4;
}

static void intc_set_cr8(void *obj, uint8_t value)
{
    Lapic *lapic = obj;
    lapic_lock(lapic);
    register_write(lapic, REG_TPR, (value & 0xf) << 4);
    lapic_unlock(lapic);
}

static uint64_t intc_mmio_read(void *obj, uint64_t offset, unsigned size)
{
    return lapic_mmio_read(obj, offset, size);
}

static void intc_mmio_write(void *obj, uint64_t offset, unsigned size, uint64_t value)
{
    lapic_mmio_write(obj, offset, size, value);
}

static uint64_t intc_apic_base(void *obj)
{
    const Lapic *lapic = obj;
    return __atomic_load_n(&lapic->base_msr, __ATOMIC_RELAXED);
}

static void intc_tsc_changed(void *obj)
{
    Lapic *lapic = obj;
    lapic_lock(lapic);
    if (lapic_timer_mode(lapic) == LVT_TIMER_DEADLINE)
        lapic_timer_update(lapic);
    lapic_unlock(lapic);
}

static void intc_reset(void *obj, bool init)
{
    Lapic *lapic = obj;
    lapic_lock(lapic);
    if (!init)
        __atomic_store_n(&lapic->base_msr,
                         LAPIC_BASE | APIC_BASE_ENABLE | (lapic->bsp ? APIC_BASE_BSP : 0),
                         __ATOMIC_SEQ_CST);
    clear_registers(lapic);
    lapic_unlock(lapic);
}

const Intc lapic_intc = {
    .has_interrupt = intc_has_interrupt,
    .take_interrupt = intc_take_interrupt,
    .get_cr8 = intc_get_cr8,
    .set_cr8 = intc_set_cr8,
    .read_msr = intc_read_msr,
    .write_msr = intc_write_msr,
    .mmio_read = intc_mmio_read,
    .mmio_write = intc_mmio_write,
    .reset = intc_reset,
    .apic_base = intc_apic_base,
    .tsc_changed = intc_tsc_changed,
};

void lapic_set_virtual_wire(Lapic *lapic)
{
    lapic_lock(lapic);
    write_svr(lapic, SVR_ENABLE | 0xff);
    write_lvt(lapic, LAPIC_LVT_LINT0, LVT_LEVEL | LAPIC_EXTINT << 8);
    write_lvt(lapic, LAPIC_LVT_LINT1, LAPIC_NMI << 8);
    lapic_unlock(lapic);
}

/* ---- device -------------------------------------------------------------------------------- */

static const RegionOps mmio_ops = {
    .name = "lapic",
    .read = intc_mmio_read,
    .write = intc_mmio_write,
    .min_access = 4,
    .max_access = 4,
};

static bool lapic_create(Device *device, GError **error)
{
    Lapic *lapic = (Lapic *)device;
    lapic->phys_bits = MAX(lapic->phys_bits, 32);
    g_mutex_init(&lapic->lock);
    timer_init(&lapic->timer, device->board->clock, lapic_timer_fire, lapic);
    region_init_io(&lapic->mmio, &mmio_ops, lapic, NULL, 0x1000);
    lapic->pending = -1;
    return true;
}

static void lapic_destroy(Device *device)
{
    Lapic *lapic = (Lapic *)device;
    timer_clear(&lapic->timer);
    g_mutex_clear(&lapic->lock);
}

static void lapic_reset(Device *device)
{
    intc_reset((Lapic *)device, false);
}

static bool state_is_valid(const Lapic *lapic)
{
    uint64_t valid = (bits_get(~UINT64_C(0), 0, lapic->phys_bits) & ~UINT64_C(0xfff)) |
                     APIC_BASE_BSP | APIC_BASE_ENABLE | APIC_BASE_X2APIC;
    bool x2apic = lapic->base_msr & APIC_BASE_X2APIC;
    bool lvt_valid = true;
    for (unsigned i = 0; i < LAPIC_LVT_COUNT; i++)
        lvt_valid = lvt_valid && !(lapic->lvt[i] & ~lvt_bits[i]);
    return lvt_valid && !(lapic->base_msr & ~valid) && (!x2apic || lapic_is_enabled(lapic)) &&
           !((lapic->isr[0] | lapic->irr[0]) & 0xffff) && !(lapic->svr & ~SVR_BITS) &&
           !(lapic->timer_divide & ~0xbu) && !(lapic->icr & ~ICR_BITS) &&
           (!lapic->timer_running || lapic->timer_initial) &&
           lapic->timer_start_ns <= clock_now_ns(lapic->device.board->clock) &&
           lapic->timer_start_ns >= 0;
}

static bool lapic_loaded(Device *device, GError **error)
{
    Lapic *lapic = (Lapic *)device;
    if (!state_is_valid(lapic)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "the saved state of %s holds register values that no local APIC can have", device->id);
        return false;
    }
    lapic_lock(lapic);
    lapic->pending = -1;
    update_pending(lapic);
    lapic_unlock(lapic);
    return true;
}

static const StateField lapic_state[] = {
    STATE_FIELD(Lapic, base_msr, STATE_U64, 1),
    STATE_FIELD(Lapic, tpr, STATE_U8, 1),
    STATE_FIELD(Lapic, ldr, STATE_U32, 1),
    STATE_FIELD(Lapic, dfr, STATE_U32, 1),
    STATE_FIELD(Lapic, svr, STATE_U32, 1),
    STATE_ARRAY(Lapic, isr, STATE_U32, 1),
    STATE_ARRAY(Lapic, irr, STATE_U32, 1),
    STATE_ARRAY(Lapic, tmr, STATE_U32, 1),
    STATE_FIELD(Lapic, esr, STATE_U32, 1),
    STATE_FIELD(Lapic, esr_logged, STATE_U32, 1),
    STATE_FIELD(Lapic, icr, STATE_U64, 1),
    STATE_ARRAY(Lapic, lvt, STATE_U32, 1),
    STATE_FIELD(Lapic, timer_initial, STATE_U32, 1),
    STATE_FIELD(Lapic, timer_divide, STATE_U32, 1),
    STATE_FIELD(Lapic, timer_running, STATE_BOOL, 1),
    STATE_FIELD(Lapic, timer_start_ns, STATE_I64, 1),
    STATE_FIELD(Lapic, tsc_deadline, STATE_U64, 1),
    STATE_FIELD(Lapic, extint_message, STATE_BOOL, 1),
    STATE_ARRAY(Lapic, lint_level, STATE_BOOL, 1),
    STATE_FIELD(Lapic, timer, STATE_TIMER, 1),
    STATE_LIST_END,
};

static const DeviceOption lapic_options[] = {
    {"phys-bits", OPTION_U32, offsetof(Lapic, phys_bits), "40", 52, "width of physical addresses"},
    {"x2apic", OPTION_BOOL, offsetof(Lapic, x2apic), "on", 0, "offer x2APIC mode"},
    {NULL},
};

const DeviceType lapic_type = {
    .name = "lapic",
    .description = "local APIC",
    .instance_size = sizeof(Lapic),
    .options = lapic_options,
    .create = lapic_create,
    .reset = lapic_reset,
    .destroy = lapic_destroy,
    .state_version = 1,
    .state = lapic_state,
    .loaded = lapic_loaded,
};
