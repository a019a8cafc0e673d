/* SPDX-License-Identifier: GPL-3.0-or-later */
/* `vm autostart` without a name: all machines that start and stop with the user's session. */
#include <stdio.h>
#include <string.h>

#include "cli/call.h"
#include "client/ospite_client.h"

#define STOP_SECONDS 60

static JsonNode *call_vm(const char *method, const char *name, const char *rest, GError **error)
{
    g_autofree char *path = ospite_client_vm_path(name, rest);

    return call_api(method, path, NULL, error);
}

static JsonArray *vms_of(JsonNode *answer)
{
    return json_object_get_array_member(json_node_get_object(answer), "vms");
}

static bool start_all(const CommandLine *line, GError **error)
{
    g_autoptr(JsonNode) answer = call_api("POST", "/autostart", NULL, error);

    for (guint i = 0; answer && !line->json && i < json_array_get_length(vms_of(answer)); i++)
        printf("Starting '%s'\n",
               call_text(json_array_get_object_element(vms_of(answer), i), "name"));
    return call_finish(line, g_steal_pointer(&answer), "%s", "");
}

/* ---- stopping -------------------------------------------------------------------------------- */

static bool is_running(JsonObject *vm)
{
    return json_object_get_boolean_member(vm, "autostart") &&
           (!strcmp(call_text(vm, "state"), "running") ||
            !strcmp(call_text(vm, "state"), "paused"));
}

/* Begins to; a saved state (autostart.stop=save) is not there yet, so that is the button, too. */
static bool begin_stop(const char *name, GError **error)
{
    g_autoptr(JsonNode) shown = call_vm("GET", name, "", error), answer = NULL;
    JsonObject *vm, *config;
    bool pull;

    if (!shown)
        return false;
    vm = json_object_get_object_member(json_node_get_object(shown), "vm");
    config = json_object_get_object_member(vm, "config");
    pull =
        !strcmp(call_text(json_object_get_object_member(config, "autostart"), "stop"), "poweroff");
    answer = call_vm("POST", name, pull ? "/poweroff" : "/stop", error);
    return answer != NULL;
}

static bool wait_off(const char *name, gint64 until_us, GError **error)
{
    gint64 left = MAX(until_us - g_get_monotonic_time(), 0) / G_USEC_PER_SEC;
    g_autofree char *rest = g_strdup_printf("/wait?for=off&timeout=%" G_GINT64_FORMAT, left);
    g_autoptr(JsonNode) answer = call_vm("GET", name, rest, error);

    return answer != NULL;
}

/* What fails keeps no other from being stopped; the last failure is told. */
static void keep_error(GError **error, GError *why, const char *name)
{
    g_prefix_error(&why, "'%s': ", name);
    g_clear_error(error);
    g_propagate_error(error, why);
}

static bool stop_all(const CommandLine *line, GError **error)
{
    const char *timeout = command_value(line, "timeout");
    guint64 seconds = STOP_SECONDS;
    g_autoptr(JsonNode) answer = NULL;
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    bool ok = true;

    if (timeout && !g_ascii_string_to_unsigned(timeout, 10, 0, 86400, &seconds, NULL))
        return command_usage(error, "'%s' is no number of seconds", timeout);
    answer = call_api("GET", "/vms", NULL, error);
    for (guint i = 0; answer && i < json_array_get_length(vms_of(answer)); i++) {
        JsonObject *vm = json_array_get_object_element(vms_of(answer), i);
        GError *why = NULL;
        if (!is_running(vm))
            continue;
        if (begin_stop(call_text(vm, "name"), &why))
            g_ptr_array_add(names, (char *)call_text(vm, "name"));
        else
            keep_error(error, why, call_text(vm, "name"));
        ok = ok && !why;
    }
    gint64 until_us = g_get_monotonic_time() + (gint64)seconds * G_USEC_PER_SEC;
    for (guint i = 0; i < names->len; i++) {
        GError *why = NULL;
        if (!wait_off(names->pdata[i], until_us, &why))
            keep_error(error, why, names->pdata[i]);
        ok = ok && !why;
    }
    return answer && ok;
}

bool vm_autostart_all(CommandLine *line, GError **error)
{
    return command_value(line, "stop") ? stop_all(line, error) : start_all(line, error);
}
