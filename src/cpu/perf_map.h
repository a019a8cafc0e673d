/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * /tmp/perf-PID.map, by which Linux's perf names code made at run time: a line "START SIZE NAME"
 * for each translated block. The name is the guest's symbol and offset, where a table of symbols is
 * known, and its address. Any thread.
 */
#pragma once

#include <gio/gio.h>
#include <stdint.h>

typedef struct PerfMap PerfMap;

/* `symbols`: a file of lines "ADDRESS TYPE NAME" in hexadecimal, as nm, System.map and
 * /proc/kallsyms have them; NULL: none. */
PerfMap *perf_map_new(const char *symbols, GError **error);
/* NULL is allowed. */
void perf_map_free(PerfMap *map);
/* Host code [start, start + size) was made of guest code at `linear`. */
void perf_map_add(PerfMap *map, const void *start, uint64_t size, uint64_t linear);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(PerfMap, perf_map_free)
