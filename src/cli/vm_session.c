/* SPDX-License-Identifier: GPL-3.0-or-later */
/* `vm session-start` and `session-stop`: all machines that start and stop with the user's session.
 */
#include <stdio.h>
#include <string.h>

#include "base/i18n.h"
#include "cli/call.h"

#define STOP_SECONDS 60

bool run_vm_session_start(CommandLine *line, GError **error)
{
    JsonNode *answer = ospite_vm_session_start(line->client, error);
    JsonArray *vms = answer ? ospite_list(answer, "vms") : NULL;

    for (guint i = 0; vms && !line->json && i < json_array_get_length(vms); i++)
        printf(_("Starting '%s'\n"), call_text(json_array_get_object_element(vms, i), "name"));
    return call_finish(line, answer, "%s", "");
}

/* ---- stopping -------------------------------------------------------------------------------- */

static bool is_running(JsonObject *vm)
{
    return json_object_get_boolean_member(vm, "autostart") &&
           (!strcmp(call_text(vm, "state"), "running") ||
            !strcmp(call_text(vm, "state"), "paused"));
}

/* A saved state (autostart.stop=save) is not there yet: that is the power button, too. */
static bool begin_stop(OspiteClient *client, const char *name, GError **error)
{
    g_autoptr(JsonNode) shown = ospite_vm_show(client, name, error), answer = NULL;
    const char *how = shown ? ospite_text(shown, "vm.config.autostart.stop") : NULL;

    if (!shown)
        return false;
    answer = !g_strcmp0(how, "poweroff") ? ospite_vm_poweroff(client, name, error)
                                         : ospite_vm_stop(client, name, error);
    return answer != NULL;
}

static bool wait_off(OspiteClient *client, const char *name, gint64 until_us, GError **error)
{
    gint64 left_us = MAX(until_us - g_get_monotonic_time(), 0);
    g_autoptr(JsonNode) answer =
        ospite_vm_wait(client, name, "off", (unsigned)(left_us / G_USEC_PER_SEC), error);

    return answer != NULL;
}

/* What fails keeps no other from being stopped; the last failure is told. */
static void keep_error(GError **error, GError *why, const char *name)
{
    g_prefix_error(&why, "'%s': ", name);
    g_clear_error(error);
    g_propagate_error(error, why);
}

/* Presses the buttons (or pulls the plugs) of those that run, and returns their names. */
static GPtrArray *begin_all(OspiteClient *client, JsonNode *all, GError **error)
{
    GPtrArray *names = g_ptr_array_new();
    JsonArray *vms = ospite_list(all, "vms");

    for (guint i = 0; i < json_array_get_length(vms); i++) {
        JsonObject *vm = json_array_get_object_element(vms, i);
        GError *why = NULL;
        if (!is_running(vm))
            continue;
        if (begin_stop(client, call_text(vm, "name"), &why))
            g_ptr_array_add(names, (char *)call_text(vm, "name"));
        else
            keep_error(error, why, call_text(vm, "name"));
    }
    return names;
}

bool run_vm_session_stop(CommandLine *line, GError **error)
{
    g_autoptr(JsonNode) all = NULL;
    g_autoptr(GPtrArray) names = NULL;
    g_autoptr(GError) failure = NULL;
    unsigned seconds;

    if (!call_number(line, "timeout", STOP_SECONDS, &seconds, error))
        return false;
    all = ospite_vm_list(line->client, error);
    if (!all)
        return false;
    names = begin_all(line->client, all, &failure);
    gint64 until_us = g_get_monotonic_time() + (gint64)seconds * G_USEC_PER_SEC;
    for (guint i = 0; i < names->len; i++) {
        GError *why = NULL;
        if (!wait_off(line->client, names->pdata[i], until_us, &why))
            keep_error(&failure, why, names->pdata[i]);
    }
    if (failure) {
        g_propagate_error(error, g_steal_pointer(&failure));
        return false;
    }
    return call_finish(line, ospite_vm_list(line->client, error), "%s", "");
}
