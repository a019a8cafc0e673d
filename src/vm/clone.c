/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See clone.h. */
#include "vm/clone.h"
#include "base/address.h"

#include <string.h>
#include <unistd.h>

#include "base/i18n.h"
#include "vm/build.h"
#include "vm/path.h"
#include "vm/snapshot.h"
#include "vm/text.h"

typedef struct Cloner {
    VmClone *clone;
    const VmConfig *config; /* what is cloned … */
    VmConfig *to;           /* … and what becomes of it */
    const char *folder;
    bool linked;
    GPtrArray *relative; /* names of settings that lead into the folder (of char *) */
} Cloner;

static bool set(VmConfig *config, const char *place, const char *name, const char *value,
                GError **error)
{
    g_autofree char *path = g_strdup_printf("%s.%s", place, name);

    return vm_tree_set(config, path, value, error);
}

/* ---- disks ----------------------------------------------------------------------------------- */

/* Both write beside the image from now on. */
static bool link_disk(const Cloner *c, const char *place, const char *mode, GError **error)
{
    g_autofree char *difference = vm_build_difference(c->config, c->folder, place, NULL);
    bool own = !strcmp(mode, "normal") || !strcmp(mode, "writethrough");

    if (!strcmp(mode, "multiattach") && difference && access(difference, F_OK) == 0)
        return vm_error(error, G_IO_ERROR_NOT_SUPPORTED,
                        _("cannot link to %s: the machine has written to its differencing image, "
                          "which a linked clone would not see; make a full clone"),
                        place);
    if (own && !c->clone->original)
        c->clone->original = vm_tree_copy(c->config);
    return set(c->to, place, "difference", NULL, error) &&
           (!own || (set(c->to, place, "mode", "multiattach", error) &&
                     set(c->clone->original, place, "mode", "multiattach", error)));
}

/* What it is called in the clone's folder, into which it is copied once. */
static const char *add_image(const VmClone *clone, const char *place, const char *medium)
{
    g_autofree char *base = g_path_get_basename(medium);
    char *name = g_strdup_printf("%s-%s", place + strlen("storage."), base);

    for (guint i = 0; i < clone->images->len; i++) {
        if (!strcmp(clone->images->pdata[i], medium)) {
            g_free(name);
            return clone->names->pdata[i];
        }
    }
    for (unsigned number = 2;
         g_ptr_array_find_with_equal_func(clone->names, name, g_str_equal, NULL); number++) {
        g_free(name);
        name = g_strdup_printf("%s-%u-%s", place + strlen("storage."), number, base);
    }
    g_ptr_array_add(clone->images, g_strdup(medium));
    g_ptr_array_add(clone->names, name);
    return name;
}

/* An image outside of the folder comes into the clone's, unless it may be shared as it is. */
static bool copy_disk(const Cloner *c, const char *place, const char *medium, const char *mode,
                      GError **error)
{
    g_autofree char *difference = NULL;
    g_autofree char *own = vm_path_store(c->folder, medium);
    bool shared = text_has_word("readonly shareable immutable multiattach", mode, strlen(mode));

    difference = vm_tree_string(c->config, "%s.difference", place);
    if (g_path_is_absolute(difference))
        return vm_error(error, G_IO_ERROR_NOT_SUPPORTED,
                        _("cannot clone the machine: %s.difference is outside of its folder"),
                        place);
    if (!g_path_is_absolute(own) && !is_address(own))
        return set(c->to, place, "medium", own, error);
    if (shared)
        return true;
    if (is_address(medium))
        return vm_error(error, G_IO_ERROR_NOT_SUPPORTED,
                        _("cannot clone the machine: the disk at %s is on another machine; copy it "
                          "there, or make it immutable, multiattach or readonly"),
                        place);
    return set(c->to, place, "medium", add_image(c->clone, place, medium), error);
}

static bool clone_drive(const Cloner *c, const char *place, GError **error)
{
    g_autofree char *type = vm_tree_string(c->config, "%s.type", place);
    g_autofree char *medium = vm_tree_string(c->config, "%s.medium", place);
    g_autofree char *mode = vm_tree_string(c->config, "%s.mode", place);

    if (strcmp(type, "disk"))
        return true;
    return c->linked ? link_disk(c, place, mode, error) : copy_disk(c, place, medium, mode, error);
}

