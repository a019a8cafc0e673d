/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The local APIC's registers, as a page (xAPIC) and as MSRs (x2APIC), and IA32_APIC_BASE.
 * Threads: lapic.h.
 */
#include "base/bits.h"
#include "device/chipset/lapic_internal.h"

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
    [REG_ISR... REG_IRR + 7] = RO,
    [REG_ESR] = RW,
    [REG_ICR] = RW,
    [REG_ICR_HIGH] = X_R | X_W,
    [REG_LVT... REG_LVT + LAPIC_LVT_COUNT - 1] = RW,
    [REG_TIMER_INITIAL] = RW,
    [REG_TIMER_CURRENT] = RO,
    [REG_TIMER_DIVIDE] = RW,
    [REG_SELF_IPI] = X2_W,
};

#define ICR_STATUS    (1u << 12)
#define LVT_READ_ONLY (1u << 12 | LVT_REMOTE_IRR)

/* ---- registers ------------------------------------------------------------------------------- */

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
    case REG_ID:
        return lapic_is_x2apic(lapic) ? lapic->apic_id : lapic->apic_id << 24;
    case REG_VERSION:
        return VERSION_VALUE;
    case REG_TPR:
        return lapic->tpr;
    case REG_APR:
        return lapic_arbitration_priority(lapic);
    case REG_PPR:
        return lapic_processor_priority(lapic);
    case REG_LDR:
        return read_ldr(lapic);
    case REG_DFR:
        return lapic->dfr;
    case REG_SVR:
        return lapic->svr;
    case REG_ESR:
        return lapic->esr;
    case REG_ICR:
        return lapic->icr;
    case REG_ICR_HIGH:
        return lapic->icr >> 32;
    case REG_TIMER_INITIAL:
        return lapic->timer_initial;
    case REG_TIMER_CURRENT:
        return lapic_timer_current(lapic);
    case REG_TIMER_DIVIDE:
        return lapic->timer_divide;
    default:
        return 0;
    }
}

static void write_svr(Lapic *lapic, uint32_t value)
{
    lapic->svr = value & SVR_BITS;
    if (value & SVR_ENABLE)
        return;
    for (unsigned i = 0; i < LAPIC_LVT_COUNT; i++)
        lapic->lvt[i] |= LVT_MASKED;
    lapic_update_pending(lapic);
}

static void write_lvt(Lapic *lapic, LapicLvt entry, uint32_t value)
{
    uint32_t old = lapic->lvt[entry];
    value = (value & lapic_lvt_bits[entry] & ~LVT_READ_ONLY) | (old & LVT_READ_ONLY);
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
        lapic_request_level_pin(lapic, entry - LAPIC_LVT_LINT0);
    lapic_update_pending(lapic);
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
        lapic_update_pending(lapic);
        break;
    case REG_LDR:
        lapic->ldr = value & 0xff000000;
        break;
    case REG_DFR:
        lapic->dfr = value | 0x0fffffff;
        break;
    case REG_SVR:
        write_svr(lapic, value);
        break;
    case REG_ESR:
        lapic->esr = lapic->esr_logged;
        lapic->esr_logged = 0;
        break;
    case REG_ICR_HIGH:
        lapic->icr = (lapic->icr & 0xffffffff) | (uint64_t)(value & 0xff000000) << 32;
        break;
    case REG_TIMER_INITIAL:
        lapic_timer_set_initial(lapic, value);
        break;
    case REG_TIMER_DIVIDE:
        lapic_timer_set_divide(lapic, value);
        break;
    default:
        break; /* read-only */
    }
}

