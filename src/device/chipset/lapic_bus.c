/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The messages between local APICs: destinations (SDM 3A 10.6.2, 10.12.10), interprocessor
 * interrupts (10.6.1), message-signalled interrupts (10.11), and the LINT pins.
 *
 * Threads: any. One LAPIC's lock is held at a time, never two.
 */
#include "base/bits.h"
#include "device/chipset/lapic_internal.h"

void lapic_bus_init(LapicBus *bus)
{
    memset(bus, 0, sizeof(*bus));
}

void lapic_bus_attach(LapicBus *bus, Lapic *lapic)
{
    g_assert(bus->count < LAPIC_MAX);
    bus->lapics[bus->count++] = lapic;
    lapic->bus = bus;
}

static bool is_broadcast(const LapicMessage *message)
{
    return message->dest == (message->wide ? UINT32_MAX : 0xff);
}

/* 10.12.10.2: cluster in the upper 16 bits, members in the lower. */
static bool matches_x2apic_logical(const Lapic *lapic, uint32_t dest)
{
    return dest >> 16 == lapic->apic_id >> 4 && (dest & 1u << (lapic->apic_id & 15));
}

/* 10.6.2.2: flat model, or clusters of four. */
static bool matches_xapic_logical(const Lapic *lapic, uint32_t dest)
{
    uint8_t id = lapic->ldr >> 24;
    if (dest > 0xff)
        return false;
    if (lapic->dfr >> 28 == 0xf)
        return id & dest;
    bool cluster = (dest >> 4) == 0xf || (dest >> 4) == id >> 4;
    return cluster && (id & dest & 0xf);
}

static bool matches(const Lapic *lapic, const LapicMessage *message)
{
    if (!lapic_is_enabled(lapic))
        return false;
    if (is_broadcast(message))
        return true;
    if (!message->logical)
        return message->dest == lapic->apic_id;
    return lapic_is_x2apic(lapic) ? matches_x2apic_logical(lapic, message->dest)
                                  : matches_xapic_logical(lapic, message->dest);
}

static void deliver_lowest(LapicBus *bus, const LapicMessage *message)
{
    unsigned first = __atomic_fetch_add(&bus->next_lowest, 1, __ATOMIC_RELAXED);
    Lapic *best = NULL;
    unsigned best_priority = UINT_MAX;
    for (unsigned i = 0; i < bus->count; i++) {
        Lapic *lapic = bus->lapics[(first + i) % bus->count];
        lapic_lock(lapic);
        bool candidate = matches(lapic, message) && (lapic->svr & SVR_ENABLE);
        unsigned priority = lapic_arbitration_priority(lapic);
        lapic_unlock(lapic);
        if (candidate && priority < best_priority) {
            best = lapic;
            best_priority = priority;
        }
    }
    if (!best)
        return;
    lapic_lock(best);
    lapic_accept(best, message);
    lapic_unlock(best);
}

static void startup(Lapic *lapic, uint8_t vector)
{
    lapic->cpu_ops->startup(lapic->vcpu, vector);
}

/* `skip` (or NULL) is left out: "all excluding self". */
static void deliver(LapicBus *bus, const LapicMessage *message, const Lapic *skip)
{
    if (message->delivery == LAPIC_LOWEST) {
        deliver_lowest(bus, message);
        return;
    }
    for (unsigned i = 0; i < bus->count; i++) {
        Lapic *lapic = bus->lapics[i];
        if (lapic == skip)
            continue;
        lapic_lock(lapic);
        bool match = matches(lapic, message);
        if (match)
            lapic_accept(lapic, message);
        lapic_unlock(lapic);
        if (match && message->delivery == LAPIC_STARTUP)
            startup(lapic, message->vector);
    }
}

static void send_to_self(Lapic *sender, const LapicMessage *message)
{
    /* Table 10-3 allows fixed only; NMI works on processors and test suites count on it. */
    if (message->delivery != LAPIC_FIXED && message->delivery != LAPIC_NMI)
        return;
    lapic_lock(sender);
    lapic_accept(sender, message);
    lapic_unlock(sender);
}

enum { SHORTHAND_NONE, SHORTHAND_SELF, SHORTHAND_ALL, SHORTHAND_OTHERS };

void lapic_send_ipi(Lapic *sender, uint64_t icr, bool wide)
{
    bool level_trigger = icr & 1 << 15, assert_level = icr & 1 << 14;
    LapicMessage message = {
        .dest = wide ? icr >> 32 : icr >> 56,
        .wide = wide,
        .logical = icr & 1 << 11,
        .delivery = bits_get(icr, 8, 3),
        .vector = icr & 0xff,
    };
    /* INIT level de-assert only synchronised the arbitration ids of long gone processors. */
    if (message.delivery == LAPIC_INIT && level_trigger && !assert_level)
        return;
    bool has_vector = message.delivery == LAPIC_FIXED || message.delivery == LAPIC_LOWEST;
    if (has_vector && message.vector < 16) {
        lapic_lock(sender);
        lapic_log_error(sender, ESR_SEND_ILLEGAL_VECTOR);
        lapic_unlock(sender);
        return;
    }
    unsigned shorthand = bits_get(icr, 18, 2);
    if (shorthand == SHORTHAND_SELF) {
        send_to_self(sender, &message);
        return;
    }
    if (shorthand != SHORTHAND_NONE) {
        message.dest = wide ? UINT32_MAX : 0xff;
        message.logical = false;
    }
    /* Table 10-3: all including self carries fixed interrupts only. */
    if (shorthand == SHORTHAND_ALL && message.delivery != LAPIC_FIXED &&
        message.delivery != LAPIC_NMI)
        return;
    deliver(sender->bus, &message, shorthand == SHORTHAND_OTHERS ? sender : NULL);
}

void lapic_bus_deliver_msi(LapicBus *bus, uint64_t address, uint32_t data)
{
    bool level_trigger = data & 1 << 15, assert_level = data & 1 << 14;
    LapicMessage message = {
        .dest = bits_get(address, 12, 8),
        .logical = address & 1 << 2,
        .level = level_trigger,
        .delivery = bits_get(data, 8, 3),
        .vector = data & 0xff,
    };
    if (address >> 20 != LAPIC_BASE >> 20 || (level_trigger && !assert_level))
        return;
    /* 10.11.1: the redirection hint sends a fixed interrupt to one of the logical destinations. */
    if ((address & 1 << 3) && message.logical && message.delivery == LAPIC_FIXED)
        message.delivery = LAPIC_LOWEST;
    if (message.delivery == LAPIC_STARTUP || message.delivery == LAPIC_REMOTE_READ)
        return;
    deliver(bus, &message, NULL);
}

static bool any_has(LapicBus *bus, uint8_t vector, bool in_service_counts)
{
    bool found = false;
    for (unsigned i = 0; i < bus->count && !found; i++) {
        Lapic *lapic = bus->lapics[i];
        g_mutex_lock(&lapic->lock);
        uint32_t word = lapic->irr[vector / 32];
        if (in_service_counts)
            word |= lapic->isr[vector / 32];
        found = word >> vector % 32 & 1;
        g_mutex_unlock(&lapic->lock);
    }
    return found;
}

bool lapic_bus_is_pending(LapicBus *bus, uint8_t vector)
{
    return any_has(bus, vector, false);
}

bool lapic_bus_holds(LapicBus *bus, uint8_t vector)
{
    return any_has(bus, vector, true);
}
