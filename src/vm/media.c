/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What can be done to media; their file is media_store.c's. */
#include "vm/media.h"
#include "base/address.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/i18n.h"
#include "block/difference.h"
#include "block/image.h"
#include "block/locks.h"
#include "vm/build.h"
#include "vm/leftovers.h"
#include "vm/media_internal.h"
#include "vm/path.h"
#include "vm/snapshot.h"
#include "vm/text.h"

/* As long a chain of parents as `ospite disk` allows is never near this. */
#define CHAIN_MAX 256

#define auto_media __attribute__((cleanup(media_auto_end))) Media *

/* ---- looking ----------------------------------------------------------------------------------
 */

typedef struct Inspection {
    char *format;
    char *uuid;   /* what it says itself; NULL: nothing */
    char *parent; /* absolute path; NULL: none */
    uint64_t virtual_size;
} Inspection;

static void inspection_clear(Inspection *i)
{
    g_free(i->format);
    g_free(i->uuid);
    g_free(i->parent);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Inspection, inspection_clear)

/* Its own UUID (new); NULL: it has none. */
static char *own_uuid(const Image *image)
{
    g_auto(GVariantDict) about;
    g_autofree char *text = NULL;

    g_variant_dict_init(&about, NULL);
    if (image->driver->describe)
        image->driver->describe(image->map, &about);
    return g_variant_dict_lookup(&about, "uuid", "s", &text) ? g_ascii_strdown(text, -1) : NULL;
}

/*
 * Reads the image's header. A parent that may not be opened counts as none. Nobody waits for a
 * server here: a disk on one is what it is said to be, else raw, and of unknown size.
 */
static bool inspect(const char *path, const char *format, Inspection *ret, GError **error)
{
    if (is_address(path)) {
        ret->format = g_strdup(format ? format : "raw");
        return true;
    }
    ImageOptions options = {
        .format = format, .read_only = true, .only_look = true, .no_parents = true};
    g_autoptr(Image) image = image_open(path, &options, error);

    if (!image)
        return false;
    ret->format = g_strdup(image->driver->name);
    ret->uuid = own_uuid(image);
    ret->virtual_size = image->map->size;
    if (image->map->parent_name) {
        g_autofree char *parent = image_resolve_name(path, image->map->parent_name, true, NULL);
        ret->parent = parent ? absolute_name(parent, NULL) : NULL;
    }
    return true;
}

/* What was attached before it was made has not been looked into yet. */
static void look_first(Medium *medium)
{
    g_auto(Inspection) found = {0};

    if (!medium->virtual_size && medium->accessible &&
        inspect(medium->path, medium->format, &found, NULL))
        medium->virtual_size = found.virtual_size;
}

static void move_to(GPtrArray *all, Medium *medium, Medium **ret_medium)
{
    g_ptr_array_set_free_func(all, NULL);
    for (guint i = 0; i < all->len; i++) {
        if (all->pdata[i] != medium)
            medium_free(all->pdata[i]);
    }
    *ret_medium = medium;
}

GPtrArray *media_list(Media *media, GError **error)
{
    auto_media locked = media_begin(media, error) ? media : NULL;
    GPtrArray *all;

    if (!locked)
        return NULL;
    media->clean = true;
    all = media_read(media);
    for (guint i = 0; i < all->len; i++)
        look_first(all->pdata[i]);
    return all;
}

Medium *media_find(Media *media, const char *name, GError **error)
{
    g_autoptr(GPtrArray) all = media_list(media, error);
    Medium *found = all ? media_pick(all, name, error) : NULL, *medium = NULL;

    if (found)
        move_to(all, found, &medium);
    return medium;
}

/* ---- adding -----------------------------------------------------------------------------------
 */

static bool put_size(Media *media, const char *uuid, const char *field, uint64_t bytes,
                     GError **error)
{
    g_autofree char *text = vm_size_text(bytes);

    return media_put(media, uuid, field, text, error);
}

static bool put_inspection(Media *media, const char *uuid, const char *path,
                           const Inspection *found, GError **error)
{
    struct stat status;

    if (stat(path, &status) == 0 &&
        !put_size(media, uuid, "actual-size", (uint64_t)status.st_blocks * 512, error))
        return false;
    return put_size(media, uuid, "virtual-size", found->virtual_size, error);
}

static bool is_new(const Media *media, const char *uuid)
{
    g_autofree char *path = g_strconcat("medium.", uuid, NULL);

    return !vm_tree_has(media->tree, path);
}

/*
 * The image's own where it has one, which is what its maker called it: but not in a copy of a known
 * one. Processes that were forked share GLib's random numbers: what looks new may be there.
 */
