/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Values by dotted names in an XML document. */
#include "vm/tree.h"

#include <string.h>

#include "base/i18n.h"
#include "vm/text.h"
#include "vm/tree_internal.h"

#define X(text) ((const xmlChar *)(text))

VmTree *vm_tree_new(const VmSchema *schema)
{
    VmTree *tree = g_new(VmTree, 1);
    g_autofree char *version = g_strdup_printf("%u", schema->version);
    xmlNode *root = xmlNewNode(NULL, X(schema->root));

    *tree = (VmTree){schema, xmlNewDoc(X("1.0"))};
    xmlDocSetRootElement(tree->doc, root);
    xmlNewProp(root, X("version"), X(version));
    return tree;
}

VmTree *vm_tree_copy(const VmTree *tree)
{
    VmTree *copy = g_new(VmTree, 1);

    *copy = (VmTree){tree->schema, xmlCopyDoc(tree->doc, 1)};
    return copy;
}

void vm_tree_free(VmTree *tree)
{
    if (!tree)
        return;
    xmlFreeDoc(tree->doc);
    g_free(tree);
}

const VmSchema *vm_tree_schema(const VmTree *tree)
{
    return tree->schema;
}

/* ---- elements ---------------------------------------------------------------------------------
 */

static bool is_element(const xmlNode *node, const char *name)
{
    return node->type == XML_ELEMENT_NODE && !node->ns && !strcmp((const char *)node->name, name);
}

char *tree_attribute(const xmlNode *element, const char *name)
{
    xmlChar *value = xmlGetNoNsProp(element, X(name));
    char *copy = g_strdup((char *)value);

    xmlFree(value);
    return copy;
}

/* Nothing is copied: a registry of thousands is searched so. There are no entities (xml.h). */
static bool has_key(const xmlNode *node, const char *attribute, const char *key)
{
    const xmlAttr *own = node->properties;

    while (own && (own->ns || strcmp((const char *)own->name, attribute)))
        own = own->next;
    return own && (own->children ? !strcmp((const char *)own->children->content, key) : !*key);
}

const VmSection *tree_child_section(const VmSchema *schema, const VmSection *parent,
                                    const xmlNode *child)
{
    for (const VmSection *s = schema->sections; s->pattern; s++) {
        if (is_element(child, s->element) && schema_parent(schema, s) == parent)
            return s;
    }
    return NULL;
}

char *tree_child_path(const VmSection *outer, const VmSection *section, const char *parent,
                      const xmlNode *child)
{
    const char *rest = section->pattern + (outer ? strlen(outer->pattern) : 0);
    g_autofree char *key = section->key ? tree_attribute(child, section->key) : NULL;

    if (!section->key)
        return g_strconcat(parent ? parent : "", rest, NULL);
    return g_strdup_printf("%s%.*s%s", parent ? parent : "", (int)strlen(rest) - 1, rest,
                           key ? key : "");
}

static xmlNode *find_child(const xmlNode *parent, const VmSection *section, const char *key)
{
    for (xmlNode *node = parent->children; node; node = node->next) {
        if (is_element(node, section->element) &&
            (!section->key || has_key(node, section->key, key)))
            return node;
    }
    return NULL;
}

/* Before the first element of a later section, so that files keep the order of the schema. */
static void insert_child(const VmSchema *schema, const VmSection *section, xmlNode *parent,
                         xmlNode *child)
{
    const VmSection *outer = schema_parent(schema, section);

    for (xmlNode *node = parent->children; node; node = node->next) {
        const VmSection *other = tree_child_section(schema, outer, node);
        if (other > section) {
            xmlAddPrevSibling(node, child);
            return;
        }
    }
    xmlAddChild(parent, child);
}

static xmlNode *make_child(const VmSchema *schema, const VmSection *section, xmlNode *parent,
                           const char *key)
{
    xmlNode *child = xmlNewNode(NULL, X(section->element));

    if (section->key)
        xmlNewProp(child, X(section->key), X(key));
    insert_child(schema, section, parent, child);
    return child;
}

xmlNode *tree_element(const VmTree *tree, const char *path, bool create)
{
    g_auto(GStrv) words = g_strsplit(path, ".", -1);
    g_autoptr(GString) prefix = g_string_new(NULL);
    xmlNode *node = xmlDocGetRootElement(tree->doc);

    for (unsigned i = 0; node && words[i]; i++) {
        const VmSection *section;
        xmlNode *child;
        g_string_append_printf(prefix, "%s%s", i ? "." : "", words[i]);
        section = schema_section(tree->schema, prefix->str);
        if (!section) /* the word between, as in network.*.forward.* */
            continue;
        child = find_child(node, section, words[i]);
        if (!child && create)
            child = make_child(tree->schema, section, node, words[i]);
        node = child;
    }
    return node;
}

