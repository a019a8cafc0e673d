/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Values as texts: what each type of field allows, and the one form that is stored. */
#include <inttypes.h>
#include <string.h>

#include "base/i18n.h"
#include "vm/schema_internal.h"
#include "vm/text.h"

#define UUID_TEXT_LENGTH 36

static const char size_units[] = "KMGT";

/* ---- numbers ----------------------------------------------------------------------------------
 */

static bool parse_digits(const char *text, const char **ret_end, uint64_t *ret_number)
{
    uint64_t number = 0;
    const char *at = text;

    for (; g_ascii_isdigit(*at); at++) {
        if (!g_uint64_checked_mul(&number, number, 10) ||
            !g_uint64_checked_add(&number, number, *at - '0'))
            return false;
    }
    *ret_end = at;
    *ret_number = number;
    return at > text;
}

/* Digits and a unit; `loose` takes "2g", "2GB" and "2GiB" for "2G". */
static bool parse_size(const char *text, bool loose, uint64_t *ret_bytes)
{
    const char *at, *unit;

    if (!parse_digits(text, &at, ret_bytes))
        return false;
    if (!*at)
        return true;
    unit = strchr(size_units, loose ? g_ascii_toupper(*at) : *at);
    if (!unit ||
        !g_uint64_checked_mul(ret_bytes, *ret_bytes, UINT64_C(1024) << 10 * (unit - size_units)))
        return false;
    at++;
    return !*at || (loose && (!g_ascii_strcasecmp(at, "b") || !g_ascii_strcasecmp(at, "ib")));
}

static bool parse_integer(const char *text, bool loose, uint64_t *ret_number)
{
    const char *end;
    char *hex_end;

    if (loose && g_str_has_prefix(text, "0x") && g_ascii_isxdigit(text[2]) && strlen(text) <= 18) {
        *ret_number = g_ascii_strtoull(text + 2, &hex_end, 16);
        return !*hex_end;
    }
    return parse_digits(text, &end, ret_number) && !*end;
}

char *vm_size_text(uint64_t bytes)
{
    for (int i = (int)strlen(size_units) - 1; i >= 0 && bytes; i--) {
        uint64_t unit = UINT64_C(1024) << 10 * i;
        if (bytes % unit == 0)
            return g_strdup_printf("%" PRIu64 "%c", bytes / unit, size_units[i]);
    }
    return g_strdup_printf("%" PRIu64, bytes);
}

bool vm_field_number(const VmField *field, const char *text, uint64_t *ret_number)
{
    return field->type == VM_SIZE ? parse_size(text, false, ret_number)
                                  : parse_integer(text, false, ret_number);
}

static char *canonical_number(const VmField *field, const char *text)
{
    uint64_t number;

    if (!(field->type == VM_SIZE ? parse_size(text, true, &number)
                                 : parse_integer(text, true, &number)))
        return NULL;
    if (number < field->min || number > field->max)
        return NULL;
    return field->type == VM_SIZE ? vm_size_text(number) : g_strdup_printf("%" PRIu64, number);
}

/* ---- texts ------------------------------------------------------------------------------------
 */

static char *canonical_string(const VmField *field, const char *text)
{
    if (strlen(text) > field->max || !text_is_plain(text, false) ||
        (field->pattern && !text_matches(field->pattern, text)) || (field->required && !*text))
        return NULL;
    return g_strdup(text);
}

static char *canonical_text(const VmField *field, const char *text)
{
    if (strlen(text) > field->max || !text_is_plain(text, true))
        return NULL;
    /* Spaces alone would be layout to an XML reader. */
    return g_strdup(text[strspn(text, " \t\r\n")] ? text : "");
}

static char *canonical_path(const VmField *field, const char *text)
{
    g_auto(GStrv) parts = NULL;

    if (strlen(text) > field->max || !text_is_plain(text, false) || (field->required && !*text))
        return NULL;
    if (*text == '/')
        return g_strdup(text);
    parts = g_strsplit(text, "/", -1);
    return g_strv_contains((const char *const *)parts, "..") ? NULL : g_strdup(text);
}

