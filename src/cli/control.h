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
void control_free(Control *control);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Control, control_free)
