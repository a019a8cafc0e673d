/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The `media` commands: each is a call of libospite, printed. */
#include <stdio.h>

#include "base/bits.h"
#include "base/i18n.h"
#include "cli/call.h"

static void print_medium(JsonObject *medium)
{
    guint uses = json_array_get_length(json_object_get_array_member(medium, "uses"));
    const char *problem = call_text(medium, "problem");
    gint64 bytes = json_object_get_int_member(medium, "virtual_size");
    /* One that nobody could look into yet, here or on its server. */
    g_autofree char *size =
        bytes ? g_strdup_printf("%" G_GINT64_FORMAT " MiB", bytes / (gint64)MIB(1)) : g_strdup("-");

    printf("%s  %-6s %-8s %12s %3u %s  %s%s%s\n", call_text(medium, "uuid"),
           call_text(medium, "kind"), call_text(medium, "format"), size, uses,
           g_dngettext(GETTEXT_PACKAGE, "use ", "uses", uses), call_text(medium, "path"),
           *problem ? ": " : "", problem);
}

bool run_media_list(CommandLine *line, GError **error)
{
    g_autoptr(JsonNode) answer = ospite_media_list(line->client, error);
    JsonArray *all = answer ? ospite_list(answer, "media") : NULL;

    for (guint i = 0; all && !line->json && i < json_array_get_length(all); i++)
        print_medium(json_array_get_object_element(all, i));
    return call_finish(line, g_steal_pointer(&answer), "%s", "");
}

/* Where it is attached, a line each. */
static void print_uses(JsonObject *medium)
{
    JsonArray *uses = json_object_get_array_member(medium, "uses");

    for (guint i = 0; i < json_array_get_length(uses); i++) {
        JsonObject *use = json_array_get_object_element(uses, i);
        const char *name = call_text(use, "name"), *uuid = call_text(use, "snapshot");
        const char *snapshot = *uuid ? call_text(use, "snapshot_name") : "";
        snapshot = *snapshot ? snapshot : uuid;
        printf(_("  in '%s' at %s, %s%s%s\n"), *name ? name : call_text(use, "machine"),
               call_text(use, "place"), call_text(use, "mode"), *snapshot ? _(", snapshot ") : "",
               snapshot);
    }
}

/* An answer that is a medium. */
static bool finish_medium(const CommandLine *line, JsonNode *answer)
{
    if (answer && !line->json)
        print_medium(json_object_get_object_member(json_node_get_object(answer), "medium"));
    return call_finish(line, answer, "%s", "");
}

bool run_media_show(CommandLine *line, GError **error)
{
    JsonNode *answer = ospite_media_show(line->client, line->words[0], error);

    if (answer && !line->json) {
        JsonObject *medium = json_object_get_object_member(json_node_get_object(answer), "medium");
        print_medium(medium);
        print_uses(medium);
    }
    return call_finish(line, answer, "%s", "");
}

bool run_media_add(CommandLine *line, GError **error)
{
    return finish_medium(
        line, ospite_media_add(line->client, line->words[0], command_value(line, "kind"),
                               command_value(line, "format"), command_value(line, "mode"), error));
}

bool run_media_set(CommandLine *line, GError **error)
{
    return finish_medium(
        line, ospite_media_set_mode(line->client, line->words[0], line->words[1], error));
}

bool run_media_remove(CommandLine *line, GError **error)
{
    bool delete_file = command_value(line, "delete") != NULL;

    return call_finish(line, ospite_media_remove(line->client, line->words[0], delete_file, error),
                       _("Removed %s\n"), line->words[0]);
}

bool run_media_release(CommandLine *line, GError **error)
{
    return finish_medium(line, ospite_media_release(line->client, line->words[0], error));
}

bool run_media_refresh(CommandLine *line, GError **error)
{
    return finish_medium(line, ospite_media_refresh(line->client, line->words[0], error));
}

bool run_media_move(CommandLine *line, GError **error)
{
    return finish_medium(line,
                         ospite_media_move(line->client, line->words[0], line->words[1], error));
}
