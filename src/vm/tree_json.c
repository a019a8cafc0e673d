/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Trees as JSON, and JSON merge patches (RFC 7396) put into trees. */
#include <string.h>

#include "base/i18n.h"
#include "vm/text.h"
#include "vm/tree_internal.h"

/* ---- out --------------------------------------------------------------------------------------
 */

static JsonNode *list_node(const char *value)
{
    g_auto(GStrv) words = g_strsplit(value, ",", -1);
    JsonArray *array = json_array_new();
    JsonNode *node = json_node_new(JSON_NODE_ARRAY);

    for (char **word = words; *word; word++)
        json_array_add_string_element(array, *word);
    json_node_take_array(node, array);
    return node;
}

static JsonNode *value_node(const VmField *field, const char *value)
{
    JsonNode *node;
    uint64_t number;

    if (field->type == VM_LIST)
        return list_node(value);
    node = json_node_new(JSON_NODE_VALUE);
    if (field->type == VM_BOOL)
        json_node_set_boolean(node, !strcmp(value, "true"));
    else if (vm_field_number(field, value, &number) &&
             (field->type == VM_INT || field->type == VM_SIZE))
        json_node_set_int(node, (int64_t)number);
    else
        json_node_set_string(node, value);
    return node;
}

/* The object of a dotted name; made with those around it. */
static JsonObject *object_at(JsonObject *object, const char *path)
{
    g_auto(GStrv) words = g_strsplit(path, ".", -1);

    for (char **word = words; *word; word++) {
        if (!json_object_has_member(object, *word))
            json_object_set_object_member(object, *word, json_object_new());
        object = json_object_get_object_member(object, *word);
    }
    return object;
}

typedef struct Writer {
    const VmTree *tree;
    JsonObject *root;
    bool defaults;
} Writer;

static bool write_element(void *obj, const char *path, const VmSection *section, xmlNode *node)
{
    const Writer *writer = obj;
    JsonObject *object = object_at(writer->root, path);

    for (const VmField *f = section->fields; f && f->name; f++) {
        g_autofree char *stored = node ? tree_stored(node, f) : NULL;
        const char *value = stored || !writer->defaults ? stored : f->default_value;
        if (value)
            json_object_set_member(object, f->name, value_node(f, value));
    }
    return true;
}

JsonNode *vm_tree_to_json(const VmTree *tree, bool defaults)
{
    JsonNode *node = json_node_new(JSON_NODE_OBJECT);
    Writer writer = {tree, json_object_new(), defaults};

    /* In the table's order, whatever that of the file. */
    for (const VmSection *s = tree->schema->sections; defaults && s->pattern; s++) {
        if (!s->key && !tree_element(tree, s->pattern, false))
            write_element(&writer, s->pattern, s, NULL);
        else if (!s->key)
            object_at(writer.root, s->pattern);
    }
    tree_walk(tree, write_element, &writer);
    json_node_take_object(node, writer.root);
    return node;
}

/* ---- in ---------------------------------------------------------------------------------------
 */

static char *scalar_text(JsonNode *node)
{
    GType type = json_node_get_value_type(node);

    if (type == G_TYPE_STRING)
        return g_strdup(json_node_get_string(node));
    if (type == G_TYPE_BOOLEAN)
        return g_strdup(json_node_get_boolean(node) ? "true" : "false");
    if (type == G_TYPE_INT64)
        return g_strdup_printf("%" G_GINT64_FORMAT, json_node_get_int(node));
    return NULL;
}

static char *array_text(JsonArray *array)
{
    g_autoptr(GString) text = g_string_new(NULL);

    for (guint i = 0; i < json_array_get_length(array); i++) {
        JsonNode *element = json_array_get_element(array, i);
        if (!JSON_NODE_HOLDS_VALUE(element) || json_node_get_value_type(element) != G_TYPE_STRING)
            return NULL;
        g_string_append_printf(text, "%s%s", i ? "," : "", json_node_get_string(element));
    }
    return g_string_free(g_steal_pointer(&text), FALSE);
}

