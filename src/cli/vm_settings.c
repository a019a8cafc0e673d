/* SPDX-License-Identifier: GPL-3.0-or-later */
/* `vm settings`: the table of settings (vm/config.h), for people and for programs. */
#include <stdio.h>
#include <string.h>

#include "base/i18n.h"
#include "cli/command.h"
#include "vm/config.h"

typedef struct Setting {
    const VmSection *section;
    const VmField *field;
    char *name; /* "storage.*.type" */
} Setting;

static void setting_free(gpointer data)
{
    Setting *setting = data;

    g_free(setting->name);
    g_free(setting);
}

/* Those of a part ("storage", "system.memory"; NULL: all), in the table's order. */
static GPtrArray *settings_of(const char *part)
{
    GPtrArray *all = g_ptr_array_new_with_free_func(setting_free);

    for (const VmSection *s = vm_config_schema.sections; s->pattern; s++) {
        for (const VmField *f = s->fields; f && f->name; f++) {
            g_autofree char *name = g_strconcat(s->pattern, ".", f->name, NULL);
            size_t length = part ? strlen(part) : 0;
            Setting *setting;
            if (part && (!g_str_has_prefix(name, part) || (name[length] && name[length] != '.')))
                continue;
            setting = g_new0(Setting, 1);
            *setting = (Setting){s, f, g_steal_pointer(&name)};
            g_ptr_array_add(all, setting);
        }
    }
    return all;
}

static const char *type_name(VmFieldType type)
{
    static const char *const names[] = {
        [VM_STRING] = "string", [VM_TEXT] = "text", [VM_BOOL] = "bool",
        [VM_INT] = "integer",   [VM_SIZE] = "size", [VM_ENUM] = "enum",
        [VM_LIST] = "list",     [VM_UUID] = "uuid", [VM_PATH] = "path",
    };
    return names[type];
}

static void set_text(JsonObject *object, const char *name, const char *text)
{
    if (text)
        json_object_set_string_member(object, name, text);
    else
        json_object_set_null_member(object, name);
}

static JsonNode *setting_json(const Setting *s)
{
    JsonNode *node = json_node_new(JSON_NODE_OBJECT);
    JsonObject *object = json_object_new();

    json_node_take_object(node, object);
    json_object_set_string_member(object, "name", s->name);
    json_object_set_string_member(object, "element", s->section->element);
    set_text(object, "key", s->section->key);
    set_text(object, "key_pattern", s->section->key_pattern);
    json_object_set_string_member(object, "type", type_name(s->field->type));
    json_object_set_boolean_member(object, "required", s->field->required);
    set_text(object, "default", s->field->default_value);
    json_object_set_int_member(object, "min", (gint64)s->field->min);
    json_object_set_int_member(object, "max", (gint64)s->field->max);
    set_text(object, "choices", s->field->choices);
    set_text(object, "pattern", s->field->pattern);
    json_object_set_string_member(object, "change", vm_change_name(s->field->change));
    json_object_set_string_member(object, "help", s->field->help);
    return node;
}

static void print_json(const GPtrArray *all)
{
    g_autoptr(JsonNode) root = json_node_new(JSON_NODE_OBJECT);
    JsonObject *object = json_object_new();
    JsonArray *array = json_array_new();

    for (guint i = 0; i < all->len; i++)
        json_array_add_element(array, setting_json(all->pdata[i]));
    json_object_set_array_member(object, "settings", array);
    json_node_take_object(root, object);
    command_print_json(root);
}

static const char *change_text(VmChange change)
{
    static const char *const texts[] = {
        [VM_CHANGE_NOW] = N_("counts at once"),
        [VM_CHANGE_LIVE] = N_("a running machine takes it"),
        [VM_CHANGE_RESTART] = N_("counts at the next start"),
        [VM_CHANGE_NEVER] = N_("cannot be changed"),
    };
    return _(texts[change]);
}

static void print_setting(const Setting *s)
{
    g_autofree char *range = vm_field_range(s->field);
    const char *preset = s->field->default_value;

    printf("%s\n    %s\n    %s", s->name, _(s->field->help), range);
    if (preset)
        printf(_("; default %s"), preset);
    printf("; %s\n", change_text(s->field->change));
}

bool run_vm_settings(CommandLine *line, GError **error)
{
    static const struct {
        const char *option;
        char *(*text)(const VmSchema *schema);
    } forms[] = {
        {"xsd", vm_schema_xsd}, {"manual", vm_schema_manual}, {"openapi", vm_schema_openapi}};
    g_autoptr(GPtrArray) all = settings_of(line->words[0]);

    for (unsigned i = 0; i < G_N_ELEMENTS(forms); i++) {
        g_autofree char *text = NULL;
        if (!command_value(line, forms[i].option))
            continue;
        text = forms[i].text(&vm_config_schema);
        fputs(text, stdout);
        return true;
    }
    if (!all->len) {
        g_set_error(error, OSPITE_ERROR, OSPITE_ERROR_NOT_FOUND,
                    _("there are no settings '%s'; 'ospite vm settings' lists all"),
                    line->words[0]);
        return false;
    }
    if (line->json) {
        print_json(all);
        return true;
    }
    for (guint i = 0; i < all->len; i++)
        print_setting(all->pdata[i]);
    return true;
}
