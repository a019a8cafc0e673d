/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A machine's folder on its way to another file system. It is copied whole, under a temporary name
 * beside its new place, made durable and compared; then steps of a journal put the copy there and
 * take the old folder out of sight, and both temporary names are removed. Killed at any point,
 * there is the old folder or the new one, whole, and the next daemon removes the rest
 * (vm/leftovers.h).
 *
 * All files stay locked against writers until it is freed. What changed meanwhile is noticed, and
 * stops the move.
 */
#pragma once

#include <stdint.h>

#include "vm/journal.h"

typedef struct FolderCopy FolderCopy;

/* `notes` is the daemon's folder. Main thread. */
FolderCopy *folder_copy_new(const char *from, const char *to, const char *notes, GError **error);
/* The same for a folder that stays where it is. */
FolderCopy *folder_copy_new_clone(const char *from, const char *to, const char *notes,
                                  GError **error);
bool folder_copy_is_clone(const FolderCopy *copy);
/* A file from elsewhere comes in as well, before it is run. */
void folder_copy_add(FolderCopy *copy, const char *path, const char *name);
/* The copy before the steps, which may be changed then. */
const char *folder_copy_made(const FolderCopy *copy);
const char *folder_copy_target(const FolderCopy *copy);
/* Takes as long as copying does, and reading all again; any thread. */
bool folder_copy_run(FolderCopy *copy, GError **error);
/* Bytes of data copied and in all; any thread. */
void folder_copy_progress(const FolderCopy *copy, uint64_t *ret_done, uint64_t *ret_total);
/* The steps that put it in the folder's place. Nothing else may go wrong then but the host. */
bool folder_copy_steps(FolderCopy *copy, Journal *journal, GError **error);
/* The journal with these steps has been carried out, or was never stored. */
void folder_copy_settled(FolderCopy *copy);
/* Removes what is not wanted any more. */
void folder_copy_free(FolderCopy *copy);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FolderCopy, folder_copy_free)