static char *new_uuid(const Media *media, const char *own)
{
    if (own && g_uuid_string_is_valid(own) && strspn(own, "0-") < strlen(own) && is_new(media, own))
        return g_strdup(own);
    for (;;) {
        g_autofree char *uuid = g_uuid_string_random();
        if (is_new(media, uuid))
            return g_steal_pointer(&uuid);
    }
}

/* A new entry (its UUID is new); not stored yet. */
static char *put_medium(Media *media, MediumKind kind, const char *path, const char *own,
                        const char *format, const char *mode, GError **error)
{
    g_autofree char *uuid = new_uuid(media, own);

    if (!media_put(media, uuid, "path", path, error) ||
        !media_put(media, uuid, "kind", medium_kind_name(kind), error) ||
        !media_put(media, uuid, "format", format, error) ||
        !media_put(media, uuid, "mode", mode, error))
        return NULL;
    return g_steal_pointer(&uuid);
}

static const char *default_mode(MediumKind kind)
{
    return kind == MEDIUM_CDROM ? "readonly" : "normal";
}

/* Registers the images that `path`'s builds on, as far as they can be looked at. */
static bool put_parents(Media *media, const char *child_uuid, const char *parent_path,
                        GError **error)
{
    g_autofree char *child = g_strdup(child_uuid), *path = g_strdup(parent_path);

    for (unsigned i = 0; path && i < CHAIN_MAX; i++) {
        g_autoptr(GPtrArray) all = media_read(media);
        Medium *known = media_pick(all, path, NULL);
        g_auto(Inspection) found = {0};
        g_autofree char *uuid = NULL;
        if (known)
            return media_put(media, child, "parent", known->uuid, error);
        if (!inspect(path, NULL, &found, NULL))
            return true;
        uuid = put_medium(media, MEDIUM_DISK, path, found.uuid, found.format, "normal", error);
        if (!uuid || !put_inspection(media, uuid, path, &found, error) ||
            !media_put(media, child, "parent", uuid, error))
            return false;
        g_free(child);
        child = g_steal_pointer(&uuid);
        g_free(path);
        path = g_steal_pointer(&found.parent);
    }
    return true;
}

Medium *media_add(Media *media, MediumKind kind, const char *path, const char *format,
                  const char *mode, GError **error)
{
    g_autofree char *absolute = absolute_name(path, NULL), *uuid = NULL, *quoted = NULL;
    g_autoptr(GPtrArray) all = NULL;
    g_auto(Inspection) found = {0};
    Medium *medium = NULL;

    {
        auto_media locked = media_begin(media, error) ? media : NULL;
        if (!locked)
            return NULL;
        all = media_read(media);
        if (media_pick(all, absolute, NULL)) {
            quoted = text_quote(absolute);
            vm_error(error, G_IO_ERROR_EXISTS, _("%s is registered already"), quoted);
            return NULL;
        }
        if (!format && kind != MEDIUM_DISK)
            format = "raw";
        if (!inspect(absolute, format, &found, error))
            return NULL;
        uuid = put_medium(media, kind, absolute, found.uuid, found.format,
                          mode ? mode : default_mode(kind), error);
        if (!uuid || !put_inspection(media, uuid, absolute, &found, error) ||
            !put_parents(media, uuid, found.parent, error) || !media_store(media, error)) {
            return NULL;
        }
        g_ptr_array_unref(all);
        all = media_read(media);
    }
    move_to(all, media_pick(all, uuid, NULL), &medium);
    return medium;
}

/* ---- changing ---------------------------------------------------------------------------------
 */

bool media_drop(Media *media, const char *uuid, GError **error)
{
    g_autofree char *path = g_strdup_printf("medium.%s", uuid);

    return vm_tree_remove(media->tree, path, error);
}

void media_set_names(Media *media, MediaNameFn name, void *obj)
{
    media->name = name;
    media->name_obj = obj;
}

/* As people know it (new). */
static char *machine_name(const Media *media, const char *uuid)
{
    const char *name = media->name ? media->name(media->name_obj, uuid) : NULL;

    return text_quote(name ? name : uuid);
}

static bool is_free(const Media *media, const Medium *medium, GError **error)
{
    g_autofree char *quoted = text_quote(medium->path);

    if (medium->uses->len) {
        const MediumUse *use = medium->uses->pdata[0];
        g_autofree char *machine = machine_name(media, use->machine);
        return vm_error(error, G_IO_ERROR_BUSY,
                        _("%s is in use by machine %s at %s%s; release it first"), quoted, machine,
                        use->place, use->snapshot ? _(" in a snapshot") : "");
    }
    if (medium->has_children)
        return vm_error(error, G_IO_ERROR_BUSY, _("other images build on %s; remove them first"),
                        quoted);
    return true;
}

