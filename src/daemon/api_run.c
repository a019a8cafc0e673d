/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Machines that are started, stopped, watched and typed at; see api.h. Most of it is answered
 * later: a Pending holds the request until then.
 */
#include <string.h>

#include "base/i18n.h"
#include "daemon/api.h"
#include "daemon/console.h"
#include "daemon/machine_json.h"
#include "daemon/request.h"

#define WAIT_SECONDS     60
#define WAIT_SECONDS_MAX 86400

typedef struct Pending {
    Api *api;
    Request *request;
    char *uuid;
    guint timeout;
} Pending;

static Pending *pending_new(Api *api, Request *request, const Machine *machine)
{
    Pending *pending = g_new0(Pending, 1);

    pending->api = api;
    pending->request = request;
    pending->uuid = g_strdup(machine->uuid);
    return pending;
}

/* Returns the request. */
static Request *pending_free(Pending *pending)
{
    Request *request = pending->request;

    if (pending->timeout)
        g_source_remove(pending->timeout);
    g_free(pending->uuid);
    g_free(pending);
    return request;
}

static void on_machine_done(void *obj, Machine *machine, const GError *error)
{
    Request *request = pending_free(obj);
    bool failed = error && g_error_matches(error, G_IO_ERROR, G_IO_ERROR_FAILED);

    request_speak(request);
    if (error)
        request_fail(request, failed ? machine_start_failed(machine) : g_error_copy(error));
    else
        api_answer_machine(request, machine);
}

void api_vm_start(Api *api, Request *request, Machine *machine)
{
    Pending *pending = pending_new(api, request, machine);
    GError *error = NULL;

    if (!machine_start(machine, on_machine_done, pending, &error))
        request_fail(pending_free(pending), error);
}

void api_autostart(Api *api, Request *request, Machine *unused)
{
    g_autoptr(GPtrArray) started = registry_autostart(api->registry);
    JsonNode *node = json_node_new(JSON_NODE_ARRAY);
    JsonArray *array = json_array_new();

    for (guint i = 0; i < started->len; i++)
        json_array_add_element(array, machine_summary_json(started->pdata[i]));
    json_node_take_array(node, array);
    request_answer(request, SOUP_STATUS_OK, json_object_of("vms", node));
}

void api_vm_power_off(Api *api, Request *request, Machine *machine)
{
    Pending *pending = pending_new(api, request, machine);
    GError *error = NULL;

    if (!machine_power_off(machine, on_machine_done, pending, &error))
        request_fail(pending_free(pending), error);
}

/* ---- commands to the process ------------------------------------------------------------------
 */

/* The machine that was asked may have been deleted meanwhile. */
static void on_command_answer(void *obj, const char *answer, const GError *error)
{
    Pending *pending = obj;
    GError *gone = NULL;
    Machine *machine = registry_find(pending->api->registry, pending->uuid, &gone);
    Request *request = pending_free(pending);

    if (error || !machine) {
        request_fail(request, error ? g_error_copy(error) : g_steal_pointer(&gone));
    } else {
        machine_catch_up(machine);
        api_answer_machine(request, machine);
    }
    g_clear_error(&gone);
}

static void command(Api *api, Request *request, Machine *machine, const char *doing,
                    const char *line)
{
    Pending *pending = pending_new(api, request, machine);
    GError *error = NULL;

    if (!machine_command(machine, doing, line, on_command_answer, pending, &error))
        request_fail(pending_free(pending), error);
}

void api_vm_stop(Api *api, Request *request, Machine *machine)
{
    bool is_paused = machine->state == MACHINE_PAUSED;
    GError *error = NULL;

    if (is_paused || !machine_is_on(machine)) {
        machine_wrong_state(machine, N_("cannot stop"),
                            is_paused ? _("a paused guest does not see its power button")
                                      : _("nothing needs to be done"),
                            &error);
        request_fail(request, error);
        return;
    }
    command(api, request, machine, N_("cannot stop"), "powerdown");
}

void api_vm_reset(Api *api, Request *request, Machine *machine)
{
    command(api, request, machine, N_("cannot reset"), "reset");
}

void api_vm_pause(Api *api, Request *request, Machine *machine)
{
    command(api, request, machine, N_("cannot pause"), "pause");
}

