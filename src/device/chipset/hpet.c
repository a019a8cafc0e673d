/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * HPET. A timer matches when the counter equals its comparator (in 32-bit mode: the lower halves);
 * `due` is the next such count. Threads: hpet.h.
 */
#include "device/chipset/hpet.h"

#include "base/bits.h"

enum {
    REG_CAPABILITIES = 0x000,
    REG_CONFIG = 0x010,
    REG_STATUS = 0x020,
    REG_COUNTER = 0x0f0,
    REG_TIMERS = 0x100,
    TIMER_STRIDE = 0x20,
    TIMER_CONFIG = 0x00,
    TIMER_COMPARATOR = 0x08,
    TIMER_FSB = 0x10,

    CONFIG_ENABLE = 1 << 0,
    CONFIG_LEGACY = 1 << 1,

    TN_LEVEL = 1 << 1,
    TN_ENABLE = 1 << 2,
    TN_PERIODIC = 1 << 3,
    TN_PERIODIC_CAP = 1 << 4,
    TN_64BIT_CAP = 1 << 5,
    TN_SET_VALUE = 1 << 6,
    TN_32BIT = 1 << 8,
    TN_ROUTE = 0x1f << 9,
    TN_FSB = 1 << 14,
    TN_FSB_CAP = 1 << 15,
    TN_CAPS = TN_PERIODIC_CAP | TN_64BIT_CAP | TN_FSB_CAP,
    TN_WRITABLE = TN_LEVEL | TN_ENABLE | TN_PERIODIC | TN_SET_VALUE | TN_32BIT | TN_ROUTE | TN_FSB,
};
#define CAPABILITIES                                                                \
    ((uint64_t)HPET_PERIOD_NS * 1000000 << 32 | 0x8086u << 16 | 1 << 15 | 1 << 13 | \
     (HPET_TIMERS - 1) << 8 | 1)
/* The host is woken no more often than this by one timer, and looks at a far one again after
 * MAX_SLEEP. */
#define MIN_WAKE_NS      (20 * NS_PER_US)
#define MAX_SLEEP_COUNTS (UINT64_C(3600) * 100000000)

static bool is_enabled(const Hpet *hpet)
{
    return hpet->config & CONFIG_ENABLE;
}

static uint64_t counter(const Hpet *hpet)
{
    if (!is_enabled(hpet))
        return hpet->counter_base;
    int64_t elapsed = clock_now_ns(hpet->device.board->clock) - hpet->base_ns;
    return hpet->counter_base + MAX(elapsed, 0) / HPET_PERIOD_NS;
}

static unsigned index_of(const HpetTimer *t)
{
    return t - t->hpet->timers;
}

/* Legacy replacement takes timers 0 and 1 to IRQ 0 and 8. */
static IrqLine line_of(const HpetTimer *t)
{
    const Hpet *hpet = t->hpet;
    unsigned n = index_of(t), route = (t->config & TN_ROUTE) >> 9;
    if (n < 2 && (hpet->config & CONFIG_LEGACY))
        return hpet->isa_irq[n];
    return hpet->routing_cap & 1u << route ? hpet->irq[route] : (IrqLine){0};
}

static bool is_active(const HpetTimer *t)
{
    return (t->hpet->status & 1u << index_of(t)) && (t->config & TN_ENABLE) &&
           !(t->config & TN_FSB);
}

static void interrupt(HpetTimer *t)
{
    const Board *board = t->hpet->device.board;
    if (t->config & TN_LEVEL)
        t->hpet->status |= 1u << index_of(t);
    if (!(t->config & TN_ENABLE))
        return;
    if (t->config & TN_FSB)
        board->send_msi(board->obj, t->fsb >> 32, t->fsb);
    else if (t->config & TN_LEVEL)
        irq_set(line_of(t), true);
    else
        irq_pulse(line_of(t));
}

/* ---- matching -------------------------------------------------------------------------------- */

/* Nobody hears of its matches: they are made up for when a register is next looked at. */
static bool is_silent(const HpetTimer *t)
{
    return !(t->config & (TN_ENABLE | TN_LEVEL));
}

