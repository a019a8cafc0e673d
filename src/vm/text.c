/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "vm/text.h"

#include <stdarg.h>
#include <string.h>

#define QUOTE_MAX 80

/* Compiled expressions of the constant tables: they are few and used for every file loaded. */
static GRegex *compiled(const char *pattern)
{
    static GMutex lock;
    static GHashTable *cache;
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&lock);
    g_autofree char *whole = NULL;
    GRegex *regex;

    if (!cache)
        cache = g_hash_table_new(g_str_hash, g_str_equal);
    regex = g_hash_table_lookup(cache, pattern);
    if (!regex) {
        whole = g_strdup_printf("^(?:%s)\\z", pattern);
        regex = g_regex_new(whole, G_REGEX_OPTIMIZE | G_REGEX_NO_AUTO_CAPTURE, 0, NULL);
        g_assert(regex);
        g_hash_table_insert(cache, (char *)pattern, regex);
    }
    return regex;
}

bool text_matches(const char *pattern, const char *text)
{
    return g_regex_match(compiled(pattern), text, 0, NULL);
}

bool text_has_word(const char *words, const char *word, size_t length)
{
    for (const char *at = words; *at;) {
        size_t own = strcspn(at, " ");
        if (own == length && !memcmp(at, word, length))
            return true;
        at += own + (at[own] == ' ');
    }
    return false;
}

bool text_is_plain(const char *text, bool lines)
{
    if (!g_utf8_validate(text, -1, NULL))
        return false;
    for (const char *p = text; *p; p = g_utf8_next_char(p)) {
        gunichar c = g_utf8_get_char(p);
        if (c == 0xfffe || c == 0xffff)
            return false;
        if (g_unichar_iscntrl(c) && !(lines && (c == '\t' || c == '\n' || c == '\r')))
            return false;
    }
    return true;
}

char *text_quote(const char *text)
{
    g_autofree char *valid = g_utf8_make_valid(text, -1);
    g_autoptr(GString) quoted = g_string_new("'");
    unsigned count = 0;

    for (const char *p = valid; *p; p = g_utf8_next_char(p)) {
        gunichar c = g_utf8_get_char(p);
        if (count++ == QUOTE_MAX) {
            g_string_append(quoted, "…");
            break;
        }
        if (g_unichar_iscntrl(c))
            g_string_append_printf(quoted, "\\x%02x", c);
        else
            g_string_append_unichar(quoted, c);
    }
    g_string_append_c(quoted, '\'');
    return g_string_free(g_steal_pointer(&quoted), FALSE);
}

bool vm_error(GError **error, GIOErrorEnum code, const char *format, ...)
{
    va_list args;
    g_autofree char *text = NULL;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error_literal(error, G_IO_ERROR, code, text);
    return false;
}
