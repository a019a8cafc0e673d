/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The `vm` commands: each is a call or two of the API, printed. */
#include <errno.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "cli/call.h"
#include "client/ospite_client.h"

static JsonNode *call_vm(const char *method, const char *name, const char *rest, JsonObject *body,
                         GError **error)
{
    g_autofree char *path = ospite_client_vm_path(name, rest);

    return call_api(method, path, body, error);
}

static JsonObject *vm_of(JsonNode *answer)
{
    return json_object_get_object_member(json_node_get_object(answer), "vm");
}

/* ---- settings -------------------------------------------------------------------------------- */

static bool add_settings(JsonObject *body, char **words, GError **error)
{
    JsonObject *settings = json_object_new();

    json_object_set_object_member(body, "settings", settings);
    for (; *words; words++) {
        char *equals = strchr(*words, '=');
        if (!equals)
            return command_usage(error, "'%s' is no SETTING=VALUE", *words);
        g_autofree char *name = g_strndup(*words, (gsize)(equals - *words));
        if (equals[1])
            json_object_set_string_member(settings, name, equals + 1);
        else
            json_object_set_null_member(settings, name);
    }
    return true;
}

static void add_folder(const CommandLine *line, JsonObject *body)
{
    const char *folder = command_value(line, "folder");
    g_autofree char *full = folder ? g_canonicalize_filename(folder, NULL) : NULL;

    if (full)
        json_object_set_string_member(body, "folder", full);
}

bool vm_create(CommandLine *line, GError **error)
{
    JsonObject *body = json_object_new();

    json_object_set_string_member(body, "name", line->words[0]);
    add_folder(line, body);
    if (!add_settings(body, line->words + 1, error)) {
        json_object_unref(body);
        return false;
    }
    JsonNode *answer = call_api("POST", "/vms", body, error);
    g_autofree char *place = answer ? g_strdup(call_text(vm_of(answer), "folder")) : NULL;
    return call_finish(line, answer, "Made '%s' in %s\n", line->words[0], place);
}

static void print_changes(JsonNode *answer)
{
    JsonArray *changes = json_object_get_array_member(json_node_get_object(answer), "changes");

    for (guint i = 0; i < json_array_get_length(changes); i++) {
        JsonObject *change = json_array_get_object_element(changes, i);
        bool later = !strcmp(call_text(change, "when"), "restart");
        const char *reason = call_text(change, "reason");
        printf("%s %s%s%s\n", call_text(change, "name"),
               later ? "changes at the next start" : "changed", *reason ? ": " : "", reason);
    }
}

static bool set(const CommandLine *line, const char *name, char **settings, GError **error)
{
    JsonObject *body = json_object_new();
    g_autoptr(JsonNode) answer = NULL;

    if (!add_settings(body, settings, error)) {
        json_object_unref(body);
        return false;
    }
    answer = call_vm("PATCH", name, "", body, error);
    if (!answer)
        return false;
    if (line->json)
        command_print_json(answer);
    else
        print_changes(answer);
    return true;
}

bool vm_set(CommandLine *line, GError **error)
{
    return set(line, line->words[0], line->words + 1, error);
}

bool vm_autostart(CommandLine *line, GError **error)
{
    bool on = line->count == 2 && !strcmp(line->words[1], "on");
    char *settings[] = {on ? "autostart.enabled=true" : "autostart.enabled=false", NULL};

    if (line->count == 0)
        return vm_autostart_all(line, error);
    if (line->count != 2 || command_value(line, "stop"))
        return command_usage(error, "it takes: NAME on|off, or no name");
    if (!on && strcmp(line->words[1], "off"))
        return command_usage(error, "'%s' is neither on nor off", line->words[1]);
    return set(line, line->words[0], settings, error);
}

/* ---- looking --------------------------------------------------------------------------------- */

bool vm_list(CommandLine *line, GError **error)
{
    g_autoptr(JsonNode) answer = call_api("GET", "/vms", NULL, error);
    JsonArray *all;

    if (!answer)
        return false;
    all = json_object_get_array_member(json_node_get_object(answer), "vms");
    for (guint i = json_array_get_length(all); command_value(line, "running") && i-- > 0;) {
        const char *state = call_text(json_array_get_object_element(all, i), "state");
        if (strcmp(state, "running") && strcmp(state, "paused") && strcmp(state, "starting"))
            json_array_remove_element(all, i);
    }
    if (line->json) {
        command_print_json(answer);
        return true;
    }
    for (guint i = 0; i < json_array_get_length(all); i++) {
        JsonObject *vm = json_array_get_object_element(all, i);
        const char *problem = call_text(vm, "problem");
        printf("%-24s %-12s %6" G_GINT64_FORMAT " MiB %3" G_GINT64_FORMAT " CPUs  %s%s%s\n",
               call_text(vm, "name"), call_text(vm, "state"),
               json_object_get_int_member(vm, "memory") / (gint64)MIB(1),
               json_object_get_int_member(vm, "cpus"), call_text(vm, "uuid"), *problem ? "  " : "",
               problem);
    }
    return true;
}

