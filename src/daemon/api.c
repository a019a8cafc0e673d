/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The table of operations, and those that concern no machine; see api.h. */
#include "daemon/api.h"
#include "base/i18n.h"

#include <string.h>
#include <unistd.h>

#include "cpu/engine.h"
#include "daemon/machine_json.h"
#include "vm/text.h"

static void get_version(Api *api, Request *request, Machine *machine)
{
    JsonObject *object = json_object_new();
    JsonNode *node = json_node_init_object(json_node_alloc(), object);

    json_object_unref(object);
    json_object_set_string_member(object, "version", OSPITE_VERSION);
    json_object_set_int_member(object, "api", 1);
    json_object_set_int_member(object, "pid", getpid());
    request_answer(request, SOUP_STATUS_OK, node);
}

static void get_doctor(Api *api, Request *request, Machine *machine)
{
    g_autofree char *report = engine_report();
    JsonNode *text = json_node_init_string(json_node_alloc(), report);

    request_answer(request, SOUP_STATUS_OK, json_object_of("report", text));
}

static void watch_events(Api *api, Request *request, Machine *machine)
{
    request_upgrade(request, events_add, api->events);
}

/* "*" is a machine's name, "?" a medium's or a snapshot's. */
static const struct {
    const char *method, *path;
    ApiOperation run;
} operations[] = {
    {"GET", "version", get_version},
    {"GET", "doctor", get_doctor},
    {"GET", "events", watch_events},
    {"POST", "autostart", api_autostart},
    {"GET", "vms", api_vm_list},
    {"POST", "vms", api_vm_create},
    {"GET", "vms/*", api_vm_get},
    {"PATCH", "vms/*", api_vm_set},
    {"DELETE", "vms/*", api_vm_delete},
    {"GET", "vms/*/config", api_vm_get_config},
    {"PUT", "vms/*/config", api_vm_put_config},
    {"POST", "vms/*/move", api_vm_move},
    {"POST", "vms/*/clone", api_vm_clone},
    {"GET", "vms/*/snapshots", api_snapshot_list},
    {"POST", "vms/*/snapshots", api_snapshot_take},
    {"GET", "vms/*/snapshots/?", api_snapshot_get},
    {"PATCH", "vms/*/snapshots/?", api_snapshot_set},
    {"DELETE", "vms/*/snapshots/?", api_snapshot_delete},
    {"POST", "vms/*/snapshots/?/restore", api_snapshot_restore},
    {"GET", "vms/*/log", api_vm_log},
    {"POST", "vms/*/start", api_vm_start},
    {"POST", "vms/*/stop", api_vm_stop},
    {"POST", "vms/*/poweroff", api_vm_power_off},
    {"POST", "vms/*/reset", api_vm_reset},
    {"POST", "vms/*/pause", api_vm_pause},
    {"POST", "vms/*/resume", api_vm_resume},
    {"GET", "vms/*/wait", api_vm_wait},
    {"GET", "vms/*/console", api_vm_console},
    {"GET", "vms/*/screen", api_vm_screen},
    {"POST", "vms/*/keys", api_vm_keys},
    {"GET", "media", api_media_list},
    {"POST", "media", api_medium_add},
    {"GET", "media/?", api_medium_get},
    {"PATCH", "media/?", api_medium_set},
    {"DELETE", "media/?", api_medium_remove},
    {"POST", "media/?/release", api_medium_release},
    {"POST", "media/?/refresh", api_medium_refresh},
    {"POST", "media/?/move", api_medium_move},
};

/* Whether the parts of a path are those of a pattern; what the star stands for in *ret_name. */
static bool path_matches(const char *pattern, char **parts, const char **ret_name)
{
    g_auto(GStrv) wanted = g_strsplit(pattern, "/", -1);
    unsigned i;

    *ret_name = NULL;
    for (i = 0; wanted[i] && parts[i]; i++) {
        if (!strcmp(wanted[i], "*"))
            *ret_name = parts[i];
        else if (strcmp(wanted[i], "?") && strcmp(wanted[i], parts[i]))
            return false;
    }
    return !wanted[i] && !parts[i];
}

/* What found no room when it had been written down comes before anything that changes something. */
static bool finish(Api *api, const Request *request, GError **error)
{
    g_autoptr(GError) why = NULL;

    if (media_finish(registry_folder(api->registry), &why) ||
        !strcmp(request_method(request), "GET"))
        return true;
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
}

static void run(Api *api, Request *request, ApiOperation operation, const char *name)
{
    GError *error = NULL;
    Machine *machine =
        finish(api, request, &error) && name ? registry_find(api->registry, name, &error) : NULL;

    if (error)
        request_fail(request, error);
    else
        operation(api, request, machine);
}

void api_handle(void *obj, Request *request)
{
    char **path = request_path(request);
    bool found = false;

    for (unsigned i = 0; !g_strcmp0(path[0], "v1") && i < G_N_ELEMENTS(operations); i++) {
        const char *name;
        if (!path_matches(operations[i].path, path + 1, &name))
            continue;
        found = true;
        if (!strcmp(operations[i].method, request_method(request))) {
            run(obj, request, operations[i].run, name);
            return;
        }
    }
    if (found)
        request_fail_code(request, SOUP_STATUS_METHOD_NOT_ALLOWED, "method",
                          _("cannot do that with this path; see api/openapi.yaml"));
    else
        request_fail_code(request, SOUP_STATUS_NOT_FOUND, "not_found",
                          _("there is no such path; see api/openapi.yaml"));
}

void api_answer_machine(Request *request, const Machine *machine)
{
    request_answer(request, SOUP_STATUS_OK, json_object_of("vm", machine_json(machine)));
}

const char *api_text(JsonObject *body, const char *name, GError **error)
{
    JsonNode *node = json_object_get_member(body, name);

    if (!node)
        return NULL;
    if (json_node_get_value_type(node) == G_TYPE_STRING)
        return json_node_get_string(node);
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                _("cannot take '%s': it is no text"), name);
    return NULL;
}

bool api_needs_absolute(const char *name, const char *path, GError **error)
{
    g_autofree char *quoted = path ? text_quote(path) : NULL;

    /* No file of ours could name it. */
    if (path && !text_is_plain(path, false)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    _("cannot take the %s %s: it has control characters; use another name"), name,
                    quoted);
        return false;
    }
    if (!path || g_path_is_absolute(path))
        return true;
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                _("cannot take the %s '%s': it is no absolute path"), name, path);
    return false;
}
