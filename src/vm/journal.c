/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "vm/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/fd.h"
#include "base/i18n.h"
#include "block/difference.h"
#include "vm/path.h"
#include "vm/text.h"
#include "vm/tree.h"

#define PATH_LENGTH_MAX 4096
#define STEPS_MAX       4096

static const VmField step_fields[] = {
    {.name = "action",
     .type = VM_ENUM,
     .required = true,
     .choices = "replace rename unlink remove rebase discard"},
    {.name = "path", .type = VM_PATH, .required = true, .max = PATH_LENGTH_MAX},
    {.name = "to", .type = VM_PATH, .max = PATH_LENGTH_MAX},
    {.name = "format", .type = VM_STRING, .max = 16},
    {.name = "to-format", .type = VM_STRING, .max = 16},
    {.name = "text", .type = VM_TEXT, .max = MIB(16)},
    {.name = NULL},
};

static const VmSection journal_sections[] = {
    {"step.*", "step", "number", "[0-9]{1,4}", STEPS_MAX, step_fields, ""},
    {.pattern = NULL},
};

static const VmSchema journal_schema = {
    .root = "ospite-journal",
    .what = N_("journal"),
    .version = 1,
    .max_size = MIB(256),
    .sections = journal_sections,
};

struct Journal {
    VmTree *tree;
    unsigned count;
};

Journal *journal_new(void)
{
    Journal *journal = g_new0(Journal, 1);

    journal->tree = vm_tree_new(&journal_schema);
    return journal;
}

void journal_free(Journal *journal)
{
    if (!journal)
        return;
    vm_tree_free(journal->tree);
    g_free(journal);
}

static bool add_value(Journal *journal, const char *name, const char *value, GError **error)
{
    g_autofree char *path = g_strdup_printf("step.%u.%s", journal->count, name);

    return vm_tree_set(journal->tree, path, value, error);
}

bool journal_replace(Journal *journal, const char *path, const char *text, GError **error)
{
    bool ok = add_value(journal, "action", "replace", error) &&
              add_value(journal, "path", path, error) && add_value(journal, "text", text, error);

    journal->count++;
    return ok;
}

bool journal_rename(Journal *journal, const char *from, const char *to, GError **error)
{
    bool ok = add_value(journal, "action", "rename", error) &&
              add_value(journal, "path", from, error) && add_value(journal, "to", to, error);

    journal->count++;
    return ok;
}

bool journal_unlink(Journal *journal, const char *path, GError **error)
{
    bool ok =
        add_value(journal, "action", "unlink", error) && add_value(journal, "path", path, error);

    journal->count++;
    return ok;
}

bool journal_rebase(Journal *journal, const char *path, const char *format, const char *base,
                    const char *base_format, GError **error)
{
    bool ok = add_value(journal, "action", "rebase", error) &&
              add_value(journal, "path", path, error) && add_value(journal, "to", base, error) &&
              add_value(journal, "format", format, error) &&
              (!base_format || add_value(journal, "to-format", base_format, error));

    journal->count++;
    return ok;
}

bool journal_discard(Journal *journal, const char *path, GError **error)
{
    bool ok =
        add_value(journal, "action", "discard", error) && add_value(journal, "path", path, error);

    journal->count++;
    return ok;
}

bool journal_remove(Journal *journal, const char *path, GError **error)
{
    bool ok =
        add_value(journal, "action", "remove", error) && add_value(journal, "path", path, error);

    journal->count++;
    return ok;
}

static bool sync_folder_of(const char *path)
{
    g_autofree char *folder = g_path_get_dirname(path);
    auto_fd fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return fd >= 0 && fsync(fd) == 0;
}

static bool do_rename(const char *from, const char *to, GError **error)
{
    g_autofree char *quoted = text_quote(to);

    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) < 0 &&
        !(errno == ENOENT && !access(to, F_OK)))
        return vm_error(error, g_io_error_from_errno(errno), _("cannot make %s: %s"), quoted,
                        g_strerror(errno));
    if (!sync_folder_of(to) || !sync_folder_of(from))
        return vm_error(error, g_io_error_from_errno(errno),
                        _("cannot make sure that %s is stored: %s"), quoted, g_strerror(errno));
    return true;
}

static bool do_unlink(const char *path, GError **error)
{
    g_autofree char *quoted = text_quote(path);

    if ((unlink(path) < 0 && errno != ENOENT) || !sync_folder_of(path))
        return vm_error(error, g_io_error_from_errno(errno), _("cannot delete %s: %s"), quoted,
                        g_strerror(errno));
    return true;
}

/* Whoever wants to know looks for it afterwards: nothing else waits for a file that will not go. */
static bool do_discard(const char *path)
{
    if (remove(path) == 0)
        sync_folder_of(path);
    return true;
}

/* One that somebody deleted meanwhile needs no base. */
static bool do_rebase(const VmTree *tree, const char *step, const char *path, const char *base,
                      GError **error)
{
    g_autofree char *format = vm_tree_string(tree, "step.%s.format", step);
    g_autofree char *base_format = vm_tree_string(tree, "step.%s.to-format", step);

    return (access(path, F_OK) < 0 && errno == ENOENT) ||
           difference_set_base(path, *format ? format : "qcow2", base,
                               *base_format ? base_format : NULL, error);
}

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *place)
{
    return remove(path) < 0 && errno != ENOENT;
}

/* Never through a symbolic link, nor into what is mounted there. */
static bool do_remove(const char *path, GError **error)
{
    g_autofree char *quoted = text_quote(path);
    bool gone = nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) == 0 ||
                (errno == ENOENT && access(path, F_OK) < 0);

    if (!gone || (!sync_folder_of(path) && errno != ENOENT))
        return vm_error(error, g_io_error_from_errno(errno), _("cannot delete %s: %s"), quoted,
                        g_strerror(errno));
    return true;
}

static bool do_step(const VmTree *tree, const char *step, GError **error)
{
    g_autofree char *action = vm_tree_string(tree, "step.%s.action", step);
    g_autofree char *path = vm_tree_string(tree, "step.%s.path", step);
    g_autofree char *to = vm_tree_string(tree, "step.%s.to", step);
    g_autofree char *text = vm_tree_string(tree, "step.%s.text", step);

    if (!strcmp(action, "rename"))
        return do_rename(path, to, error);
    if (!strcmp(action, "unlink"))
        return do_unlink(path, error);
    if (!strcmp(action, "rebase"))
        return do_rebase(tree, step, path, to, error);
    if (!strcmp(action, "discard"))
        return do_discard(path);
    if (!strcmp(action, "remove"))
        return do_remove(path, error);
    return vm_replace_file(path, text, strlen(text), error);
}

static bool carry_out(const VmTree *tree, const char *journal_path, GError **error)
{
    g_auto(GStrv) steps = vm_tree_keys(tree, "step");

    for (char **step = steps; *step; step++) {
        if (!do_step(tree, *step, error)) {
            g_prefix_error(error, _("a change is not finished and will be tried again: "));
            return false;
        }
    }
    return do_unlink(journal_path, error);
}

bool journal_store(const Journal *journal, const char *path, GError **error)
{
    return vm_tree_save(journal->tree, path, error);
}

bool journal_commit(const Journal *journal, const char *path, GError **error)
{
    return journal_store(journal, path, error) && carry_out(journal->tree, path, error);
}

bool journal_recover(const char *path, GError **error)
{
    g_autoptr(VmTree) tree = NULL;

    if (access(path, F_OK) < 0 && errno == ENOENT)
        return true;
    tree = vm_tree_load(&journal_schema, path, error);
    return tree && carry_out(tree, path, error);
}
