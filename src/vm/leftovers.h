/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What is made under a temporary name and takes long, and would stay there if its maker were
 * killed: the name is written down first, as a journal of its own (leftover-….journal) in the
 * daemon's folder, which the next daemon carries out. Any thread.
 */
#pragma once

#include <gio/gio.h>

/* A name in `folder` that nobody has (new): .ospite-….tmp. */
char *leftover_name(const char *folder);
/* Writes down that nothing may stay under these names. The note's path (new), or NULL. */
char *leftover_note(const char *notes, char *const *names, unsigned count, GError **error);
/* Removes what is there under the note's names, and the note; what cannot be removed is warned of.
 */
void leftover_clear(const char *note);
/* All notes in a folder. What they name must not be wanted any more: after media_open(). */
void leftovers_clear(const char *notes);
