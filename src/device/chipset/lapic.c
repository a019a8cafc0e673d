/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The local APIC: priorities, acceptance, acknowledgement, and the CPU's side (Intc).
 *
 * Invariants: no bit below 16 in IRR and ISR; while SVR's enable bit is 0 all LVT entries are
 * masked; `pending` is what take_interrupt() would deliver. Threads: lapic.h.
 */
#include "base/bits.h"
#include "device/chipset/lapic_internal.h"

/* Bits that are not reserved; others raise #GP in x2APIC mode. */
const uint32_t lapic_lvt_bits[LAPIC_LVT_COUNT] = {
    [LAPIC_LVT_TIMER] = 0x710ff, [LAPIC_LVT_THERMAL] = 0x117ff, [LAPIC_LVT_PERF] = 0x117ff,
    [LAPIC_LVT_LINT0] = 0x1f7ff, [LAPIC_LVT_LINT1] = 0x1f7ff,   [LAPIC_LVT_ERROR] = 0x110ff,
};
/* ---- vectors and priorities ------------------------------------------------------------------ */

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
uint8_t lapic_processor_priority(const Lapic *lapic)
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
    if (class_of(vector) > (lapic_processor_priority(lapic) & 0xf0))
        return vector;
    return vector >= 0 && lapic->eoi_bit_set ? LAPIC_PENDING_EOI : -1;
}

void lapic_update_pending(Lapic *lapic)
{
    int pending = find_pending(lapic);
    if (pending >= 0 && pending != lapic->pending)
        lapic->actions |= ACTION_RECHECK;
    __atomic_store_n(&lapic->pending, pending, __ATOMIC_SEQ_CST);
}

/* ---- acceptance ------------------------------------------------------------------------------ */

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
    lapic_update_pending(lapic);
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
        lapic_update_pending(lapic);
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
        request(lapic, lvt & 0xff, lvt & lapic_lvt_bits[entry] & LVT_LEVEL);
    else if (delivery == LAPIC_NMI)
        lapic->actions |= ACTION_NMI;
    else if (delivery == LAPIC_INIT)
        lapic->actions |= ACTION_INIT;
}

/* A level-triggered LINT pin that is up requests once per EOI. */
void lapic_request_level_pin(Lapic *lapic, unsigned pin)
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
        lapic_request_level_pin(lapic, pin);
    lapic_update_pending(lapic);
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

/* ---- acknowledgement ------------------------------------------------------------------------- */

static bool eoi_bit_read(Lapic *lapic, uint32_t *ret_word)
{
    return space_read(lapic->device.board->memory, lapic->eoi_bit, ret_word, sizeof(*ret_word));
}

/* A level-triggered interrupt must be told of, and so must one that holds others back. */
static bool may_end_by_bit(const Lapic *lapic, int vector)
{
    return lapic->eoi_bit != UINT64_MAX && !vector_test(lapic->tmr, vector) &&
           highest_vector(lapic->irr) < 0 && highest_vector(lapic->isr) == vector;
}

/* The word is RAM that other CPUs leave alone; the lock is not held over it: writing to RAM may
 * stop the other CPUs, which may wait for the lock. */
static void set_eoi_bit(Lapic *lapic)
{
    uint32_t word;

    if (!eoi_bit_read(lapic, &word))
        return;
    word |= 1;
    if (!space_write(lapic->device.board->memory, lapic->eoi_bit, &word, sizeof(word)))
        return;
    lapic_lock(lapic);
    lapic->eoi_bit_set = true;
    lapic_update_pending(lapic); /* what came meanwhile */
    lapic_unlock(lapic);
}

void lapic_look_at_eoi_bit(Lapic *lapic)
{
    uint32_t word;

    if (!lapic->eoi_bit_set)
        return;
    bool ended = eoi_bit_read(lapic, &word) && !(word & 1);
    if (!ended) {
        word &= ~1u;
        space_write(lapic->device.board->memory, lapic->eoi_bit, &word, sizeof(word));
    }
    lapic_lock(lapic);
    lapic->eoi_bit_set = false;
    if (ended)
        lapic_end_interrupt(lapic);
    lapic_update_pending(lapic);
    lapic_unlock(lapic);
}

static void intc_set_eoi_bit(void *obj, uint64_t address)
{
    Lapic *lapic = obj;
    lapic_look_at_eoi_bit(lapic);
    lapic->eoi_bit = address;
}

/* INTA for the 8259A pair: outside the lock, for the answer comes under the board's. */
static int take_extint(Lapic *lapic)
{
    lapic->extint_message = false;
    lapic_update_pending(lapic);
    lapic_unlock(lapic);
    return lapic->bus && lapic->bus->acknowledge_pic
               ? lapic->bus->acknowledge_pic(lapic->bus->pic_obj)
               : -1;
}

