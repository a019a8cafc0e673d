/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Snapshots of machines; see ospite/snapshot.h. */
#include <ospite/snapshot.h>

#include "client/client_private.h"

/* `snapshot` NULL: all of the machine. */
static JsonNode *call_snapshot(OspiteClient *client, const char *method, const char *name,
                               const char *snapshot, const char *rest, JsonObject *body,
                               GError **error)
{
    g_autofree char *all = client_path("/vms", name, "/snapshots");

    return client_call_path(client, method,
                            snapshot ? client_path(all, snapshot, rest) : g_steal_pointer(&all),
                            body, error);
}

static void set_text(JsonObject *object, const char *member, const char *text)
{
    if (text)
        json_object_set_string_member(object, member, text);
}

JsonNode *ospite_snapshot_list(OspiteClient *client, const char *name, GError **error)
{
    return call_snapshot(client, "GET", name, NULL, "", NULL, error);
}

JsonNode *ospite_snapshot_take(OspiteClient *client, const char *name, const char *snapshot,
                               const char *description, GError **error)
{
    JsonObject *body = json_object_new();

    set_text(body, "name", snapshot);
    set_text(body, "description", description);
    return call_snapshot(client, "POST", name, NULL, "", body, error);
}

JsonNode *ospite_snapshot_show(OspiteClient *client, const char *name, const char *snapshot,
                               GError **error)
{
    return call_snapshot(client, "GET", name, snapshot, "", NULL, error);
}

JsonNode *ospite_snapshot_set(OspiteClient *client, const char *name, const char *snapshot,
                              const char *new_name, const char *description, GError **error)
{
    JsonObject *body = json_object_new();

    set_text(body, "name", new_name);
    set_text(body, "description", description);
    return call_snapshot(client, "PATCH", name, snapshot, "", body, error);
}

JsonNode *ospite_snapshot_restore(OspiteClient *client, const char *name, const char *snapshot,
                                  GError **error)
{
    return call_snapshot(client, "POST", name, snapshot, "/restore", NULL, error);
}

JsonNode *ospite_snapshot_delete(OspiteClient *client, const char *name, const char *snapshot,
                                 GError **error)
{
    return call_snapshot(client, "DELETE", name, snapshot, "", NULL, error);
}