static bool clone_storage(const Cloner *c, GError **error)
{
    g_auto(GStrv) controllers = vm_tree_keys(c->config, "storage");

    for (char **controller = controllers; *controller; controller++) {
        g_auto(GStrv) slots = vm_tree_keys(c->config, "storage.%s", *controller);
        for (char **slot = slots; *slot; slot++) {
            g_autofree char *place = g_strdup_printf("storage.%s.%s", *controller, *slot);
            if (!clone_drive(c, place, error))
                return false;
        }
    }
    return true;
}

/* ---- names ----------------------------------------------------------------------------------- */

static void note_relative(void *obj, const char *path, const VmField *field, const char *value)
{
    const Cloner *c = obj;

    if (field->type == VM_PATH && *value && !g_path_is_absolute(value) && !is_address(value) &&
        !g_str_has_suffix(path, ".difference"))
        g_ptr_array_add(c->relative, g_strdup(path));
}

/* A linked clone finds in the machine's folder what is only there. */
static bool lead_back(const Cloner *c, GError **error)
{
    for (guint i = 0; i < c->relative->len; i++) {
        const char *path = c->relative->pdata[i];
        g_autofree char *value = vm_tree_string(c->config, "%s", path);
        g_autofree char *absolute = vm_path_resolve(c->folder, value, error);
        if (!absolute || !vm_tree_set(c->to, path, absolute, error))
            return false;
    }
    return true;
}

/* What no two machines may have in common. */
static bool put_identity(VmConfig *config, const char *name, GError **error)
{
    g_autofree char *uuid = g_uuid_string_random();
    g_auto(GStrv) adapters = vm_tree_keys(config, "network");

    for (char **adapter = adapters; *adapter; adapter++) {
        g_autofree char *place = g_strconcat("network.", *adapter, NULL);
        if (!set(config, place, "mac", NULL, error))
            return false;
    }
    return vm_name_check(name, error) && vm_tree_set(config, "general.name", name, error) &&
           vm_tree_set(config, "general.uuid", uuid, error) &&
           vm_tree_set(config, "autostart.enabled", NULL, error);
}

static bool clone_snapshot(const Cloner *c, const char *uuid, const char *path, GError **error)
{
    g_autoptr(VmConfig) config = vm_config_load(path, error);
    Cloner own = {c->clone, config, config ? vm_tree_copy(config) : NULL, c->folder, false};

    if (!config)
        return false;
    g_ptr_array_add(c->clone->kept, own.to);
    g_ptr_array_add(c->clone->kept_names, vm_tree_string(c->config, "snapshots.%s.config", uuid));
    return clone_storage(&own, error);
}

/* A full clone has copies of all that they need; a linked one has none. */
static bool clone_snapshots(const Cloner *c, GError **error)
{
    g_auto(GStrv) all = vm_snapshot_list(c->config);
    g_autoptr(VmConfig) none = vm_tree_new(&vm_config_schema);

    if (c->linked)
        vm_tree_take_section(c->to, none, "snapshots");
    for (char **uuid = all; *uuid && !c->linked; uuid++) {
        g_autofree char *path = vm_snapshot_file(c->config, c->folder, *uuid, NULL);
        if (path && !clone_snapshot(c, *uuid, path, error))
            return false;
    }
    return true;
}

VmClone *vm_clone_new(const VmConfig *config, const char *folder, const char *name, bool linked,
                      GError **error)
{
    g_autoptr(VmClone) clone = g_new0(VmClone, 1);
    g_autoptr(GPtrArray) relative = g_ptr_array_new_with_free_func(g_free);
    Cloner c = {clone, config, vm_tree_copy(config), folder, linked, relative};

    clone->config = c.to;
    clone->kept = g_ptr_array_new_with_free_func((GDestroyNotify)vm_tree_free);
    clone->kept_names = g_ptr_array_new_with_free_func(g_free);
    clone->images = g_ptr_array_new_with_free_func(g_free);
    clone->names = g_ptr_array_new_with_free_func(g_free);
    vm_tree_foreach(config, note_relative, &c);
    if (!put_identity(clone->config, name, error) || (linked && !lead_back(&c, error)) ||
        !clone_storage(&c, error) || !clone_snapshots(&c, error) ||
        !vm_config_check(clone->config, error))
        return NULL;
    return g_steal_pointer(&clone);
}

void vm_clone_free(VmClone *clone)
{
    if (!clone)
        return;
    vm_tree_free(clone->config);
    g_clear_pointer(&clone->original, vm_tree_free);
    g_clear_pointer(&clone->images, g_ptr_array_unref);
    g_clear_pointer(&clone->names, g_ptr_array_unref);
    g_clear_pointer(&clone->kept, g_ptr_array_unref);
    g_clear_pointer(&clone->kept_names, g_ptr_array_unref);
    g_free(clone);
}