static bool is_file(const Medium *medium, GError **error)
{
    g_autofree char *quoted = text_quote(medium->path);

    return !is_address(medium->path) ||
           vm_error(error, G_IO_ERROR_NOT_SUPPORTED,
                    _("cannot move or delete %s: it is on another machine"), quoted);
}

static bool remove_with_file(Media *media, const Medium *medium, GError **error)
{
    g_autoptr(Journal) journal = journal_new();
    g_autoptr(GError) why = NULL;
    /* A running machine may still hold an image that its changed configuration names no more. */
    auto_fd lock = -1;

    if (!is_file(medium, error))
        return false;
    lock = media_lock_image(medium->path, &why);
    if (lock < 0 && !g_error_matches(why, G_IO_ERROR, G_IO_ERROR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&why));
        return false;
    }
    return journal_unlink(journal, medium->path, error) && media_store_with(media, journal, error);
}

bool media_remove(Media *media, const char *name, bool delete_file, GError **error)
{
    auto_media locked = media_begin(media, error) ? media : NULL;
    g_autoptr(GPtrArray) all = locked ? media_read(media) : NULL;
    Medium *medium = all ? media_pick(all, name, error) : NULL;

    if (!medium || !is_free(media, medium, error) || !media_drop(media, medium->uuid, error))
        return false;
    return delete_file ? remove_with_file(media, medium, error) : media_store(media, error);
}

bool media_refresh(Media *media, const char *name, GError **error)
{
    auto_media locked = media_begin(media, error) ? media : NULL;
    g_autoptr(GPtrArray) all = locked ? media_read(media) : NULL;
    Medium *one = all && name ? media_pick(all, name, error) : NULL;

    if (!all || (name && !one))
        return false;
    for (guint i = 0; i < all->len; i++) {
        Medium *medium = all->pdata[i];
        g_auto(Inspection) found = {0};
        if ((one && medium != one) || !inspect(medium->path, medium->format, &found, NULL))
            continue;
        if (!put_inspection(media, medium->uuid, medium->path, &found, error) ||
            !put_parents(media, medium->uuid, found.parent, error)) {
            return false;
        }
    }
    return media_store(media, error);
}

/* ---- uses -------------------------------------------------------------------------------------
 */

/* "MACHINE SNAPSHOT", which a set of users has. */
static char *user_key(const char *machine, const char *snapshot)
{
    return g_strdup_printf("%s %s", machine, snapshot ? snapshot : "");
}

static bool drop_uses(Media *media, GHashTable *users, GError **error)
{
    g_auto(GStrv) uuids = vm_tree_keys(media->tree, "medium");

    for (char **uuid = uuids; *uuid; uuid++) {
        g_auto(GStrv) numbers = vm_tree_keys(media->tree, "medium.%s.use", *uuid);
        for (char **number = numbers; *number; number++) {
            g_autofree char *path = g_strdup_printf("medium.%s.use.%s", *uuid, *number);
            g_autofree char *machine = vm_tree_string(media->tree, "%s.machine", path);
            g_autofree char *snapshot = vm_tree_string(media->tree, "%s.snapshot", path);
            g_autofree char *key = user_key(machine, snapshot);
            if (g_hash_table_contains(users, key) && !vm_tree_remove(media->tree, path, error))
                return false;
        }
    }
    return true;
}

static bool add_use(Media *media, const char *uuid, const MediumUse *use, GError **error)
{
    g_autofree char *base = NULL;

    for (unsigned number = 0; !base; number++) {
        base = g_strdup_printf("use.%u", number);
        g_autofree char *path = g_strdup_printf("medium.%s.%s", uuid, base);
        if (vm_tree_has(media->tree, path))
            g_clear_pointer(&base, g_free);
    }
    g_autofree char *machine = g_strconcat(base, ".machine", NULL);
    g_autofree char *snapshot = g_strconcat(base, ".snapshot", NULL);
    g_autofree char *place = g_strconcat(base, ".place", NULL);
    g_autofree char *mode = g_strconcat(base, ".mode", NULL);
    return media_put(media, uuid, mode, use->mode, error) &&
           media_put(media, uuid, machine, use->machine, error) &&
           media_put(media, uuid, place, use->place, error) &&
           (!use->snapshot || media_put(media, uuid, snapshot, use->snapshot, error));
}

/* Called for each attachment that has a medium; `path` is absolute. */
typedef bool (*AttachmentFn)(void *obj, const char *place, const char *path, GError **error);

