/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Machines that are made, changed, shown and deleted; see api.h. */
#include <string.h>

#include "base/i18n.h"
#include "daemon/api.h"
#include "daemon/live.h"
#include "daemon/machine_json.h"
#include "daemon/request.h"
#include "vm/import.h"

#define LOG_LINES     100
#define LOG_LINES_MAX 10000

static JsonNode *node_of_array(JsonArray *array)
{
    JsonNode *node = json_node_new(JSON_NODE_ARRAY);

    json_node_take_array(node, array);
    return node;
}

static JsonArray *array_of(char **texts, guint count)
{
    JsonArray *array = json_array_new();

    for (guint i = 0; i < count; i++)
        json_array_add_string_element(array, texts[i]);
    return array;
}

void api_vm_list(Api *api, Request *request, Machine *machine)
{
    GPtrArray *all = registry_list(api->registry);
    JsonArray *array = json_array_new();

    for (guint i = 0; i < all->len; i++)
        json_array_add_element(array, machine_summary_json(all->pdata[i]));
    request_answer(request, SOUP_STATUS_OK, json_object_of("vms", node_of_array(array)));
}

typedef struct Showing {
    Api *api;
    Request *request;
    char *uuid;
} Showing;

/* `stats` NULL: nothing can be said. */
static void answer_with_stats(Request *request, const Machine *machine, JsonNode *stats)
{
    JsonNode *vm = machine_json(machine);

    json_object_set_member(json_node_get_object(vm), "stats",
                           stats ? stats : json_node_new(JSON_NODE_NULL));
    request_answer(request, SOUP_STATUS_OK, json_object_of("vm", vm));
}

/* A process that ends just now, or does not answer, leaves the rest to be shown. */
static void on_stats(void *obj, const char *answer, const GError *error)
{
    Showing *showing = obj;
    GError *gone = NULL;
    Machine *machine = registry_find(showing->api->registry, showing->uuid, &gone);

    if (machine)
        answer_with_stats(showing->request, machine,
                          answer ? request_parse_json(answer, strlen(answer), NULL) : NULL);
    else
        request_fail(showing->request, gone);
    g_free(showing->uuid);
    g_free(showing);
}

void api_vm_get(Api *api, Request *request, Machine *machine)
{
    const char *word = request_query(request, "stats");
    bool wanted = !g_strcmp0(word, "true");
    Showing *showing;

    if (word && !wanted && strcmp(word, "false")) {
        request_fail_code(request, SOUP_STATUS_BAD_REQUEST, "invalid",
                          _("cannot tell whether to show counters; use true or false"));
    } else if (!wanted) {
        api_answer_machine(request, machine);
    } else if (machine->state != MACHINE_RUNNING && machine->state != MACHINE_PAUSED) {
        answer_with_stats(request, machine, NULL);
    } else {
        showing = g_new0(Showing, 1);
        *showing = (Showing){api, request, g_strdup(machine->uuid)};
        process_ask(machine->process, "stats json", on_stats, showing);
    }
}

/* ---- settings -------------------------------------------------------------------------------- */

/* A value of JSON as a user would write it; NULL for null. */
static bool value_text(JsonNode *node, char **ret_text)
{
    *ret_text = NULL;
    if (JSON_NODE_HOLDS_NULL(node))
        return true;
    if (!JSON_NODE_HOLDS_VALUE(node))
        return false;
    switch (json_node_get_value_type(node)) {
    case G_TYPE_STRING:
        *ret_text = g_strdup(json_node_get_string(node));
        return true;
    case G_TYPE_INT64:
        *ret_text = g_strdup_printf("%" G_GINT64_FORMAT, json_node_get_int(node));
        return true;
    case G_TYPE_BOOLEAN:
        *ret_text = g_strdup(json_node_get_boolean(node) ? "true" : "false");
        return true;
    default:
        return false;
    }
}

