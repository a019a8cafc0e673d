/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Snapshots of machines; see api.h and vm/snapshot.h. Taking and restoring is done at once; to
 * delete one a thread merges images, meanwhile the machine is shown with a `job`, and nobody may
 * change it. A daemon that begins goes on with what a killed one was deleting.
 */
#include <string.h>

#include "base/i18n.h"
#include "daemon/api.h"
#include "daemon/machine_json.h"
#include "daemon/request.h"

/* ---- as JSON --------------------------------------------------------------------------------- */

/* A value or, where there is none, null. */
static void set_text(JsonObject *object, const char *name, const char *text)
{
    if (*text)
        json_object_set_string_member(object, name, text);
    else
        json_object_set_null_member(object, name);
}

static JsonNode *snapshot_json(const VmConfig *config, const char *uuid)
{
    static const char *const names[] = {"name", "description"};
    static const char *const or_null[] = {"taken", "parent"};
    g_autofree char *current = vm_tree_string(config, "snapshots.current");
    JsonNode *node = json_node_new(JSON_NODE_OBJECT);
    JsonObject *object = json_object_new();

    json_object_set_string_member(object, "uuid", uuid);
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *value = vm_tree_string(config, "snapshots.%s.%s", uuid, names[i]);
        json_object_set_string_member(object, names[i], value);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(or_null); i++) {
        g_autofree char *value = vm_tree_string(config, "snapshots.%s.%s", uuid, or_null[i]);
        set_text(object, or_null[i], value);
    }
    json_object_set_boolean_member(object, "current", !strcmp(current, uuid));
    json_object_set_boolean_member(object, "deleting",
                                   vm_tree_bool(config, "snapshots.%s.deleting", uuid));
    json_node_take_object(node, object);
    return node;
}

static void answer_snapshot(Request *request, unsigned status, const Machine *machine,
                            const char *uuid)
{
    request_answer(request, status,
                   json_object_of("snapshot", snapshot_json(machine->config, uuid)));
}

/* ---- looking --------------------------------------------------------------------------------- */

static bool is_accessible(const Machine *machine, GError **error)
{
    return machine->config ||
           machine_wrong_state(machine, N_("cannot use"), machine->problem, error);
}

/* The UUID (new) of the snapshot that the path names. */
static char *find(const Request *request, const Machine *machine, GError **error)
{
    const char *name = request_path(request)[4]; /* after "v1", "vms", its name and "snapshots" */

    return is_accessible(machine, error) ? vm_snapshot_find(machine->config, name, error) : NULL;
}

void api_snapshot_list(Api *api, Request *request, Machine *machine)
{
    GError *error = NULL;
    JsonArray *array;
    JsonNode *node;

    if (!is_accessible(machine, &error)) {
        request_fail(request, error);
        return;
    }
    g_auto(GStrv) all = vm_snapshot_list(machine->config);
    array = json_array_new();
    for (char **uuid = all; *uuid; uuid++)
        json_array_add_element(array, snapshot_json(machine->config, *uuid));
    node = json_node_new(JSON_NODE_ARRAY);
    json_node_take_array(node, array);
    request_answer(request, SOUP_STATUS_OK, json_object_of("snapshots", node));
}

void api_snapshot_get(Api *api, Request *request, Machine *machine)
{
    GError *error = NULL;
    g_autofree char *uuid = find(request, machine, &error);
    g_autoptr(VmConfig) kept =
        uuid ? vm_snapshot_load(machine->config, machine->folder, uuid, &error) : NULL;
    JsonNode *node;

    if (!kept) {
        request_fail(request, error);
        return;
    }
    node = snapshot_json(machine->config, uuid);
    json_object_set_member(json_node_get_object(node), "config", vm_tree_to_json(kept, true));
    request_answer(request, SOUP_STATUS_OK, json_object_of("snapshot", node));
}

/* ---- changing -------------------------------------------------------------------------------- */

static VmSnapshotOf of_machine(const Api *api, const Machine *machine)
{
    return (VmSnapshotOf){machine->config, machine->file, registry_folder(api->registry)};
}

