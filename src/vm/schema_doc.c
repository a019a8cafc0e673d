/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A schema in the words of others: a JSON Schema for the API's description, and a manual page. Both
 * are in English.
 */
#include <inttypes.h>
#include <json-glib/json-glib.h>
#include <string.h>

#include "vm/schema_internal.h"

#define DEPTH_MAX  8
#define BASE_DEPTH 2 /* of "components: schemas:" in the description */

static const char *const change_words[] = {[VM_CHANGE_NOW] = "now",
                                           [VM_CHANGE_LIVE] = "live",
                                           [VM_CHANGE_RESTART] = "restart",
                                           [VM_CHANGE_NEVER] = "never"};

const char *vm_change_name(VmChange change)
{
    return change_words[change];
}

/* ---- JSON Schema, as YAML ---------------------------------------------------------------------
 */

/* A text as JSON has it, which YAML takes, too (new). */
static char *quoted(const char *text)
{
    g_autoptr(JsonNode) node = json_node_init_string(json_node_alloc(), text);

    return json_to_string(node, FALSE);
}

/* A pattern for the whole, in ECMAScript's words: it has no classes of XSD's (new, quoted). */
static char *whole_pattern(const char *pattern)
{
    g_auto(GStrv) parts = g_strsplit(pattern, "\\p{Cc}", -1);
    g_autofree char *plain = g_strjoinv("\\u0000-\\u001f\\u007f-\\u009f", parts);
    g_autofree char *whole = g_strdup_printf("^(%s)$", plain);

    return quoted(whole);
}

static void add_choices(GString *out, const char *choices)
{
    g_auto(GStrv) words = g_strsplit(choices, " ", -1);

    g_string_append(out, ", enum: [");
    for (char **word = words; *word; word++) {
        g_autofree char *text = quoted(*word);
        g_string_append_printf(out, "%s%s", word == words ? "" : ", ", text);
    }
    g_string_append_c(out, ']');
}

static void add_string(GString *out, const VmField *field)
{
    g_autofree char *pattern = field->pattern ? whole_pattern(field->pattern) : NULL;

    g_string_append_printf(out, "type: string, maxLength: %" PRIu64, field->max);
    if (pattern)
        g_string_append_printf(out, ", pattern: %s", pattern);
}

static void add_type(GString *out, const VmField *field)
{
    switch (field->type) {
    case VM_BOOL:
        g_string_append(out, "type: boolean");
        break;
    case VM_INT:
    case VM_SIZE:
        g_string_append_printf(out, "type: integer, minimum: %" PRIu64 ", maximum: %" PRIu64,
                               field->min, field->max);
        break;
    case VM_ENUM:
        g_string_append(out, "type: string");
        add_choices(out, field->choices);
        break;
    case VM_LIST:
        g_string_append(out, "type: array, uniqueItems: true, items: {type: string");
        add_choices(out, field->choices);
        g_string_append_c(out, '}');
        break;
    case VM_UUID:
        g_string_append(out, "type: string, format: uuid");
        break;
    default:
        add_string(out, field);
    }
}

/* The default as the API shows it; nothing for a list, which texts are easier to read of. */
static void add_default(GString *out, const VmField *field)
{
    uint64_t number;

    if (!field->default_value || field->type == VM_LIST)
        return;
    if (vm_field_number(field, field->default_value, &number) &&
        (field->type == VM_INT || field->type == VM_SIZE)) {
        g_string_append_printf(out, ", default: %" PRIu64, number);
    } else if (field->type == VM_BOOL) {
        g_string_append_printf(out, ", default: %s", field->default_value);
    } else {
        g_autofree char *text = quoted(field->default_value);
        g_string_append_printf(out, ", default: %s", text);
    }
}

