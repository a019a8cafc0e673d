/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The virtual clock of one VM and the timers that devices arm on it.
 *
 * Time is in nanoseconds since the VM's power-on; it follows CLOCK_MONOTONIC and stands still while
 * the VM is paused. Timer callbacks run on the thread of the clock's main context with the board
 * lock held, in order of their deadlines, never before them.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define NS_PER_US INT64_C(1000)
#define NS_PER_MS INT64_C(1000000)
#define NS_PER_S  INT64_C(1000000000)

typedef struct VmClock VmClock;
typedef void (*ClockTimerFn)(void *obj);

/* Embedded in a device; its fields are the clock's. */
typedef struct ClockTimer {
    VmClock *clock;
    ClockTimerFn fire;
    void *obj;
    int64_t deadline_ns; /* valid while armed */
    bool armed;
    struct ClockTimer *next; /* the clock's list, ordered by deadline */
} ClockTimer;

/*
 * A clock whose timers fire on `context` (NULL: the default one) with `lock` held. It starts paused
 * at 0. `lock` must outlive the clock.
 */
VmClock *clock_new(GMainContext *context, GRecMutex *lock);
/* A clock for tests that moves only by clock_advance(); it starts at 0 and needs no main loop. */
VmClock *clock_new_manual(GRecMutex *lock);
/* All timers must have been cleared or their owners be gone for good. */
void clock_free(VmClock *clock);

/* Any thread. */
int64_t clock_now_ns(VmClock *clock);
/* Stops and restarts virtual time. Main loop thread; idempotent. */
void clock_pause(VmClock *clock);
void clock_resume(VmClock *clock);
/* Sets the time of a paused clock (a restored VM goes on where it was saved). */
void clock_set_now_ns(VmClock *clock, int64_t now_ns);
/* Manual clocks only: moves time forward, firing what falls due at its own deadline. */
void clock_advance(VmClock *clock, int64_t delta_ns);
/* The deadline of the first armed timer, or INT64_MAX. Any thread. */
int64_t clock_next_deadline_ns(VmClock *clock);

/* Prepares a disarmed timer in zeroed or cleared memory. */
void timer_init(ClockTimer *timer, VmClock *clock, ClockTimerFn fire, void *obj);
/* Arms or re-arms; a deadline in the past fires at once, from the main loop. Any thread. */
void timer_arm(ClockTimer *timer, int64_t deadline_ns);
/* Any thread; with the board lock held the callback cannot run afterwards. */
void timer_cancel(ClockTimer *timer);
static inline void timer_clear(ClockTimer *timer)
{
    if (timer->clock)
        timer_cancel(timer);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(VmClock, clock_free)