static bool each_attachment(const VmConfig *config, const char *folder, AttachmentFn fn, void *obj,
                            GError **error)
{
    g_auto(GStrv) controllers = vm_tree_keys(config, "storage");

    for (char **controller = controllers; *controller; controller++) {
        g_auto(GStrv) slots = vm_tree_keys(config, "storage.%s", *controller);
        for (char **slot = slots; *slot; slot++) {
            g_autofree char *place = g_strdup_printf("storage.%s.%s", *controller, *slot);
            g_autofree char *medium = vm_tree_string(config, "%s.medium", place);
            g_autofree char *path = absolute_name(medium, folder);
            if (*medium && !fn(obj, place, path, error))
                return false;
        }
    }
    return true;
}

typedef struct Sync {
    Media *media;
    GHashTable *known; /* of UUIDs by paths */
    const MediaUser *user;
} Sync;

static GHashTable *known_paths(const Media *media)
{
    g_autoptr(GPtrArray) all = media_read(media);
    GHashTable *known = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);

    for (guint i = 0; i < all->len; i++) {
        const Medium *medium = all->pdata[i];
        g_hash_table_insert(known, g_strdup(medium->path), g_strdup(medium->uuid));
    }
    return known;
}

/* As its configuration says that it is, with its parents; its UUID (new). */
static char *register_attachment(const Sync *sync, const char *place, const char *path,
                                 GError **error)
{
    const VmConfig *config = sync->user->config;
    g_autofree char *type = vm_tree_string(config, "%s.type", place);
    g_autofree char *given = vm_tree_string(config, "%s.format", place);
    const char *format = *given ? given : "raw";
    MediumKind kind = medium_kind_find(type);
    g_auto(Inspection) found = {0};
    bool seen = inspect(path, format, &found, NULL);
    g_autofree char *uuid =
        put_medium(sync->media, kind, path, found.uuid, format, default_mode(kind), error);

    if (!uuid || (seen && (!put_inspection(sync->media, uuid, path, &found, error) ||
                           !put_parents(sync->media, uuid, found.parent, error))))
        return NULL;
    return g_steal_pointer(&uuid);
}

static bool sync_attachment(void *obj, const char *place, const char *path, GError **error)
{
    Sync *sync = obj;
    const char *uuid = g_hash_table_lookup(sync->known, path);
    g_autofree char *mode = vm_tree_string(sync->user->config, "%s.mode", place);
    MediumUse use = {(char *)sync->user->machine, (char *)sync->user->snapshot, (char *)place,
                     mode};

    if (!uuid) {
        g_autofree char *made = register_attachment(sync, place, path, error);
        if (!made)
            return false;
        /* Its parents may be new, too. */
        g_hash_table_unref(sync->known);
        sync->known = known_paths(sync->media);
        uuid = g_hash_table_lookup(sync->known, path);
    }
    return add_use(sync->media, uuid, &use, error);
}

static bool sync_users(Media *media, const MediaUser *users, size_t count, GError **error)
{
    g_autoptr(GHashTable) keys = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    Sync sync = {media, known_paths(media), NULL};
    bool ok;

    for (size_t i = 0; i < count; i++)
        g_hash_table_add(keys, user_key(users[i].machine, users[i].snapshot));
    ok = drop_uses(media, keys, error);
    for (size_t i = 0; ok && i < count; i++) {
        sync.user = &users[i];
        ok = !users[i].config ||
             each_attachment(users[i].config, users[i].folder, sync_attachment, &sync, error);
    }
    g_hash_table_unref(sync.known);
    return ok;
}

bool media_sync(Media *media, const MediaUser *users, size_t count, GError **error)
{
    auto_media locked = count && media_begin(media, error) ? media : NULL;
    g_autofree char *before = locked ? vm_tree_text(media->tree, NULL) : NULL, *after = NULL;

    if (!locked)
        return !count;
    if (!sync_users(media, users, count, error))
        return false;
    after = vm_tree_text(media->tree, NULL);
    media->clean = !strcmp(before, after);
    return media->clean || media_store(media, error);
}

char *media_writer(Media *media, const char *name, const char *not_machine, GError **error)
{
    g_autoptr(Medium) medium = media_find(media, name, error);

    if (!medium ||
        text_has_word("readonly shareable multiattach", medium->mode, strlen(medium->mode)))
        return NULL;
    for (guint i = 0; i < medium->uses->len; i++) {
        const MediumUse *use = medium->uses->pdata[i];
        if (!use->snapshot && g_strcmp0(use->machine, not_machine) != 0)
            return g_strdup(use->machine);
    }
    return NULL;
}

/* ---- media and machines together ----------------------------------------------------------------
 */

