/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The `vm` commands: each is a call or two of libospite, printed. */
#include <errno.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/address.h"
#include "base/bits.h"
#include "base/i18n.h"
#include "cli/call.h"
#include "vm/config.h"
#include "vm/text.h"

/* A file of this folder that is named as one of the machine's, which has none of that name. */
static void note_file(const char *assignment, const char *folder)
{
    const char *equals = strchr(assignment, '=');
    g_autofree char *name = equals ? g_strndup(assignment, equals - assignment) : NULL;
    const VmField *field = name ? vm_schema_find(&vm_config_schema, name, NULL, NULL) : NULL;
    const char *file = field && field->type == VM_PATH ? equals + 1 : "";
    g_autofree char *there = g_build_filename(folder, file, NULL);
    g_autofree char *quoted = text_quote(file), *quoted_folder = text_quote(folder);

    if (*file && *file != '/' && !is_address(file) && g_file_test(file, G_FILE_TEST_EXISTS) &&
        !g_file_test(there, G_FILE_TEST_EXISTS))
        g_printerr(_("ospite: %s is looked for in %s, and is not there; for the one here write "
                     "%s=$PWD/%s\n"),
                   quoted, quoted_folder, name, file);
}

/* Folders of another host are not known here. */
static void note_files(const char *const *settings, JsonNode *answer)
{
    const char *folder = answer ? ospite_text(answer, "vm.folder") : "";

    for (; g_file_test(folder, G_FILE_TEST_IS_DIR) && *settings; settings++)
        note_file(*settings, folder);
}

bool run_vm_create(CommandLine *line, GError **error)
{
    JsonNode *answer = ospite_vm_create(line->client, line->words[0], command_value(line, "folder"),
                                        (const char *const *)line->words + 1, error);

    note_files((const char *const *)line->words + 1, answer);
    return call_finish(line, answer, _("Made '%s' in %s\n"), line->words[0],
                       answer ? ospite_text(answer, "vm.folder") : "");
}

static void print_changes(JsonNode *answer)
{
    JsonArray *changes = ospite_list(answer, "changes");

    for (guint i = 0; i < json_array_get_length(changes); i++) {
        JsonObject *change = json_array_get_object_element(changes, i);
        bool later = !strcmp(call_text(change, "when"), "restart");
        const char *reason = call_text(change, "reason");
        printf("%s %s%s%s\n", call_text(change, "name"),
               later ? _("changes at the next start") : _("changed"), *reason ? ": " : "", reason);
    }
}

static bool set(const CommandLine *line, const char *const *settings, GError **error)
{
    g_autoptr(JsonNode) answer = ospite_vm_set(line->client, line->words[0], settings, error);

    if (!answer)
        return false;
    note_files(settings, answer);
    if (line->json)
        command_print_json(answer);
    else
        print_changes(answer);
    return true;
}

bool run_vm_set(CommandLine *line, GError **error)
{
    return set(line, (const char *const *)line->words + 1, error);
}

bool run_vm_autostart(CommandLine *line, GError **error)
{
    bool on = line->count == 2 && !strcmp(line->words[1], "on");
    const char *const settings[] = {on ? "autostart.enabled=true" : "autostart.enabled=false",
                                    NULL};

    if (line->count == 0)
        return run_vm_autostart_all(line, error);
    if (line->count != 2 || command_value(line, "stop"))
        return command_usage(error, _("it takes: NAME on|off, or no name"));
    if (!on && strcmp(line->words[1], "off"))
        return command_usage(error, _("'%s' is neither on nor off"), line->words[1]);
    return set(line, settings, error);
}

/* ---- looking --------------------------------------------------------------------------------- */

bool run_vm_list(CommandLine *line, GError **error)
{
    g_autoptr(JsonNode) answer = ospite_vm_list(line->client, error);
    JsonArray *all;

    if (!answer)
        return false;
    all = ospite_list(answer, "vms");
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
        unsigned cpus = (unsigned)json_object_get_int_member(vm, "cpus");
        printf(_("%-24s %-12s %6u MiB %3u %s  %s%s%s\n"), call_text(vm, "name"),
               call_state(call_text(vm, "state")),
               (unsigned)(json_object_get_int_member(vm, "memory") / (gint64)MIB(1)), cpus,
               g_dngettext(GETTEXT_PACKAGE, "CPU ", "CPUs", cpus), call_text(vm, "uuid"),
               *problem ? "  " : "", problem);
    }
    return true;
}