static void add_field(GString *out, const VmField *field, unsigned depth)
{
    g_autofree char *help = quoted(field->help);

    g_string_append_printf(out, "%*s%s: {", (int)depth * 2, "", field->name);
    add_type(out, field);
    add_default(out, field);
    g_string_append_printf(out, ", x-change: %s, description: %s}\n", change_words[field->change],
                           help);
}

static void add_required(GString *out, const VmSection *section, unsigned depth)
{
    bool first = true;

    for (const VmField *f = section ? section->fields : NULL; f && f->name; f++) {
        if (!f->required)
            continue;
        if (first)
            g_string_append_printf(out, "%*srequired: [", (int)depth * 2, "");
        g_string_append_printf(out, "%s%s", first ? "" : ", ", f->name);
        first = false;
    }
    if (!first)
        g_string_append(out, "]\n");
}

static const VmSection *exact_section(const VmSchema *schema, const char *pattern)
{
    for (const VmSection *s = schema->sections; s->pattern; s++) {
        if (!strcmp(s->pattern, pattern))
            return s;
    }
    return NULL;
}

/* The words that come after `prefix` ("storage.") in patterns, each once (of char *). */
static GPtrArray *words_below(const VmSchema *schema, const char *prefix)
{
    GPtrArray *words = g_ptr_array_new_with_free_func(g_free);

    for (const VmSection *s = schema->sections; s->pattern; s++) {
        const char *rest = s->pattern + strlen(prefix);
        g_autofree char *word = NULL;
        if (!g_str_has_prefix(s->pattern, prefix))
            continue;
        word = g_strndup(rest, strcspn(rest, "."));
        if (!g_ptr_array_find_with_equal_func(words, word, g_str_equal, NULL))
            g_ptr_array_add(words, g_steal_pointer(&word));
    }
    return words;
}

static void add_object(GString *out, const VmSchema *schema, const char *path, unsigned depth);

static void add_children(GString *out, const VmSchema *schema, const char *path, unsigned depth)
{
    g_autofree char *prefix = g_strconcat(path, *path ? "." : "", NULL);
    g_autoptr(GPtrArray) words = words_below(schema, prefix);

    for (guint i = 0; i < words->len; i++) {
        const char *word = words->pdata[i];
        g_autofree char *below = g_strconcat(prefix, word, NULL);
        if (!strcmp(word, "*"))
            continue;
        g_string_append_printf(out, "%*s%s:\n", (int)depth * 2, "", word);
        add_object(out, schema, below, depth + 1);
    }
}

/* As deep as the schema's patterns. */
static void add_object(GString *out, const VmSchema *schema, const char *path, unsigned depth)
{
    const VmSection *section = exact_section(schema, path), *list;
    g_autofree char *star = g_strconcat(path, ".*", NULL);
    int indent = (int)depth * 2;

    g_assert(depth < DEPTH_MAX * 2);
    list = exact_section(schema, star);
    g_string_append_printf(out, "%*stype: object\n", indent, "");
    if (section)
        g_string_append_printf(out, "%*sdescription: \"%s\"\n", indent, "", section->help);
    g_string_append_printf(out, "%*sadditionalProperties: false\n", indent, "");
    add_required(out, section, depth);
    if ((section && section->fields) || !list) {
        g_string_append_printf(out, "%*sproperties:\n", indent, "");
        for (const VmField *f = section ? section->fields : NULL; f && f->name; f++)
            add_field(out, f, depth + 1);
        add_children(out, schema, path, depth + 1);
    } else {
        GString *children = g_string_new(NULL);
        add_children(children, schema, path, depth + 1);
        if (children->len)
            g_string_append_printf(out, "%*sproperties:\n%s", indent, "", children->str);
        g_string_free(children, TRUE);
    }
    if (list) {
        g_autofree char *pattern = whole_pattern(list->key_pattern);
        g_string_append_printf(out, "%*spatternProperties:\n%*s%s:\n", indent, "", indent + 2, "",
                               pattern);
        add_object(out, schema, star, depth + 2);
    }
}

