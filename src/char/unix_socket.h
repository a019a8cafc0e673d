/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A Unix socket to listen at, for consoles and for the control socket. Any thread. */
#pragma once

#include <gio/gio.h>

/*
 * Binds and listens; only this user can connect. A socket left there by a process that died is
 * replaced; a socket in use, or any other file, is not touched. Returns a non-blocking descriptor,
 * or -1 with an error for the user.
 */
int unix_socket_listen(const char *path, int backlog, GError **error);