static char *value_text(JsonNode *node)
{
    return JSON_NODE_HOLDS_VALUE(node) && json_node_get_value_type(node) == G_TYPE_STRING
               ? json_node_dup_string(node)
               : json_to_string(node, FALSE);
}

static void print_settings(JsonObject *object, const char *prefix)
{
    JsonObjectIter iter;
    const char *name;
    JsonNode *value;

    json_object_iter_init_ordered(&iter, object);
    while (json_object_iter_next_ordered(&iter, &name, &value)) {
        g_autofree char *path = g_strconcat(prefix, *prefix ? "." : "", name, NULL);
        if (JSON_NODE_HOLDS_OBJECT(value)) {
            print_settings(json_node_get_object(value), path);
        } else {
            g_autofree char *text = value_text(value);
            if (*text)
                printf("%s=%s\n", path, text);
        }
    }
}

static void print_end(JsonObject *vm)
{
    JsonNode *node = json_object_get_member(vm, "last_end");
    JsonObject *end = JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;

    if (end)
        printf("ended:   %s: %s (%s)\n", call_text(end, "reason"), call_text(end, "message"),
               call_text(end, "at"));
}

bool vm_show(CommandLine *line, GError **error)
{
    static const char *const names[] = {"name", "uuid", "state", "file", "log", "problem"};
    g_autoptr(JsonNode) answer = call_vm("GET", line->words[0], "", NULL, error);
    JsonObject *vm;

    if (!answer)
        return false;
    if (line->json) {
        command_print_json(answer);
        return true;
    }
    vm = vm_of(answer);
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        if (JSON_NODE_HOLDS_VALUE(json_object_get_member(vm, names[i])))
            printf("%s:%*s%s\n", names[i], 8 - (int)strlen(names[i]), "", call_text(vm, names[i]));
    }
    print_end(vm);
    if (json_object_get_boolean_member(vm, "restart_needed"))
        printf("Some settings change at the next start.\n");
    print_settings(json_object_get_object_member(vm, "config"), "");
    return true;
}

/* An answer that is a list of lines. */
static bool print_lines(const CommandLine *line, JsonNode *answer)
{
    JsonArray *lines;

    if (!answer || line->json)
        return call_finish(line, answer, "%s", "");
    lines = json_object_get_array_member(json_node_get_object(answer), "lines");
    for (guint i = 0; i < json_array_get_length(lines); i++)
        puts(json_array_get_string_element(lines, i));
    json_node_unref(answer);
    return true;
}

bool vm_log(CommandLine *line, GError **error)
{
    const char *count = command_value(line, "lines");
    g_autofree char *rest = g_strconcat("/log?lines=", count ? count : "100", NULL);

    return print_lines(line, call_vm("GET", line->words[0], rest, NULL, error));
}

bool vm_screen(CommandLine *line, GError **error)
{
    return print_lines(line, call_vm("GET", line->words[0], "/screen", NULL, error));
}

/* ---- doing ----------------------------------------------------------------------------------- */

/* The verb is the API's, too. */
bool vm_action(CommandLine *line, GError **error)
{
    g_autofree char *rest = g_strconcat("/", line->command->verb, NULL);
    JsonNode *answer = call_vm("POST", line->words[0], rest, NULL, error);
    g_autofree char *state = answer ? g_strdup(call_text(vm_of(answer), "state")) : NULL;

    return call_finish(line, answer, "'%s' is %s\n", line->words[0], state);
}

static JsonNode *wait_for(const CommandLine *line, const char *state, GError **error)
{
    const char *timeout = command_value(line, "timeout");
    g_autofree char *escaped = g_uri_escape_string(timeout ? timeout : "60", NULL, FALSE);
    g_autofree char *wanted = g_uri_escape_string(state, NULL, FALSE);
    g_autofree char *rest = g_strdup_printf("/wait?for=%s&timeout=%s", wanted, escaped);

    return call_vm("GET", line->words[0], rest, NULL, error);
}

bool vm_wait(CommandLine *line, GError **error)
{
    const char *state = command_value(line, "for");
    JsonNode *answer = wait_for(line, state ? state : "off", error);
    g_autofree char *now = answer ? g_strdup(call_text(vm_of(answer), "state")) : NULL;

    return call_finish(line, answer, "'%s' is %s\n", line->words[0], now);
}

bool vm_stop(CommandLine *line, GError **error)
{
    JsonNode *answer = call_vm("POST", line->words[0], "/stop", NULL, error);

    if (!answer || command_value(line, "no-wait"))
        return call_finish(line, answer, "Pressed the power button of '%s'\n", line->words[0]);
    json_node_unref(answer);
    return call_finish(line, wait_for(line, "off", error), "'%s' is off\n", line->words[0]);
}

