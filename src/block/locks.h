/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Advisory locks on image files, so that two writers never share one (SAFETY §2).
 *
 * They are open-file-description locks over the whole file: they conflict within one process too,
 * and closing the descriptor drops them. Any thread.
 */
#pragma once

#include <gio/gio.h>
#include <stdbool.h>

/* Exclusive for a writer, shared for readers. Fails at once when somebody else is in the way. */
bool image_lock(int fd, const char *path, bool exclusive, GError **error);