static bool set_one(VmConfig *config, const char *name, JsonNode *node, GError **error)
{
    g_autofree char *text = NULL;
    g_autoptr(GError) why = NULL;

    if (!value_text(node, &text)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    _("cannot set '%s': the value is no text, number, true, false or null"), name);
        return false;
    }
    if (!text && vm_schema_is_entry(&vm_config_schema, name)
            ? vm_tree_remove(config, name, &why)
            : vm_tree_set(config, name, text, &why))
        return true;
    /* A setting that does not exist is a mistake in the request, not a missing thing. */
    g_set_error_literal(error, G_IO_ERROR,
                        g_error_matches(why, G_IO_ERROR, G_IO_ERROR_NOT_FOUND)
                            ? G_IO_ERROR_INVALID_ARGUMENT
                            : why->code,
                        why->message);
    return false;
}

static bool set_all(VmConfig *config, JsonObject *body, GError **error)
{
    JsonNode *node = json_object_get_member(body, "settings");
    JsonObjectIter iter;
    const char *name;
    JsonNode *value;

    if (!node)
        return true;
    if (!JSON_NODE_HOLDS_OBJECT(node)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    _("cannot take 'settings': it is no object"));
        return false;
    }
    json_object_iter_init_ordered(&iter, json_node_get_object(node));
    while (json_object_iter_next_ordered(&iter, &name, &value)) {
        if (!set_one(config, name, value, error))
            return false;
    }
    return true;
}

static bool has_settings(JsonObject *body, GError **error)
{
    if (json_object_has_member(body, "settings"))
        return true;
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                _("cannot change a machine without settings; send {\"settings\": {NAME: VALUE}}"));
    return false;
}

/* Whether a setting is not yet what the machine runs with. */
static bool is_later(const Machine *machine, const char *name)
{
    const VmField *field = vm_schema_find(&vm_config_schema, name, NULL, NULL);
    g_autofree char *from = NULL, *to = NULL;

    if (!machine_is_on(machine) || !field || field->change < VM_CHANGE_LIVE)
        return false;
    if (!machine->started)
        return true;
    from = vm_tree_get(machine->started, name, NULL);
    to = vm_tree_get(machine->config, name, NULL);
    return g_strcmp0(from, to);
}

static JsonNode *changes_json(const Machine *machine, const VmConfig *old, GHashTable *refused)
{
    g_autoptr(GPtrArray) names = vm_tree_diff(old, machine->config);
    JsonArray *array = json_array_new();

    for (guint i = 0; i < names->len; i++) {
        const char *name = names->pdata[i], *why = g_hash_table_lookup(refused, name);
        bool later = is_later(machine, name);
        JsonObject *change = json_object_new();
        json_object_set_string_member(change, "name", name);
        json_object_set_string_member(change, "when", later ? "restart" : "now");
        if (later && why)
            json_object_set_string_member(change, "reason", why);
        json_array_add_object_element(array, change);
    }
    return node_of_array(array);
}

static bool is_accessible(const Machine *machine, GError **error)
{
    return machine->config ||
           machine_wrong_state(machine, N_("cannot use"), machine->problem, error);
}

typedef struct Setting {
    Request *request;
    VmConfig *old; /* NULL: the answer tells no changes */
} Setting;

static void on_live(void *obj, Machine *machine, GHashTable *refused)
{
    g_autofree Setting *setting = obj;
    g_autoptr(VmConfig) old = setting->old;
    JsonNode *answer;

    if (!machine || !machine->config) {
        request_fail_code(setting->request, SOUP_STATUS_NOT_FOUND, "not_found",
                          _("the machine was changed, but is gone by now"));
        return;
    }
    answer = json_object_of("vm", machine_json(machine));
    if (old)
        json_object_set_member(json_node_get_object(answer), "changes",
                               changes_json(machine, old, refused));
    request_answer(setting->request, SOUP_STATUS_OK, answer);
}