static char *canonical_bool(const VmField *field, const char *text)
{
    static const char yes[] = "true on yes 1", no[] = "false off no 0";
    size_t length = strlen(text);

    return text_has_word(yes, text, length)  ? g_strdup("true")
           : text_has_word(no, text, length) ? g_strdup("false")
                                             : NULL;
}

static char *canonical_enum(const VmField *field, const char *text)
{
    return text_has_word(field->choices, text, strlen(text)) ? g_strdup(text) : NULL;
}

static char *canonical_list(const VmField *field, const char *text)
{
    g_auto(GStrv) words = g_strsplit(text, ",", -1);

    for (unsigned i = 0; words[i]; i++) {
        if (!text_has_word(field->choices, words[i], strlen(words[i])))
            return NULL;
        for (unsigned j = 0; j < i; j++) {
            if (!strcmp(words[i], words[j]))
                return NULL;
        }
    }
    return g_strdup(text);
}

static char *canonical_uuid(const VmField *field, const char *text)
{
    if (strlen(text) != UUID_TEXT_LENGTH || !g_uuid_string_is_valid(text))
        return NULL;
    return g_ascii_strdown(text, -1);
}

typedef char *(*CanonicalFn)(const VmField *field, const char *text);

static const CanonicalFn canonical[] = {
    [VM_STRING] = canonical_string, [VM_TEXT] = canonical_text,   [VM_BOOL] = canonical_bool,
    [VM_INT] = canonical_number,    [VM_SIZE] = canonical_number, [VM_ENUM] = canonical_enum,
    [VM_LIST] = canonical_list,     [VM_UUID] = canonical_uuid,   [VM_PATH] = canonical_path,
};

/* ---- what is allowed, in words ------------------------------------------------------------------
 */

static char *choices_text(const VmField *field)
{
    g_auto(GStrv) words = g_strsplit(field->choices, " ", -1);

    return g_strjoinv(", ", words);
}

char *vm_field_range(const VmField *field)
{
    g_autofree char *least = NULL, *most = NULL, *choices = NULL;

    switch (field->type) {
    case VM_BOOL:
        return g_strdup(_("on or off"));
    case VM_INT:
        return g_strdup_printf(_("a number from %" PRIu64 " to %" PRIu64), field->min, field->max);
    case VM_SIZE:
        least = vm_size_text(field->min);
        most = vm_size_text(field->max);
        return g_strdup_printf(_("a size from %s to %s, such as 512M or 2G"), least, most);
    case VM_ENUM:
        choices = choices_text(field);
        return g_strdup_printf(_("one of %s"), choices);
    case VM_LIST:
        choices = choices_text(field);
        return g_strdup_printf(_("some of %s, separated by commas"), choices);
    case VM_UUID:
        return g_strdup(_("a UUID"));
    case VM_PATH:
        return g_strdup(_("a file, absolute or below the file's own folder"));
    case VM_STRING:
        if (field->pattern)
            return g_strdup_printf(_("a text that matches %s"), field->pattern);
        return g_strdup_printf(_("one line of at most %" PRIu64 " bytes"), field->max);
    case VM_TEXT:
        return g_strdup_printf(_("a text of at most %" PRIu64 " bytes"), field->max);
    }
    g_assert_not_reached();
}

/* ---- the public way in
 * --------------------------------------------------------------------------- */

static bool refuse(const VmField *field, const char *path, const char *text, GError **error)
{
    g_autofree char *quoted = text_quote(text), *range = vm_field_range(field);

    return vm_error(error, G_IO_ERROR_INVALID_ARGUMENT, _("%s cannot be %s; use %s"), path, quoted,
                    range);
}

char *vm_field_parse(const VmField *field, const char *path, const char *text, GError **error)
{
    char *value = canonical[field->type](field, text);

    if (!value)
        refuse(field, path, text, error);
    return value;
}

bool field_check(const VmField *field, const char *path, const char *text, GError **error)
{
    g_autofree char *value = canonical[field->type](field, text);
    bool strict = field->type == VM_BOOL || field->type == VM_UUID;
    uint64_t number;

    /* Numbers may be written in several ways, but only as the XSD has them. */
    if (value && (field->type == VM_INT || field->type == VM_SIZE))
        strict = !vm_field_number(field, text, &number);
    if (!value || (strict && strcmp(value, text) != 0))
        return refuse(field, path, text, error);
    return true;
}
