/* SPDX-License-Identifier: GPL-3.0-or-later */
/* `vm autostart` without a name: all machines that start and stop with the user's session. */
#include <stdio.h>
#include <string.h>

#include "base/i18n.h"
#include "cli/call.h"

static bool start_all(const CommandLine *line, GError **error)
{
    JsonNode *answer = ospite_vm_autostart(line->client, error);
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

/* Begins to. A file that says `save`, which this version refuses to set, gets the button. */
static bool begin_stop(OspiteClient *client, const char *name, GError **error)
{
    g_autoptr(JsonNode) shown = ospite_vm_show(client, name, error), answer = NULL;

    if (shown && !strcmp(ospite_text(shown, "vm.config.autostart.stop"), "poweroff"))
        answer = ospite_vm_poweroff(client, name, error);
    else if (shown)
        answer = ospite_vm_stop(client, name, error);
    if (answer && !strcmp(ospite_text(shown, "vm.config.autostart.stop"), "save"))
        g_printerr(_("'%s': this version cannot save its state; pressed its power button\n"), name);
    return answer != NULL;
}

/* What fails keeps no other from being stopped; the last failure is told. */
static void keep_error(GError **error, GError *why, const char *name)
{
    g_prefix_error(&why, "'%s': ", name);
    g_clear_error(error);
    g_propagate_error(error, why);
}

/* In turns: each gets its button pressed again, however long another takes. */
static bool wait_all(OspiteClient *client, GPtrArray *names, gint64 until_us, GError **error)
{
    bool ok = true;

    while (names->len) {
        for (guint i = names->len; i-- > 0;) {
            GError *why = NULL;
            g_autoptr(JsonNode) answer = call_stop_round(client, names->pdata[i], until_us, &why);
            if (why)
                keep_error(error, why, names->pdata[i]);
            ok = ok && !why;
            if (answer || why)
                g_ptr_array_remove_index(names, i);
        }
    }
    return ok;
}

static bool stop_all(const CommandLine *line, GError **error)
{
    unsigned seconds;
    g_autoptr(JsonNode) answer = NULL;
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    bool ok = true;

    if (!call_number(line, "timeout", STOP_SECONDS, &seconds, error))
        return false;
    answer = ospite_vm_list(line->client, error);
    for (guint i = 0; answer && i < json_array_get_length(ospite_list(answer, "vms")); i++) {
        JsonObject *vm = json_array_get_object_element(ospite_list(answer, "vms"), i);
        GError *why = NULL;
        if (!is_running(vm))
            continue;
        if (begin_stop(line->client, call_text(vm, "name"), &why))
            g_ptr_array_add(names, (char *)call_text(vm, "name"));
        else
            keep_error(error, why, call_text(vm, "name"));
        ok = ok && !why;
    }
    gint64 until_us = g_get_monotonic_time() + (gint64)seconds * G_USEC_PER_SEC;
    return wait_all(line->client, names, until_us, error) && answer && ok;
}

bool run_vm_autostart_all(CommandLine *line, GError **error)
{
    return command_value(line, "stop") ? stop_all(line, error) : start_all(line, error);
}
