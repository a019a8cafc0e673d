/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Machines whose folders move; see api.h. To another file system a thread copies
 * (vm/folder_copy.h); meanwhile the machine is shown with a `job`, and nobody may change it.
 */
#include "base/i18n.h"
#include "daemon/api.h"
#include "daemon/request.h"

typedef struct Moving {
    Api *api;
    Request *request;
    char *uuid, *folder;
} Moving;

static void moving_free(Moving *moving)
{
    g_free(moving->uuid);
    g_free(moving->folder);
    g_free(moving);
}

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
    Moving *moving = data;
    Api *api = moving->api;
    GError *error = NULL;
    bool copied = g_task_propagate_boolean(G_TASK(result), &error);
    Machine *machine = registry_find(api->registry, moving->uuid, NULL);

    api->busy--;
    request_speak(moving->request);
    g_assert(machine); /* nobody could delete it meanwhile */
    if (copied && api_media_begin(api, &error))
        registry_move(api->registry, machine, moving->folder, machine->copy, &error);
    g_clear_pointer(&machine->copy, folder_copy_free);
    if (error) {
        machine_tell(machine, "vm-changed");
        request_fail(moving->request, error);
    } else {
        api_answer_machine(moving->request, machine);
    }
    moving_free(moving);
}

static void begin_copy(Api *api, Request *request, Machine *machine, const char *folder)
{
    g_autofree char *target = registry_move_target(machine, folder);
    GError *error = NULL;
    g_autoptr(GTask) task = NULL;
    Moving *moving;

    machine->copy =
        folder_copy_new(machine->folder, target, registry_folder(api->registry), &error);
    if (!machine->copy) {
        request_fail(request, error);
        return;
    }
    moving = g_new0(Moving, 1);
    *moving = (Moving){api, request, g_strdup(machine->uuid), g_strdup(folder)};
    api->busy++;
    task = g_task_new(NULL, NULL, on_copied, moving);
    g_task_set_task_data(task, machine->copy, NULL);
    g_task_run_in_thread(task, copy_in_thread);
    machine_tell(machine, "vm-changed");
}

static const char *folder_of(Request *request, GError **error)
{
    GError *bad = NULL;
    JsonObject *body = request_json(request, "folder", &bad);
    const char *folder = body ? api_text(body, "folder", &bad) : NULL;

    if (!bad && !folder)
        g_set_error(&bad, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    _("cannot move it without a folder"));
    if (!bad)
        api_needs_absolute("folder", folder, &bad);
    if (!bad)
        return folder;
    g_propagate_error(error, bad);
    return NULL;
}

void api_vm_move(Api *api, Request *request, Machine *machine)
{
    GError *error = NULL;
    const char *folder = folder_of(request, &error);

    if (folder && api_media_begin(api, &error) &&
        registry_move(api->registry, machine, folder, NULL, &error)) {
        api_answer_machine(request, machine);
    } else if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK)) {
        g_error_free(error);
        begin_copy(api, request, machine, folder);
    } else {
        request_fail(request, error);
    }
}
