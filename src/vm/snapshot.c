/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Snapshots that are taken and restored; see snapshot.h. */
#include "vm/snapshot.h"

#include <string.h>
#include <unistd.h>

#include "base/address.h"
#include "base/fd.h"
#include "base/i18n.h"
#include "block/difference.h"
#include "vm/build.h"
#include "vm/leftovers.h"
#include "vm/media_internal.h"
#include "vm/path.h"
#include "vm/snapshot_internal.h"
#include "vm/text.h"

#define LAYER_FORMAT "qcow2"

/* ---- looking ----------------------------------------------------------------------------------
 */

char **vm_snapshot_list(const VmConfig *config)
{
    return vm_tree_keys(config, "snapshots");
}

char *vm_snapshot_find(const VmConfig *config, const char *name, GError **error)
{
    g_auto(GStrv) all = vm_snapshot_list(config);
    g_autofree char *found = NULL, *quoted = text_quote(name);

    for (char **uuid = all; *uuid; uuid++) {
        g_autofree char *own = vm_tree_string(config, "snapshots.%s.name", *uuid);
        if (!g_ascii_strcasecmp(*uuid, name))
            return g_strdup(*uuid);
        if (strcmp(own, name) != 0)
            continue;
        if (found) {
            vm_error(error, G_IO_ERROR_INVALID_ARGUMENT,
                     _("there is more than one snapshot %s; use its UUID, which 'ospite snapshot "
                       "list' shows"),
                     quoted);
            return NULL;
        }
        found = g_strdup(*uuid);
    }
    if (!found)
        vm_error(error, G_IO_ERROR_NOT_FOUND,
                 _("there is no snapshot %s; 'ospite snapshot list' shows those there are"),
                 quoted);
    return g_steal_pointer(&found);
}

bool vm_snapshot_name_check(const char *name, GError **error)
{
    g_autofree char *quoted = text_quote(name);
    const char *problem = !*name                       ? _("it is empty")
                          : strlen(name) > VM_NAME_MAX ? _("it is longer than 200 bytes")
                          : !text_is_plain(name, false)
                              ? _("it has control characters or is no UTF-8")
                          : g_uuid_string_is_valid(name) ? _("it reads as a UUID")
                                                         : NULL;

    return !problem ||
           vm_error(error, G_IO_ERROR_INVALID_ARGUMENT,
                    _("a snapshot cannot be called %s: %s; choose another name"), quoted, problem);
}

char *vm_snapshot_file(const VmConfig *config, const char *folder, const char *uuid, GError **error)
{
    g_autofree char *name = vm_tree_string(config, "snapshots.%s.config", uuid);
    g_autofree char *own = vm_tree_string(config, "snapshots.%s.name", uuid);
    g_autofree char *quoted = text_quote(own);

    if (*name && !g_path_is_absolute(name) && !is_address(name))
        return vm_path_resolve(folder, name, error);
    vm_error(error, G_IO_ERROR_INVALID_DATA,
             _("cannot use the snapshot %s: snapshots.%s.config names no file in the machine's "
               "folder"),
             quoted, uuid);
    return NULL;
}

VmConfig *vm_snapshot_load(const VmConfig *config, const char *folder, const char *uuid,
                           GError **error)
{
    g_autofree char *path = vm_snapshot_file(config, folder, uuid, error);

    return path ? vm_config_load(path, error) : NULL;
}

static void disk_free(gpointer data)
{
    SnapshotDisk *disk = data;

    g_free(disk->place);
    g_free(disk->image);
    g_free(disk->format);
    g_free(disk->mode);
    g_free(disk);
}

static void add_disk(GPtrArray *disks, const VmConfig *config, const char *place, const char *mode,
                     const char *image, const char *format, bool is_part)
{
    SnapshotDisk *disk = g_new0(SnapshotDisk, 1);

    *disk = (SnapshotDisk){g_strdup(place),  absolute_name(image, NULL),
                           g_strdup(format), g_strdup(mode),
                           is_part,          vm_tree_bool(config, "%s.trust-backing", place)};
    g_ptr_array_add(disks, disk);
}

static bool add_place(GPtrArray *disks, const VmConfig *config, const char *folder, bool is_kept,
                      const char *place, GError **error)
{
    g_autofree char *medium = vm_tree_string(config, "%s.medium", place);
    g_autofree char *mode = vm_tree_string(config, "%s.mode", place);
    g_autofree char *format = vm_tree_string(config, "%s.format", place);
    g_autofree char *path = vm_path_resolve(folder, medium, error);
    g_autofree char *difference =
        path && !is_kept ? vm_build_difference(config, folder, place, NULL) : NULL;

    if (!path)
        return false;
    add_disk(disks, config, place, mode, path, format, !strcmp(mode, "normal"));
    if (difference && !access(difference, F_OK))
        add_disk(disks, config, place, mode, difference, LAYER_FORMAT,
                 !strcmp(mode, "multiattach"));
    return true;
}

