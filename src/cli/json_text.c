/* SPDX-License-Identifier: GPL-3.0-or-later */
/* JSON, indented by four; see json_text.h. */
#include "cli/json_text.h"

#include <string.h>

void json_text_init(JsonText *json)
{
    *json = (JsonText){.text = g_string_new(NULL)};
}

void json_text_clear(JsonText *json)
{
    g_string_free(json->text, TRUE);
}

static void new_line(JsonText *json)
{
    g_string_append_printf(json->text, "\n%*s", (int)json->depth * 4, "");
}

/* Before a name, or a value without one. */
static void separate(JsonText *json)
{
    if (json->more)
        g_string_append_c(json->text, ',');
    if (json->depth && !json->named)
        new_line(json);
    json->more = json->named = false;
}

void json_begin(JsonText *json, char bracket)
{
    separate(json);
    g_string_append_c(json->text, bracket);
    json->depth++;
}

void json_end(JsonText *json, char bracket)
{
    json->depth--;
    if (json->more)
        new_line(json);
    g_string_append_c(json->text, bracket);
    json->more = true;
}

static void append_quoted(GString *to, const char *text)
{
    g_autofree char *valid = g_utf8_make_valid(text, -1);
    g_string_append_c(to, '"');
    for (const char *p = valid; *p; p++) {
        if (*p == '"' || *p == '\\')
            g_string_append_printf(to, "\\%c", *p);
        else if ((unsigned char)*p < 0x20 || *p == 0x7f)
            g_string_append_printf(to, "\\u%04x", *p);
        else
            g_string_append_c(to, *p);
    }
    g_string_append_c(to, '"');
}

void json_name(JsonText *json, const char *name)
{
    separate(json);
    append_quoted(json->text, name);
    g_string_append(json->text, ": ");
    json->named = true;
}

static void append_value(JsonText *json, const char *text)
{
    separate(json);
    g_string_append(json->text, text);
    json->more = true;
}

void json_string(JsonText *json, const char *text)
{
    separate(json);
    append_quoted(json->text, text);
    json->more = true;
}

void json_int(JsonText *json, int64_t value)
{
    g_autofree char *text = g_strdup_printf("%" G_GINT64_FORMAT, value);
    append_value(json, text);
}

void json_double(JsonText *json, double value)
{
    char text[G_ASCII_DTOSTR_BUF_SIZE];
    append_value(json, g_ascii_formatd(text, sizeof(text), "%.6g", value));
}

void json_bool(JsonText *json, bool value)
{
    append_value(json, value ? "true" : "false");
}

static void add_children(JsonText *json, GVariant *value)
{
    GVariantIter iter;
    GVariant *child;
    g_variant_iter_init(&iter, value);
    while ((child = g_variant_iter_next_value(&iter))) {
        json_variant(json, child);
        g_variant_unref(child);
    }
}

static void add_entry(JsonText *json, GVariant *entry)
{
    g_autoptr(GVariant) name = g_variant_get_child_value(entry, 0);
    g_autoptr(GVariant) value = g_variant_get_child_value(entry, 1);
    json_name(json, g_variant_get_string(name, NULL));
    json_variant(json, value);
}

static int64_t get_int(GVariant *value)
{
    switch (g_variant_classify(value)) {
    case G_VARIANT_CLASS_BYTE:
        return g_variant_get_byte(value);
    case G_VARIANT_CLASS_INT16:
        return g_variant_get_int16(value);
    case G_VARIANT_CLASS_UINT16:
        return g_variant_get_uint16(value);
    case G_VARIANT_CLASS_INT32:
        return g_variant_get_int32(value);
    case G_VARIANT_CLASS_UINT32:
        return g_variant_get_uint32(value);
    case G_VARIANT_CLASS_INT64:
        return g_variant_get_int64(value);
    default:
        return (int64_t)g_variant_get_uint64(value);
    }
}

void json_variant(JsonText *json, GVariant *value)
{
    GVariantClass kind = g_variant_classify(value);
    bool is_dictionary = g_variant_is_of_type(value, G_VARIANT_TYPE_DICTIONARY);
    if (kind == G_VARIANT_CLASS_VARIANT) {
        g_autoptr(GVariant) inner = g_variant_get_variant(value);
        json_variant(json, inner);
    } else if (kind == G_VARIANT_CLASS_DICT_ENTRY) {
        add_entry(json, value);
    } else if (g_variant_is_container(value)) {
        json_begin(json, is_dictionary ? '{' : '[');
        add_children(json, value);
        json_end(json, is_dictionary ? '}' : ']');
    } else if (kind == G_VARIANT_CLASS_BOOLEAN) {
        json_bool(json, g_variant_get_boolean(value));
    } else if (kind == G_VARIANT_CLASS_STRING) {
        json_string(json, g_variant_get_string(value, NULL));
    } else if (kind == G_VARIANT_CLASS_DOUBLE) {
        json_double(json, g_variant_get_double(value));
    } else {
        json_int(json, get_int(value));
    }
}