/* Answers when the machine has taken what it can. */
static void answer_changed(Api *api, Request *request, Machine *machine, VmConfig *old)
{
    Setting *setting = g_new0(Setting, 1);

    *setting = (Setting){request, old};
    live_apply(api->registry, machine, on_live, setting);
}

/* A new name takes the folder with it, and machines that use images in there. */
static bool can_rename(Api *api, const Machine *machine, const VmConfig *changed, GError **error)
{
    g_autofree char *name = vm_tree_string(changed, "general.name");

    return !strcmp(name, machine->name) || api_media_begin(api, error);
}

void api_vm_set(Api *api, Request *request, Machine *machine)
{
    GError *error = NULL;
    JsonObject *body = request_json(request, "settings", &error);
    g_autoptr(VmConfig) old = NULL;
    g_autoptr(VmConfig) changed = NULL;

    if (body && has_settings(body, &error) && is_accessible(machine, &error)) {
        old = vm_tree_copy(machine->config);
        changed = vm_tree_copy(machine->config);
    }
    if (changed && set_all(changed, body, &error))
        api_adopt_media(api, old, changed, machine->folder);
    if (error || !changed || !can_rename(api, machine, changed, &error) ||
        !registry_save(api->registry, machine, changed, &error)) {
        request_fail(request, error);
        return;
    }
    answer_changed(api, request, machine, g_steal_pointer(&old));
}

void api_vm_get_config(Api *api, Request *request, Machine *machine)
{
    GError *error = NULL;
    g_autofree char *text = NULL;

    if (is_accessible(machine, &error)) {
        text = vm_tree_text(machine->config, NULL);
        request_answer_text(request, "application/xml", text);
    } else {
        request_fail(request, error);
    }
}

void api_vm_put_config(Api *api, Request *request, Machine *machine)
{
    GError *error = NULL;
    g_autoptr(GBytes) body = request_body(request);
    gsize size;
    const char *text = g_bytes_get_data(body, &size);
    g_autoptr(VmConfig) config = vm_config_parse(text ? text : "", size, "the new file", &error);

    if (config)
        api_adopt_media(api, machine->config, config, machine->folder);
    if (!config || !can_rename(api, machine, config, &error) ||
        !registry_save(api->registry, machine, config, &error)) {
        request_fail(request, error);
        return;
    }
    answer_changed(api, request, machine, NULL);
}

/* ---- making and deleting --------------------------------------------------------------------- */

/* What a new machine is made of; what an imported file had more goes to `report` (of char *). */
static VmConfig *new_config(Api *api, const char *name, const char *import, GPtrArray *report,
                            GError **error)
{
    g_autoptr(VmImport) read = import ? vm_import_load(import, error) : NULL;
    g_autofree char *uuid = NULL, *other = NULL;

    if (!import)
        return vm_config_new(name, error);
    if (!read || (name && !vm_tree_set(read->config, "general.name", name, error)))
        return NULL;
    for (guint i = 0; i < read->report->len; i++)
        g_ptr_array_add(report, g_strdup(read->report->pdata[i]));
    uuid = vm_tree_string(read->config, "general.uuid");
    if (registry_find(api->registry, uuid, NULL)) {
        /* It was imported before, and both stay. */
        other = g_uuid_string_random();
        vm_tree_set(read->config, "general.uuid", other, NULL);
        g_ptr_array_add(report, g_strdup_printf(_("its UUID %s is another machine's; it has a new "
                                                  "one"),
                                                uuid));
    }
    return g_steal_pointer(&read->config);
}

typedef struct NewMachine {
    const char *name, *folder, *file, *import; /* NULL: not said */
} NewMachine;