static int intc_take_interrupt(void *obj)
{
    Lapic *lapic = obj;
    lapic_look_at_eoi_bit(lapic);
    lapic_lock(lapic);
    int vector = lapic->pending;
    if (vector == LAPIC_PENDING_EXTINT)
        return take_extint(lapic);
    bool by_bit = false;
    if (vector >= 0) {
        vector_set(lapic->irr, vector, false);
        vector_set(lapic->isr, vector, true);
        lapic_update_pending(lapic);
        by_bit = may_end_by_bit(lapic, vector);
    }
    lapic_unlock(lapic);
    if (by_bit)
        set_eoi_bit(lapic);
    return vector;
}

static bool intc_has_interrupt(void *obj)
{
    const Lapic *lapic = obj;
    return __atomic_load_n(&lapic->pending, __ATOMIC_SEQ_CST) >= 0;
}

/* Returns the vector to broadcast to the I/O APICs, or -1: 10.8.5. */
int lapic_end_interrupt(Lapic *lapic)
{
    int vector = highest_vector(lapic->isr);
    if (vector < 0)
        return -1;
    vector_set(lapic->isr, vector, false);
    lapic_update_pending(lapic);
    if (!vector_test(lapic->tmr, vector))
        return -1;
    for (unsigned pin = 0; pin < 2; pin++) {
        uint32_t *lvt = &lapic->lvt[LAPIC_LVT_LINT0 + pin];
        if ((*lvt & 0xff) != vector || !(*lvt & LVT_REMOTE_IRR))
            continue;
        *lvt &= ~LVT_REMOTE_IRR;
        lapic_request_level_pin(lapic, pin);
    }
    return lapic->svr & SVR_SUPPRESS_EOI ? -1 : vector;
}

/* ---- the CPU's side -------------------------------------------------------------------------- */

static uint8_t intc_get_cr8(void *obj)
{
    const Lapic *lapic = obj;
    return lapic->tpr >> 4;
}

static void intc_set_cr8(void *obj, uint8_t value)
{
    Lapic *lapic = obj;
    lapic_lock(lapic);
    lapic->tpr = (value & 0xf) << 4;
    lapic_update_pending(lapic);
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
                         LAPIC_BASE | (lapic->absent ? 0 : APIC_BASE_ENABLE) |
                             (lapic->bsp ? APIC_BASE_BSP : 0),
                         __ATOMIC_SEQ_CST);
    lapic_clear_registers(lapic);
    lapic->eoi_bit = UINT64_MAX;
    lapic_unlock(lapic);
}

const Intc lapic_intc = {
    .has_interrupt = intc_has_interrupt,
    .take_interrupt = intc_take_interrupt,
    .get_cr8 = intc_get_cr8,
    .set_cr8 = intc_set_cr8,
    .read_msr = lapic_read_msr,
    .write_msr = lapic_write_msr,
    .mmio_read = intc_mmio_read,
    .mmio_write = intc_mmio_write,
    .reset = intc_reset,
    .apic_base = intc_apic_base,
    .set_eoi_bit = intc_set_eoi_bit,
    .tsc_changed = intc_tsc_changed,
    .get_state = lapic_get_state,
    .set_state = lapic_set_state,
};

/* ---- device ---------------------------------------------------------------------------------- */

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
    lapic->eoi_bit = UINT64_MAX;
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
        lvt_valid = lvt_valid && !(lapic->lvt[i] & ~lapic_lvt_bits[i]);
    return lvt_valid && !(lapic->base_msr & ~valid) && (!x2apic || lapic_is_enabled(lapic)) &&
           !((lapic->isr[0] | lapic->irr[0]) & 0xffff) && !(lapic->svr & ~SVR_BITS) &&
           !(lapic->timer_divide & ~0xbu) && !(lapic->icr & ~ICR_BITS) &&
           (!lapic->timer_running || lapic->timer_initial) &&
           (lapic->eoi_bit == UINT64_MAX ? !lapic->eoi_bit_set : !(lapic->eoi_bit & 3)) &&
           lapic->timer_start_ns <= clock_now_ns(lapic->device.board->clock) &&
           lapic->timer_start_ns >= 0;
}

static bool lapic_loaded(Device *device, GError **error)
{
    Lapic *lapic = (Lapic *)device;
    if (!state_is_valid(lapic)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "the saved state of %s holds register values that no local APIC can have",
                    device->id);
        return false;
    }
    lapic_lock(lapic);
    lapic->pending = -1;
    lapic_update_pending(lapic);
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
    STATE_FIELD(Lapic, eoi_bit, STATE_U64, 1),
    STATE_FIELD(Lapic, eoi_bit_set, STATE_BOOL, 1),
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
