/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See progress.h. */
#include "cli/progress.h"

#include <stdio.h>
#include <unistd.h>

#define BAR_WIDTH   30
#define INTERVAL_US 100000

void progress_begin(Progress *p, bool wanted, uint64_t total)
{
    *p = (Progress){.on = wanted && isatty(STDERR_FILENO), .total = MAX(total, 1)};
    p->begin_us = g_get_monotonic_time();
}

void progress_update(Progress *p, uint64_t done)
{
    gint64 now = g_get_monotonic_time();
    if (!p->on || now - MAX(p->shown_us, p->begin_us) < INTERVAL_US)
        return;
    double seconds = (double)(now - p->begin_us) / 1e6 + 1e-6, rate = (double)done / seconds;
    double part = MIN((double)done / (double)p->total, 1);
    char bar[BAR_WIDTH + 1] = {0};
    for (int i = 0; i < BAR_WIDTH; i++)
        bar[i] = i < part * BAR_WIDTH ? '#' : '.';
    fprintf(stderr, "\r[%s] %5.1f%%  %.0f MiB/s  %.0f s left  ", bar, part * 100, rate / 1048576,
            rate > 0 ? (double)(p->total - MIN(done, p->total)) / rate : 0);
    p->shown_us = now;
}

void progress_part(void *progress, double part)
{
    Progress *p = progress;
    progress_update(p, (uint64_t)(part * (double)p->total));
}

void progress_end(Progress *p)
{
    if (p->on && p->shown_us)
        fprintf(stderr, "\r%*s\r", BAR_WIDTH + 45, "");
}
