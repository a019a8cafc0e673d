/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A socket where GDB ("target remote") looks into a machine: docs/debugging.md. One debugger at a
 * time; the machine stops when one comes and goes on when it leaves. Main loop thread.
 */
#pragma once

#include "machine/pc.h"

typedef struct Gdb Gdb;
typedef void (*GdbKillFn)(void *obj);

/* `where`: unix:PATH, or tcp:PORT on the loopback interface. `kill` is called when the debugger
 * asks for the machine's end. Fails when the engine cannot be debugged. The machine is paused. */
Gdb *gdb_new(Pc *pc, const char *where, GdbKillFn kill, void *obj, GError **error);
/* Tells a debugger that the machine ended with `status`. The machine is paused. NULL is allowed. */
void gdb_free(Gdb *gdb, int status);
/* Whether `where` could be a place. */
bool gdb_place_is_valid(const char *where);
