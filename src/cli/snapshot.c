/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The `snapshot` commands: each is a call of libospite, printed. */
#include <stdio.h>

#include "base/i18n.h"
#include "cli/call.h"

/* Without one in the command line: what the machine comes from (new); NULL with an error. */
static char *chosen(const CommandLine *line, GError **error)
{
    g_autoptr(JsonNode) answer = NULL;
    JsonArray *all;

    if (line->words[1])
        return g_strdup(line->words[1]);
    answer = ospite_snapshot_list(line->client, line->words[0], error);
    all = answer ? ospite_list(answer, "snapshots") : NULL;
    for (guint i = 0; all && i < json_array_get_length(all); i++) {
        JsonNode *snapshot = json_array_get_element(all, i);
        if (ospite_number(snapshot, "current"))
            return g_strdup(ospite_text(snapshot, "uuid"));
    }
    if (answer)
        g_set_error(error, OSPITE_ERROR, OSPITE_ERROR_NOT_FOUND,
                    _("'%s' comes from no snapshot; name one"), line->words[0]);
    return NULL;
}

/* Those that come from `parent` ("": the first ones), each with what comes from it. */
static void print_tree(JsonArray *all, const char *parent, int depth)
{
    for (guint i = 0; i < json_array_get_length(all); i++) {
        JsonObject *snapshot = json_array_get_object_element(all, i);
        const char *uuid = call_text(snapshot, "uuid");
        if (g_strcmp0(call_text(snapshot, "parent"), parent) != 0)
            continue;
        printf("%s  %-20s  %*s%s%s%s\n", uuid, call_text(snapshot, "taken"), 2 * depth, "",
               call_text(snapshot, "name"),
               json_object_get_boolean_member(snapshot, "current") ? _(" (current)") : "",
               json_object_get_boolean_member(snapshot, "deleting") ? _(" (half deleted)") : "");
        print_tree(all, uuid, depth + 1);
    }
}

bool run_snapshot_list(CommandLine *line, GError **error)
{
    JsonNode *answer = ospite_snapshot_list(line->client, line->words[0], error);

    if (answer && !line->json)
        print_tree(ospite_list(answer, "snapshots"), "", 0);
    return call_finish(line, answer, "%s", "");
}

bool run_snapshot_show(CommandLine *line, GError **error)
{
    static const struct {
        const char *member, *format;
    } rows[] = {{"snapshot.name", N_("name:        %s\n")},
                {"snapshot.uuid", N_("uuid:        %s\n")},
                {"snapshot.taken", N_("taken:       %s\n")},
                {"snapshot.parent", N_("parent:      %s\n")},
                {"snapshot.description", N_("description: %s\n")}};
    JsonNode *answer = ospite_snapshot_show(line->client, line->words[0], line->words[1], error);

    for (unsigned i = 0; answer && !line->json && i < G_N_ELEMENTS(rows); i++) {
        const char *text = ospite_text(answer, rows[i].member);
        if (*text)
            printf(_(rows[i].format), text);
    }
    if (answer && !line->json)
        call_print_settings(answer, "snapshot");
    return call_finish(line, answer, "%s", "");
}

bool run_snapshot_take(CommandLine *line, GError **error)
{
    JsonNode *answer = ospite_snapshot_take(line->client, line->words[0], line->words[1],
                                            command_value(line, "description"), error);

    return call_finish(line, answer, _("Took the snapshot '%s' of '%s'\n"), line->words[1],
                       line->words[0]);
}

bool run_snapshot_set(CommandLine *line, GError **error)
{
    const char *name = command_value(line, "name");
    const char *description = command_value(line, "description");
    JsonNode *answer = NULL;

    if (!name && !description)
        return command_usage(error, _("it takes --name or --description"));
    answer =
        ospite_snapshot_set(line->client, line->words[0], line->words[1], name, description, error);
    return call_finish(line, answer, _("Changed the snapshot '%s'\n"),
                       answer ? ospite_text(answer, "snapshot.name") : "");
}

bool run_snapshot_restore(CommandLine *line, GError **error)
{
    g_autofree char *snapshot = chosen(line, error);
    JsonNode *answer =
        snapshot ? ospite_snapshot_restore(line->client, line->words[0], snapshot, error) : NULL;

    return call_finish(line, answer, _("'%s' is what it was in the snapshot '%s'\n"),
                       line->words[0], snapshot);
}

static JsonNode *call_delete(CommandLine *line, GError **error)
{
    return ospite_snapshot_delete(line->client, line->words[0], line->words[1], error);
}

bool run_snapshot_delete(CommandLine *line, GError **error)
{
    return call_finish(line, call_wait(line, call_delete, error),
                       _("Deleted the snapshot '%s' of '%s'\n"), line->words[1], line->words[0]);
}
