/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See clone.h. */
#include "vm/clone.h"
#include "base/address.h"

#include <string.h>
#include <unistd.h>

#include "base/i18n.h"
#include "vm/build.h"
#include "vm/path.h"
#include "vm/text.h"

typedef struct Cloner {
    VmClone *clone;
    const VmConfig *config;
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
    return set(c->clone->config, place, "difference", NULL, error) &&
           (!own || (set(c->clone->config, place, "mode", "multiattach", error) &&
                     set(c->clone->original, place, "mode", "multiattach", error)));
}

/* An image outside of the folder comes into the clone's, unless it may be shared as it is. */
static bool copy_disk(const Cloner *c, const char *place, const char *medium, const char *mode,
                      GError **error)
{
    g_autofree char *base = g_path_get_basename(medium), *difference = NULL;
    g_autofree char *name = g_strdup_printf("%s-%s", place + strlen("storage."), base);
    g_autofree char *own = vm_path_store(c->folder, medium);
    bool shared = text_has_word("readonly shareable immutable multiattach", mode, strlen(mode));

    difference = vm_tree_string(c->config, "%s.difference", place);
    if (g_path_is_absolute(difference))
        return vm_error(error, G_IO_ERROR_NOT_SUPPORTED,
                        _("cannot clone the machine: %s.difference is outside of its folder"),
                        place);
    if (!g_path_is_absolute(own) && !is_address(own))
        return set(c->clone->config, place, "medium", own, error);
    if (shared)
        return true;
    if (is_address(medium))
        return vm_error(error, G_IO_ERROR_NOT_SUPPORTED,
                        _("cannot clone the machine: the disk at %s is on another machine; copy it "
                          "there, or make it immutable, multiattach or readonly"),
                        place);
    g_ptr_array_add(c->clone->images, g_strdup(medium));
    g_ptr_array_add(c->clone->names, g_strdup(name));
    return set(c->clone->config, place, "medium", name, error);
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
        if (!absolute || !vm_tree_set(c->clone->config, path, absolute, error))
            return false;
    }
    return true;
}

/* What no two machines may have in common. */
static bool put_identity(VmConfig *config, const char *name, GError **error)
{
    g_autofree char *uuid = g_uuid_string_random();
    g_auto(GStrv) adapters = vm_tree_keys(config, "network");
    g_auto(GStrv) snapshots = vm_tree_keys(config, "snapshots");

    for (char **adapter = adapters; *adapter; adapter++) {
        g_autofree char *place = g_strconcat("network.", *adapter, NULL);
        if (!set(config, place, "mac", NULL, error))
            return false;
    }
    if (!vm_tree_set(config, "snapshots.current", NULL, error))
        return false;
    for (char **snapshot = snapshots; *snapshot; snapshot++) {
        g_autofree char *path = g_strconcat("snapshots.", *snapshot, NULL);
        vm_tree_remove(config, path, NULL);
    }
    return vm_name_check(name, error) && vm_tree_set(config, "general.name", name, error) &&
           vm_tree_set(config, "general.uuid", uuid, error) &&
           vm_tree_set(config, "autostart.enabled", NULL, error);
}

VmClone *vm_clone_new(const VmConfig *config, const char *folder, const char *name, bool linked,
                      GError **error)
{
    g_autoptr(VmClone) clone = g_new0(VmClone, 1);
    g_autoptr(GPtrArray) relative = g_ptr_array_new_with_free_func(g_free);
    Cloner c = {clone, config, folder, linked, relative};

    clone->config = vm_tree_copy(config);
    clone->images = g_ptr_array_new_with_free_func(g_free);
    clone->names = g_ptr_array_new_with_free_func(g_free);
    vm_tree_foreach(config, note_relative, &c);
    if (!put_identity(clone->config, name, error) || (linked && !lead_back(&c, error)) ||
        !clone_storage(&c, error) || !vm_config_check(clone->config, error))
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
    g_free(clone);
}
