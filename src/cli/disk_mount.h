/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Taking away what `disk mount` has mounted. */
#pragma once

#include <gio/gio.h>
#include <stdbool.h>

/*
 * Unmounts a folder of `disk mount`, and before it the file systems that are mounted in it. What
 * was written is on stable storage then. `lazily`: those who use it may go on, but nobody new
 * comes. Never call it in the process that serves the folder.
 */
bool disk_unmount_folder(const char *folder, bool lazily, GError **error);
