/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The registry's file: its schema, its lock, and `Medium`s read from it. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/address.h"
#include "base/bits.h"
#include "base/fd.h"
#include "base/i18n.h"
#include "vm/media_internal.h"
#include "vm/path.h"
#include "vm/text.h"

#define LOCK_TRIES   500
#define LOCK_WAIT_US 10000

#define UUID_KEY "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"

static const char *const kind_names[] = {"disk", "cdrom", "floppy"};

#define MODES "normal immutable writethrough shareable readonly multiattach"

static const VmField medium_fields[] = {
    {.name = "path", .type = VM_PATH, .required = true, .max = 4096, .help = N_("the image")},
    {.name = "kind",
     .type = VM_ENUM,
     .required = true,
     .choices = "disk cdrom floppy",
     .help = N_("kind of medium")},
    {.name = "format",
     .type = VM_STRING,
     .required = true,
     .max = 16,
     .pattern = "[a-z0-9-]{1,16}",
     .help = N_("the image's format")},
    {.name = "mode",
     .type = VM_ENUM,
     .default_value = "normal",
     .choices = MODES,
     .help = N_("what becomes of guests' writes")},
    {.name = "parent", .type = VM_UUID, .help = N_("the medium that this one builds on")},
    {.name = "virtual-size",
     .type = VM_SIZE,
     .default_value = "0",
     .max = UINT64_C(1) << 62,
     .help = N_("bytes that guests see")},
    {.name = "actual-size",
     .type = VM_SIZE,
     .default_value = "0",
     .max = UINT64_C(1) << 62,
     .help = N_("bytes on the host")},
    {.name = NULL},
};

static const VmField use_fields[] = {
    {.name = "machine", .type = VM_UUID, .required = true, .help = N_("the machine")},
    {.name = "snapshot", .type = VM_UUID, .help = N_("its snapshot; none: as it is now")},
    {.name = "place",
     .type = VM_STRING,
     .required = true,
     .max = 128,
     .help = N_("where it is attached")},
    {.name = "mode", .type = VM_ENUM, .choices = MODES, .help = N_("what it is there")},
    {.name = NULL},
};

static const VmSection media_sections[] = {
    {"medium.*", "medium", "uuid", UUID_KEY, 65536, medium_fields, N_("An image")},
    {"medium.*.use.*", "use", "number", "[0-9]{1,5}", 65536, use_fields, N_("Who uses it")},
    {.pattern = NULL},
};

const VmSchema media_schema = {
    .root = "ospite-media",
    .what = N_("registry of media"),
    .version = 1,
    .max_size = MIB(64),
    .sections = media_sections,
};

const char *medium_kind_name(MediumKind kind)
{
    return kind_names[kind];
}

MediumKind medium_kind_find(const char *name)
{
    unsigned i = 0;

    while (i < G_N_ELEMENTS(kind_names) && strcmp(kind_names[i], name) != 0)
        i++;
    return (MediumKind)i;
}

/* ---- mediums ----------------------------------------------------------------------------------
 */

static void use_free(gpointer data)
{
    MediumUse *use = data;

    g_free(use->machine);
    g_free(use->snapshot);
    g_free(use->place);
    g_free(use->mode);
    g_free(use);
}

void medium_free(Medium *medium)
{
    if (!medium)
        return;
    g_free(medium->uuid);
    g_free(medium->path);
    g_free(medium->format);
    g_free(medium->mode);
    g_free(medium->parent);
    g_free(medium->problem);
    g_ptr_array_unref(medium->uses);
    g_free(medium);
}

typedef struct Reader {
    GPtrArray *all;
    GHashTable *by_uuid;
    char *use_number; /* of the use that comes in */
} Reader;

static Medium *reader_medium(Reader *reader, const char *uuid)
{
    Medium *medium = g_hash_table_lookup(reader->by_uuid, uuid);

    if (!medium) {
        medium = g_new0(Medium, 1);
        medium->uuid = g_strdup(uuid);
        medium->mode = g_strdup("normal");
        medium->uses = g_ptr_array_new_with_free_func(use_free);
        g_ptr_array_add(reader->all, medium);
        g_hash_table_insert(reader->by_uuid, medium->uuid, medium);
        g_clear_pointer(&reader->use_number, g_free);
    }
    return medium;
}