/* `doing` and `word` are the same, for two kinds of messages. */
static bool is_free(const Machine *machine, const char *doing, const char *word, GError **error)
{
    if (machine_is_busy(machine))
        return machine_wrong_state(machine, doing,
                                   _("power it off first: this version has snapshots of machines "
                                     "that are off"),
                                   error);
    return is_accessible(machine, error) && machine_is_settled(machine, word, error);
}

void api_snapshot_take(Api *api, Request *request, Machine *machine)
{
    GError *error = NULL;
    JsonObject *body = request_json(request, "name description", &error);
    const char *name = body ? api_text(body, "name", &error) : NULL;
    const char *description = name && !error ? api_text(body, "description", &error) : NULL;
    VmSnapshotOf of = of_machine(api, machine);
    g_autoptr(VmSnapshotChange) change = NULL;

    if (!error && !name)
        g_set_error(&error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    _("cannot take a snapshot without a name"));
    if (!error && is_free(machine, N_("cannot take a snapshot of"), N_("change"), &error))
        change = vm_snapshot_take(&of, name, description, &error);
    if (change && registry_change(api->registry, machine, change, "snapshot-taken", &error))
        answer_snapshot(request, SOUP_STATUS_CREATED, machine, change->uuid);
    else
        request_fail(request, error);
}

static bool rename_snapshot(VmConfig *config, const char *uuid, const char *name,
                            const char *description, GError **error)
{
    g_autofree char *name_path = g_strdup_printf("snapshots.%s.name", uuid);
    g_autofree char *description_path = g_strdup_printf("snapshots.%s.description", uuid);

    return (!name ||
            (vm_snapshot_name_check(name, error) && vm_tree_set(config, name_path, name, error))) &&
           (!description || vm_tree_set(config, description_path, description, error));
}

void api_snapshot_set(Api *api, Request *request, Machine *machine)
{
    GError *error = NULL;
    JsonObject *body = request_json(request, "name description", &error);
    const char *name = body ? api_text(body, "name", &error) : NULL;
    const char *description = error ? NULL : api_text(body, "description", &error);
    g_autofree char *uuid = error ? NULL : find(request, machine, &error);
    g_autoptr(VmConfig) changed = uuid ? vm_tree_copy(machine->config) : NULL;

    if (changed && rename_snapshot(changed, uuid, name, description, &error) &&
        registry_save(api->registry, machine, changed, &error))
        answer_snapshot(request, SOUP_STATUS_OK, machine, uuid);
    else
        request_fail(request, error);
}

void api_snapshot_restore(Api *api, Request *request, Machine *machine)
{
    GError *error = NULL;
    g_autofree char *uuid = find(request, machine, &error);
    g_autoptr(GHashTable) spare = NULL;
    g_autoptr(VmSnapshotChange) change = NULL;
    VmSnapshotOf of;

    if (uuid && is_free(machine, N_("cannot restore a snapshot of"), N_("change"), &error))
        spare = api_media_spare(api, machine, &error);
    of = of_machine(api, machine);
    if (spare)
        change = vm_snapshot_restore(&of, uuid, spare, &error);
    if (change && registry_change(api->registry, machine, change, "snapshot-restored", &error))
        api_answer_machine(request, machine);
    else
        request_fail(request, error);
}

/* ---- deleting -------------------------------------------------------------------------------- */

typedef struct Deleting {
    Api *api;
    Request *request; /* NULL: nobody asked this daemon */
    char *uuid;       /* the machine's */
    VmSnapshotDelete *delete;
} Deleting;

static bool mark(Machine *machine, const char *uuid, bool deleting, GError **error)
{
    g_autoptr(VmConfig) changed = vm_tree_copy(machine->config);
    g_autofree char *path = g_strdup_printf("snapshots.%s.deleting", uuid);

    return vm_tree_set(changed, path, deleting ? "true" : NULL, error) &&
           machine_save(machine, changed, error);
}

static bool finish(Api *api, Machine *machine, const VmSnapshotDelete *delete, GError **error)
{
    g_autoptr(VmSnapshotChange) change = NULL;
    VmSnapshotOf of = of_machine(api, machine);

    if (!is_accessible(machine, error))
        return false;
    change = vm_snapshot_delete_finish(delete, &of, error);
    return change && registry_change(api->registry, machine, change, "snapshot-deleted", error);
}

