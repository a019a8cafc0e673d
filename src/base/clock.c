/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Virtual time: CLOCK_MONOTONIC plus an offset while running, a constant while paused.
 *
 * Armed timers stand in one list ordered by deadline (a machine has a few dozen). One timerfd is
 * armed to the first; its GSource fires what is due. Invariant: while the clock runs and the list
 * is not empty, the timerfd expires no later than the first deadline. `mutex` guards the list and
 * the offset and is never held while a callback runs.
 */
#include "base/clock.h"

#include <errno.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include <glib-unix.h>

#include "base/fd.h"

struct VmClock {
    GMutex mutex;
    GRecMutex *board_lock;
    ClockTimer *first;
    bool manual;
    bool running;
    int64_t now_ns;    /* while not running, and of a manual clock */
    int64_t offset_ns; /* running: CLOCK_MONOTONIC + offset = virtual time */
    int fd;
    GSource *source;
};

static int64_t monotonic_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

static int64_t now_locked(VmClock *clock)
{
    return clock->running ? monotonic_ns() + clock->offset_ns : clock->now_ns;
}

static void rearm_locked(VmClock *clock)
{
    struct itimerspec spec = {};

    if (clock->fd < 0)
        return;
    if (clock->running && clock->first) {
        int64_t host_ns = MAX(clock->first->deadline_ns - clock->offset_ns, 1);
        spec.it_value.tv_sec = host_ns / NS_PER_S;
        spec.it_value.tv_nsec = host_ns % NS_PER_S;
    }
    timerfd_settime(clock->fd, TFD_TIMER_ABSTIME, &spec, NULL);
}

static void unlink_locked(VmClock *clock, ClockTimer *timer)
{
    ClockTimer **link = &clock->first;

    while (*link != timer)
        link = &(*link)->next;
    *link = timer->next;
    timer->armed = false;
}

/* Takes the first timer that is due at `until_ns` off the list, or returns NULL. */
static ClockTimer *take_due(VmClock *clock, int64_t until_ns)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&clock->mutex);
    ClockTimer *timer = clock->first;

    if (!timer || timer->deadline_ns > until_ns)
        return NULL;
    if (clock->manual)
        clock->now_ns = MAX(clock->now_ns, timer->deadline_ns);
    unlink_locked(clock, timer);
    return timer;
}

/* The board lock is held: timer_cancel() under it is final. */
static void fire_due(VmClock *clock, int64_t until_ns)
{
    ClockTimer *timer;

    g_rec_mutex_lock(clock->board_lock);
    while ((timer = take_due(clock, until_ns)))
        timer->fire(timer->obj);
    g_rec_mutex_unlock(clock->board_lock);
}

static gboolean on_timerfd(gint fd, GIOCondition condition, gpointer data)
{
    VmClock *clock = data;
    uint64_t expirations;

    if (read(fd, &expirations, sizeof(expirations)) < 0 && errno != EAGAIN)
        g_warning("the VM's clock: timerfd: %s", g_strerror(errno));
    if (clock->running)
        fire_due(clock, clock_now_ns(clock));

    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&clock->mutex);
    rearm_locked(clock);
    return G_SOURCE_CONTINUE;
}

VmClock *clock_new_manual(GRecMutex *lock)
{
    VmClock *clock = g_new0(VmClock, 1);

    g_mutex_init(&clock->mutex);
    clock->board_lock = lock;
    clock->manual = true;
    clock->fd = -1;
    return clock;
}

VmClock *clock_new(GMainContext *context, GRecMutex *lock)
{
    VmClock *clock = clock_new_manual(lock);

    clock->manual = false;
    clock->fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (clock->fd < 0)
        g_error("timerfd_create: %s", g_strerror(errno));
    clock->source = g_unix_fd_source_new(clock->fd, G_IO_IN);
    g_source_set_callback(clock->source, G_SOURCE_FUNC(on_timerfd), clock, NULL);
    g_source_set_priority(clock->source, G_PRIORITY_HIGH);
    g_source_attach(clock->source, context);
    return clock;
}

void clock_free(VmClock *clock)
{
    if (!clock)
        return;
    if (clock->source) {
        g_source_destroy(clock->source);
        g_source_unref(clock->source);
    }
    fd_clear(&clock->fd);
    g_mutex_clear(&clock->mutex);
    g_free(clock);
}

int64_t clock_now_ns(VmClock *clock)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&clock->mutex);

    return now_locked(clock);
}

void clock_pause(VmClock *clock)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&clock->mutex);

    clock->now_ns = now_locked(clock);
    clock->running = false;
    rearm_locked(clock);
}

void clock_resume(VmClock *clock)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&clock->mutex);

    if (clock->running || clock->manual)
        return;
    clock->offset_ns = clock->now_ns - monotonic_ns();
    clock->running = true;
    rearm_locked(clock);
}

void clock_set_now_ns(VmClock *clock, int64_t now_ns)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&clock->mutex);

    g_assert(!clock->running);
    clock->now_ns = now_ns;
}

void clock_advance(VmClock *clock, int64_t delta_ns)
{
    int64_t until_ns = clock->now_ns + delta_ns;

    g_assert(clock->manual && delta_ns >= 0);
    fire_due(clock, until_ns);
    clock->now_ns = until_ns;
}

int64_t clock_next_deadline_ns(VmClock *clock)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&clock->mutex);

    return clock->first ? clock->first->deadline_ns : INT64_MAX;
}

void timer_init(ClockTimer *timer, VmClock *clock, ClockTimerFn fire, void *obj)
{
    *timer = (ClockTimer){.clock = clock, .fire = fire, .obj = obj};
}

void timer_arm(ClockTimer *timer, int64_t deadline_ns)
{
    VmClock *clock = timer->clock;
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&clock->mutex);
    ClockTimer **link = &clock->first;

    if (timer->armed)
        unlink_locked(clock, timer);
    while (*link && (*link)->deadline_ns <= deadline_ns)
        link = &(*link)->next;
    timer->deadline_ns = deadline_ns;
    timer->armed = true;
    timer->next = *link;
    *link = timer;
    if (clock->first == timer)
        rearm_locked(clock);
}

void timer_cancel(ClockTimer *timer)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&timer->clock->mutex);

    if (timer->armed)
        unlink_locked(timer->clock, timer);
}