static char *list_text(JsonArray *array)
{
    GString *text = g_string_new(NULL);

    for (guint i = 0; i < json_array_get_length(array); i++)
        g_string_append_printf(text, "%s%s", i ? "," : "", json_array_get_string_element(array, i));
    return g_string_free(text, FALSE);
}

/* As `vm set` takes it. */
static char *value_text(const char *path, JsonNode *node)
{
    const VmField *field = vm_schema_find(&vm_config_schema, path, NULL, NULL);

    if (JSON_NODE_HOLDS_ARRAY(node))
        return list_text(json_node_get_array(node));
    if (json_node_get_value_type(node) == G_TYPE_STRING)
        return json_node_dup_string(node);
    if (field && field->type == VM_SIZE)
        return vm_size_text((uint64_t)json_node_get_int(node));
    return json_to_string(node, FALSE);
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
            g_autofree char *text = value_text(path, value);
            if (*text)
                printf("%s=%s\n", path, text);
        }
    }
}

void call_print_settings(JsonNode *answer, const char *member)
{
    JsonObject *object = json_object_get_object_member(json_node_get_object(answer), member);

    print_settings(json_object_get_object_member(object, "config"), "");
}

static void print_end(JsonObject *vm)
{
    JsonNode *node = json_object_get_member(vm, "last_end");
    JsonObject *end = JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;

    if (end)
        printf(_("ended:   %s: %s (%s)\n"), call_text(end, "reason"), call_text(end, "message"),
               call_text(end, "at"));
}

/* What the engine has counted on all CPUs together. */
static void print_stats(JsonObject *vm)
{
    JsonNode *node = json_object_get_member(vm, "stats");
    JsonObject *stats = node && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;

    if (!stats)
        return;
    json_object_remove_member(stats, "cpus");
    print_settings(stats, "stats");
}

bool run_vm_show(CommandLine *line, GError **error)
{
    static const char state[] = "state";
    static const struct {
        const char *member, *format;
    } rows[] = {
        {"name", N_("name:    %s\n")}, {"uuid", N_("uuid:    %s\n")},
        {state, N_("state:   %s\n")},  {"file", N_("file:    %s\n")},
        {"log", N_("log:     %s\n")},  {"problem", N_("problem: %s\n")},
    };
    g_autoptr(JsonNode) answer = ospite_vm_show_stats(line->client, line->words[0], error);
    JsonObject *vm;

    if (!answer)
        return false;
    if (line->json) {
        command_print_json(answer);
        return true;
    }
    vm = json_object_get_object_member(json_node_get_object(answer), "vm");
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        const char *text = call_text(vm, rows[i].member);
        if (*text)
            printf(_(rows[i].format), rows[i].member == state ? call_state(text) : text);
    }
    print_end(vm);
    if (json_object_get_boolean_member(vm, "restart_needed"))
        printf(_("Some settings change at the next start.\n"));
    call_print_settings(answer, "vm");
    print_stats(vm);
    return true;
}

/* An answer that is a list of lines. */
static bool print_lines(const CommandLine *line, JsonNode *answer)
{
    JsonArray *lines;

    if (!answer || line->json)
        return call_finish(line, answer, "%s", "");
    lines = ospite_list(answer, "lines");
    for (guint i = 0; i < json_array_get_length(lines); i++)
        puts(json_array_get_string_element(lines, i));
    json_node_unref(answer);
    return true;
}

bool run_vm_log(CommandLine *line, GError **error)
{
    unsigned lines;

    return call_number(line, "lines", 100, &lines, error) &&
           print_lines(line, ospite_vm_log(line->client, line->words[0], lines, error));
}

bool run_vm_screen(CommandLine *line, GError **error)
{
    return print_lines(line, ospite_vm_screen(line->client, line->words[0], error));
}

/* ---- doing ----------------------------------------------------------------------------------- */

bool run_vm_start(CommandLine *line, GError **error)
{
    return call_finish_state(line, ospite_vm_start(line->client, line->words[0], error));
}