void api_vm_resume(Api *api, Request *request, Machine *machine)
{
    command(api, request, machine, N_("cannot resume"), "resume");
}

void api_vm_keys(Api *api, Request *request, Machine *machine)
{
    GError *error = NULL;
    JsonObject *body = request_json(request, "text", &error);
    const char *text = body ? api_text(body, "text", &error) : NULL;
    g_autofree char *escaped = text ? g_strescape(text, NULL) : NULL;
    g_autofree char *line = g_strconcat("type ", escaped, NULL);

    if (error)
        request_fail(request, error);
    else if (!text || strlen(text) > 1000)
        request_fail_code(request, SOUP_STATUS_BAD_REQUEST, "invalid",
                          _("cannot type that; send a text of at most 1000 bytes"));
    else
        command(api, request, machine, N_("cannot type at"), line);
}

static void on_screen_answer(void *obj, const char *answer, const GError *error)
{
    Request *request = pending_free(obj);
    JsonArray *array;
    g_auto(GStrv) lines = NULL;
    JsonNode *node;

    if (error) {
        request_fail(request, g_error_copy(error));
        return;
    }
    array = json_array_new();
    lines = g_strsplit(answer, "\n", -1);
    for (char **line = lines; *line && (line[1] || **line); line++)
        json_array_add_string_element(array, *line);
    node = json_node_new(JSON_NODE_ARRAY);
    json_node_take_array(node, array);
    request_answer(request, SOUP_STATUS_OK, json_object_of("lines", node));
}

void api_vm_screen(Api *api, Request *request, Machine *machine)
{
    Pending *pending = pending_new(api, request, machine);
    GError *error = NULL;

    if (!machine_command(machine, N_("cannot show the screen of"), "text", on_screen_answer,
                         pending, &error))
        request_fail(pending_free(pending), error);
}

/* ---- waiting --------------------------------------------------------------------------------- */

static void forget(Pending *pending)
{
    Machine *machine = registry_find(pending->api->registry, pending->uuid, NULL);

    if (machine)
        machine_forget_waiter(machine, pending);
}

static gboolean on_wait_timeout(gpointer data)
{
    Pending *pending = data;

    forget(pending);
    pending->timeout = 0;
    request_speak(pending->request);
    request_fail(pending_free(pending),
                 g_error_new(G_IO_ERROR, G_IO_ERROR_TIMED_OUT,
                             _("the machine did not come into that state in time")));
    return G_SOURCE_REMOVE;
}

/* Nobody reads the answer any more, but it has to be given. */
static void on_wait_gone(void *obj)
{
    Pending *pending = obj;

    g_source_remove(pending->timeout);
    pending->timeout = g_idle_add(on_wait_timeout, pending);
}

void api_vm_wait(Api *api, Request *request, Machine *machine)
{
    const char *word = request_query(request, "for"), *text = request_query(request, "timeout");
    MachineState state = machine_state_find(word ? word : "off");
    guint64 seconds = WAIT_SECONDS;
    Pending *pending;

    if (state == MACHINE_STATES ||
        (text && !g_ascii_string_to_unsigned(text, 10, 0, WAIT_SECONDS_MAX, &seconds, NULL))) {
        request_fail_code(
            request, SOUP_STATUS_BAD_REQUEST, "invalid",
            _("cannot wait for that; use a state such as off or running, and a timeout "
              "in seconds"));
        return;
    }
    pending = pending_new(api, request, machine);
    pending->timeout = g_timeout_add_seconds((guint)seconds, on_wait_timeout, pending);
    request_on_gone(request, on_wait_gone, pending);
    machine_wait(machine, state, on_machine_done, pending);
}

/* ---- the console ----------------------------------------------------------------------------- */

void api_vm_console(Api *api, Request *request, Machine *machine)
{
    GError *error = NULL;
    GSocketConnection *stream = NULL;

    if (machine_is_on(machine))
        stream = process_console(machine->process, &error);
    else
        machine_wrong_state(machine, N_("cannot open the console of"), _("start it first"), &error);
    if (stream)
        request_upgrade(request, console_begin, console_new(stream));
    else
        request_fail(request, error);
}
