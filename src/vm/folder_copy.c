/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See folder_copy.h. */
#include "vm/folder_copy.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/i18n.h"
#include "block/locks.h"
#include "vm/file_copy.h"
#include "vm/leftovers.h"
#include "vm/path.h"
#include "vm/text.h"

#define ENTRIES_MAX 65536
#define DEPTH_MAX   32

typedef struct Entry {
    char *name;   /* below the folder */
    char *source; /* from elsewhere; NULL: from the same name */
    struct stat status;
    int fd; /* of a file, locked; else -1 */
} Entry;

struct FolderCopy {
    char *from, *to;
    char *temporaries[2]; /* where it is made, and where the old one goes */
    char *note;
    GPtrArray *added;   /* of Entry, from elsewhere; NULL: they are among the others */
    GPtrArray *entries; /* of Entry, folders before what is in them */
    _Atomic uint64_t done, total;
    bool complete, taken, is_clone;
};

enum { COPY, OLD };

static bool host_failed(GError **error, const char *doing, const char *path)
{
    g_autofree char *quoted = text_quote(path);

    return vm_error(error, g_io_error_from_errno(errno), doing, quoted, g_strerror(errno));
}

static void entry_free(gpointer data)
{
    Entry *entry = data;

    fd_clear(&entry->fd);
    g_free(entry->source);
    g_free(entry->name);
    g_free(entry);
}

/* ---- what there is --------------------------------------------------------------------------- */

static Entry *entry_new(const char *root, const char *name, GError **error)
{
    g_autofree char *path = g_build_filename(root, name, NULL), *quoted = text_quote(path);
    Entry *entry = g_new0(Entry, 1);

    entry->name = g_strdup(name);
    entry->fd = -1;
    if (lstat(path, &entry->status) < 0)
        host_failed(error, _("cannot read %s: %s"), path);
    else if (!S_ISREG(entry->status.st_mode) && !S_ISDIR(entry->status.st_mode) &&
             !S_ISLNK(entry->status.st_mode) && !S_ISSOCK(entry->status.st_mode))
        vm_error(error, G_IO_ERROR_NOT_SUPPORTED,
                 _("cannot copy %s: it is neither file nor folder; take it out of the machine's "
                   "folder"),
                 quoted);
    else
        return entry;
    entry_free(entry);
    return NULL;
}

/* `name` NULL: the folder itself. */
static bool list(GPtrArray *entries, const char *root, const char *name, unsigned depth,
                 GError **error)
{
    g_autofree char *path = g_build_filename(root, name, NULL);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *one;

    if (!dir)
        return host_failed(error, _("cannot read %s: %s"), path);
    while ((one = g_dir_read_name(dir))) {
        g_autofree char *below = name ? g_build_filename(name, one, NULL) : g_strdup(one);
        Entry *entry = entry_new(root, below, error);
        if (!entry)
            return false;
        g_ptr_array_add(entries, entry);
        if (entries->len > ENTRIES_MAX || depth > DEPTH_MAX)
            return vm_error(error, G_IO_ERROR_NOT_SUPPORTED,
                            _("cannot copy the machine's folder: there is too much in it; take "
                              "out what is not the machine's"));
        if (S_ISDIR(entry->status.st_mode) && !list(entries, root, below, depth + 1, error))
            return false;
    }
    return true;
}

static GPtrArray *list_folder(const char *root, GError **error)
{
    g_autoptr(GPtrArray) entries = g_ptr_array_new_with_free_func(entry_free);

    return list(entries, root, NULL, 0, error) ? g_steal_pointer(&entries) : NULL;
}

static char *source_of(const FolderCopy *copy, const Entry *entry)
{
    return entry->source ? g_strdup(entry->source)
                         : g_build_filename(copy->from, entry->name, NULL);
}

static bool lock_entry(FolderCopy *copy, Entry *entry, GError **error)
{
    g_autofree char *path = source_of(copy, entry);

    entry->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (entry->fd < 0 || fstat(entry->fd, &entry->status) < 0)
        return host_failed(error, _("cannot read %s: %s"), path);
    atomic_fetch_add(&copy->total,
                     (uint64_t)MIN(entry->status.st_blocks * 512, entry->status.st_size));
    return image_lock(entry->fd, path, IMAGE_LOCK_READ, error);
}

