/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The bar of long disk commands, and Ctrl-C. */
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "cli/disk.h"

#define BAR_WIDTH 30

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    interrupted = 1;
}

bool disk_was_interrupted(void)
{
    return interrupted;
}

void disk_progress_begin(DiskProgress *p, bool wanted, uint64_t total)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    *p = (DiskProgress){.on = wanted && isatty(STDERR_FILENO), .total = MAX(total, 1)};
    p->begin_us = g_get_monotonic_time();
}

void disk_progress_update(DiskProgress *p, uint64_t done)
{
    gint64 now = g_get_monotonic_time();
    if (!p->on || now - p->shown_us < 100000)
        return;
    double seconds = (double)(now - p->begin_us) / 1e6 + 1e-6, rate = (double)done / seconds;
    double part = (double)done / (double)p->total;
    char bar[BAR_WIDTH + 1] = {0};
    for (int i = 0; i < BAR_WIDTH; i++)
        bar[i] = i < part * BAR_WIDTH ? '#' : '.';
    fprintf(stderr, "\r[%s] %5.1f%%  %.0f MiB/s  %.0f s left  ", bar, part * 100, rate / 1048576,
            rate > 0 ? (double)(p->total - done) / rate : 0);
    p->shown_us = now;
}

void disk_progress_end(DiskProgress *p)
{
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    if (p->on && p->shown_us)
        fprintf(stderr, "\r%*s\r", BAR_WIDTH + 45, "");
}
