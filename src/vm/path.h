/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Names of files that come from the API, a configuration or another's folder (SAFETY §2). Any
 * thread.
 */
#pragma once

#include <gio/gio.h>
#include <stdbool.h>
#include <sys/types.h>

/*
 * Opens `name` beneath a folder's descriptor: no "..", no absolute name, no symbolic link on the
 * way (openat2 RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS). Returns a
 * descriptor, or -1 with an error that names `name`.
 */
int vm_open_beneath(int folder, const char *name, int flags, mode_t mode, GError **error);

/*
 * The path of the host for a VM_PATH value (new): an absolute one as it is, a relative one in or
 * below `folder`, where no part that is there may be a symbolic link. `folder` NULL: as it is.
 */
char *vm_path_resolve(const char *folder, const char *value, GError **error);
/* The value to store for a path of the host (new): relative when it lies in or below `folder`. */
char *vm_path_store(const char *folder, const char *path);

/* Whether a rename takes what is at one path to the other's folder: both are in one mounted file
 * system. False also when one is not there. */
bool vm_same_mount(const char *a, const char *b);

/*
 * Replaces a file in one step and durably: temporary file beside it, fsync, rename, fsync of the
 * folder. On failure the old file is as it was and the temporary file (.ospite-save-….tmp) is gone;
 * only when the last fsync fails the new one is there already.
 */
bool vm_replace_file(const char *path, const void *data, size_t size, GError **error);
/* Removes what vm_replace_file() left in a folder when it was killed. Nobody may be in it. */
void vm_clear_temporary(const char *folder);