/* Looks at the timer again when the counter reaches `due`. */
static void arm(HpetTimer *t, uint64_t now, uint64_t due)
{
    const Hpet *hpet = t->hpet;
    if (!t->scheduled || !is_enabled(hpet) || is_silent(t)) {
        timer_cancel(&t->timer);
        return;
    }
    int64_t now_ns = clock_now_ns(hpet->device.board->clock);
    /* From the counter's origin, so that rounding does not add up. */
    uint64_t ahead = due - now;
    if ((int64_t)ahead < 0)
        ahead = 0;
    int64_t phase = (now_ns - hpet->base_ns) % HPET_PERIOD_NS;
    ahead = MIN(ahead, MAX_SLEEP_COUNTS);
    timer_arm(&t->timer, now_ns - phase + (int64_t)ahead * HPET_PERIOD_NS);
}

/* Counter, comparator or mode changed: when does it match next? */
static void schedule(HpetTimer *t)
{
    uint64_t now = counter(t->hpet);
    uint64_t ahead = t->comparator - now;
    if (t->config & TN_32BIT)
        ahead = (uint32_t)ahead;
    t->due = now + ahead;
    t->scheduled = ahead <= INT64_MAX; /* farther is "passed": five thousand years to go */
    arm(t, now, t->due);
}

/* The periods that ended by `now`, if the timer is periodic, else the wait for the next wrap. */
static void advance(HpetTimer *t, uint64_t now)
{
    if ((t->config & TN_PERIODIC) && t->period) {
        uint64_t step = ((now - t->due) / t->period + 1) * t->period;
        t->due += step;
        t->comparator += step;
        if (t->config & TN_32BIT)
            t->comparator = (uint32_t)t->comparator;
    } else if (t->config & TN_32BIT) {
        t->due += UINT64_C(1) << 32;
    } else {
        t->scheduled = false;
    }
}

/* Notes a match that is due. */
static void settle(HpetTimer *t)
{
    uint64_t now = counter(t->hpet);
    if (!t->scheduled || !is_enabled(t->hpet) || (int64_t)(now - t->due) < 0)
        return;
    advance(t, now);
    interrupt(t);
}

static void timer_fire(void *obj)
{
    HpetTimer *t = obj;
    settle(t);
    uint64_t now = counter(t->hpet), earliest = now + MIN_WAKE_NS / HPET_PERIOD_NS;
    uint64_t due = t->due;
    if ((int64_t)(due - earliest) < 0 && (t->config & TN_PERIODIC))
        due = earliest; /* what ends meanwhile is one interrupt */
    arm(t, now, due);
}

/* ---- registers ------------------------------------------------------------------------------- */

static void lower(HpetTimer *t)
{
    if (is_active(t))
        irq_set(line_of(t), false);
}

static void raise_again(HpetTimer *t)
{
    if (!(t->config & TN_LEVEL))
        t->hpet->status &= ~(1u << index_of(t));
    if (is_active(t))
        irq_set(line_of(t), true);
}

static void write_timer_config(HpetTimer *t, uint32_t value)
{
    uint32_t route = (value & TN_ROUTE) >> 9;
    lower(t);
    if (!(t->hpet->routing_cap & 1u << route)) /* what is not possible does not read back */
        value = (value & ~TN_ROUTE) | (t->config & TN_ROUTE);
    t->config = (value & TN_WRITABLE) | TN_CAPS;
    if (t->config & TN_32BIT) {
        t->comparator = (uint32_t)t->comparator;
        t->period = (uint32_t)t->period;
    }
    raise_again(t);
    schedule(t);
}

/* 1.0a 2.3.9.2.2: with TN_SET_VALUE a periodic timer takes its comparator, and always its period.
 */
static void write_comparator(HpetTimer *t, uint64_t value, uint64_t mask)
{
    bool periodic = t->config & TN_PERIODIC;
    if (t->config & TN_32BIT)
        value = (uint32_t)value;
    if (!periodic || (t->config & TN_SET_VALUE))
        t->comparator = (t->comparator & ~mask) | (value & mask);
    if (periodic)
        t->period = (t->period & ~mask) | (value & mask);
    t->config &= ~TN_SET_VALUE;
    schedule(t);
}

/* Who has IRQ 0 and 8: the HPET, whose timers are quiet here, or the PIT and the RTC. */
static void switch_legacy_wires(Hpet *hpet)
{
    for (unsigned n = 0; n < 2; n++)
        irq_set(hpet->isa_irq[n], !(hpet->config & CONFIG_LEGACY) && hpet->legacy_input[n]);
}

