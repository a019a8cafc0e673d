/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The guest log: lines on stderr, at most LINES_PER_SECOND from one place in the source. */
#include "base/guest_log.h"

#include <glib.h>
#include <stdarg.h>

#define LINES_PER_SECOND 5

static GMutex limit_mutex;

bool guest_log_enabled(void)
{
    static gsize once; /* 1: off, 2: on */

    if (g_once_init_enter(&once)) {
        const char *value = g_getenv("OSPITE_GUEST_LOG");
        g_once_init_leave(&once, value && *value && *value != '0' ? 2 : 1);
    }
    return once == 2;
}

/* Whether a line may be written now; `ret_dropped` says how many could not be before it. */
static bool limit_admits(GuestLogLimit *limit, unsigned *ret_dropped)
{
    int64_t now_us = g_get_monotonic_time();
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&limit_mutex);

    if (now_us - limit->window_start_us >= G_USEC_PER_SEC) {
        limit->window_start_us = now_us;
        limit->written = 0;
    }
    if (limit->written >= LINES_PER_SECOND) {
        limit->dropped++;
        return false;
    }
    limit->written++;
    *ret_dropped = limit->dropped;
    limit->dropped = 0;
    return true;
}

void guest_log_write(GuestLogLimit *limit, const char *device, const char *format, ...)
{
    g_autofree char *text = NULL;
    unsigned dropped;
    va_list args;

    if (!limit_admits(limit, &dropped))
        return;
    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    if (dropped)
        g_printerr("guest: %s: %s (%u more like this were dropped)\n", device, text, dropped);
    else
        g_printerr("guest: %s: %s\n", device, text);
}