static void read_use(Reader *reader, Medium *medium, const char *number, const char *name,
                     const char *value)
{
    MediumUse *use;

    if (g_strcmp0(reader->use_number, number) != 0) {
        g_free(reader->use_number);
        reader->use_number = g_strdup(number);
        g_ptr_array_add(medium->uses, g_new0(MediumUse, 1));
    }
    use = medium->uses->pdata[medium->uses->len - 1];
    if (!strcmp(name, "machine"))
        use->machine = g_strdup(value);
    else if (!strcmp(name, "snapshot"))
        use->snapshot = g_strdup(value);
    else if (!strcmp(name, "mode"))
        use->mode = g_strdup(value);
    else
        use->place = g_strdup(value);
}

/* The attachments' modes count: when none of them has the medium's any more, it is the first's. */
static void settle_mode(Medium *medium)
{
    const char *first = NULL;

    for (guint i = 0; i < medium->uses->len; i++) {
        const MediumUse *use = medium->uses->pdata[i];
        if (use->snapshot || !use->mode)
            continue;
        if (!strcmp(use->mode, medium->mode))
            return;
        first = first ? first : use->mode;
    }
    if (first && medium->kind != MEDIUM_CDROM) {
        g_free(medium->mode);
        medium->mode = g_strdup(first);
    }
}

static void read_value(void *obj, const char *path, const VmField *field, const char *value)
{
    Reader *reader = obj;
    g_auto(GStrv) words = g_strsplit(path, ".", -1);
    Medium *medium = reader_medium(reader, words[1]);

    if (g_strv_length(words) == 5)
        read_use(reader, medium, words[3], words[4], value);
    else if (!strcmp(field->name, "path"))
        medium->path = g_strdup(value);
    else if (!strcmp(field->name, "kind"))
        medium->kind = medium_kind_find(value);
    else if (!strcmp(field->name, "format"))
        medium->format = g_strdup(value);
    else if (!strcmp(field->name, "parent"))
        medium->parent = g_strdup(value);
    else if (!strcmp(field->name, "virtual-size"))
        vm_field_number(field, value, &medium->virtual_size);
    else if (!strcmp(field->name, "actual-size"))
        vm_field_number(field, value, &medium->actual_size);
    else {
        g_free(medium->mode);
        medium->mode = g_strdup(value);
    }
}

static void look_at_file(Medium *medium)
{
    struct stat status;

    medium->accessible = true;
    if (is_address(medium->path))
        return; /* who starts a machine with it hears of its server */
    medium->accessible = stat(medium->path, &status) == 0;
    if (!medium->accessible)
        medium->problem = g_strdup(g_strerror(errno));
    else if (S_ISREG(status.st_mode))
        medium->actual_size = (uint64_t)status.st_blocks * 512;
}

static int by_path(gconstpointer a, gconstpointer b)
{
    return strcmp((*(Medium *const *)a)->path, (*(Medium *const *)b)->path);
}

GPtrArray *media_read(const Media *media)
{
    g_autoptr(GHashTable) by_uuid = g_hash_table_new(g_str_hash, g_str_equal);
    Reader reader = {g_ptr_array_new_with_free_func((GDestroyNotify)medium_free), by_uuid, NULL};

    vm_tree_foreach(media->tree, read_value, &reader);
    g_free(reader.use_number);
    for (guint i = 0; i < reader.all->len; i++) {
        Medium *medium = reader.all->pdata[i];
        Medium *parent = medium->parent ? g_hash_table_lookup(by_uuid, medium->parent) : NULL;
        look_at_file(medium);
        settle_mode(medium);
        if (parent)
            parent->has_children = true;
    }
    g_ptr_array_sort(reader.all, by_path);
    return reader.all;
}

Medium *media_pick(GPtrArray *all, const char *name, GError **error)
{
    g_autofree char *path = absolute_name(name, NULL), *quoted = NULL;

    for (guint i = 0; i < all->len; i++) {
        Medium *medium = all->pdata[i];
        if (!g_ascii_strcasecmp(medium->uuid, name) || !strcmp(medium->path, path))
            return medium;
    }
    quoted = text_quote(name);
    vm_error(error, G_IO_ERROR_NOT_FOUND,
             _("there is no medium %s; ospite media list shows those there are"), quoted);
    return NULL;
}

bool media_put(Media *media, const char *uuid, const char *field, const char *value, GError **error)
{
    g_autofree char *path = g_strdup_printf("medium.%s.%s", uuid, field);

    return vm_tree_set(media->tree, path, value, error);
}

/* ---- the file ---------------------------------------------------------------------------------
 */

static struct MediaStamp stamp_of(const char *path)
{
    struct stat status;

    if (stat(path, &status) < 0)
        return (struct MediaStamp){0};
    return (struct MediaStamp){status.st_ino, (uint64_t)status.st_size, status.st_mtim.tv_sec,
                               status.st_mtim.tv_nsec};
}