/* The kinds of JSON that a field's type goes with; a size may be a number or "2G". */
static char *value_text(const VmField *field, JsonNode *node)
{
    GType type = JSON_NODE_HOLDS_VALUE(node) ? json_node_get_value_type(node) : G_TYPE_INVALID;

    switch (field->type) {
    case VM_BOOL:
        return type == G_TYPE_BOOLEAN ? scalar_text(node) : NULL;
    case VM_INT:
        return type == G_TYPE_INT64 ? scalar_text(node) : NULL;
    case VM_SIZE:
        return type == G_TYPE_INT64 || type == G_TYPE_STRING ? scalar_text(node) : NULL;
    case VM_LIST:
        return JSON_NODE_HOLDS_ARRAY(node) ? array_text(json_node_get_array(node)) : NULL;
    default:
        return type == G_TYPE_STRING ? scalar_text(node) : NULL;
    }
}

static bool merge_value(VmTree *tree, const char *path, const VmField *field, JsonNode *node,
                        GError **error)
{
    g_autofree char *text = NULL, *range = NULL;

    if (JSON_NODE_HOLDS_NULL(node))
        return vm_tree_set(tree, path, NULL, error);
    text = value_text(field, node);
    if (text)
        return vm_tree_set(tree, path, text, error);
    range = vm_field_range(field);
    return vm_error(error, G_IO_ERROR_INVALID_ARGUMENT, _("%s has the wrong JSON type; use %s"),
                    path, range);
}

/* Whether a dotted name is on the way to some section's elements ("network.0.forward"). */
static bool leads_somewhere(const VmSchema *schema, const char *path)
{
    g_autofree char *below = g_strconcat(path, ".x", NULL);

    return schema_section(schema, path) || schema_section(schema, below);
}

static bool merge_object(VmTree *tree, const char *path, JsonObject *object, GError **error);

static bool merge_null(VmTree *tree, const char *path, GError **error)
{
    const VmSection *section = schema_section(tree->schema, path);

    if (section && section->key)
        return !tree_element(tree, path, false) || vm_tree_remove(tree, path, error);
    return vm_error(error, G_IO_ERROR_INVALID_ARGUMENT,
                    _("%s cannot be null; only values and elements of lists can"), path);
}

static bool merge_member(VmTree *tree, const char *path, JsonNode *node, GError **error)
{
    const VmField *field = vm_schema_find(tree->schema, path, NULL, NULL);
    const VmSection *section = schema_section(tree->schema, path);

    if (field)
        return merge_value(tree, path, field, node, error);
    if (!leads_somewhere(tree->schema, path))
        return vm_schema_find(tree->schema, path, NULL, error) != NULL;
    if (section && !schema_check_keys(tree->schema, section, path, error))
        return false;
    if (JSON_NODE_HOLDS_NULL(node))
        return merge_null(tree, path, error);
    if (!JSON_NODE_HOLDS_OBJECT(node))
        return vm_error(error, G_IO_ERROR_INVALID_ARGUMENT, _("%s must be a JSON object"), path);
    if (section && section->key && !tree_element(tree, path, false) &&
        !vm_tree_add(tree, path, error))
        return false;
    return merge_object(tree, path, json_node_get_object(node), error);
}

/* As deep as the schema's patterns: what leads nowhere is refused above. */
static bool merge_object(VmTree *tree, const char *path, JsonObject *object, GError **error)
{
    JsonObjectIter iter;
    const char *name;
    JsonNode *node;

    json_object_iter_init_ordered(&iter, object);
    while (json_object_iter_next_ordered(&iter, &name, &node)) {
        g_autofree char *own = path ? g_strconcat(path, ".", name, NULL) : g_strdup(name);
        if (strchr(name, '.') || !*name)
            return vm_error(error, G_IO_ERROR_INVALID_ARGUMENT, _("'%s' is no JSON name here"),
                            name);
        if (!merge_member(tree, own, node, error))
            return false;
    }
    return true;
}

bool vm_tree_merge_json(VmTree *tree, JsonNode *patch, GError **error)
{
    g_autoptr(VmTree) merged = vm_tree_copy(tree);
    xmlDoc *old = tree->doc;

    if (!JSON_NODE_HOLDS_OBJECT(patch))
        return vm_error(error, G_IO_ERROR_INVALID_ARGUMENT, _("settings must be a JSON object"));
    if (!merge_object(merged, NULL, json_node_get_object(patch), error))
        return false;
    tree->doc = merged->doc;
    merged->doc = old;
    return true;
}
