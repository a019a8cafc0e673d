/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * JSON as it is printed, written from its beginning to its end. The disk commands have it instead
 * of JSON-GLib, which takes longer to load than most of them run.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct JsonText {
    GString *text;
    unsigned depth;
    bool more;  /* something stands before in this object or array */
    bool named; /* a member's name was written last */
} JsonText;

void json_text_init(JsonText *json);
void json_text_clear(JsonText *json);
void json_begin(JsonText *json, char bracket); /* '{' or '[' */
void json_end(JsonText *json, char bracket);   /* '}' or ']' */
/* Of the member that comes next. */
void json_name(JsonText *json, const char *name);
void json_string(JsonText *json, const char *text); /* not UTF-8: what is wrong is replaced */
void json_int(JsonText *json, int64_t value);
void json_double(JsonText *json, double value);
void json_bool(JsonText *json, bool value);
/* Numbers, texts, arrays, and dictionaries by text. */
void json_variant(JsonText *json, GVariant *value);

/* Members; a NULL text is left out. */
static inline void json_add_string(JsonText *json, const char *name, const char *text)
{
    if (!text)
        return;
    json_name(json, name);
    json_string(json, text);
}

static inline void json_add_int(JsonText *json, const char *name, int64_t value)
{
    json_name(json, name);
    json_int(json, value);
}

static inline void json_add_double(JsonText *json, const char *name, double value)
{
    json_name(json, name);
    json_double(json, value);
}

static inline void json_add_bool(JsonText *json, const char *name, bool value)
{
    json_name(json, name);
    json_bool(json, value);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(JsonText, json_text_clear)