static void write_config(Hpet *hpet, uint64_t value)
{
    uint64_t now = counter(hpet);
    for (unsigned n = 0; n < HPET_TIMERS; n++)
        lower(&hpet->timers[n]);
    hpet->counter_base = now;
    hpet->base_ns = clock_now_ns(hpet->device.board->clock);
    hpet->config = value & (CONFIG_ENABLE | CONFIG_LEGACY);
    switch_legacy_wires(hpet);
    for (unsigned n = 0; n < HPET_TIMERS; n++) {
        raise_again(&hpet->timers[n]);
        schedule(&hpet->timers[n]);
    }
}

static void write_status(Hpet *hpet, uint32_t value)
{
    for (unsigned n = 0; n < HPET_TIMERS; n++) {
        if (value & 1u << n)
            lower(&hpet->timers[n]);
    }
    hpet->status &= ~value;
}

static void write_counter(Hpet *hpet, uint64_t value)
{
    hpet->counter_base = value;
    hpet->base_ns = clock_now_ns(hpet->device.board->clock);
    for (unsigned n = 0; n < HPET_TIMERS; n++)
        schedule(&hpet->timers[n]);
}

static void settle_all(Hpet *hpet)
{
    for (unsigned n = 0; n < HPET_TIMERS; n++)
        settle(&hpet->timers[n]);
}

static HpetTimer *timer_at(Hpet *hpet, uint64_t offset)
{
    uint64_t n = (offset - REG_TIMERS) / TIMER_STRIDE;
    return offset >= REG_TIMERS && n < HPET_TIMERS ? &hpet->timers[n] : NULL;
}

static uint64_t read_timer(const HpetTimer *t, unsigned reg)
{
    switch (reg) {
    case TIMER_CONFIG:
        return t->config | (uint64_t)t->hpet->routing_cap << 32;
    case TIMER_COMPARATOR:
        return t->comparator;
    case TIMER_FSB:
        return t->fsb;
    default:
        return 0;
    }
}

/* The 8-byte register at an aligned offset. */
static uint64_t read_register(Hpet *hpet, uint64_t offset)
{
    HpetTimer *t = timer_at(hpet, offset);
    if (t)
        return read_timer(t, offset % TIMER_STRIDE);
    switch (offset) {
    case REG_CAPABILITIES:
        return CAPABILITIES;
    case REG_CONFIG:
        return hpet->config;
    case REG_STATUS:
        return hpet->status;
    case REG_COUNTER:
        return counter(hpet);
    default:
        return 0;
    }
}

static uint64_t hpet_read(void *obj, uint64_t offset, unsigned size)
{
    Hpet *hpet = obj;
    settle_all(hpet);
    return read_register(hpet, offset & ~UINT64_C(7)) >> 8 * (offset & 7);
}

static void write_timer(HpetTimer *t, unsigned reg, uint64_t value, uint64_t mask)
{
    switch (reg) {
    case TIMER_CONFIG:
        if (mask & 0xffffffff)
            write_timer_config(t, value);
        break;
    case TIMER_COMPARATOR:
        write_comparator(t, value, mask);
        break;
    case TIMER_FSB:
        t->fsb = (t->fsb & ~mask) | (value & mask);
        break;
    default:
        break;
    }
}

static void hpet_write(void *obj, uint64_t offset, unsigned size, uint64_t value)
{
    Hpet *hpet = obj;
    unsigned shift = 8 * (offset & 7);
    uint64_t mask = (size == 8 ? ~UINT64_C(0) : bits_get(~UINT64_C(0), 0, 8 * size)) << shift;
    HpetTimer *t;
    value <<= shift;
    offset &= ~UINT64_C(7);
    settle_all(hpet);
    t = timer_at(hpet, offset);
    if (t)
        write_timer(t, offset % TIMER_STRIDE, value, mask);
    else if (offset == REG_CONFIG && (mask & 0xff))
        write_config(hpet, value);
    else if (offset == REG_STATUS)
        write_status(hpet, value & mask);
    else if (offset == REG_COUNTER)
        write_counter(hpet, (counter(hpet) & ~mask) | (value & mask));
}

static const RegionOps hpet_ops = {
    .name = "hpet", .read = hpet_read, .write = hpet_write, .min_access = 4, .max_access = 8};