bool run_vm_poweroff(CommandLine *line, GError **error)
{
    return call_finish_state(line, ospite_vm_poweroff(line->client, line->words[0], error));
}

bool run_vm_reset(CommandLine *line, GError **error)
{
    return call_finish_state(line, ospite_vm_reset(line->client, line->words[0], error));
}

bool run_vm_pause(CommandLine *line, GError **error)
{
    return call_finish_state(line, ospite_vm_pause(line->client, line->words[0], error));
}

bool run_vm_resume(CommandLine *line, GError **error)
{
    return call_finish_state(line, ospite_vm_resume(line->client, line->words[0], error));
}

static JsonNode *wait_for(const CommandLine *line, const char *state, GError **error)
{
    unsigned timeout_s;

    return call_number(line, "timeout", 60, &timeout_s, error)
               ? ospite_vm_wait(line->client, line->words[0], state, timeout_s, error)
               : NULL;
}

bool run_vm_wait(CommandLine *line, GError **error)
{
    const char *state = command_value(line, "for");

    return call_finish_state(line, wait_for(line, state ? state : "off", error));
}

static void print_kept(JsonNode *answer)
{
    JsonArray *kept = ospite_list(answer, "kept");

    for (guint i = 0; i < json_array_get_length(kept); i++)
        printf(_("Kept %s\n"), json_array_get_string_element(kept, i));
}

bool run_vm_delete(CommandLine *line, GError **error)
{
    OspiteDelete what = command_value(line, "unregister") ? OSPITE_DELETE_UNREGISTER
                        : command_value(line, "disks")    ? OSPITE_DELETE_ALL
                                                          : OSPITE_DELETE_KEEP_DISKS;
    g_autoptr(JsonNode) answer = NULL;

    if (command_value(line, "unregister") && command_value(line, "disks"))
        return command_usage(error, _("--disks and --unregister contradict each other"));
    answer = ospite_vm_delete(line->client, line->words[0], what, error);
    if (!answer)
        return false;
    if (line->json)
        command_print_json(answer);
    else
        print_kept(answer);
    return true;
}

bool run_vm_register(CommandLine *line, GError **error)
{
    JsonNode *answer = ospite_vm_register(line->client, line->words[0], error);

    return call_finish(line, answer, _("Registered '%s'\n"),
                       answer ? ospite_text(answer, "vm.name") : "");
}

/* What had no counterpart goes to standard error: it is a warning. */
static void print_report(JsonNode *answer)
{
    JsonArray *report = ospite_list(answer, "report");

    for (guint i = 0; i < json_array_get_length(report); i++)
        g_printerr("%s\n", json_array_get_string_element(report, i));
}

bool run_vm_import(CommandLine *line, GError **error)
{
    JsonNode *answer = ospite_vm_import(line->client, line->words[0], command_value(line, "name"),
                                        command_value(line, "folder"), error);

    if (answer && !line->json)
        print_report(answer);
    return call_finish(line, answer, _("Imported '%s'\n"),
                       answer ? ospite_text(answer, "vm.name") : "");
}

bool run_vm_type(CommandLine *line, GError **error)
{
    g_autofree char *text = g_strcompress(line->words[1]);

    return call_finish(line, ospite_vm_type(line->client, line->words[0], text, error), "%s", "");
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
bool run_vm_edit(CommandLine *line, GError **error)
{
    const char *name = line->words[0];
    g_autofree char *old = ospite_vm_get_file(line->client, name, error);
    g_autofree char *file = NULL, *changed = NULL;
    g_autoptr(JsonNode) answer = NULL;
    int fd = old ? g_file_open_tmp("ospite-XXXXXX.xml", &file, error) : -1;

    if (fd < 0)
        return false;
    close(fd);
    if (!g_file_set_contents(file, old, -1, error) || !run_editor(file, error) ||
        !g_file_get_contents(file, &changed, NULL, error))
        return false;
    answer = strcmp(old, changed) ? ospite_vm_put_file(line->client, name, changed, error)
                                  : ospite_vm_show(line->client, name, error);
    if (!answer) {
        g_prefix_error(error, _("what you wrote is in %s: "), file);
        return false;
    }
    g_unlink(file);
    if (line->json)
        command_print_json(answer);
    return true;
}
