/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The registry of images; see ospite/media.h. */
#include <ospite/media.h>

#include "base/address.h"
#include "client/client_private.h"

static JsonNode *call_medium(OspiteClient *client, const char *method, const char *medium,
                             const char *rest, JsonObject *body, GError **error)
{
    g_autofree char *name =
        g_uuid_string_is_valid(medium) ? g_strdup(medium) : absolute_name(medium, NULL);

    return client_call_path(client, method, client_path("/media", name, rest), body, error);
}

JsonNode *ospite_media_list(OspiteClient *client, GError **error)
{
    return ospite_client_call(client, "GET", "/media", NULL, error);
}

static void set_text(JsonObject *object, const char *member, const char *text)
{
    if (text)
        json_object_set_string_member(object, member, text);
}

JsonNode *ospite_media_add(OspiteClient *client, const char *file, const char *kind,
                           const char *format, const char *mode, GError **error)
{
    JsonObject *body = json_object_new();

    client_set_file(body, "path", file);
    set_text(body, "kind", kind);
    set_text(body, "format", format);
    set_text(body, "mode", mode);
    return client_call_path(client, "POST", g_strdup("/media"), body, error);
}

JsonNode *ospite_media_show(OspiteClient *client, const char *medium, GError **error)
{
    return call_medium(client, "GET", medium, "", NULL, error);
}

JsonNode *ospite_media_set_mode(OspiteClient *client, const char *medium, const char *mode,
                                GError **error)
{
    JsonObject *body = json_object_new();

    set_text(body, "mode", mode);
    return call_medium(client, "PATCH", medium, "", body, error);
}

JsonNode *ospite_media_remove(OspiteClient *client, const char *medium, gboolean delete_file,
                              GError **error)
{
    return call_medium(client, "DELETE", medium, delete_file ? "?delete=true" : "", NULL, error);
}

JsonNode *ospite_media_release(OspiteClient *client, const char *medium, GError **error)
{
    return call_medium(client, "POST", medium, "/release", NULL, error);
}

JsonNode *ospite_media_refresh(OspiteClient *client, const char *medium, GError **error)
{
    return call_medium(client, "POST", medium, "/refresh", NULL, error);
}

JsonNode *ospite_media_move(OspiteClient *client, const char *medium, const char *file,
                            GError **error)
{
    JsonObject *body = json_object_new();

    client_set_file(body, "path", file);
    return call_medium(client, "POST", medium, "/move", body, error);
}
