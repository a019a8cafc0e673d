/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Makes an image known, gives it a mode, moves it, and forgets it again; its file stays.
 * Usage: manage_media IMAGE NEW-NAME
 */
#include <ospite/ospite.h>
#include <stdio.h>

/* Prints what an answer says of the image; takes the answer. */
static gboolean told(const char *what, JsonNode *answer)
{
    if (!answer)
        return FALSE;
    printf("%s: %s, %s\n", what, ospite_text(answer, "medium.path"),
           ospite_text(answer, "medium.mode"));
    json_node_unref(answer);
    return TRUE;
}

/* The names of all images that are known and cannot be read. */
static gboolean list_missing(OspiteClient *client, GError **error)
{
    g_autoptr(JsonNode) answer = ospite_media_list(client, error);
    JsonArray *all = answer ? ospite_list(answer, "media") : NULL;

    for (guint i = 0; all && i < json_array_get_length(all); i++) {
        JsonNode *medium = json_array_get_element(all, i);
        if (*ospite_text(medium, "problem"))
            printf("missing: %s\n", ospite_text(medium, "path"));
    }
    return answer != NULL;
}

static gboolean manage(OspiteClient *client, const char *image, const char *moved, GError **error)
{
    g_autoptr(JsonNode) removed = NULL;

    if (!told("added", ospite_media_add(client, image, "disk", NULL, NULL, error)) ||
        !told("changed", ospite_media_set_mode(client, image, "readonly", error)) ||
        !told("moved", ospite_media_move(client, image, moved, error)) ||
        !told("looked at", ospite_media_refresh(client, moved, error)) ||
        !told("released", ospite_media_release(client, moved, error)) ||
        !told("shown", ospite_media_show(client, moved, error)) || !list_missing(client, error))
        return FALSE;
    removed = ospite_media_remove(client, moved, FALSE, error);
    return removed != NULL;
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(OspiteClient) client = argc == 3 ? ospite_client_new(&error) : NULL;

    if (client && manage(client, argv[1], argv[2], &error))
        return 0;
    fprintf(stderr, "manage_media: %s\n", error ? error->message : "it takes IMAGE NEW-NAME");
    return 1;
}
