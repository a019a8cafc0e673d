/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The `media` commands: each is a call of the API, printed. */
#include <stdio.h>

#include "base/bits.h"
#include "cli/call.h"

/* A medium is named by its UUID or its file. */
static JsonNode *call_medium(const char *method, const char *name, const char *rest,
                             JsonObject *body, GError **error)
{
    g_autofree char *file =
        g_uuid_string_is_valid(name) ? g_strdup(name) : g_canonicalize_filename(name, NULL);
    g_autofree char *escaped = g_uri_escape_string(file, NULL, FALSE);
    g_autofree char *path = g_strconcat("/media/", escaped, rest, NULL);

    return call_api(method, path, body, error);
}

static JsonObject *medium_of(JsonNode *answer)
{
    return json_object_get_object_member(json_node_get_object(answer), "medium");
}

static void print_medium(JsonObject *medium)
{
    guint uses = json_array_get_length(json_object_get_array_member(medium, "uses"));
    const char *problem = call_text(medium, "problem");

    printf("%s  %-6s %-8s %8" G_GINT64_FORMAT " MiB %3u %s  %s%s%s\n", call_text(medium, "uuid"),
           call_text(medium, "kind"), call_text(medium, "format"),
           json_object_get_int_member(medium, "virtual_size") / (gint64)MIB(1), uses,
           uses == 1 ? "use " : "uses", call_text(medium, "path"), *problem ? ": " : "", problem);
}

bool run_media_list(CommandLine *line, GError **error)
{
    g_autoptr(JsonNode) answer = call_api("GET", "/media", NULL, error);
    JsonArray *all;

    if (!answer)
        return false;
    if (line->json) {
        command_print_json(answer);
        return true;
    }
    all = json_object_get_array_member(json_node_get_object(answer), "media");
    for (guint i = 0; i < json_array_get_length(all); i++)
        print_medium(json_array_get_object_element(all, i));
    return true;
}

/* An answer that is a medium. */
static bool finish_medium(const CommandLine *line, JsonNode *answer)
{
    if (answer && !line->json)
        print_medium(medium_of(answer));
    return call_finish(line, answer, "%s", "");
}

bool run_media_add(CommandLine *line, GError **error)
{
    JsonObject *body = json_object_new();
    g_autofree char *full = g_canonicalize_filename(line->words[0], NULL);

    json_object_set_string_member(body, "path", full);
    for (unsigned i = 0; i < COMMAND_OPTIONS_MAX; i++) {
        if (line->values[i])
            json_object_set_string_member(body, line->command->options[i].name, line->values[i]);
    }
    return finish_medium(line, call_api("POST", "/media", body, error));
}

bool run_media_remove(CommandLine *line, GError **error)
{
    const char *rest = command_value(line, "delete") ? "?delete=true" : "";

    return call_finish(line, call_medium("DELETE", line->words[0], rest, NULL, error),
                       "Removed %s\n", line->words[0]);
}

/* The verb is the API's, too. */
bool run_media_action(CommandLine *line, GError **error)
{
    g_autofree char *rest = g_strconcat("/", line->command->verb, NULL);

    return finish_medium(line, call_medium("POST", line->words[0], rest, NULL, error));
}

bool run_media_move(CommandLine *line, GError **error)
{
    JsonObject *body = json_object_new();
    g_autofree char *full = g_canonicalize_filename(line->words[1], NULL);

    json_object_set_string_member(body, "path", full);
    return finish_medium(line, call_medium("POST", line->words[0], "/move", body, error));
}