static bool lock_all(FolderCopy *copy, GError **error)
{
    copy->entries = list_folder(copy->from, error);
    if (copy->entries)
        g_ptr_array_extend_and_steal(copy->entries, g_steal_pointer(&copy->added));
    for (guint i = 0; copy->entries && i < copy->entries->len; i++) {
        Entry *entry = copy->entries->pdata[i];
        if (S_ISREG(entry->status.st_mode) && !lock_entry(copy, entry, error))
            return false;
    }
    return copy->entries;
}

/* ---- copying --------------------------------------------------------------------------------- */

static bool copy_file(FolderCopy *copy, const Entry *entry, const char *from, const char *to,
                      GError **error)
{
    const struct timespec times[2] = {entry->status.st_atim, entry->status.st_mtim};
    auto_fd fd = open(to, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    const FileCopy file = {entry->fd, fd, from, to, &copy->done};

    if (fd < 0)
        return host_failed(error, _("cannot write %s: %s"), to);
    return file_copy_run(&file, error) &&
           (futimens(fd, times) == 0 || host_failed(error, _("cannot write %s: %s"), to));
}

static bool copy_link(const char *from, const char *to, GError **error)
{
    g_autofree char *target = g_file_read_link(from, error);

    return target && (symlink(target, to) == 0 || host_failed(error, _("cannot write %s: %s"), to));
}

/* Sockets are those of programs that run, and nobody runs here. */
static bool copy_entry(FolderCopy *copy, const Entry *entry, GError **error)
{
    g_autofree char *from = source_of(copy, entry);
    g_autofree char *to = g_build_filename(copy->temporaries[COPY], entry->name, NULL);

    if (S_ISREG(entry->status.st_mode))
        return copy_file(copy, entry, from, to, error);
    if (S_ISLNK(entry->status.st_mode))
        return copy_link(from, to, error);
    return S_ISSOCK(entry->status.st_mode) || mkdir(to, 0700) == 0 ||
           host_failed(error, _("cannot make the folder %s: %s"), to);
}

static bool finish_folder(const char *path, mode_t mode, GError **error)
{
    auto_fd fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

    return (fd >= 0 && fchmod(fd, mode & 0777) == 0 && fsync(fd) == 0) ||
           host_failed(error, _("cannot write %s: %s"), path);
}

/* Their permissions come last, because they may forbid to write. */
static bool finish_folders(const FolderCopy *copy, GError **error)
{
    g_autofree char *parent = g_path_get_dirname(copy->to);
    auto_fd fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat root;

    for (guint i = copy->entries->len; i-- > 0;) {
        const Entry *entry = copy->entries->pdata[i];
        g_autofree char *path = g_build_filename(copy->temporaries[COPY], entry->name, NULL);
        if (S_ISDIR(entry->status.st_mode) && !finish_folder(path, entry->status.st_mode, error))
            return false;
    }
    if (stat(copy->from, &root) < 0)
        return host_failed(error, _("cannot read %s: %s"), copy->from);
    return finish_folder(copy->temporaries[COPY], root.st_mode, error) &&
           ((fd >= 0 && fsync(fd) == 0) || host_failed(error, _("cannot write %s: %s"), parent));
}

static bool same(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_mode == b->st_mode &&
           (S_ISDIR(a->st_mode) ||
            (a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
             a->st_mtim.tv_nsec == b->st_mtim.tv_nsec));
}

/* Whoever wrote there meanwhile knew nothing of us; his words must not be lost. */
static bool is_unchanged(const FolderCopy *copy, GError **error)
{
    g_autoptr(GPtrArray) now = list_folder(copy->from, error);
    g_autoptr(GHashTable) names = g_hash_table_new(g_str_hash, g_str_equal);
    bool unchanged = true;
    guint own = 0;

    if (!now)
        return false;
    for (guint i = 0; i < now->len; i++) {
        Entry *entry = now->pdata[i];
        g_hash_table_insert(names, entry->name, entry);
    }
    for (guint i = 0; unchanged && i < copy->entries->len; i++) {
        const Entry *before = copy->entries->pdata[i];
        const Entry *after = g_hash_table_lookup(names, before->name);
        own += !before->source;
        unchanged = before->source || (after && same(&before->status, &after->status));
    }
    return (unchanged && own == now->len) ||
           vm_error(error, G_IO_ERROR_BUSY,
                    _("cannot move the machine's folder: files in it changed while they were "
                      "copied; try again"));
}

bool folder_copy_run(FolderCopy *copy, GError **error)
{
    if (!lock_all(copy, error))
        return false;
    for (guint i = 0; i < copy->entries->len; i++) {
        if (!copy_entry(copy, copy->entries->pdata[i], error))
            return false;
    }
    copy->complete = finish_folders(copy, error);
    return copy->complete;
}

void folder_copy_progress(const FolderCopy *copy, uint64_t *ret_done, uint64_t *ret_total)
{
    *ret_total = atomic_load(&copy->total);
    *ret_done = MIN(atomic_load(&copy->done), *ret_total);
}

/* ---- its life -------------------------------------------------------------------------------- */

bool folder_copy_steps(FolderCopy *copy, Journal *journal, GError **error)
{
    g_assert(copy->complete);
    copy->taken =
        is_unchanged(copy, error) &&
        journal_rename(journal, copy->temporaries[COPY], copy->to, error) &&
        (copy->is_clone || journal_rename(journal, copy->from, copy->temporaries[OLD], error));
    return copy->taken;
}

void folder_copy_settled(FolderCopy *copy)
{
    copy->taken = false;
}

/* The old folder will be renamed, which its own folder must allow. */
static bool can_go(const char *from, GError **error)
{
    g_autofree char *parent = g_path_get_dirname(from), *quoted = text_quote(from);

    if (!vm_same_mount(from, parent))
        return vm_error(error, G_IO_ERROR_NOT_SUPPORTED,
                        _("cannot move %s: a file system is mounted there; move what is in it by "
                          "hand and register the machine again"),
                        quoted);
    return access(parent, W_OK) == 0 || host_failed(error, _("cannot write to %s: %s"), parent);
}

static FolderCopy *copy_new(const char *from, const char *to, const char *notes, bool is_clone,
                            GError **error)
{
    g_autoptr(FolderCopy) copy = g_new0(FolderCopy, 1);
    g_autofree char *source = g_path_get_dirname(from), *target = g_path_get_dirname(to);

    copy->from = g_strdup(from);
    copy->to = g_strdup(to);
    copy->is_clone = is_clone;
    copy->added = g_ptr_array_new_with_free_func(entry_free);
    if (!is_clone && !can_go(from, error))
        return NULL;
    copy->temporaries[COPY] = leftover_name(target);
    copy->temporaries[OLD] = leftover_name(source);
    copy->note = leftover_note(notes, copy->temporaries, G_N_ELEMENTS(copy->temporaries), error);
    if (!copy->note)
        return NULL;
    if (mkdir(copy->temporaries[COPY], 0700) == 0)
        return g_steal_pointer(&copy);
    host_failed(error, _("cannot make the folder %s: %s"), to);
    return NULL;
}

FolderCopy *folder_copy_new(const char *from, const char *to, const char *notes, GError **error)
{
    return copy_new(from, to, notes, false, error);
}

FolderCopy *folder_copy_new_clone(const char *from, const char *to, const char *notes,
                                  GError **error)
{
    return copy_new(from, to, notes, true, error);
}

bool folder_copy_is_clone(const FolderCopy *copy)
{
    return copy->is_clone;
}

void folder_copy_add(FolderCopy *copy, const char *path, const char *name)
{
    Entry *entry = g_new0(Entry, 1);

    entry->name = g_strdup(name);
    entry->source = g_strdup(path);
    entry->status.st_mode = S_IFREG;
    entry->fd = -1;
    g_ptr_array_add(copy->added, entry);
}

const char *folder_copy_made(const FolderCopy *copy)
{
    return copy->temporaries[COPY];
}

const char *folder_copy_target(const FolderCopy *copy)
{
    return copy->to;
}

void folder_copy_free(FolderCopy *copy)
{
    if (!copy)
        return;
    g_clear_pointer(&copy->added, g_ptr_array_unref);
    g_clear_pointer(&copy->entries, g_ptr_array_unref);
    if (copy->note && !copy->taken)
        leftover_clear(copy->note);
    g_free(copy->from);
    g_free(copy->to);
    for (unsigned i = 0; i < G_N_ELEMENTS(copy->temporaries); i++)
        g_free(copy->temporaries[i]);
    g_free(copy->note);
    g_free(copy);
}
