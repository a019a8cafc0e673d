/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Keeps a machine's state, changes the machine, goes back, and deletes the snapshot.
 * Usage: keep_snapshots MACHINE
 */
#include <ospite/ospite.h>
#include <stdio.h>

static gboolean told(const char *what, JsonNode *answer)
{
    if (!answer)
        return FALSE;
    printf("%s: %s, memory %" G_GINT64_FORMAT "\n", what, ospite_text(answer, "snapshot.name"),
           ospite_number(answer, "snapshot.config.system.memory"));
    json_node_unref(answer);
    return TRUE;
}

static gboolean count(OspiteClient *client, const char *machine, GError **error)
{
    g_autoptr(JsonNode) answer = ospite_snapshot_list(client, machine, error);

    if (answer)
        printf("snapshots: %u\n", json_array_get_length(ospite_list(answer, "snapshots")));
    return answer != NULL;
}

static gboolean go_back(OspiteClient *client, const char *machine, GError **error)
{
    static const char *const settings[] = {"memory=16M", NULL};
    g_autoptr(JsonNode) changed = ospite_vm_set(client, machine, settings, error);
    g_autoptr(JsonNode) back =
        changed ? ospite_snapshot_restore(client, machine, "tested", error) : NULL;

    if (back)
        printf("restored: memory %" G_GINT64_FORMAT "\n",
               ospite_number(back, "vm.config.system.memory"));
    return back != NULL;
}

static gboolean keep(OspiteClient *client, const char *machine, GError **error)
{
    g_autoptr(JsonNode) deleted = NULL;

    if (!told("taken", ospite_snapshot_take(client, machine, "clean", "before all", error)) ||
        !told("renamed", ospite_snapshot_set(client, machine, "clean", "tested", NULL, error)) ||
        !told("shown", ospite_snapshot_show(client, machine, "tested", error)) ||
        !go_back(client, machine, error))
        return FALSE;
    deleted = ospite_snapshot_delete(client, machine, "tested", error);
    return deleted && count(client, machine, error);
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(OspiteClient) client = argc == 2 ? ospite_client_new(&error) : NULL;

    if (client && keep(client, argv[1], &error))
        return 0;
    fprintf(stderr, "keep_snapshots: %s\n", error ? error->message : "it takes MACHINE");
    return 1;
}
