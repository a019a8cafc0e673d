/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A socket where GDB ("target remote") looks into a machine: docs/debugging.md. One debugger at a
 * time; the machine stops when one comes and goes on when it leaves. Main loop thread.
 */
#pragma once

#include "machine/pc.h"

typedef struct Gdb Gdb;
typedef void (*GdbKillFn)(void *obj);

/* `where`: unix:PATH, or tcp:PORT on the loopback interface; NULL: nowhere. `kill` is called when
 * the debugger asks for the machine's end. Fails when the engine cannot be debugged, or another
 * debugs it. The machine is paused. */
Gdb *gdb_new(Pc *pc, const char *where, GdbKillFn kill, void *obj, GError **error);
/* Tells a debugger that the machine ended with `status`. The machine is paused. NULL is allowed. */
void gdb_free(Gdb *gdb, int status);
/* A debugger is at the other end of this connection from now on. False: there is one already. */
bool gdb_adopt(Gdb *gdb, GSocketConnection *connection);
/* Whether `where` could be a place. */
bool gdb_place_is_valid(const char *where);
/* Listens there; `ret_path` gets the name of a Unix socket, to be removed in the end, or NULL. */
bool gdb_place_listen(GSocketListener *listener, const char *where, char **ret_path,
                      GError **error);