GPtrArray *snapshot_disks(const VmConfig *config, const char *folder, bool is_kept, GError **error)
{
    g_autoptr(GPtrArray) disks = g_ptr_array_new_with_free_func(disk_free);
    g_auto(GStrv) controllers = vm_tree_keys(config, "storage");

    for (char **controller = controllers; *controller; controller++) {
        g_auto(GStrv) slots = vm_tree_keys(config, "storage.%s", *controller);
        for (char **slot = slots; *slot; slot++) {
            g_autofree char *place = g_strdup_printf("storage.%s.%s", *controller, *slot);
            g_autofree char *type = vm_tree_string(config, "%s.type", place);
            if (!strcmp(type, "disk") && !add_place(disks, config, folder, is_kept, place, error))
                return NULL;
        }
    }
    return g_steal_pointer(&disks);
}

bool snapshot_owns(const char *folder, const char *image)
{
    g_autofree char *name = g_path_get_basename(image), *own = g_path_get_dirname(image);

    return !strcmp(own, folder) &&
           (g_str_has_prefix(name, "layer-") || g_str_has_prefix(name, "difference-"));
}

bool snapshot_set(VmConfig *config, const char *place, const char *name, const char *value,
                  GError **error)
{
    g_autofree char *path = g_strdup_printf("%s.%s", place, name);

    return vm_tree_set(config, path, value, error);
}

/* ---- changes ----------------------------------------------------------------------------------
 */

/* A new image over another, and what it is called until the journal is carried out. */
typedef struct Layer {
    char *temporary, *path;
    char *base, *base_format;
    bool trusts; /* names outside of the base's folder */
} Layer;

static void layer_free(gpointer data)
{
    Layer *layer = data;

    g_free(layer->temporary);
    g_free(layer->path);
    g_free(layer->base);
    g_free(layer->base_format);
    g_free(layer);
}

static void unlock(gpointer data)
{
    close(GPOINTER_TO_INT(data));
}

VmSnapshotChange *snapshot_change_new(const VmSnapshotOf *of, const char *uuid)
{
    VmSnapshotChange *change = g_new0(VmSnapshotChange, 1);

    change->journal = journal_new();
    change->uuid = g_strdup(uuid);
    change->folder = g_path_get_dirname(of->file);
    change->gone = g_ptr_array_new_with_free_func(g_free);
    change->layers = g_ptr_array_new_with_free_func(layer_free);
    change->locks = g_ptr_array_new_with_free_func(unlock);
    return change;
}

void vm_snapshot_change_free(VmSnapshotChange *change)
{
    if (!change)
        return;
    if (change->note && !change->begun)
        leftover_clear(change->note);
    journal_free(change->journal);
    g_ptr_array_unref(change->gone);
    g_ptr_array_unref(change->layers);
    g_ptr_array_unref(change->locks);
    g_free(change->uuid);
    g_free(change->folder);
    g_free(change->note);
    g_free(change);
}

bool snapshot_give_up(VmSnapshotChange *change, const char *image, GError **error)
{
    g_autoptr(GError) why = NULL;
    int fd = media_lock_image(image, &why);

    if (fd >= 0) {
        g_ptr_array_add(change->locks, GINT_TO_POINTER(fd));
    } else if (!g_error_matches(why, G_IO_ERROR, G_IO_ERROR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&why));
        return false;
    }
    g_ptr_array_add(change->gone, g_strdup(image));
    return journal_unlink(change->journal, image, error);
}

static char *layer_name(const char *place)
{
    g_autofree char *random = g_uuid_string_random();

    return g_strdup_printf("layer-%s-%.8s.qcow2", place + strlen("storage."), random);
}

/* The machine writes to a new image over the disk's from then on. */
static bool add_layer(VmSnapshotChange *change, const SnapshotDisk *disk, VmConfig *next,
                      GError **error)
{
    Layer *layer = g_new0(Layer, 1);
    g_autofree char *name = layer_name(disk->place);

    layer->temporary = leftover_name(change->folder);
    layer->path = g_build_filename(change->folder, name, NULL);
    layer->base = g_strdup(disk->image);
    layer->base_format = g_strdup(disk->format);
    layer->trusts = disk->trusts;
    g_ptr_array_add(change->layers, layer);
    return snapshot_set(next, disk->place, "medium", name, error) &&
           snapshot_set(next, disk->place, "format", LAYER_FORMAT, error) &&
           snapshot_set(next, disk->place, "mode", NULL, error) &&
           snapshot_set(next, disk->place, "difference", NULL, error);
}