void vm_tree_take_section(VmTree *to, const VmTree *from, const char *name)
{
    const VmSection *section = schema_section(to->schema, name);
    xmlNode *old = tree_element(to, name, false), *own = tree_element(from, name, false);

    if (old) {
        xmlUnlinkNode(old);
        xmlFreeNode(old);
    }
    if (own)
        insert_child(to->schema, section, xmlDocGetRootElement(to->doc),
                     xmlDocCopyNode(own, to->doc, 1));
}

typedef struct Walk {
    const VmTree *tree;
    TreeElementFn fn;
    void *obj;
} Walk;

/* As deep as the schema's patterns. */
static bool walk_below(const Walk *walk, const xmlNode *parent, const VmSection *outer,
                       const char *path)
{
    for (xmlNode *node = parent->children, *next; node; node = next) {
        const VmSection *section = tree_child_section(walk->tree->schema, outer, node);
        g_autofree char *own = section ? tree_child_path(outer, section, path, node) : NULL;
        next = node->next;
        if (section &&
            (!walk->fn(walk->obj, own, section, node) || !walk_below(walk, node, section, own)))
            return false;
    }
    return true;
}

bool tree_walk(const VmTree *tree, TreeElementFn fn, void *obj)
{
    Walk walk = {tree, fn, obj};

    return walk_below(&walk, xmlDocGetRootElement(tree->doc), NULL, NULL);
}

/* ---- values -----------------------------------------------------------------------------------
 */

static xmlNode *text_element(const xmlNode *element, const VmField *field)
{
    for (xmlNode *node = element->children; node; node = node->next) {
        if (is_element(node, field->name))
            return node;
    }
    return NULL;
}

char *tree_stored(const xmlNode *element, const VmField *field)
{
    xmlNode *text;
    xmlChar *content;
    char *copy;

    if (field->type != VM_TEXT)
        return tree_attribute(element, field->name);
    text = text_element(element, field);
    content = text ? xmlNodeGetContent(text) : NULL;
    copy = g_strdup((char *)content);
    xmlFree(content);
    return copy;
}

static void store(xmlNode *element, const VmField *field, const char *value)
{
    xmlNode *text;

    if (field->type != VM_TEXT) {
        xmlSetProp(element, X(field->name), X(value));
        return;
    }
    text = text_element(element, field);
    if (!text)
        text = xmlNewChild(element, NULL, X(field->name), NULL);
    xmlNodeSetContent(text, NULL);
    xmlNodeAddContent(text, X(value));
}

static void unstore(xmlNode *element, const VmField *field)
{
    xmlNode *text;

    if (field->type != VM_TEXT) {
        xmlUnsetProp(element, X(field->name));
        return;
    }
    text = text_element(element, field);
    if (text) {
        xmlUnlinkNode(text);
        xmlFreeNode(text);
    }
}

static char *value_or_default(const VmTree *tree, const char *full, const VmField *field)
{
    g_autofree char *head = g_strndup(full, strrchr(full, '.') - full);
    xmlNode *element = tree_element(tree, head, false);
    char *stored = element ? tree_stored(element, field) : NULL;

    return stored ? stored : g_strdup(field->default_value ? field->default_value : "");
}

char *vm_tree_get(const VmTree *tree, const char *path, GError **error)
{
    const VmField *field = vm_schema_find(tree->schema, path, NULL, error);
    g_autofree char *full = schema_full_path(tree->schema, path);

    return field ? value_or_default(tree, full, field) : NULL;
}

static unsigned count_children(const xmlNode *parent, const VmSection *section)
{
    unsigned count = 0;

    for (xmlNode *node = parent->children; node; node = node->next)
        count += is_element(node, section->element);
    return count;
}

/* Whether elements can be made on the way to `path` without breaking a list's limit. */
static bool has_room(const VmTree *tree, const char *path, GError **error)
{
    g_auto(GStrv) words = g_strsplit(path, ".", -1);
    g_autoptr(GString) prefix = g_string_new(NULL);
    const xmlNode *node = xmlDocGetRootElement(tree->doc), *child;

    for (unsigned i = 0; words[i]; i++) {
        const VmSection *section;
        g_string_append_printf(prefix, "%s%s", i ? "." : "", words[i]);
        section = schema_section(tree->schema, prefix->str);
        if (!section)
            continue;
        child = find_child(node, section, words[i]);
        if (!child && section->key && count_children(node, section) >= section->max_count)
            return vm_error(error, G_IO_ERROR_INVALID_ARGUMENT,
                            _("cannot make %s: there can be at most %u of its kind"), path,
                            section->max_count);
        if (!child)
            break;
        node = child;
    }
    return true;
}

