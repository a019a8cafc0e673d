/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Several files changed together (SAFETY §5.7): all steps are written to one journal file first,
 * then carried out, then the journal is removed. Whoever finds a journal carries it out again: each
 * step may be done twice.
 *
 * The caller holds a lock that covers the journal's path. One thread at a time.
 */
#pragma once

#include <gio/gio.h>
#include <stdbool.h>

typedef struct Journal Journal;

Journal *journal_new(void);
void journal_free(Journal *journal);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Journal, journal_free)

/* Absolute paths. `text` is the file's new contents; false when XML cannot hold a path or text. */
bool journal_replace(Journal *journal, const char *path, const char *text, GError **error);
/* Never over a file that is there. */
bool journal_rename(Journal *journal, const char *from, const char *to, GError **error);
bool journal_unlink(Journal *journal, const char *path, GError **error);
/* The image at `path` names another base (block/difference.h); `base_format` may be NULL. */
bool journal_rebase(Journal *journal, const char *path, const char *format, const char *base,
                    const char *base_format, GError **error);
/* A file or an empty folder, if it can be deleted; it is no error when not. */
bool journal_discard(Journal *journal, const char *path, GError **error);
/* A file, or a folder with all that is in it. */
bool journal_remove(Journal *journal, const char *path, GError **error);

/* When it fails before the journal is stored nothing has changed; later, journal_recover() goes on.
 */
bool journal_commit(const Journal *journal, const char *path, GError **error);
/* Only writes it down: journal_recover() carries it out. */
bool journal_store(const Journal *journal, const char *path, GError **error);
/* Carries out the journal at `path`; true when there is none. */
bool journal_recover(const char *path, GError **error);
