/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What `ospite run` was asked to do: a machine's configuration and a few wishes of its own. */
#pragma once

#include "vm/build.h"

typedef struct RunOptions {
    VmConfig *config;
    const char *screenshot; /* PNG written when the machine ends; NULL: none */
    const char *control;    /* path of the control socket; NULL: none */
    const char *gdb;        /* where GDB may connect; NULL: nowhere */
    bool gdb_wait;          /* stopped until it lets the machine go on */
    const char *trace;      /* trace_new()'s; NULL: none */
    const char *perf_map;   /* symbols, or "-"; NULL: no map */
    const char *stats;      /* counters written when the machine ends; NULL: none */
    bool no_reboot;
    bool help;

    PcDrive drives[PC_DRIVE_MAX]; /* as given, until all are known and have a place */
    unsigned drive_count;
    unsigned serial_count;
    GPtrArray *strings; /* owned pieces of options */
} RunOptions;

/*
 * Fails with a usage error (G_OPTION_ERROR) that names the option and what it takes, or says what
 * no machine can have. `argv` must outlive the result.
 */
bool run_options_parse(RunOptions *options, int argc, char **argv, GError **error);
void run_options_clear(RunOptions *options);
/* The options, a line each, for --help. */
void run_options_print_help(void);