static void legacy_input(void *obj, unsigned n, bool level)
{
    Hpet *hpet = obj;
    hpet->legacy_input[n] = level;
    if (!(hpet->config & CONFIG_LEGACY))
        irq_set(hpet->isa_irq[n], level);
}

IrqLine hpet_legacy_input(Hpet *hpet, unsigned n)
{
    g_assert(n < 2);
    return (IrqLine){.set = legacy_input, .obj = hpet, .n = n};
}

/* ---- device ---------------------------------------------------------------------------------- */

static bool hpet_create(Device *device, GError **error)
{
    Hpet *hpet = (Hpet *)device;
    region_init_io(&hpet->io, &hpet_ops, hpet, device->board->lock, 0x400);
    for (unsigned n = 0; n < HPET_TIMERS; n++) {
        hpet->timers[n].hpet = hpet;
        timer_init(&hpet->timers[n].timer, device->board->clock, timer_fire, &hpet->timers[n]);
    }
    return true;
}

static void hpet_destroy(Device *device)
{
    Hpet *hpet = (Hpet *)device;
    for (unsigned n = 0; n < HPET_TIMERS; n++)
        timer_clear(&hpet->timers[n].timer);
}

static void hpet_reset(Device *device)
{
    Hpet *hpet = (Hpet *)device;
    for (unsigned n = 0; n < HPET_TIMERS; n++) {
        HpetTimer *t = &hpet->timers[n];
        lower(t);
        timer_cancel(&t->timer);
        t->config = TN_CAPS;
        t->comparator = UINT64_MAX;
        t->period = t->fsb = t->due = 0;
        t->scheduled = false;
    }
    hpet->config = hpet->status = 0;
    switch_legacy_wires(hpet);
    hpet->counter_base = 0;
    hpet->base_ns = 0;
}

static bool hpet_loaded(Device *device, GError **error)
{
    const Hpet *hpet = (Hpet *)device;
    bool valid = !(hpet->config & ~(uint64_t)(CONFIG_ENABLE | CONFIG_LEGACY)) &&
                 !(hpet->status >> HPET_TIMERS) && hpet->base_ns >= 0 &&
                 hpet->base_ns <= clock_now_ns(device->board->clock);
    for (unsigned n = 0; n < HPET_TIMERS; n++) {
        const HpetTimer *t = &hpet->timers[n];
        valid = valid && (t->config & ~TN_WRITABLE) == TN_CAPS;
    }
    if (!valid)
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "the saved state of %s holds values that no HPET can have", device->id);
    return valid;
}

static const StateField timer_state[] = {
    STATE_FIELD(HpetTimer, config, STATE_U32, 1),
    STATE_FIELD(HpetTimer, comparator, STATE_U64, 1),
    STATE_FIELD(HpetTimer, period, STATE_U64, 1),
    STATE_FIELD(HpetTimer, fsb, STATE_U64, 1),
    STATE_FIELD(HpetTimer, scheduled, STATE_BOOL, 1),
    STATE_FIELD(HpetTimer, due, STATE_U64, 1),
    STATE_FIELD(HpetTimer, timer, STATE_TIMER, 1),
    STATE_LIST_END,
};

static const StateField hpet_state[] = {
    STATE_FIELD(Hpet, config, STATE_U64, 1),
    STATE_FIELD(Hpet, status, STATE_U32, 1),
    STATE_FIELD(Hpet, counter_base, STATE_U64, 1),
    STATE_FIELD(Hpet, base_ns, STATE_I64, 1),
    STATE_ARRAY(Hpet, legacy_input, STATE_BOOL, 1),
    STATE_STRUCTS(Hpet, timers, timer_state, 1),
    STATE_LIST_END,
};

static const DeviceOption hpet_options[] = {
    {"routing-cap", OPTION_U32, offsetof(Hpet, routing_cap), "0x00f00000", 0,
     "the I/O APIC inputs that timers may use, a bit each"},
    {NULL},
};

const DeviceType hpet_type = {
    .name = "hpet",
    .description = "high precision event timer",
    .instance_size = sizeof(Hpet),
    .options = hpet_options,
    .create = hpet_create,
    .reset = hpet_reset,
    .destroy = hpet_destroy,
    .state_version = 1,
    .state = hpet_state,
    .loaded = hpet_loaded,
};