bool vm_tree_set(VmTree *tree, const char *path, const char *text, GError **error)
{
    const VmField *field = vm_schema_find(tree->schema, path, NULL, error);
    g_autofree char *full = schema_full_path(tree->schema, path), *head = NULL, *value = NULL;
    xmlNode *element;

    if (!field)
        return false;
    if (!text && field->required)
        return vm_error(error, G_IO_ERROR_INVALID_ARGUMENT, _("%s cannot be left out"), path);
    head = g_strndup(full, strrchr(full, '.') - full);
    value = text ? vm_field_parse(field, full, text, error) : NULL;
    if (text && (!value || !has_room(tree, head, error)))
        return false;
    if (value && !*value && !field->default_value)
        g_clear_pointer(&value, g_free);
    element = tree_element(tree, head, value || schema_section(tree->schema, head)->key);
    if (value)
        store(element, field, value);
    else if (element)
        unstore(element, field);
    return true;
}

bool vm_tree_assign(VmTree *tree, const char *assignment, GError **error)
{
    const char *equals = strchr(assignment, '=');
    g_autofree char *path = NULL, *empty = NULL, *quoted = NULL;
    const VmField *field;

    if (!equals || equals == assignment) {
        quoted = text_quote(assignment);
        return vm_error(error, G_IO_ERROR_INVALID_ARGUMENT,
                        _("%s is no setting; write NAME=VALUE, such as memory=2G"), quoted);
    }
    path = g_strndup(assignment, equals - assignment);
    field = vm_schema_find(tree->schema, path, NULL, error);
    if (!field)
        return false;
    empty = equals[1] || field->required ? NULL : vm_field_parse(field, path, "", NULL);
    return vm_tree_set(tree, path, equals[1] || field->required || empty ? equals + 1 : NULL,
                       error);
}

static bool check_element_path(const VmTree *tree, const char *path, const VmSection **ret_section,
                               GError **error)
{
    const VmSection *section = schema_section(tree->schema, path);
    g_autofree char *quoted = NULL;

    if (!section || !section->key) {
        quoted = text_quote(path);
        return vm_error(error, G_IO_ERROR_NOT_FOUND,
                        _("%s is no element of a list; write for example storage.ide0"), quoted);
    }
    *ret_section = section;
    return schema_check_keys(tree->schema, section, path, error);
}

bool vm_tree_add(VmTree *tree, const char *path, GError **error)
{
    const VmSection *section;

    if (!check_element_path(tree, path, &section, error) || !has_room(tree, path, error))
        return false;
    if (tree_element(tree, path, false))
        return vm_error(error, G_IO_ERROR_EXISTS, _("%s is there already"), path);
    tree_element(tree, path, true);
    return true;
}

bool vm_tree_remove(VmTree *tree, const char *path, GError **error)
{
    const VmSection *section;
    xmlNode *element;

    if (!check_element_path(tree, path, &section, error))
        return false;
    element = tree_element(tree, path, false);
    if (!element)
        return vm_error(error, G_IO_ERROR_NOT_FOUND, _("there is no %s"), path);
    xmlUnlinkNode(element);
    xmlFreeNode(element);
    return true;
}

/* ---- for our own code ---------------------------------------------------------------------------
 */

static char *known_value(const VmTree *tree, const char *format, va_list args,
                         const VmField **ret_field)
{
    g_autofree char *path = g_strdup_vprintf(format, args);
    g_autofree char *full = schema_full_path(tree->schema, path);
    g_autofree char *head = g_strdup(full);
    char *dot = strrchr(head, '.');
    const VmSection *section;

    g_assert(dot);
    *dot = '\0';
    section = schema_section(tree->schema, head);
    g_assert(section);
    *ret_field = section_field(section, dot + 1);
    g_assert(*ret_field);
    return value_or_default(tree, full, *ret_field);
}

char *vm_tree_string(const VmTree *tree, const char *format, ...)
{
    const VmField *field;
    va_list args;
    char *value;

    va_start(args, format);
    value = known_value(tree, format, args, &field);
    va_end(args);
    return value;
}

bool vm_tree_bool(const VmTree *tree, const char *format, ...)
{
    const VmField *field;
    g_autofree char *value = NULL;
    va_list args;

    va_start(args, format);
    value = known_value(tree, format, args, &field);
    va_end(args);
    g_assert(field->type == VM_BOOL);
    return !strcmp(value, "true");
}