static void print_kept(JsonNode *answer)
{
    JsonArray *kept = json_object_get_array_member(json_node_get_object(answer), "kept");

    for (guint i = 0; i < json_array_get_length(kept); i++)
        printf("Kept %s\n", json_array_get_string_element(kept, i));
}

bool vm_delete(CommandLine *line, GError **error)
{
    const char *mode = command_value(line, "unregister") ? "?mode=unregister"
                       : command_value(line, "disks")    ? "?mode=all"
                                                         : "";
    g_autoptr(JsonNode) answer = NULL;

    if (command_value(line, "unregister") && command_value(line, "disks"))
        return command_usage(error, "--disks and --unregister contradict each other");
    answer = call_vm("DELETE", line->words[0], mode, NULL, error);
    if (!answer)
        return false;
    if (line->json)
        command_print_json(answer);
    else
        print_kept(answer);
    return true;
}

bool vm_register(CommandLine *line, GError **error)
{
    JsonObject *body = json_object_new();
    g_autofree char *full = g_canonicalize_filename(line->words[0], NULL);

    json_object_set_string_member(body, "register", full);
    JsonNode *answer = call_api("POST", "/vms", body, error);
    g_autofree char *name = answer ? g_strdup(call_text(vm_of(answer), "name")) : NULL;
    return call_finish(line, answer, "Registered '%s'\n", name);
}

/* What had no counterpart goes to standard error: it is a warning. */
static void print_report(JsonNode *answer)
{
    JsonArray *report = json_object_get_array_member(json_node_get_object(answer), "report");

    for (guint i = 0; i < json_array_get_length(report); i++)
        g_printerr("%s\n", json_array_get_string_element(report, i));
}

bool vm_import(CommandLine *line, GError **error)
{
    JsonObject *body = json_object_new();
    g_autofree char *full = g_canonicalize_filename(line->words[0], NULL);
    g_autofree char *name = NULL;
    JsonNode *answer;

    json_object_set_string_member(body, "import", full);
    if (command_value(line, "name"))
        json_object_set_string_member(body, "name", command_value(line, "name"));
    add_folder(line, body);
    answer = call_api("POST", "/vms", body, error);
    if (answer && !line->json)
        print_report(answer);
    name = answer ? g_strdup(call_text(vm_of(answer), "name")) : NULL;
    return call_finish(line, answer, "Imported '%s'\n", name);
}

bool vm_move(CommandLine *line, GError **error)
{
    JsonObject *body = json_object_new();
    g_autofree char *full = g_canonicalize_filename(line->words[1], NULL);

    json_object_set_string_member(body, "folder", full);
    JsonNode *answer = call_vm("POST", line->words[0], "/move", body, error);
    g_autofree char *place = answer ? g_strdup(call_text(vm_of(answer), "folder")) : NULL;
    return call_finish(line, answer, "'%s' is in %s now\n", line->words[0], place);
}

bool vm_type(CommandLine *line, GError **error)
{
    JsonObject *body = json_object_new();
    g_autofree char *text = g_strcompress(line->words[1]);

    json_object_set_string_member(body, "text", text);
    return call_finish(line, call_vm("POST", line->words[0], "/keys", body, error), "%s", "");
}

/* ---- the file in an editor --------------------------------------------------------------------
 */

static bool run_editor(const char *path, GError **error)
{
    const char *editor = g_getenv("VISUAL") ? g_getenv("VISUAL") : g_getenv("EDITOR");
    g_autofree char *quoted = g_shell_quote(path);
    g_autofree char *command = g_strconcat(editor ? editor : "editor", " ", quoted, NULL);
    const char *const argv[] = {"/bin/sh", "-c", command, NULL};
    int status;

    return g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_CHILD_INHERITS_STDIN, NULL, NULL, NULL,
                        NULL, &status, error) &&
           g_spawn_check_wait_status(status, error);
}

/* What was edited stays in its temporary file when the daemon refuses it. */
bool vm_edit(CommandLine *line, GError **error)
{
    g_autoptr(OspiteClient) client = ospite_client_new(error);
    g_autofree char *path = ospite_client_vm_path(line->words[0], "/config");
    g_autofree char *old =
        client ? ospite_client_call_text(client, "GET", path, NULL, error) : NULL;
    g_autofree char *file = NULL, *changed = NULL, *answer = NULL;
    int fd = old ? g_file_open_tmp("ospite-XXXXXX.xml", &file, error) : -1;

    if (fd < 0)
        return false;
    close(fd);
    if (!g_file_set_contents(file, old, -1, error) || !run_editor(file, error) ||
        !g_file_get_contents(file, &changed, NULL, error))
        return false;
    if (strcmp(old, changed)) {
        answer = ospite_client_call_text(client, "PUT", path, changed, error);
        if (!answer) {
            g_prefix_error(error, "what you wrote is in %s: ", file);
            return false;
        }
    }
    g_unlink(file);
    if (line->json && answer)
        puts(answer);
    return true;
}
