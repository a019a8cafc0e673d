/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See machine_json.h. */
#include "daemon/machine_json.h"

static JsonNode *node_of(JsonObject *object)
{
    JsonNode *node = json_node_new(JSON_NODE_OBJECT);

    json_node_take_object(node, object);
    return node;
}

JsonNode *json_object_of(const char *name, JsonNode *value)
{
    JsonObject *object = json_object_new();

    json_object_set_member(object, name, value);
    return node_of(object);
}

char *json_time(gint64 seconds)
{
    g_autoptr(GDateTime) time = g_date_time_new_from_unix_utc(seconds);

    return g_date_time_format(time, "%Y-%m-%dT%H:%M:%SZ");
}

static void set_time(JsonObject *object, const char *name, gint64 seconds)
{
    g_autofree char *text = json_time(seconds);

    json_object_set_string_member(object, name, text);
}

/* NULL becomes null. */
static void set_text(JsonObject *object, const char *name, const char *text)
{
    if (text)
        json_object_set_string_member(object, name, text);
    else
        json_object_set_null_member(object, name);
}

JsonNode *machine_end_json(const ProcessEnd *end)
{
    JsonObject *object = json_object_new();
    JsonArray *log = json_array_new();
    g_autofree char *text = process_end_text(end);

    for (char **line = end->log; *line; line++)
        json_array_add_string_element(log, *line);
    json_object_set_string_member(object, "reason", end->reason);
    json_object_set_string_member(object, "message", text);
    set_time(object, "at", end->at);
    json_object_set_array_member(object, "log", log);
    return node_of(object);
}

static JsonObject *identity(const Machine *machine)
{
    JsonObject *object = json_object_new();

    json_object_set_string_member(object, "name", machine->name);
    json_object_set_string_member(object, "uuid", machine->uuid);
    json_object_set_string_member(object, "state", machine_state_name(machine->state));
    json_object_set_string_member(object, "folder", machine->folder);
    set_text(object, "problem", machine->problem);
    return object;
}

JsonNode *machine_summary_json(const Machine *machine)
{
    JsonObject *object = identity(machine);
    /* One that runs has what it was started with, whatever was set since. */
    const VmConfig *config =
        machine_is_on(machine) && machine->started ? machine->started : machine->config;

    json_object_set_int_member(object, "memory",
                               config ? (gint64)vm_tree_number(config, "system.memory") : 0);
    json_object_set_int_member(object, "cpus",
                               config ? (gint64)vm_tree_number(config, "system.cpus") : 0);
    json_object_set_boolean_member(
        object, "autostart", machine->config && vm_tree_bool(machine->config, "autostart.enabled"));
    return node_of(object);
}

static bool restart_needed(const Machine *machine)
{
    return machine->started && machine->config &&
           vm_config_change(machine->started, machine->config) >= VM_CHANGE_LIVE;
}

/* What is done to its files; null: nothing. */
static JsonNode *job_json(const Machine *machine)
{
    JsonObject *object = machine->copy || machine->merging ? json_object_new() : NULL;
    const char *kind = "merge";
    uint64_t done, total;

    if (!object)
        return json_node_new(JSON_NODE_NULL);
    if (machine->copy) {
        kind = folder_copy_is_clone(machine->copy) ? "clone" : "move";
        folder_copy_progress(machine->copy, &done, &total);
    } else {
        vm_snapshot_delete_progress(machine->merging, &done, &total);
    }
    json_object_set_string_member(object, "kind", kind);
    json_object_set_int_member(object, "done", (gint64)done);
    json_object_set_int_member(object, "total", (gint64)total);
    return node_of(object);
}

JsonNode *machine_json(const Machine *machine)
{
    JsonObject *object = identity(machine);
    g_autofree char *log = machine_log(machine);

    json_object_set_string_member(object, "file", machine->file);
    json_object_set_string_member(object, "log", log);
    json_object_set_null_member(object, "pid");
    json_object_set_null_member(object, "started_at");
    if (machine->process) {
        json_object_set_int_member(object, "pid", process_pid(machine->process));
        set_time(object, "started_at", process_started_at(machine->process));
    }
    json_object_set_boolean_member(object, "restart_needed", restart_needed(machine));
    json_object_set_member(object, "job", job_json(machine));
    json_object_set_member(object, "last_end",
                           machine->end ? machine_end_json(machine->end)
                                        : json_node_new(JSON_NODE_NULL));
    json_object_set_member(object, "config",
                           machine->config ? vm_tree_to_json(machine->config, true)
                                           : node_of(json_object_new()));
    return node_of(object);
}
