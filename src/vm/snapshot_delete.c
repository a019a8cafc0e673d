/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The end of a snapshot; see snapshot.h. What the one image that builds on the snapshot's shows
 * does not change at any moment, whichever of the two gets the other's data:
 *
 *     up      base <- image <- child      the child gets the image's data, and builds on the base
 *     down    image <- child              the image gets the child's data, and takes its place
 *
 * An image that was not made for the machine (a user's disk) stays, so it is always `down`.
 */
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>

#include "base/i18n.h"
#include "block/format.h"
#include "block/jobs/commit.h"
#include "vm/path.h"
#include "vm/snapshot_internal.h"
#include "vm/text.h"

typedef struct Merge {
    char *image, *format;       /* the snapshot's */
    char *child, *child_format; /* the one that builds on it */
    char *base, *base_format;   /* up: what the image builds on */
    bool up;
    bool trusts; /* names outside of their folder */
} Merge;

struct VmSnapshotDelete {
    char *uuid;
    GPtrArray *merges;
    GPtrArray *unused; /* images that nobody builds on, which just go (of char *) */
    _Atomic uint64_t done, before;
    uint64_t total;
    _Atomic bool spoiled; /* the snapshot may not show what it showed */
};

static void merge_free(gpointer data)
{
    Merge *merge = data;

    g_free(merge->image);
    g_free(merge->format);
    g_free(merge->child);
    g_free(merge->child_format);
    g_free(merge->base);
    g_free(merge->base_format);
    g_free(merge);
}

void vm_snapshot_delete_free(VmSnapshotDelete *delete)
{
    if (!delete)
        return;
    g_free(delete->uuid);
    g_ptr_array_unref(delete->merges);
    g_ptr_array_unref(delete->unused);
    g_free(delete);
}

/* ---- what will be done ------------------------------------------------------------------------
 */

static uint64_t size_of_data(const char *path)
{
    struct stat status;

    return stat(path, &status) == 0 ? (uint64_t)status.st_blocks : 0;
}

static bool is_used(GHashTable *spare, const char *image, GError **error)
{
    g_autofree char *quoted = text_quote(image);

    return g_hash_table_contains(spare, image) &&
           !vm_error(error, G_IO_ERROR_BUSY,
                     _("cannot delete the snapshot: another machine uses %s, or another image "
                       "builds on it; 'ospite media show' names them"),
                     quoted);
}

static uint64_t disk_size(const char *path, const char *format)
{
    ImageOptions options = {
        .format = format, .read_only = true, .only_look = true, .no_parents = true};
    g_autoptr(Image) image = image_open(path, &options, NULL);

    return image ? image->map->size : 0;
}

static bool plan_merge(VmSnapshotDelete *delete, const SnapshotDisk *disk,
                       const SnapshotImage *image, const SnapshotImage *child, bool own,
                       GHashTable *spare, GError **error)
{
    Merge *merge = g_new0(Merge, 1);
    bool child_stays = g_hash_table_contains(spare, child->path);

    *merge = (Merge){g_strdup(image->path),   g_strdup(disk->format), g_strdup(child->path),
                     g_strdup(child->format), g_strdup(image->base),  g_strdup(image->base_format)};
    g_ptr_array_add(delete->merges, merge);
    merge->trusts = disk->trusts;
    merge->up = image->base && own &&
                (child_stays || size_of_data(image->path) <= size_of_data(child->path));
    delete->total += disk_size(child->path, child->format);
    return merge->up || !is_used(spare, child->path, error);
}

static bool plan_disk(VmSnapshotDelete *delete, const char *folder, GHashTable *images,
                      const SnapshotDisk *disk, GHashTable *spare, GError **error)
{
    const SnapshotImage *image = g_hash_table_lookup(images, disk->image);
    g_autoptr(GPtrArray) children = snapshot_images_over(images, disk->image);
    g_autofree char *quoted = text_quote(disk->image);
    bool own = snapshot_owns(folder, disk->image);

    if (!disk->is_part || (image && image->is_named))
        return true;
    if (children->len > 1)
        return vm_error(error, G_IO_ERROR_BUSY,
                        _("cannot delete the snapshot: %u images build on %s; delete the snapshots "
                          "that have them first"),
                        children->len, quoted);
    if (is_used(spare, disk->image, error))
        return false;
    if (children->len)
        return plan_merge(delete, disk, image, children->pdata[0], own, spare, error);
    if (own)
        g_ptr_array_add(delete->unused, g_strdup(disk->image));
    return true;
}

/* How many snapshots, and the machine as it is now, come from it. */
static unsigned count_descendants(const VmConfig *config, const char *uuid)
{
    g_auto(GStrv) all = vm_snapshot_list(config);
    g_autofree char *current = vm_tree_string(config, "snapshots.current");
    unsigned count = !strcmp(current, uuid);

    for (char **other = all; *other; other++) {
        g_autofree char *parent = vm_tree_string(config, "snapshots.%s.parent", *other);
        count += !strcmp(parent, uuid);
    }
    return count;
}

static bool has_one_descendant(const VmConfig *config, const char *uuid, GError **error)
{
    unsigned count = count_descendants(config, uuid);
    g_autofree char *name = vm_tree_string(config, "snapshots.%s.name", uuid);
    g_autofree char *quoted = text_quote(name);

    return count <= 1 ||
           vm_error(error, G_IO_ERROR_BUSY,
                    _("cannot delete the snapshot %s: %u states build on it, of snapshots or of "
                      "the machine as it is now; delete those snapshots first, or restore another "
                      "one"),
                    quoted, count);
}

static bool plan(VmSnapshotDelete *delete, const VmSnapshotOf *of, const char *folder,
                 GHashTable *spare, GError **error)
{
    g_autoptr(VmConfig) kept = vm_snapshot_load(of->config, folder, delete->uuid, error);
    g_autoptr(GPtrArray) disks = kept ? snapshot_disks(kept, folder, true, error) : NULL;
    g_autoptr(GHashTable) images =
        disks ? snapshot_images(of->config, folder, delete->uuid, true, error) : NULL;

    for (guint i = 0; images && i < disks->len; i++) {
        if (!plan_disk(delete, folder, images, disks->pdata[i], spare, error))
            return false;
    }
    return images != NULL;
}

VmSnapshotDelete *vm_snapshot_delete_new(const VmSnapshotOf *of, const char *uuid,
                                         GHashTable *spare, GError **error)
{
    g_autoptr(VmSnapshotDelete) delete = g_new0(VmSnapshotDelete, 1);
    g_autofree char *folder = g_path_get_dirname(of->file);

    delete->uuid = g_strdup(uuid);
    delete->merges = g_ptr_array_new_with_free_func(merge_free);
    delete->unused = g_ptr_array_new_with_free_func(g_free);
    return has_one_descendant(of->config, uuid, error) && plan(delete, of, folder, spare, error)
               ? g_steal_pointer(&delete)
               : NULL;
}

const char *vm_snapshot_delete_uuid(const VmSnapshotDelete *delete)
{
    return delete->uuid;
}

bool vm_snapshot_delete_is_long(const VmSnapshotDelete *delete)
{
    return delete->merges->len > 0;
}

/* ---- moving data ------------------------------------------------------------------------------
 */

static void on_progress(void *obj, uint64_t done)
{
    VmSnapshotDelete *delete = obj;

    atomic_store(&delete->done, atomic_load(&delete->before) + done);
}

static bool merge_up(VmSnapshotDelete *delete, const Merge *merge, GError **error)
{
    ImageOptions options = {.format = merge->child_format, .trust_names = merge->trusts};
    g_autoptr(Image) child = image_open(merge->child, &options, error);
    int result = child ? image_absorb_parent(child, on_progress, delete) : 0;

    if (result)
        return format_fail_io(error, merge->child, "merge images into", result);
    return child != NULL;
}

static bool merge_down(VmSnapshotDelete *delete, const Merge *merge, GError **error)
{
    ImageOptions options = {.format = merge->format, .trust_names = merge->trusts};
    ImageOptions alone = {.format = merge->child_format, .read_only = true, .no_parents = true};
    g_autoptr(Image) child = image_open(merge->child, &alone, error);
    g_autoptr(Image) image = child ? image_open(merge->image, &options, error) : NULL;
    int result;

    if (!image)
        return false;
    if (child->map->size < image->map->size)
        return vm_error(error, G_IO_ERROR_NOT_SUPPORTED,
                        _("cannot merge '%s' into '%s': the disk was made smaller after the "
                          "snapshot"),
                        merge->child, merge->image);
    atomic_store(&delete->spoiled, true);
    if (child->map->size > image->map->size && !image_resize(image, child->map->size, error))
        return false;
    result = image_commit(child, image, on_progress, delete);
    return result ? format_fail_io(error, merge->image, "merge images into", result) : true;
}

bool vm_snapshot_delete_run(VmSnapshotDelete *delete, GError **error)
{
    for (guint i = 0; i < delete->merges->len; i++) {
        const Merge *merge = delete->merges->pdata[i];
        if (!(merge->up ? merge_up : merge_down)(delete, merge, error))
            return false;
        atomic_store(&delete->before, atomic_load(&delete->done));
    }
    return true;
}

bool vm_snapshot_delete_is_undone(const VmSnapshotDelete *delete)
{
    return !atomic_load(&delete->spoiled);
}

void vm_snapshot_delete_progress(const VmSnapshotDelete *delete, uint64_t *ret_done,
                                 uint64_t *ret_total)
{
    *ret_done = atomic_load(&delete->done);
    *ret_total = delete->total;
}

/* ---- the last step ----------------------------------------------------------------------------
 */

/* In one configuration: where the child was there is the image. */
static bool put_images(const VmSnapshotDelete *delete, VmConfig *config, const char *folder,
                       bool is_kept, bool *ret_changed, GError **error)
{
    g_autoptr(GPtrArray) disks = snapshot_disks(config, folder, is_kept, error);

    *ret_changed = false;
    for (guint i = 0; disks && i < disks->len; i++) {
        const SnapshotDisk *disk = disks->pdata[i];
        for (guint k = 0; k < delete->merges->len; k++) {
            const Merge *merge = delete->merges->pdata[k];
            g_autofree char *medium = vm_path_store(folder, merge->image);
            if (merge->up || strcmp(merge->child, disk->image) != 0)
                continue;
            *ret_changed = true;
            if (!snapshot_set(config, disk->place, "medium", medium, error) ||
                !snapshot_set(config, disk->place, "format", merge->format, error))
                return false;
        }
    }
    return disks != NULL;
}

static bool put_in_snapshots(const VmSnapshotDelete *delete, const VmConfig *config,
                             VmSnapshotChange *change, GError **error)
{
    g_auto(GStrv) all = vm_snapshot_list(config);

    for (char **uuid = all; *uuid; uuid++) {
        g_autofree char *path = vm_snapshot_file(config, change->folder, *uuid, error),
                        *text = NULL;
        g_autoptr(VmConfig) own = NULL;
        bool changed;
        if (path && !strcmp(*uuid, delete->uuid))
            continue;
        own = path ? vm_config_load(path, error) : NULL;
        if (!own || !put_images(delete, own, change->folder, true, &changed, error))
            return false;
        text = vm_tree_text(own, NULL);
        if (changed && !journal_replace(change->journal, path, text, error))
            return false;
    }
    return true;
}

/* Those that came from it come from what it came from. */
static bool take_out(const char *uuid, VmConfig *next, GError **error)
{
    g_autofree char *parent = vm_tree_string(next, "snapshots.%s.parent", uuid);
    g_autofree char *current = vm_tree_string(next, "snapshots.current");
    g_autofree char *place = g_strconcat("snapshots.", uuid, NULL);
    g_auto(GStrv) all = vm_snapshot_list(next);
    const char *after = *parent ? parent : NULL;

    for (char **other = all; *other; other++) {
        g_autofree char *own = vm_tree_string(next, "snapshots.%s.parent", *other);
        g_autofree char *name = g_strconcat("snapshots.", *other, NULL);
        if (!strcmp(own, uuid) && !snapshot_set(next, name, "parent", after, error))
            return false;
    }
    return (strcmp(current, uuid) || vm_tree_set(next, "snapshots.current", after, error)) &&
           vm_tree_remove(next, place, error);
}

/* What builds on an image that goes. */
static bool rebase_children(const Merge *merge, GHashTable *images, VmSnapshotChange *change,
                            GError **error)
{
    g_autoptr(GPtrArray) children = snapshot_images_over(images, merge->child);

    if (merge->up)
        return journal_rebase(change->journal, merge->child, merge->child_format, merge->base,
                              merge->base_format, error);
    for (guint i = 0; i < children->len; i++) {
        const SnapshotImage *child = children->pdata[i];
        if (!journal_rebase(change->journal, child->path, child->format ? child->format : "qcow2",
                            merge->image, merge->format, error))
            return false;
    }
    return true;
}

static bool finish_images(const VmSnapshotDelete *delete, GHashTable *images,
                          VmSnapshotChange *change, GError **error)
{
    for (guint i = 0; i < delete->merges->len; i++) {
        const Merge *merge = delete->merges->pdata[i];
        if (!rebase_children(merge, images, change, error) ||
            !snapshot_give_up(change, merge->up ? merge->image : merge->child, error))
            return false;
    }
    for (guint i = 0; i < delete->unused->len; i++) {
        if (!snapshot_give_up(change, delete->unused->pdata[i], error))
            return false;
    }
    return true;
}

VmSnapshotChange *vm_snapshot_delete_finish(const VmSnapshotDelete *delete, const VmSnapshotOf *of,
                                            GError **error)
{
    g_autoptr(VmSnapshotChange) change = snapshot_change_new(of, delete->uuid);
    g_autoptr(VmConfig) next = vm_tree_copy(of->config);
    g_autoptr(GHashTable) images =
        snapshot_images(of->config, change->folder, delete->uuid, true, error);
    g_autofree char *path =
        images ? vm_snapshot_file(of->config, change->folder, delete->uuid, error) : NULL;
    g_autofree char *text = NULL;
    bool changed;

    if (!path || !put_in_snapshots(delete, of->config, change, error) ||
        !put_images(delete, next, change->folder, false, &changed, error) ||
        !take_out(delete->uuid, next, error) || !vm_config_check(next, error))
        return NULL;
    text = vm_tree_text(next, NULL);
    return journal_replace(change->journal, of->file, text, error) &&
                   journal_unlink(change->journal, path, error) &&
                   finish_images(delete, images, change, error)
               ? g_steal_pointer(&change)
               : NULL;
}