uint64_t vm_tree_number(const VmTree *tree, const char *format, ...)
{
    const VmField *field;
    g_autofree char *value = NULL;
    uint64_t number = 0;
    va_list args;

    va_start(args, format);
    value = known_value(tree, format, args, &field);
    va_end(args);
    g_assert(field->type == VM_INT || field->type == VM_SIZE);
    vm_field_number(field, value, &number);
    return number;
}

bool vm_tree_has(const VmTree *tree, const char *path)
{
    g_autofree char *full = schema_full_path(tree->schema, path), *head = NULL, *stored = NULL;
    const VmField *field = vm_schema_find(tree->schema, full, NULL, NULL);
    xmlNode *element;

    if (!field)
        return schema_section(tree->schema, full) && tree_element(tree, full, false);
    head = g_strndup(full, strrchr(full, '.') - full);
    element = tree_element(tree, head, false);
    stored = element ? tree_stored(element, field) : NULL;
    return stored;
}

char **vm_tree_keys(const VmTree *tree, const char *format, ...)
{
    g_autoptr(GPtrArray) keys = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *path = NULL, *list = NULL, *outer_path = NULL;
    const VmSection *section, *outer;
    xmlNode *parent;
    va_list args;

    va_start(args, format);
    path = g_strdup_vprintf(format, args);
    va_end(args);
    list = g_strconcat(path, ".x", NULL);
    section = schema_section(tree->schema, list);
    g_assert(section && section->key);
    outer = schema_parent(tree->schema, section);
    outer_path = g_strdup(path);
    if (outer && !schema_section(tree->schema, path)) /* network.0.forward */
        *strrchr(outer_path, '.') = '\0';
    parent = outer ? tree_element(tree, outer_path, false) : xmlDocGetRootElement(tree->doc);
    for (xmlNode *node = parent ? parent->children : NULL; node; node = node->next) {
        if (is_element(node, section->element))
            g_ptr_array_add(keys, tree_attribute(node, section->key));
    }
    g_ptr_array_add(keys, NULL);
    return (char **)g_ptr_array_free(g_steal_pointer(&keys), FALSE);
}

/* ---- whole trees --------------------------------------------------------------------------------
 */

typedef struct Each {
    VmTreeFn fn;
    void *obj;
} Each;

static bool each_element(void *obj, const char *path, const VmSection *section, xmlNode *node)
{
    const Each *each = obj;

    for (const VmField *f = section->fields; f && f->name; f++) {
        g_autofree char *value = tree_stored(node, f), *own = NULL;
        if (!value)
            continue;
        own = g_strconcat(path, ".", f->name, NULL);
        each->fn(each->obj, own, f, value);
    }
    return true;
}

void vm_tree_foreach(const VmTree *tree, VmTreeFn fn, void *obj)
{
    Each each = {fn, obj};

    tree_walk(tree, each_element, &each);
}

static bool complete_element(void *obj, const char *path, const VmSection *section, xmlNode *node)
{
    GError **error = obj;

    for (const VmField *f = section->fields; f && f->name; f++) {
        g_autofree char *value = f->required ? tree_stored(node, f) : NULL;
        if (f->required && !value)
            return vm_error(error, G_IO_ERROR_INVALID_ARGUMENT, _("%s.%s is missing"), path,
                            f->name);
    }
    return true;
}

bool vm_tree_complete(const VmTree *tree, GError **error)
{
    return tree_walk(tree, complete_element, error);
}

typedef struct Diff {
    const VmTree *other;
    GHashTable *seen; /* of dotted names */
    GPtrArray *paths;
} Diff;

static void diff_add(Diff *diff, const char *path)
{
    if (g_hash_table_add(diff->seen, g_strdup(path)))
        g_ptr_array_add(diff->paths, g_strdup(path));
}

static bool diff_element(void *obj, const char *path, const VmSection *section, xmlNode *node)
{
    Diff *diff = obj;
    xmlNode *other = tree_element(diff->other, path, false);

    if (!other && section->key)
        diff_add(diff, path);
    for (const VmField *f = section->fields; f && f->name; f++) {
        g_autofree char *own = tree_stored(node, f), *theirs = other ? tree_stored(other, f) : NULL;
        g_autofree char *name = g_strconcat(path, ".", f->name, NULL);
        const char *preset = f->default_value ? f->default_value : "";
        if (strcmp(own ? own : preset, theirs ? theirs : preset) != 0)
            diff_add(diff, name);
    }
    return true;
}

GPtrArray *vm_tree_diff(const VmTree *from, const VmTree *to)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    Diff diff = {to, seen, g_ptr_array_new_with_free_func(g_free)};

    tree_walk(from, diff_element, &diff);
    diff.other = from;
    tree_walk(to, diff_element, &diff);
    return diff.paths;
}
