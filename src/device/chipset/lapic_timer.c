/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The local APIC's timer: one-shot, periodic, TSC deadline (SDM 3A 10.5.4).
 *
 * The count is never stepped: it is computed from the time of the running period's start. The host
 * timer only makes an expiry happen when nobody looks. All with the LAPIC's lock held.
 */
#include "base/bits.h"
#include "device/chipset/lapic_internal.h"

#define NS_PER_BUS_TICK (NS_PER_S / (int64_t)LAPIC_BUS_HZ)
/* The host is woken no more often than this by a periodic timer, however short its period. */
#define MIN_WAKE_NS (20 * NS_PER_US)
/* A far TSC deadline is looked at again after this time. */
#define MAX_SLEEP_NS (3600 * NS_PER_S)

/* SDM 3A figure 10-10: bits 0, 1 and 3 select 2, 4, 8, 16, 32, 64, 128, 1. */
static unsigned divisor(const Lapic *lapic)
{
    unsigned select = (lapic->timer_divide & 3) | (lapic->timer_divide >> 1 & 4);
    return 1u << ((select + 1) & 7);
}

static int64_t tick_ns(const Lapic *lapic)
{
    return divisor(lapic) * NS_PER_BUS_TICK;
}

static int64_t period_ns(const Lapic *lapic)
{
    return (int64_t)lapic->timer_initial * tick_ns(lapic);
}

static void update_deadline(Lapic *lapic, int64_t now)
{
    if (!lapic->tsc_deadline) {
        timer_cancel(&lapic->timer);
        return;
    }
    uint64_t tsc = lapic->cpu_ops->tsc(lapic->vcpu);
    if (tsc >= lapic->tsc_deadline) {
        lapic->tsc_deadline = 0;
        timer_cancel(&lapic->timer);
        lapic_deliver_local(lapic, LAPIC_LVT_TIMER);
        return;
    }
    uint64_t hz = MAX(lapic->cpu_ops->tsc_hz(lapic->vcpu), 1);
    unsigned __int128 wait = (unsigned __int128)(lapic->tsc_deadline - tsc) * NS_PER_S / hz + 1;
    timer_arm(&lapic->timer, now + (int64_t)MIN(wait, (unsigned __int128)MAX_SLEEP_NS));
}

static void update_count(Lapic *lapic, int64_t now)
{
    if (!lapic->timer_running) {
        timer_cancel(&lapic->timer);
        return;
    }
    int64_t period = period_ns(lapic);
    g_assert(period); /* a count of 0 does not run */
    int64_t elapsed = now - lapic->timer_start_ns;
    bool expired = elapsed >= period, periodic = lapic_timer_mode(lapic) == LVT_TIMER_PERIODIC;
    if (expired && periodic)
        lapic->timer_start_ns += elapsed / period * period;
    else if (expired)
        lapic->timer_running = false;
    if (lapic->timer_running)
        timer_arm(&lapic->timer,
                  lapic->timer_start_ns + (periodic ? MAX(period, MIN_WAKE_NS) : period));
    else
        timer_cancel(&lapic->timer);
    if (expired)
        lapic_deliver_local(lapic, LAPIC_LVT_TIMER);
}

void lapic_timer_update(Lapic *lapic)
{
    int64_t now = clock_now_ns(lapic->device.board->clock);
    if (lapic_timer_mode(lapic) == LVT_TIMER_DEADLINE)
        update_deadline(lapic, now);
    else
        update_count(lapic, now);
}

void lapic_timer_fire(void *obj)
{
    Lapic *lapic = obj;
    lapic_lock(lapic);
    lapic_timer_update(lapic);
    lapic_unlock(lapic);
}

void lapic_timer_stop(Lapic *lapic)
{
    lapic->timer_running = false;
    lapic->timer_initial = 0;
    lapic->tsc_deadline = 0;
    timer_cancel(&lapic->timer);
}

void lapic_timer_set_initial(Lapic *lapic, uint32_t count)
{
    if (lapic_timer_mode(lapic) == LVT_TIMER_DEADLINE)
        return;
    lapic->timer_initial = count;
    lapic->timer_running = count;
    lapic->timer_start_ns = clock_now_ns(lapic->device.board->clock);
    lapic_timer_update(lapic);
}

void lapic_timer_go_on(Lapic *lapic, uint32_t initial, uint32_t current, uint64_t deadline)
{
    bool periodic = lapic_timer_mode(lapic) == LVT_TIMER_PERIODIC;
    if (lapic_timer_mode(lapic) == LVT_TIMER_DEADLINE) {
        lapic_timer_set_deadline(lapic, deadline);
        return;
    }
    int64_t elapsed = (int64_t)(initial - MIN(current, initial)) * tick_ns(lapic);
    lapic->timer_initial = initial;
    lapic->timer_running = initial && (periodic || current);
    lapic->timer_start_ns = MAX(clock_now_ns(lapic->device.board->clock) - elapsed, 0);
    lapic_timer_update(lapic);
}

/* The count goes on from where it is, at the new rate. */
void lapic_timer_set_divide(Lapic *lapic, uint32_t divide)
{
    uint32_t current = lapic_timer_current(lapic);
    lapic->timer_divide = divide & 0xb;
    if (!lapic->timer_running)
        return;
    lapic->timer_start_ns = clock_now_ns(lapic->device.board->clock) -
                            (int64_t)(lapic->timer_initial - current) * tick_ns(lapic);
    lapic_timer_update(lapic);
}

/* Writes are ignored in the other modes; 0 disarms; a time that has passed expires at once. */
void lapic_timer_set_deadline(Lapic *lapic, uint64_t tsc)
{
    if (lapic_timer_mode(lapic) != LVT_TIMER_DEADLINE)
        return;
    lapic->tsc_deadline = tsc;
    lapic_timer_update(lapic);
}

uint32_t lapic_timer_current(Lapic *lapic)
{
    lapic_timer_update(lapic);
    if (!lapic->timer_running)
        return 0;
    int64_t elapsed = clock_now_ns(lapic->device.board->clock) - lapic->timer_start_ns;
    uint64_t ticks = MAX(elapsed, 0) / tick_ns(lapic);
    return ticks >= lapic->timer_initial ? 0 : lapic->timer_initial - ticks;
}
