/* SPDX-License-Identifier: GPL-3.0-or-later */
/* How far a long command is: a bar on a terminal, nothing elsewhere. */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct Progress {
    bool on;
    uint64_t total;
    int64_t begin_us, shown_us;
} Progress;

void progress_begin(Progress *progress, bool wanted, uint64_t total);
void progress_update(Progress *progress, uint64_t done);
/* As ImageMap's `progress`. */
void progress_part(void *progress, double part);
void progress_end(Progress *progress);
