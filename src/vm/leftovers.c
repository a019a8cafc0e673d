/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See leftovers.h. */
#include "vm/leftovers.h"

#include <unistd.h>

#include "vm/journal.h"

#define PREFIX "leftover-"
#define SUFFIX ".journal"

static char *name_in(const char *folder, const char *before, const char *after)
{
    g_autofree char *random = g_uuid_string_random();

    return g_strdup_printf("%s/%s%.8s%s", folder, before, random, after);
}

char *leftover_name(const char *folder)
{
    return name_in(folder, ".ospite-", ".tmp");
}

char *leftover_note(const char *notes, char *const *names, unsigned count, GError **error)
{
    g_autoptr(Journal) journal = journal_new();
    g_autofree char *note = name_in(notes, PREFIX, SUFFIX);

    for (unsigned i = 0; i < count; i++) {
        if (!journal_remove(journal, names[i], error))
            return NULL;
    }
    return journal_store(journal, note, error) ? g_steal_pointer(&note) : NULL;
}

/* Tried once: nobody may be bound to a host that refuses for ever. */
void leftover_clear(const char *note)
{
    g_autoptr(GError) error = NULL;

    if (journal_recover(note, &error))
        return;
    g_warning("%s", error->message);
    unlink(note);
}

void leftovers_clear(const char *notes)
{
    g_autoptr(GDir) dir = g_dir_open(notes, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *note = g_build_filename(notes, name, NULL);
        if (g_str_has_prefix(name, PREFIX) && g_str_has_suffix(name, SUFFIX))
            leftover_clear(note);
    }
}
