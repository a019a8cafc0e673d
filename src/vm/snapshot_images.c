/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Which images a machine and its snapshots need; see snapshot_internal.h. */
#include <string.h>

#include "base/address.h"
#include "base/i18n.h"
#include "block/image.h"
#include "vm/snapshot_internal.h"
#include "vm/text.h"

static void image_free(gpointer data)
{
    SnapshotImage *image = data;

    g_free(image->path);
    g_free(image->format);
    g_free(image->base);
    g_free(image->base_format);
    g_free(image);
}

/* What it says that it builds on. */
static bool look(SnapshotImage *image, GError **error)
{
    ImageOptions options = {
        .format = image->format, .read_only = true, .only_look = true, .no_parents = true};
    g_autoptr(Image) file = NULL;
    g_autofree char *base = NULL;

    if (is_address(image->path))
        return true;
    file = image_open(image->path, &options, error);
    if (!file)
        return false;
    if (!file->map->parent_name)
        return true;
    base = image_resolve_name(image->path, file->map->parent_name, true, error);
    if (!base)
        return false;
    image->base = absolute_name(base, NULL);
    image->base_format = g_strdup(file->map->parent_format);
    return true;
}

/* With what it builds on, as far as that is new. */
static bool add(GHashTable *images, const char *path, const char *format, GError **error)
{
    SnapshotImage *image = g_hash_table_lookup(images, path);

    for (bool is_named = true; path && !image; is_named = false) {
        image = g_new0(SnapshotImage, 1);
        image->path = g_strdup(path);
        image->format = g_strdup(format && *format ? format : NULL);
        image->is_named = is_named;
        g_hash_table_insert(images, image->path, image);
        if (!look(image, error))
            return false;
        path = image->base;
        format = image->base_format;
        image = path ? g_hash_table_lookup(images, path) : NULL;
    }
    return true;
}

static bool add_all(GHashTable *images, const VmConfig *config, const char *folder, bool is_kept,
                    GError **error)
{
    g_autoptr(GPtrArray) disks = snapshot_disks(config, folder, is_kept, error);

    for (guint i = 0; disks && i < disks->len; i++) {
        const SnapshotDisk *disk = disks->pdata[i];
        SnapshotImage *known = g_hash_table_lookup(images, disk->image);
        if (!known && !add(images, disk->image, disk->format, error))
            return false;
        if (known) {
            known->is_named = true;
            g_free(known->format);
            known->format = g_strdup(disk->format);
        }
    }
    return disks != NULL;
}

GHashTable *snapshot_images(const VmConfig *config, const char *folder, const char *not_uuid,
                            bool with_current, GError **error)
{
    g_autoptr(GHashTable) images = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, image_free);
    g_auto(GStrv) all = vm_snapshot_list(config);

    if (with_current && !add_all(images, config, folder, false, error))
        return NULL;
    for (char **uuid = all; *uuid; uuid++) {
        g_autoptr(VmConfig) own = NULL;
        if (!g_strcmp0(*uuid, not_uuid))
            continue;
        own = vm_snapshot_load(config, folder, *uuid, error);
        if (!own || !add_all(images, own, folder, true, error))
            return NULL;
    }
    return g_steal_pointer(&images);
}

GPtrArray *snapshot_images_over(GHashTable *images, const char *path)
{
    GPtrArray *over = g_ptr_array_new();
    GHashTableIter iter;
    gpointer image;

    g_hash_table_iter_init(&iter, images);
    while (g_hash_table_iter_next(&iter, NULL, &image)) {
        if (!g_strcmp0(((const SnapshotImage *)image)->base, path))
            g_ptr_array_add(over, image);
    }
    return over;
}
