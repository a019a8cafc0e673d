/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Advisory locks on image files, so that two writers never share one (SAFETY §2).
 *
 * They are open-file-description locks: they conflict within one process too, and closing the
 * descriptor drops them. Readers and writers lock the whole file; one who shares it with others who
 * write locks one byte far behind its end, its own. Any thread.
 */
#pragma once

#include <gio/gio.h>
#include <stdbool.h>

typedef enum ImageLock {
    IMAGE_LOCK_READ,  /* others may read, nobody writes */
    IMAGE_LOCK_WRITE, /* nobody else */
    IMAGE_LOCK_SHARE, /* for writing, with others who say the same */
} ImageLock;

/* Fails at once when somebody else is in the way. */
bool image_lock(int fd, const char *path, ImageLock how, GError **error);