typedef struct Rewrite {
    VmConfig *config;
    const char *from;
    const char *to; /* NULL: taken out */
    const char *folder;
    Journal *journal;
    bool changed;
} Rewrite;

/*
 * A differencing image names its base, and a start refuses one that names another: it learns the
 * new place. `after` is where the difference itself will be (NULL: where it is).
 */
static bool rebase_difference(const char *difference, const char *from, const char *to,
                              const char *after, Journal *journal, GError **error)
{
    g_autofree char *quoted = text_quote(from);
    g_autoptr(GError) why = NULL;
    bool is_over;

    if (!difference || access(difference, F_OK) < 0)
        return true;
    if (!difference_is_over(difference, from, &is_over, &why))
        return vm_error(error, G_IO_ERROR_BUSY,
                        _("cannot move %s, on which a differencing image builds: %s"), quoted,
                        why->message);
    return !is_over ||
           journal_rebase(journal, after ? after : difference, "qcow2", to, NULL, error);
}

static bool rewrite_attachment(void *obj, const char *place, const char *path, GError **error)
{
    Rewrite *rewrite = obj;
    g_autofree char *type = NULL, *medium = NULL, *value = NULL, *difference = NULL;

    if (strcmp(path, rewrite->from) != 0)
        return true;
    rewrite->changed = true;
    difference = vm_build_difference(rewrite->config, rewrite->folder, place, NULL);
    if (rewrite->to &&
        !rebase_difference(difference, rewrite->from, rewrite->to, NULL, rewrite->journal, error))
        return false;
    type = vm_tree_string(rewrite->config, "%s.type", place);
    if (!rewrite->to && !strcmp(type, "disk"))
        return vm_tree_remove(rewrite->config, place, error);
    medium = g_strconcat(place, ".medium", NULL);
    value = rewrite->to ? vm_path_store(rewrite->folder, rewrite->to) : NULL;
    return vm_tree_set(rewrite->config, medium, value, error);
}

/* Adds a changed file to the journal, that of a machine or of a snapshot. */
static bool rewrite_file(VmConfig *config, const char *path, const char *from, const char *to,
                         Journal *journal, GError **error)
{
    g_autofree char *folder = g_path_get_dirname(path), *text = NULL;
    Rewrite rewrite = {config, from, to, folder, journal, false};

    if (!each_attachment(config, folder, rewrite_attachment, &rewrite, error))
        return false;
    if (!rewrite.changed)
        return true;
    text = vm_tree_text(config, NULL);
    return vm_config_check(config, error) && journal_replace(journal, path, text, error);
}

/* Called for the files of a machine's snapshots; one that cannot be read keeps nobody. */
typedef bool (*SnapshotFileFn)(void *obj, VmConfig *kept, const char *path, GError **error);

static bool each_snapshot(const VmConfig *config, const char *folder, SnapshotFileFn fn, void *obj,
                          GError **error)
{
    g_auto(GStrv) all = vm_snapshot_list(config);

    for (char **uuid = all; *uuid; uuid++) {
        g_autofree char *path = vm_snapshot_file(config, folder, *uuid, NULL);
        g_autoptr(VmConfig) kept = path ? vm_config_load(path, NULL) : NULL;
        if (kept && !fn(obj, kept, path, error))
            return false;
    }
    return true;
}

static bool rewrite_snapshot(void *obj, VmConfig *kept, const char *path, GError **error)
{
    const Rewrite *rewrite = obj;

    return rewrite_file(kept, path, rewrite->from, rewrite->to, rewrite->journal, error);
}

/* What is taken out of a machine is in none of its snapshots. */
static bool rewrite_machine(const MediaMachine *machine, const char *from, const char *to,
                            Journal *journal, GError **error)
{
    g_autofree char *absolute = g_canonicalize_filename(machine->config_path, NULL);
    g_autofree char *folder = g_path_get_dirname(absolute);
    g_autoptr(VmConfig) config = vm_config_load(absolute, error);
    Rewrite rewrite = {.from = from, .to = to, .journal = journal};

    return config && (!to || each_snapshot(config, folder, rewrite_snapshot, &rewrite, error)) &&
           rewrite_file(config, absolute, from, to, journal, error);
}

/* ---- modes ------------------------------------------------------------------------------------
 */

typedef struct ModeChange {
    VmConfig *config;
    const char *path, *mode;
} ModeChange;

static bool change_mode(void *obj, const char *place, const char *path, GError **error)
{
    const ModeChange *change = obj;
    g_autofree char *mode = g_strconcat(place, ".mode", NULL);

    return strcmp(path, change->path) != 0 ||
           vm_tree_set(change->config, mode, change->mode, error);
}

