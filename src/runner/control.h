/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The control socket of a running machine: one line in, one answer out (docs/control.md). For
 * people with socat, for boot tests, and for tests of the board alone. Only the
 * user who runs the machine can connect.
 */
#pragma once

#include "machine/pc.h"

typedef struct Control Control;

/* Listens at a path (char/unix_socket.h). Main loop thread. */
Control *control_new(Pc *pc, const char *path, GError **error);
/* On a socket that listens already; owned from now on, on failure, too. */
Control *control_new_for_fd(Pc *pc, int listener, GError **error);
void control_free(Control *control);

/* What `quit` does; without it `quit` is refused. The answer may not arrive any more. */
typedef void (*ControlQuitFn)(void *obj);
void control_set_quit(Control *control, ControlQuitFn quit, void *obj);
/* A line of news for the clients that watch: "! NEWS". NULL is allowed. Never blocks. */
void control_tell(Control *control, const char *news);
/* The same, for "state STATE" as the command of that name has it. */
void control_tell_state(Control *control);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Control, control_free)
