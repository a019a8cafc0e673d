/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Raw mode of the process's terminal, and its return to what it was on every way out: leaving,
 * exit(), and fatal signals that nobody else handles.
 *
 * The one saved mode is global, as the terminal is and signal handlers need. Main thread.
 */
#pragma once

#include <gio/gio.h>
#include <stdbool.h>

/* Fails when `fd` is no terminal, or one is in raw mode already. `fd` must stay open. */
bool terminal_enter_raw(int fd, GError **error);
void terminal_leave_raw(void);
