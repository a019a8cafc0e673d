/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Copies of machines; see api.h and vm/clone.h. A full clone is copied by a thread, as a machine
 * that moves is; a linked one is there at once.
 */
#include "base/i18n.h"
#include "daemon/api.h"
#include "daemon/machine_json.h"
#include "daemon/request.h"
#include "vm/clone.h"

typedef struct Cloning {
    Api *api;
    Request *request;
    char *uuid; /* of the original */
    VmClone *clone;
} Cloning;

static void answer(Request *request, const Machine *machine)
{
    request_answer(request, SOUP_STATUS_CREATED, json_object_of("vm", machine_json(machine)));
}

/* ---- full ------------------------------------------------------------------------------------ */

static void copy_in_thread(GTask *task, gpointer source, gpointer data, GCancellable *cancellable)
{
    GError *error = NULL;

    if (folder_copy_run(data, &error))
        g_task_return_boolean(task, TRUE);
    else
        g_task_return_error(task, error);
}

static void on_copied(GObject *source, GAsyncResult *result, gpointer data)
{
    Cloning *cloning = data;
    Registry *registry = cloning->api->registry;
    GError *error = NULL;
    bool copied = g_task_propagate_boolean(G_TASK(result), &error);
    Machine *original = registry_find(registry, cloning->uuid, NULL), *machine;

    cloning->api->busy--;
    request_speak(cloning->request);
    g_assert(original); /* nobody could delete it meanwhile */
    machine =
        copied ? registry_create_clone(registry, cloning->clone, original, original->copy, &error)
               : NULL;
    g_clear_pointer(&original->copy, folder_copy_free);
    machine_tell(original, "vm-changed");
    if (machine)
        answer(cloning->request, machine);
    else
        request_fail(cloning->request, error);
    vm_clone_free(cloning->clone);
    g_free(cloning->uuid);
    g_free(cloning);
}

/* Takes the clone. */
static bool begin_copy(Api *api, Request *request, Machine *machine, VmClone *clone,
                       const char *target, GError **error)
{
    g_autoptr(VmClone) owned = clone;
    g_autoptr(GTask) task = NULL;
    Cloning *cloning;

    machine->copy =
        folder_copy_new_clone(machine->folder, target, registry_folder(api->registry), error);
    if (!machine->copy)
        return false;
    for (guint i = 0; i < clone->images->len; i++)
        folder_copy_add(machine->copy, clone->images->pdata[i], clone->names->pdata[i]);
    cloning = g_new0(Cloning, 1);
    *cloning = (Cloning){api, request, g_strdup(machine->uuid), g_steal_pointer(&owned)};
    api->busy++;
    task = g_task_new(NULL, NULL, on_copied, cloning);
    g_task_set_task_data(task, machine->copy, NULL);
    g_task_run_in_thread(task, copy_in_thread);
    machine_tell(machine, "vm-changed");
    return true;
}

/* ---- linked ---------------------------------------------------------------------------------- */

/* The original first: while it is not multi-attach nobody may build on its disks. */
static Machine *make_link(Api *api, Machine *machine, VmClone *clone, const char *folder,
                          GError **error)
{
    g_autoptr(VmConfig) before = vm_tree_copy(machine->config);
    g_autoptr(GError) why = NULL;
    Machine *made;

    if (clone->original && !registry_save(api->registry, machine, clone->original, error))
        return NULL;
    made = registry_create(api->registry, g_steal_pointer(&clone->config), folder, error);
    if (!made && clone->original && !registry_save(api->registry, machine, before, &why))
        g_warning("%s", why->message);
    return made;
}

/* ---- what was asked -------------------------------------------------------------------------- */

typedef struct NewClone {
    const char *name, *folder;
    bool linked;
} NewClone;

static bool read_body(Request *request, NewClone *ret, GError **error)
{
    JsonObject *body = request_json(request, "name folder linked", error);
    JsonNode *linked = body ? json_object_get_member(body, "linked") : NULL;
    GError *bad = NULL;

    if (!body)
        return false;
    ret->name = api_text(body, "name", &bad);
    ret->folder = bad ? NULL : api_text(body, "folder", &bad);
    if (!bad && !ret->name)
        g_set_error(&bad, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    _("cannot clone a machine without a name for the clone"));
    if (!bad && linked && json_node_get_value_type(linked) != G_TYPE_BOOLEAN)
        g_set_error(&bad, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    _("cannot take 'linked': it is neither true nor false"));
    ret->linked = !bad && linked && json_node_get_boolean(linked);
    if (!bad)
        api_needs_absolute("folder", ret->folder, &bad);
    if (bad)
        g_propagate_error(error, bad);
    return !bad;
}

static bool can_clone(const Machine *machine, GError **error)
{
    if (machine_is_on(machine))
        return machine_wrong_state(machine, N_("cannot clone"), _("turn it off first"), error);
    if (!machine->config)
        return machine_wrong_state(machine, N_("cannot clone"), machine->problem, error);
    return machine_is_settled(machine, N_("clone"), error);
}

void api_vm_clone(Api *api, Request *request, Machine *machine)
{
    GError *error = NULL;
    NewClone new = {NULL};
    g_autoptr(VmClone) clone = NULL;
    g_autofree char *target = NULL;
    Machine *made = NULL;
    bool begun = false;

    if (read_body(request, &new, &error) && can_clone(machine, &error))
        clone = vm_clone_new(machine->config, machine->folder, new.name, new.linked, &error);
    if (clone)
        target = registry_new_folder(api->registry, clone->config, new.folder, &error);
    if (target && new.linked)
        made = make_link(api, machine, clone, new.folder, &error);
    else if (target)
        begun = begin_copy(api, request, machine, g_steal_pointer(&clone), target, &error);
    if (made)
        answer(request, made);
    else if (!begun)
        request_fail(request, error);
}