static bool make_layers(VmSnapshotChange *change, const char *notes, GError **error)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();

    for (guint i = 0; i < change->layers->len; i++)
        g_ptr_array_add(names, ((const Layer *)change->layers->pdata[i])->temporary);
    if (!names->len)
        return true;
    change->note = leftover_note(notes, (char *const *)names->pdata, names->len, error);
    if (!change->note)
        return false;
    for (guint i = 0; i < change->layers->len; i++) {
        const Layer *layer = change->layers->pdata[i];
        if (!difference_create(layer->temporary, layer->base, layer->base_format, layer->trusts,
                               error) ||
            !journal_rename(change->journal, layer->temporary, layer->path, error))
            return false;
    }
    return true;
}

static bool add_file(VmSnapshotChange *change, const char *path, const VmConfig *config,
                     GError **error)
{
    g_autofree char *text = vm_tree_text(config, NULL);

    return vm_config_check(config, error) && journal_replace(change->journal, path, text, error);
}

/* ---- taking -----------------------------------------------------------------------------------
 */

/* A machine looks for what an image builds on in its folder and below it only (block/image.h). */
static bool can_build_on(const VmConfig *config, const char *folder, const SnapshotDisk *disk,
                         GError **error)
{
    g_autofree char *key = vm_tree_string(config, "%s.key-file", disk->place);
    g_autofree char *medium = vm_tree_string(config, "%s.medium", disk->place);
    g_autofree char *path = absolute_name(medium, folder);
    g_autofree char *inside = vm_path_store(folder, path), *quoted = text_quote(path);

    if (*key)
        return vm_error(error, G_IO_ERROR_NOT_SUPPORTED,
                        _("cannot take a snapshot: the disk at %s is encrypted, and what is "
                          "written after it would not be; make it writethrough to leave it out"),
                        disk->place);
    if (!*disk->format)
        return vm_error(error, G_IO_ERROR_INVALID_ARGUMENT,
                        _("cannot take a snapshot: %s.format is missing; set it"), disk->place);
    return !g_path_is_absolute(inside) ||
           vm_error(error, G_IO_ERROR_NOT_SUPPORTED,
                    _("cannot take a snapshot: %s, the disk at %s, is outside of the machine's "
                      "folder; move it there ('ospite media move'), or make it writethrough to "
                      "leave it out"),
                    quoted, disk->place);
}

/* The settings that are kept name the image that stays as it is. */
static bool keep_disk(VmConfig *kept, const char *folder, const SnapshotDisk *disk, GError **error)
{
    g_autofree char *medium = vm_path_store(folder, disk->image);

    return snapshot_set(kept, disk->place, "medium", medium, error) &&
           snapshot_set(kept, disk->place, "format", disk->format, error) &&
           snapshot_set(kept, disk->place, "mode", NULL, error) &&
           snapshot_set(kept, disk->place, "difference", NULL, error);
}

static bool put_element(VmConfig *next, const char *uuid, const char *name, const char *description,
                        const char *file, GError **error)
{
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    g_autofree char *taken = g_date_time_format(now, "%Y-%m-%dT%H:%M:%SZ");
    g_autofree char *place = g_strconcat("snapshots.", uuid, NULL);
    g_autofree char *parent = vm_tree_string(next, "snapshots.current");

    return snapshot_set(next, place, "name", name, error) &&
           snapshot_set(next, place, "taken", taken, error) &&
           snapshot_set(next, place, "config", file, error) &&
           (!*parent || snapshot_set(next, place, "parent", parent, error)) &&
           (!description || snapshot_set(next, place, "description", description, error)) &&
           vm_tree_set(next, "snapshots.current", uuid, error);
}

/* One that was cut short has images that are neither its own nor another's. */
static bool is_settled(const VmConfig *config, GError **error)
{
    g_auto(GStrv) all = vm_snapshot_list(config);

    for (char **uuid = all; *uuid; uuid++) {
        g_autofree char *name = vm_tree_string(config, "snapshots.%s.name", *uuid);
        g_autofree char *quoted = text_quote(name);
        if (vm_tree_bool(config, "snapshots.%s.deleting", *uuid))
            return vm_error(error, G_IO_ERROR_BUSY,
                            _("the snapshot %s is half deleted; delete it again first"), quoted);
    }
    return true;
}