/* Adds the machine's changed file to the journal, and what its attachments are now. */
static bool change_machine_mode(Media *media, const Medium *medium, const char *mode,
                                const MediaMachine *machine, Journal *journal, GError **error)
{
    g_autofree char *folder = g_path_get_dirname(machine->config_path), *text = NULL;
    g_autoptr(VmConfig) config = vm_config_load(machine->config_path, error);
    ModeChange change = {config, medium->path, mode};
    g_auto(GStrv) numbers = vm_tree_keys(media->tree, "medium.%s.use", medium->uuid);

    if (!config || !each_attachment(config, folder, change_mode, &change, error))
        return false;
    for (char **number = numbers; *number; number++) {
        g_autofree char *use = g_strdup_printf("medium.%s.use.%s", medium->uuid, *number);
        g_autofree char *own = vm_tree_string(media->tree, "%s.machine", use);
        g_autofree char *field = g_strconcat(use, ".mode", NULL);
        if (!strcmp(own, machine->uuid) && !vm_tree_set(media->tree, field, mode, error))
            return false;
    }
    text = vm_tree_text(config, NULL);
    return vm_config_check(config, error) &&
           journal_replace(journal, machine->config_path, text, error);
}

/* What it shows must stay as it is, whoever uses it. */
static bool is_in_no_snapshot(const Media *media, const Medium *medium, GError **error)
{
    for (guint i = 0; i < medium->uses->len; i++) {
        const MediumUse *use = medium->uses->pdata[i];
        g_autofree char *machine = machine_name(media, use->machine);
        g_autofree char *quoted = text_quote(medium->path);
        if (use->snapshot)
            return vm_error(error, G_IO_ERROR_BUSY,
                            _("%s is in use by a snapshot of machine %s; delete the snapshot "
                              "first"),
                            quoted, machine);
    }
    return true;
}

bool media_set_mode(Media *media, const char *name, const char *mode, const MediaMachine *machines,
                    size_t count, GError **error)
{
    auto_media locked = media_begin(media, error) ? media : NULL;
    g_autoptr(GPtrArray) all = locked ? media_read(media) : NULL;
    Medium *medium = all ? media_pick(all, name, error) : NULL;
    g_autoptr(Journal) journal = journal_new();

    if (!medium || !is_in_no_snapshot(media, medium, error) ||
        !media_put(media, medium->uuid, "mode", mode, error))
        return false;
    for (size_t i = 0; i < count; i++) {
        if (!change_machine_mode(media, medium, mode, &machines[i], journal, error))
            return false;
    }
    return media_store_with(media, journal, error);
}

typedef struct Adoption {
    GPtrArray *all;
    const VmConfig *old;
    VmConfig *config;
} Adoption;

static bool adopt_mode(VmConfig *config, const char *place, const char *type, const Medium *medium,
                       GError **error)
{
    g_autofree char *mode = g_strconcat(place, ".mode", NULL);

    return !medium || !strcmp(type, "cdrom") || vm_tree_has(config, mode) ||
           !strcmp(medium->mode, "normal") || vm_tree_set(config, mode, medium->mode, error);
}

/* Looked at now, once: what a guest writes into it later never changes what it is taken for. */
static bool adopt_format(VmConfig *config, const char *place, const char *type, const char *path,
                         const Medium *medium, GError **error)
{
    g_autofree char *name = g_strconcat(place, ".format", NULL);
    g_auto(Inspection) found = {0};

    if (strcmp(type, "disk") || vm_tree_has(config, name))
        return true;
    if (medium)
        return vm_tree_set(config, name, medium->format, error);
    return !inspect(path, NULL, &found, NULL) || vm_tree_set(config, name, found.format, error);
}

static bool adopt_medium(void *obj, const char *place, const char *path, GError **error)
{
    const Adoption *adoption = obj;
    g_autofree char *type = vm_tree_string(adoption->config, "%s.type", place);
    g_autofree char *new = vm_tree_string(adoption->config, "%s.medium", place);
    g_autofree char *old = adoption->old && vm_tree_has(adoption->old, place)
                               ? vm_tree_string(adoption->old, "%s.medium", place)
                               : NULL;
    const Medium *medium = media_pick(adoption->all, path, NULL);

    return !g_strcmp0(old, new) ||
           (adopt_mode(adoption->config, place, type, medium, error) &&
            adopt_format(adoption->config, place, type, path, medium, error));
}

bool media_adopt(Media *media, const VmConfig *old, VmConfig *config, const char *folder,
                 GError **error)
{
    g_autoptr(GPtrArray) all = media_list(media, error);
    Adoption adoption = {all, old, config};

    return all && each_attachment(config, folder, adopt_medium, &adoption, error);
}