char *vm_schema_openapi(const VmSchema *schema)
{
    GString *out = g_string_new(NULL);

    g_string_append_printf(out, "%*sConfig:\n", BASE_DEPTH * 2, "");
    add_object(out, schema, "", BASE_DEPTH + 1);
    return g_string_free(out, FALSE);
}

/* ---- a manual page ----------------------------------------------------------------------------
 */

/* A text for mdoc(7), in which a backslash begins something, and a dot in the first place (new). */
static char *mdoc_text(const char *text)
{
    g_auto(GStrv) parts = g_strsplit(text, "\\", -1);
    g_autofree char *joined = g_strjoinv("\\e", parts);

    return g_strconcat(*joined == '.' || *joined == '\'' ? "\\&" : "", joined, NULL);
}

static void man_field(GString *page, const VmSection *section, const VmField *field)
{
    static const char *const when[] = {[VM_CHANGE_NOW] = "counts at once",
                                       [VM_CHANGE_LIVE] = "a running machine takes it",
                                       [VM_CHANGE_RESTART] = "counts at the next start",
                                       [VM_CHANGE_NEVER] = "cannot be changed"};
    g_autofree char *range = vm_field_range(field), *allowed = mdoc_text(range);
    g_autofree char *help = mdoc_text(field->help);
    g_autofree char *preset = field->default_value ? mdoc_text(field->default_value) : NULL;

    g_string_append_printf(page, ".It Va %s.%s\n%s.\n.br\n%s", section->pattern, field->name, help,
                           allowed);
    if (preset)
        g_string_append_printf(page, "; default %s", preset);
    g_string_append_printf(page, "%s; %s.\n", field->required ? "; needed" : "",
                           when[field->change]);
}

static void man_section(GString *page, const VmSection *section)
{
    g_autofree char *help = mdoc_text(section->help);

    g_string_append_printf(page, ".Ss %s\n", section->pattern);
    g_string_append_printf(page, "%s.\nIn the file: element\n.Aq %s", help, section->element);
    if (section->key)
        g_string_append_printf(page,
                               " , whose attribute\n.Sq %s\nis the name's * (at most %u of them)",
                               section->key, section->max_count);
    g_string_append(page, " .\n.Bl -tag -width Ds\n");
    for (const VmField *f = section->fields; f && f->name; f++)
        man_field(page, section, f);
    g_string_append(page, ".El\n");
}

char *vm_schema_manual(const VmSchema *schema)
{
    GString *page = g_string_new(
        ".\\\" SPDX-License-Identifier: GPL-3.0-or-later\n"
        ".Dd November 23, 2026\n.Dt OSPITE-SETTINGS 7\n.Os\n.Sh NAME\n.Nm ospite-settings\n"
        ".Nd the settings of machines\n.Sh DESCRIPTION\n"
        "Dotted names are those of\n.Xr ospite-vm-set 1 ,\nof\n.Xr ospite-vm-create 1\n"
        "and of the API; in the machine's file, NAME.ospite, a section is an element and a setting "
        "its attribute (a text of many lines an element of its own).\nThe sections\n");
    g_auto(GStrv) bare = g_strsplit(schema->bare ? schema->bare : "", " ", -1);

    for (char **word = bare; *word; word++)
        g_string_append_printf(page, "%s.Va %s\n", word == bare ? "" : "and\n", *word);
    g_string_append(page, "may be left out of a name:\n.Ql memory=2G\nis\n.Ql system.memory=2G .\n"
                          "A setting without a value\n.Pq Ql memory=\ngoes back to its default.\n"
                          ".Sh SETTINGS\n");
    for (const VmSection *s = schema->sections; s->pattern; s++) {
        if (s->fields)
            man_section(page, s);
    }
    g_string_append(page, ".Sh SEE ALSO\n.Xr ospite 1 ,\n.Xr ospite-vm-settings 1\n");
    return g_string_free(page, FALSE);
}