/* Takes the error. */
static void answer_deleted(Request *request, GError *error)
{
    if (!request && error) {
        g_warning("%s", error->message);
        g_error_free(error);
    } else if (request && error) {
        request_fail(request, error);
    } else if (request) {
        request_answer(request, SOUP_STATUS_OK,
                       json_node_init_object(json_node_alloc(), json_object_new()));
    }
}

static void merge_in_thread(GTask *task, gpointer source, gpointer data, GCancellable *cancellable)
{
    GError *error = NULL;

    if (vm_snapshot_delete_run(data, &error))
        g_task_return_boolean(task, TRUE);
    else
        g_task_return_error(task, error);
}

static void on_merged(GObject *source, GAsyncResult *result, gpointer data)
{
    Deleting *deleting = data;
    Api *api = deleting->api;
    GError *error = NULL;
    bool merged = g_task_propagate_boolean(G_TASK(result), &error);
    Machine *machine = registry_find(api->registry, deleting->uuid, NULL);

    api->busy--;
    if (deleting->request)
        request_speak(deleting->request);
    g_assert(machine); /* nobody could delete it meanwhile */
    machine->merging = NULL;
    if (merged)
        finish(api, machine, deleting->delete, &error);
    else if (machine->config && vm_snapshot_delete_is_undone(deleting->delete))
        mark(machine, vm_snapshot_delete_uuid(deleting->delete), false, NULL);
    if (error)
        machine_tell(machine, "vm-changed");
    answer_deleted(deleting->request, error);
    vm_snapshot_delete_free(deleting->delete);
    g_free(deleting->uuid);
    g_free(deleting);
}

/* Takes `delete`. */
static void begin_merge(Api *api, Request *request, Machine *machine, VmSnapshotDelete *delete)
{
    Deleting *deleting = g_new0(Deleting, 1);
    g_autoptr(GTask) task = g_task_new(NULL, NULL, on_merged, deleting);

    *deleting = (Deleting){api, request, g_strdup(machine->uuid), delete};
    api->busy++;
    machine->merging = delete;
    g_task_set_task_data(task, delete, NULL);
    g_task_run_in_thread(task, merge_in_thread);
    machine_tell(machine, "vm-changed");
}

/* Answers now or later. */
static void delete_snapshot(Api *api, Request *request, Machine *machine, const char *uuid)
{
    GError *error = NULL;
    g_autoptr(GHashTable) spare = api_media_spare(api, machine, &error);
    VmSnapshotOf of = of_machine(api, machine);
    g_autoptr(VmSnapshotDelete) delete =
        spare ? vm_snapshot_delete_new(&of, uuid, spare, &error) : NULL;

    if (delete &&vm_snapshot_delete_is_long(delete) && mark(machine, uuid, true, &error)) {
        begin_merge(api, request, machine, g_steal_pointer(&delete));
        return;
    }
    if (delete &&!error)
        finish(api, machine, delete, &error);
    answer_deleted(request, error);
}

void api_snapshot_delete(Api *api, Request *request, Machine *machine)
{
    GError *error = NULL;
    g_autofree char *uuid = find(request, machine, &error);

    if (uuid && is_free(machine, N_("cannot delete a snapshot of"), N_("change"), &error))
        delete_snapshot(api, request, machine, uuid);
    else
        request_fail(request, error);
}

static void resume(Api *api, Machine *machine)
{
    g_auto(GStrv) all = vm_snapshot_list(machine->config);

    for (char **uuid = all; *uuid; uuid++) {
        if (!machine->merging && vm_tree_bool(machine->config, "snapshots.%s.deleting", *uuid))
            delete_snapshot(api, NULL, machine, *uuid);
    }
}

void api_snapshots_resume(Api *api)
{
    GPtrArray *all = registry_list(api->registry);

    for (guint i = 0; i < all->len; i++) {
        Machine *machine = all->pdata[i];
        if (machine->config && !machine_is_busy(machine))
            resume(api, machine);
    }
}
