/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Dotted names: which field of which section one means. Values are field.c's. */
#include "vm/schema.h"

#include <string.h>

#include "base/i18n.h"
#include "vm/schema_internal.h"
#include "vm/text.h"

/* A word and its length, up to the next dot. */
static size_t word_length(const char *at)
{
    return strcspn(at, ".");
}

static const char *next_word(const char *at)
{
    at += word_length(at);
    return *at == '.' ? at + 1 : NULL;
}

static bool pattern_matches(const char *pattern, const char *path)
{
    while (pattern && path) {
        size_t length = word_length(pattern);
        if (strncmp(pattern, "*", length) != 0 || length != 1) {
            if (word_length(path) != length || memcmp(pattern, path, length) != 0)
                return false;
        } else if (word_length(path) == 0) {
            return false;
        }
        pattern = next_word(pattern);
        path = next_word(path);
    }
    return !pattern && !path;
}

const VmSection *schema_section(const VmSchema *schema, const char *path)
{
    for (const VmSection *s = schema->sections; s->pattern; s++) {
        if (pattern_matches(s->pattern, path))
            return s;
    }
    return NULL;
}

const VmSection *schema_parent(const VmSchema *schema, const VmSection *section)
{
    const VmSection *best = NULL;
    size_t best_length = 0;

    for (const VmSection *s = schema->sections; s->pattern; s++) {
        size_t length = strlen(s->pattern);
        if (s != section && length > best_length &&
            g_str_has_prefix(section->pattern, s->pattern) && section->pattern[length] == '.') {
            best = s;
            best_length = length;
        }
    }
    return best;
}

const VmField *section_field(const VmSection *section, const char *name)
{
    for (const VmField *f = section->fields; f && f->name; f++) {
        if (!strcmp(f->name, name))
            return f;
    }
    return NULL;
}

/* "storage.ide0" of "storage.ide0.type"; NULL without a dot. */
static char *path_head(const char *path)
{
    const char *dot = strrchr(path, '.');

    return dot ? g_strndup(path, dot - path) : NULL;
}

bool section_check_key(const VmSection *section, const char *key, GError **error)
{
    g_autofree char *quoted = NULL;

    if (text_is_plain(key, false) && text_matches(section->key_pattern, key))
        return true;
    quoted = text_quote(key);
    return vm_error(error, G_IO_ERROR_INVALID_ARGUMENT,
                    _("%s %s cannot be %s; use one that matches %s"), section->element,
                    section->key, quoted, section->key_pattern);
}

bool schema_check_keys(const VmSchema *schema, const VmSection *section, const char *path,
                       GError **error)
{
    g_auto(GStrv) words = g_strsplit(path, ".", -1), stars = g_strsplit(section->pattern, ".", -1);
    g_autoptr(GString) pattern = g_string_new(NULL);

    for (unsigned i = 0; stars[i]; i++) {
        g_string_append_printf(pattern, "%s%s", i ? "." : "", stars[i]);
        if (!strcmp(stars[i], "*") &&
            !section_check_key(schema_section(schema, pattern->str), words[i], error))
            return false;
    }
    return true;
}

/* The names that a user may have meant. */
static char *fields_of(const VmSchema *schema, const char *head)
{
    const VmSection *section = head ? schema_section(schema, head) : NULL;
    g_autoptr(GString) names = g_string_new(NULL);

    if (section) {
        for (const VmField *f = section->fields; f && f->name; f++)
            g_string_append_printf(names, "%s%s", names->len ? ", " : "", f->name);
    }
    if (!names->len) {
        for (const VmSection *s = schema->sections; s->pattern; s++)
            g_string_append_printf(names, "%s%s", names->len ? ", " : "", s->pattern);
    }
    return g_string_free(g_steal_pointer(&names), FALSE);
}

char *schema_full_path(const VmSchema *schema, const char *path)
{
    g_auto(GStrv) bare = NULL;

    if (strchr(path, '.') || !schema->bare)
        return g_strdup(path);
    bare = g_strsplit(schema->bare, " ", -1);
    for (char **section = bare; *section; section++) {
        if (section_field(schema_section(schema, *section), path))
            return g_strdup_printf("%s.%s", *section, path);
    }
    return g_strdup(path);
}

bool vm_schema_is_entry(const VmSchema *schema, const char *path)
{
    const VmSection *section = schema_section(schema, path);

    /* "snapshots.current" is a setting beside the entries of that list. */
    return section && section->key && !vm_schema_find(schema, path, NULL, NULL);
}

const VmField *vm_schema_find(const VmSchema *schema, const char *path,
                              const VmSection **ret_section, GError **error)
{
    g_autofree char *full = schema_full_path(schema, path), *head = path_head(full);
    const VmSection *section = head ? schema_section(schema, head) : NULL;
    const VmField *field = section ? section_field(section, strrchr(full, '.') + 1) : NULL;
    const VmSection *whole = field ? NULL : schema_section(schema, full);
    g_autofree char *quoted = NULL, *names = NULL;

    if (!field) {
        quoted = text_quote(path);
        names = fields_of(schema, whole ? full : head);
        vm_error(error, G_IO_ERROR_NOT_FOUND,
                 whole && whole->fields ? _("%s is no single setting; below it there are %s")
                                        : _("there is no setting %s; there are %s"),
                 quoted, names);
        return NULL;
    }
    if (!schema_check_keys(schema, section, head, error))
        return NULL;
    if (ret_section)
        *ret_section = section;
    return field;
}
