/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What `ospite run` was asked to do: the command line as a PcConfig and a few wishes of its own. */
#pragma once

#include "machine/pc.h"

typedef struct RunOptions {
    PcConfig pc;            /* strings point into the command line or into `strings` */
    const char *engine;     /* as given; "auto" by default */
    const char *screenshot; /* PNG written when the machine ends; NULL: none */
    const char *control;    /* path of the control socket; NULL: none */
    const char *trace;      /* trace_new()'s; NULL: none */
    const char *perf_map;   /* symbols, or "-"; NULL: no map */
    const char *stats;      /* counters written when the machine ends; NULL: none */
    bool no_reboot;
    bool help;
    GPtrArray *strings; /* owned pieces of options */
} RunOptions;

/* Fails with a usage error that names the option and what it takes. `argv` must outlive the result.
 */
bool run_options_parse(RunOptions *options, int argc, char **argv, GError **error);
void run_options_clear(RunOptions *options);
/* The options, a line each, for --help. */
void run_options_print_help(void);