static bool is_released(const MediumUse *use, const MediaMachine *machines, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!strcmp(machines[i].uuid, use->machine))
            return true;
    }
    return false;
}

bool media_release(Media *media, const char *name, const MediaMachine *machines, size_t count,
                   GError **error)
{
    auto_media locked = media_begin(media, error) ? media : NULL;
    g_autoptr(GPtrArray) all = locked ? media_read(media) : NULL;
    Medium *medium = all ? media_pick(all, name, error) : NULL;
    g_autoptr(Journal) journal = journal_new();

    if (!medium || !is_in_no_snapshot(media, medium, error))
        return false;
    for (size_t i = 0; i < count; i++) {
        if (!rewrite_machine(&machines[i], medium->path, NULL, journal, error))
            return false;
    }
    g_auto(GStrv) numbers = vm_tree_keys(media->tree, "medium.%s.use", medium->uuid);
    for (char **number = numbers; *number; number++) {
        g_autofree char *path = g_strdup_printf("medium.%s.use.%s", medium->uuid, *number);
        g_autofree char *machine = vm_tree_string(media->tree, "%s.machine", path);
        MediumUse use = {.machine = machine};
        if (is_released(&use, machines, count) && !vm_tree_remove(media->tree, path, error))
            return false;
    }
    return media_store_with(media, journal, error);
}

static bool is_free_place(const char *to, GError **error)
{
    g_autofree char *quoted = text_quote(to);

    return access(to, F_OK) < 0 ||
           vm_error(error, G_IO_ERROR_EXISTS, _("cannot move to %s: it is there already"), quoted);
}

static bool is_copy_of(const MediaCopy *copy, const Medium *medium, const char *to)
{
    return copy->done && !strcmp(copy->from, medium->path) && !strcmp(copy->to, to);
}

static bool journal_file_move(Journal *journal, const Medium *medium, const char *to,
                              const MediaCopy *copy, GError **error)
{
    g_autofree char *folder = g_path_get_dirname(to), *quoted = text_quote(folder);

    if (access(folder, F_OK) < 0)
        return vm_error(error, g_io_error_from_errno(errno), _("cannot move to %s: %s"), quoted,
                        g_strerror(errno));
    if (copy && is_copy_of(copy, medium, to))
        return journal_rename(journal, copy->temporary, to, error) &&
               journal_unlink(journal, medium->path, error);
    if (vm_same_mount(medium->path, folder))
        return journal_rename(journal, medium->path, to, error);
    return vm_error(error, G_IO_ERROR_WOULD_BLOCK, _("%s has to be copied to another file system"),
                    medium->path);
}

bool media_move(Media *media, const char *name, const char *to, MediaCopy *copy,
                const MediaMachine *machines, size_t count, GError **error)
{
    auto_media locked = media_begin(media, error) ? media : NULL;
    g_autoptr(GPtrArray) all = locked ? media_read(media) : NULL;
    Medium *medium = all ? media_pick(all, name, error) : NULL;
    g_autofree char *target = g_canonicalize_filename(to, NULL);
    g_autoptr(GPtrArray) links = g_ptr_array_new_with_free_func(media_link_free);
    g_autoptr(Journal) journal = journal_new();
    auto_fd fd = -1;

    if (!medium || !is_file(medium, error) || !is_free_place(target, error))
        return false;
    fd = copy ? dup(copy->from_fd) : media_lock_image(medium->path, error);
    if (fd < 0)
        return false;
    /* Nobody has it. From here on others, such as we, may read it, and nobody write to it. */
    if (!image_lock(fd, medium->path, IMAGE_LOCK_READ, error) ||
        !media_links(all, medium, target, links, error))
        return false;
    for (size_t i = 0; i < count; i++) {
        if (!rewrite_machine(&machines[i], medium->path, target, journal, error))
            return false;
    }
    if (!journal_file_move(journal, medium, target, copy, error) ||
        !media_journal_links(journal, links, error) ||
        !media_put(media, medium->uuid, "path", target, error))
        return false;
    if (media_links_write(links, target))
        fd_clear(&fd); /* it is opened again to be written to; a copy's original stays locked */
    if (copy)
        copy->taken = true; /* once the journal is stored it is the image, whatever fails now */
    if (!media_store_with(media, journal, error))
        return false;
    if (copy)
        copy->taken = false;
    return true;
}

/* ---- folders that move ------------------------------------------------------------------------
 */

/* A path that was below `from` (new), or NULL. */
static char *moved_path(const char *path, const char *from, const char *to)
{
    size_t length = strlen(from);

    return g_str_has_prefix(path, from) && path[length] == '/'
               ? g_build_filename(to, path + length + 1, NULL)
               : NULL;
}