static bool take_disks(VmSnapshotChange *change, const VmSnapshotOf *of, VmConfig *kept,
                       VmConfig *next, GError **error)
{
    g_autoptr(GPtrArray) disks = snapshot_disks(of->config, change->folder, false, error);

    for (guint i = 0; disks && i < disks->len; i++) {
        const SnapshotDisk *disk = disks->pdata[i];
        if (disk->is_part && (!can_build_on(of->config, change->folder, disk, error) ||
                              !keep_disk(kept, change->folder, disk, error) ||
                              !add_layer(change, disk, next, error)))
            return false;
    }
    return disks && make_layers(change, of->notes, error);
}

VmSnapshotChange *vm_snapshot_take(const VmSnapshotOf *of, const char *name,
                                   const char *description, GError **error)
{
    g_autofree char *uuid = g_uuid_string_random();
    g_autofree char *base = g_strdup_printf("snapshot-%s" VM_CONFIG_SUFFIX, uuid);
    g_autoptr(VmSnapshotChange) change = snapshot_change_new(of, uuid);
    g_autofree char *path = g_build_filename(change->folder, base, NULL);
    g_autoptr(VmConfig) next = vm_tree_copy(of->config);
    g_autoptr(VmConfig) kept = vm_tree_copy(of->config);
    g_autoptr(VmConfig) none = vm_tree_new(&vm_config_schema);

    vm_tree_take_section(kept, none, "snapshots");
    if (!vm_snapshot_name_check(name, error) || !is_settled(of->config, error) ||
        !put_element(next, uuid, name, description, base, error) ||
        !take_disks(change, of, kept, next, error) || !add_file(change, path, kept, error) ||
        !add_file(change, of->file, next, error))
        return NULL;
    return g_steal_pointer(&change);
}

/* ---- restoring --------------------------------------------------------------------------------
 */

/* What the machine was, with what it is whatever is restored. */
static VmConfig *restored(const VmSnapshotOf *of, const char *folder, const char *uuid,
                          GError **error)
{
    g_autoptr(VmConfig) config = vm_snapshot_load(of->config, folder, uuid, error);
    g_autofree char *name = vm_tree_string(of->config, "general.name");
    g_autofree char *own = vm_tree_string(of->config, "general.uuid");

    if (!config || !vm_tree_set(config, "general.name", name, error) ||
        !vm_tree_set(config, "general.uuid", own, error))
        return NULL;
    vm_tree_take_section(config, of->config, "snapshots");
    return vm_tree_set(config, "snapshots.current", uuid, error) ? g_steal_pointer(&config) : NULL;
}

/* A multi-attach disk that nothing had been written to begins so again. */
static bool restore_disks(VmSnapshotChange *change, VmConfig *next, GError **error)
{
    g_autoptr(GPtrArray) disks = snapshot_disks(next, change->folder, true, error);

    for (guint i = 0; disks && i < disks->len; i++) {
        const SnapshotDisk *disk = disks->pdata[i];
        g_autofree char *name = layer_name(disk->place);
        bool ok = strcmp(disk->mode, "multiattach")
                      ? !disk->is_part || add_layer(change, disk, next, error)
                      : snapshot_set(next, disk->place, "difference", name, error);
        if (!ok)
            return false;
    }
    return disks != NULL;
}

/* What a snapshot needs stays; so does everything when that cannot be told. */
static bool drop_layers(VmSnapshotChange *change, const VmConfig *config, GHashTable *spare,
                        GError **error)
{
    g_autoptr(GHashTable) needed = snapshot_images(config, change->folder, NULL, false, NULL);
    g_autoptr(GPtrArray) disks = snapshot_disks(config, change->folder, false, error);

    for (guint i = 0; disks && i < disks->len; i++) {
        const SnapshotDisk *disk = disks->pdata[i];
        g_autofree char *quoted = text_quote(disk->image);
        if (!needed || !disk->is_part || !snapshot_owns(change->folder, disk->image) ||
            g_hash_table_contains(needed, disk->image))
            continue;
        if (g_hash_table_contains(spare, disk->image))
            return vm_error(error, G_IO_ERROR_BUSY,
                            _("cannot give up %s: another machine uses it, or another image builds "
                              "on it; 'ospite media show' names them"),
                            quoted);
        if (!snapshot_give_up(change, disk->image, error))
            return false;
    }
    return disks != NULL;
}

VmSnapshotChange *vm_snapshot_restore(const VmSnapshotOf *of, const char *uuid, GHashTable *spare,
                                      GError **error)
{
    g_autoptr(VmSnapshotChange) change = snapshot_change_new(of, uuid);
    g_autoptr(VmConfig) next =
        is_settled(of->config, error) ? restored(of, change->folder, uuid, error) : NULL;

    if (!next || !restore_disks(change, next, error) || !make_layers(change, of->notes, error) ||
        !add_file(change, of->file, next, error) || !drop_layers(change, of->config, spare, error))
        return NULL;
    return g_steal_pointer(&change);
}
