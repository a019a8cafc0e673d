/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * See json_read.h. json-glib takes more than JSON (comments, single quotes, a second value behind
 * the first), cuts texts at a \\u0000, and goes down as deep as the text does, on the stack: what
 * it must not see is found first, by reading the text as JSON and nothing else.
 */
#include "daemon/json_read.h"

#include <gio/gio.h>
#include <stdbool.h>
#include <string.h>

#include "base/i18n.h"

#define DEPTH_MAX 32
#define SPACES    " \t\r\n"
/* Numbers, true, false and null. */
#define WORDS ":,+-.0123456789aeEflnrstu"

typedef struct Scan {
    unsigned depth;
    bool in_string, over;
} Scan;

static const char *scan_plain(Scan *scan, char c)
{
    if (strchr(SPACES, c))
        return NULL;
    if (scan->over)
        return _("it goes on behind its end");
    if (c == '"')
        scan->in_string = true;
    else if ((c == '[' || c == '{') && ++scan->depth > DEPTH_MAX)
        return _("it is nested too deep");
    else if ((c == ']' || c == '}') && scan->depth > 0)
        scan->over = --scan->depth == 0;
    else if (!strchr("[]{}" WORDS, c))
        return _("it has something in it that is no JSON");
    return NULL;
}

static const char *find_problem(const char *text, size_t size)
{
    static const char zero[] = "u0000";
    const char *problem = g_utf8_validate_len(text, size, NULL) ? NULL : _("it is not UTF-8");
    Scan scan = {0};

    for (size_t i = 0; i < size && !problem; i++) {
        if (!scan.in_string)
            problem = scan_plain(&scan, text[i]);
        else if (text[i] == '"')
            scan.in_string = false;
        else if (text[i] == '\\' && size - ++i >= strlen(zero) &&
                 !strncmp(text + i, zero, strlen(zero)))
            problem = _("it has the character 0 in a text");
    }
    return problem;
}

JsonNode *json_read(const char *text, size_t size, GError **error)
{
    g_autoptr(JsonParser) parser = json_parser_new_immutable();
    g_autoptr(GError) why = NULL;
    const char *problem = find_problem(text, size);
    JsonNode *root = NULL;

    if (!problem && !json_parser_load_from_data(parser, text, (gssize)size, &why))
        problem = why->message;
    if (!problem)
        root = json_parser_get_root(parser);
    if (root && JSON_NODE_HOLDS_OBJECT(root))
        return json_node_ref(root);
    g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                        problem ? problem : _("it is no JSON object"));
    return NULL;
}