typedef struct Follow {
    VmConfig *config;
    const char *from, *to;
    const char *folder_now, *folder; /* where the machine is, and will be */
    Journal *journal;
    bool changed;
} Follow;

static bool follow_attachment(void *obj, const char *place, const char *path, GError **error)
{
    Follow *follow = obj;
    g_autofree char *moved = moved_path(path, follow->from, follow->to);
    g_autofree char *medium = g_strconcat(place, ".medium", NULL);
    g_autofree char *old = moved ? vm_tree_string(follow->config, "%s", medium) : NULL;
    g_autofree char *value = moved ? vm_path_store(follow->folder, moved) : NULL;
    g_autofree char *difference = NULL, *after = NULL;

    if (!moved)
        return true;
    difference = vm_build_difference(follow->config, follow->folder_now, place, NULL);
    after = difference ? moved_path(difference, follow->from, follow->to) : NULL;
    if (!rebase_difference(difference, path, moved, after, follow->journal, error))
        return false;
    if (!strcmp(old, value))
        return true;
    follow->changed = true;
    return vm_tree_set(follow->config, medium, value, error);
}

/* Adds a changed file to the journal, that of a machine or of a snapshot; `path` is where it will
 * be, `always`: even when nothing in it changes. */
static bool follow_file(VmConfig *config, const char *folder, const char *path, bool always,
                        const Follow *like, GError **error)
{
    g_autofree char *new_folder = g_path_get_dirname(path), *text = NULL;
    Follow follow = {config, like->from, like->to, folder, new_folder, like->journal, false};

    if (!each_attachment(config, folder, follow_attachment, &follow, error))
        return false;
    if (!follow.changed && !always)
        return true;
    text = vm_tree_text(config, NULL);
    return vm_config_check(config, error) && journal_replace(like->journal, path, text, error);
}

static bool follow_snapshot(void *obj, VmConfig *kept, const char *path, GError **error)
{
    const Follow *follow = obj;
    g_autofree char *folder = g_path_get_dirname(path);
    g_autofree char *moved = moved_path(path, follow->from, follow->to);

    return follow_file(kept, folder, moved ? moved : path, false, follow, error);
}

/* The files of a machine that names images in the folder, which may be its own. */
static bool follow_machine(const MediaMachine *machine, const char *from, const char *to,
                           Journal *journal, GError **error)
{
    g_autofree char *moved = moved_path(machine->config_path, from, to);
    const char *path = machine->new_path ? machine->new_path : moved ? moved : machine->config_path;
    g_autofree char *folder = g_path_get_dirname(machine->config_path);
    g_autoptr(VmConfig) config = machine->config ? vm_tree_copy(machine->config)
                                                 : vm_config_load(machine->config_path, error);
    Follow like = {.from = from, .to = to, .journal = journal};

    return config && each_snapshot(config, folder, follow_snapshot, &like, error) &&
           follow_file(config, folder, path, machine->new_path != NULL, &like, error);
}

static bool follow_medium(Media *media, GPtrArray *all, const Medium *medium, const char *path,
                          GError **error)
{
    const Medium *stale = media_pick(all, path, NULL);

    return (!stale || media_drop(media, stale->uuid, error)) &&
           media_put(media, medium->uuid, "path", path, error);
}

static void note_users(GHashTable *users, const Medium *medium)
{
    for (guint i = 0; i < medium->uses->len; i++) {
        const MediumUse *use = medium->uses->pdata[i];
        g_hash_table_add(users, use->machine);
    }
}

bool media_follow(Media *media, const char *from, const char *to, const MediaMachine *machines,
                  size_t count, Journal *journal, GError **error)
{
    auto_media locked = media_begin(media, error) ? media : NULL;
    g_autoptr(GPtrArray) all = locked ? media_read(media) : NULL;
    g_autoptr(GHashTable) users = g_hash_table_new(g_str_hash, g_str_equal);

    for (guint i = 0; all && i < all->len; i++) {
        const Medium *medium = all->pdata[i];
        g_autofree char *path = moved_path(medium->path, from, to);
        if (path && !follow_medium(media, all, medium, path, error))
            return false;
        if (path)
            note_users(users, medium);
    }
    for (size_t i = 0; all && i < count; i++) {
        bool concerned = machines[i].new_path || g_hash_table_contains(users, machines[i].uuid);
        if (concerned && !follow_machine(&machines[i], from, to, journal, error))
            return false;
    }
    return all && media_store_with(media, journal, error);
}

void media_clear_leftovers(Media *media)
{
    leftovers_clear(media->folder);
}