static void write_eoi(Lapic *lapic)
{
    lapic_lock(lapic);
    int vector = lapic_end_interrupt(lapic);
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
    lapic_look_at_eoi_bit(lapic);
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
    lapic_look_at_eoi_bit(lapic);
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

/* ---- engines with local APICs of their own --------------------------------------------------- */

void lapic_get_state(void *obj, IntcState *state)
{
    Lapic *lapic = obj;
    *state = (IntcState){0};
    lapic_look_at_eoi_bit(lapic);
    lapic_lock(lapic);
    lapic_timer_update(lapic); /* what has expired is in IRR */
    for (unsigned reg = 0; reg < REG_COUNT; reg++)
        store_le32(state->regs + reg * 16, register_read(lapic, reg));
    state->base = lapic->base_msr;
    state->tsc_deadline = lapic->tsc_deadline;
    lapic_unlock(lapic);
}

static void load_bitmap(uint32_t bitmap[8], const IntcState *state, unsigned reg)
{
    for (unsigned i = 0; i < 8; i++)
        bitmap[i] = load_le32(state->regs + (reg + i) * 16);
    bitmap[0] &= 0xffff0000; /* there are no such vectors */
}

/* What is asked of other CPUs or of the board was done by the engine that had the registers. */
void lapic_set_state(void *obj, const IntcState *state)
{
    Lapic *lapic = obj;
    const uint8_t *regs = state->regs;
    lapic_lock(lapic);
    lapic_timer_stop(lapic);
    __atomic_store_n(&lapic->base_msr, state->base, __ATOMIC_SEQ_CST);
    lapic->tpr = regs[REG_TPR * 16];
    if (!lapic_is_x2apic(lapic))
        lapic->ldr = load_le32(regs + REG_LDR * 16) & 0xff000000;
    lapic->dfr = load_le32(regs + REG_DFR * 16) | 0x0fffffff;
    lapic->svr = load_le32(regs + REG_SVR * 16) & SVR_BITS;
    load_bitmap(lapic->isr, state, REG_ISR);
    load_bitmap(lapic->tmr, state, REG_TMR);
    load_bitmap(lapic->irr, state, REG_IRR);
    lapic->esr = load_le32(regs + REG_ESR * 16);
    lapic->esr_logged = 0;
    lapic->icr =
        (load_le32(regs + REG_ICR * 16) | (uint64_t)load_le32(regs + REG_ICR_HIGH * 16) << 32) &
        ICR_BITS & ~(uint64_t)ICR_STATUS;
    for (unsigned i = 0; i < LAPIC_LVT_COUNT; i++)
        lapic->lvt[i] = load_le32(regs + (REG_LVT + i) * 16) & lapic_lvt_bits[i];
    lapic->timer_divide = load_le32(regs + REG_TIMER_DIVIDE * 16) & 0xb;
    lapic->extint_message = lapic->eoi_bit_set = false;
    lapic_timer_go_on(lapic, load_le32(regs + REG_TIMER_INITIAL * 16),
                      load_le32(regs + REG_TIMER_CURRENT * 16), state->tsc_deadline);
    lapic_update_pending(lapic);
    lapic_unlock(lapic);
}

/* ---- MSRs ------------------------------------------------------------------------------------ */

/* The bits a write to an x2APIC register may set: 10.12.1.2 and the registers' figures. */
static uint64_t x2apic_valid_bits(unsigned reg)
{
    if (reg >= REG_LVT && reg < REG_LVT + LAPIC_LVT_COUNT)
        return lapic_lvt_bits[reg - REG_LVT];
    switch (reg) {
    case REG_TPR:
    case REG_SELF_IPI:
        return 0xff;
    case REG_SVR:
        return SVR_BITS;
    case REG_ICR:
        return ICR_BITS;
    case REG_TIMER_INITIAL:
        return UINT32_MAX;
    case REG_TIMER_DIVIDE:
        return 0xb;
    default:
        return 0; /* EOI, ESR */
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
void lapic_clear_registers(Lapic *lapic)
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
    lapic->eoi_bit_set = false;
    lapic_timer_stop(lapic);
    lapic_update_pending(lapic);
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
        lapic_clear_registers(lapic);
    else if (changed & APIC_BASE_X2APIC)
        lapic->icr &= UINT32_MAX; /* 10.12.5.1: ICR_HI is not preserved */
    lapic_unlock(lapic);
    return true;
}

bool lapic_read_msr(void *obj, uint32_t msr, uint64_t *ret_value)
{
    Lapic *lapic = obj;
    if (lapic->absent)
        return false;
    lapic_look_at_eoi_bit(lapic);
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

bool lapic_write_msr(void *obj, uint32_t msr, uint64_t value)
{
    Lapic *lapic = obj;
    if (lapic->absent)
        return false;
    lapic_look_at_eoi_bit(lapic);
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

void lapic_set_virtual_wire(Lapic *lapic)
{
    lapic_lock(lapic);
    write_svr(lapic, SVR_ENABLE | 0xff);
    write_lvt(lapic, LAPIC_LVT_LINT0, LVT_LEVEL | LAPIC_EXTINT << 8);
    write_lvt(lapic, LAPIC_LVT_LINT1, LAPIC_NMI << 8);
    lapic_unlock(lapic);
}
