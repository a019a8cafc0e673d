/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The bar of long disk commands: only on a terminal. */
#include <stdio.h>
#include <unistd.h>

#include "cli/disk.h"

#define BAR_WIDTH   30
#define INTERVAL_US 100000

void disk_progress_begin(DiskProgress *p, bool wanted, uint64_t total)
{
    *p = (DiskProgress){.on = wanted && isatty(STDERR_FILENO), .total = MAX(total, 1)};
    p->begin_us = g_get_monotonic_time();
}

void disk_progress_update(DiskProgress *p, uint64_t done)
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

void disk_progress_part(void *progress, double part)
{
    DiskProgress *p = progress;
    disk_progress_update(p, (uint64_t)(part * (double)p->total));
}

void disk_progress_end(DiskProgress *p)
{
    if (p->on && p->shown_us)
        fprintf(stderr, "\r%*s\r", BAR_WIDTH + 45, "");
}