static bool read_new(JsonObject *body, NewMachine *ret, GError **error)
{
    g_autoptr(GError) bad = NULL;
    const struct {
        const char *member, **text;
    } texts[] = {{"name", &ret->name},
                 {"folder", &ret->folder},
                 {"register", &ret->file},
                 {"import", &ret->import}};

    for (unsigned i = 0; i < G_N_ELEMENTS(texts) && !bad; i++)
        *texts[i].text = api_text(body, texts[i].member, &bad);
    if (bad) {
        g_propagate_error(error, g_steal_pointer(&bad));
        return false;
    }
    if (!api_needs_absolute("folder", ret->folder, error) ||
        !api_needs_absolute("file", ret->file, error) ||
        !api_needs_absolute("file", ret->import, error))
        return false;
    if (!ret->file && !ret->import && !ret->name)
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    _("cannot make a machine without a name"));
    else if (ret->file && ret->import)
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    _("cannot register and import at once; choose one"));
    else
        return true;
    return false;
}

static Machine *create(Api *api, JsonObject *body, GPtrArray *report, GError **error)
{
    g_autoptr(VmConfig) config = NULL;
    NewMachine new;

    if (!read_new(body, &new, error))
        return NULL;
    if (new.file)
        return registry_register(api->registry, new.file, error);
    config = new_config(api, new.name, new.import, report, error);
    if (!config || !set_all(config, body, error))
        return NULL;
    api_adopt_media(api, NULL, config, new.folder ? new.folder : "/");
    return registry_create(api->registry, g_steal_pointer(&config), new.folder, error);
}

void api_vm_create(Api *api, Request *request, Machine *unused)
{
    g_autoptr(GPtrArray) report = g_ptr_array_new_with_free_func(g_free);
    GError *error = NULL;
    JsonObject *body = request_json(request, "name folder settings register import", &error);
    Machine *machine = body ? create(api, body, report, &error) : NULL;
    JsonNode *answer;

    if (!machine) {
        request_fail(request, error);
        return;
    }
    answer = json_object_of("vm", machine_json(machine));
    json_object_set_array_member(json_node_get_object(answer), "report",
                                 array_of((char **)report->pdata, report->len));
    request_answer(request, SOUP_STATUS_CREATED, answer);
}

static const char *const delete_modes[] = {
    [DELETE_UNREGISTER] = "unregister",
    [DELETE_KEEP_DISKS] = "keep-disks",
    [DELETE_ALL] = "all",
};

void api_vm_delete(Api *api, Request *request, Machine *machine)
{
    g_autoptr(GPtrArray) kept = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) own = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GHashTable) spare = NULL;
    const char *word = request_query(request, "mode");
    DeleteMode mode = word ? DELETE_UNREGISTER : DELETE_KEEP_DISKS;
    GError *error = NULL;

    while (word && mode <= DELETE_ALL && strcmp(delete_modes[mode], word))
        mode++;
    if (mode > DELETE_ALL) {
        request_fail_code(request, SOUP_STATUS_BAD_REQUEST, "invalid",
                          _("cannot delete in that mode; use unregister, keep-disks or all"));
    } else if ((mode == DELETE_ALL && !(spare = api_media_of(api, machine, own, &error))) ||
               !registry_delete(api->registry, machine, mode, spare, kept, &error)) {
        request_fail(request, error);
    } else {
        api_media_forget(api, own);
        request_answer(
            request, SOUP_STATUS_OK,
            json_object_of("kept", node_of_array(array_of((char **)kept->pdata, kept->len))));
    }
}

void api_vm_log(Api *api, Request *request, Machine *machine)
{
    const char *word = request_query(request, "lines");
    g_autofree char *log = machine_log(machine);
    g_auto(GStrv) lines = NULL;
    guint64 count = LOG_LINES;

    if (word && !g_ascii_string_to_unsigned(word, 10, 1, LOG_LINES_MAX, &count, NULL)) {
        request_fail_code(request, SOUP_STATUS_BAD_REQUEST, "invalid",
                          _("cannot show that many lines; use 1 to 10000"));
        return;
    }
    lines = process_log_tail(log, (unsigned)count);
    request_answer(request, SOUP_STATUS_OK,
                   json_object_of("lines", node_of_array(array_of(lines, g_strv_length(lines)))));
}