static bool reload(Media *media, GError **error)
{
    struct MediaStamp stamp = stamp_of(media->path);
    VmTree *tree;

    if (media->tree && media->clean && !memcmp(&stamp, &media->stamp, sizeof(stamp)))
        return true;
    tree =
        stamp.inode ? vm_tree_load(&media_schema, media->path, error) : vm_tree_new(&media_schema);
    if (!tree)
        return false;
    vm_tree_free(media->tree);
    media->tree = tree;
    media->stamp = stamp;
    return true;
}

static bool take_lock(Media *media, GError **error)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int fd = open(media->lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    g_autofree char *quoted = text_quote(media->lock_path);
    int code;

    for (unsigned i = 0; fd >= 0 && i < LOCK_TRIES; i++) {
        if (fcntl(fd, F_OFD_SETLK, &lock) == 0) {
            media->lock_fd = fd;
            return true;
        }
        if (errno != EAGAIN && errno != EACCES && errno != EINTR)
            break;
        g_usleep(LOCK_WAIT_US);
    }
    code = errno;
    fd_clear(&fd);
    if (code == EAGAIN || code == EACCES)
        return vm_error(error, G_IO_ERROR_BUSY,
                        _("cannot lock %s: another program holds it; try again"), quoted);
    return vm_error(error, g_io_error_from_errno(code), _("cannot lock %s: %s"), quoted,
                    g_strerror(code));
}

bool media_begin(Media *media, GError **error)
{
    g_autoptr(GError) why = NULL;

    if (!take_lock(media, error))
        return false;
    if (journal_recover(media->journal_path, &why) && reload(media, &why)) {
        media->clean = false; /* until it is stored, or was only read */
        return true;
    }
    media_end(media);
    /* Our own files are at fault: what was asked was right, whatever it was. */
    return vm_error(error, G_IO_ERROR_FAILED, "%s", why->message);
}

void media_end(Media *media)
{
    fd_clear(&media->lock_fd);
}

bool media_store(Media *media, GError **error)
{
    if (!vm_tree_save(media->tree, media->path, error))
        return false;
    media->stamp = stamp_of(media->path);
    media->clean = true;
    return true;
}

bool media_store_with(Media *media, Journal *journal, GError **error)
{
    g_autofree char *text = vm_tree_text(media->tree, NULL);

    if (!vm_tree_complete(media->tree, error) ||
        !journal_replace(journal, media->path, text, error) ||
        !journal_commit(journal, media->journal_path, error))
        return false;
    media->stamp = stamp_of(media->path);
    media->clean = true;
    return true;
}

/* What it is called; nothing is read. */
static Media *media_at(const char *folder)
{
    Media *media = g_new0(Media, 1);

    media->lock_fd = -1;
    media->folder = g_canonicalize_filename(folder, NULL);
    media->path = g_build_filename(media->folder, "media.xml", NULL);
    media->lock_path = g_build_filename(media->folder, "media.lock", NULL);
    media->journal_path = g_build_filename(media->folder, "media.journal", NULL);
    return media;
}

bool media_finish(const char *folder, GError **error)
{
    g_autoptr(Media) media = media_at(folder);

    return (access(media->journal_path, F_OK) < 0 && errno == ENOENT) ||
           (take_lock(media, error) && journal_recover(media->journal_path, error));
}

bool media_commit(const char *folder, const Journal *journal, GError **error)
{
    g_autoptr(Media) media = media_at(folder);
    g_autoptr(GError) why = NULL;

    if (!take_lock(media, error) || !journal_recover(media->journal_path, error) ||
        !journal_store(journal, media->journal_path, error))
        return false;
    if (!journal_recover(media->journal_path, &why))
        g_warning("%s", why->message);
    return true;
}

Media *media_open(const char *folder, GError **error)
{
    g_autoptr(Media) media = media_at(folder);
    g_autofree char *quoted = text_quote(folder);

    if (g_mkdir_with_parents(media->folder, 0700) < 0) {
        vm_error(error, g_io_error_from_errno(errno), _("cannot make the folder %s: %s"), quoted,
                 g_strerror(errno));
        return NULL;
    }
    if (!media_begin(media, error))
        return NULL;
    media_end(media);
    return g_steal_pointer(&media);
}

void media_close(Media *media)
{
    if (!media)
        return;
    media_end(media);
    g_free(media->folder);
    g_free(media->path);
    g_free(media->lock_path);
    g_free(media->journal_path);
    vm_tree_free(media->tree);
    g_free(media);
}
