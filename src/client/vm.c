/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Machines; see ospite/vm.h. */
#include <ospite/vm.h>
#include <string.h>

#include "base/i18n.h"
#include "client/client_private.h"

static JsonNode *call_vm(OspiteClient *client, const char *method, const char *name,
                         const char *rest, JsonObject *body, GError **error)
{
    return client_call_path(client, method, client_path("/vms", name, rest), body, error);
}

JsonNode *ospite_vm_list(OspiteClient *client, GError **error)
{
    return ospite_client_call(client, "GET", "/vms", NULL, error);
}

JsonNode *ospite_vm_autostart(OspiteClient *client, GError **error)
{
    return ospite_client_call(client, "POST", "/autostart", NULL, error);
}

JsonNode *ospite_vm_show(OspiteClient *client, const char *name, GError **error)
{
    return call_vm(client, "GET", name, "", NULL, error);
}

JsonNode *ospite_vm_show_stats(OspiteClient *client, const char *name, GError **error)
{
    return call_vm(client, "GET", name, "?stats=true", NULL, error);
}

/* ---- new ones -------------------------------------------------------------------------------- */

/* The settings as an object (new); NULL with an error for one that is no NAME=VALUE. */
static JsonObject *settings_object(const char *const *settings, GError **error)
{
    g_autoptr(JsonObject) object = json_object_new();

    for (; settings && *settings; settings++) {
        const char *equals = strchr(*settings, '=');
        g_autofree char *name = equals ? g_strndup(*settings, (gsize)(equals - *settings)) : NULL;
        if (!equals) {
            g_set_error(error, OSPITE_ERROR, OSPITE_ERROR_INVALID, _("'%s' is no SETTING=VALUE"),
                        *settings);
            return NULL;
        }
        if (equals[1])
            json_object_set_string_member(object, name, equals + 1);
        else
            json_object_set_null_member(object, name);
    }
    return g_steal_pointer(&object);
}

/* Takes the body. */
static JsonNode *make(OspiteClient *client, JsonObject *body, GError **error)
{
    return client_call_path(client, "POST", g_strdup("/vms"), body, error);
}

JsonNode *ospite_vm_create(OspiteClient *client, const char *name, const char *folder,
                           const char *const *settings, GError **error)
{
    JsonObject *object = settings_object(settings, error), *body;

    if (!object)
        return NULL;
    body = json_object_new();
    json_object_set_string_member(body, "name", name);
    client_set_file(body, "folder", folder);
    json_object_set_object_member(body, "settings", object);
    return make(client, body, error);
}

JsonNode *ospite_vm_register(OspiteClient *client, const char *file, GError **error)
{
    JsonObject *body = json_object_new();

    client_set_file(body, "register", file);
    return make(client, body, error);
}

JsonNode *ospite_vm_import(OspiteClient *client, const char *file, const char *name,
                           const char *folder, GError **error)
{
    JsonObject *body = json_object_new();

    client_set_file(body, "import", file);
    client_set_file(body, "folder", folder);
    if (name)
        json_object_set_string_member(body, "name", name);
    return make(client, body, error);
}

/* ---- changes --------------------------------------------------------------------------------- */

JsonNode *ospite_vm_set(OspiteClient *client, const char *name, const char *const *settings,
                        GError **error)
{
    JsonObject *object = settings_object(settings, error), *body;

    if (!object)
        return NULL;
    body = json_object_new();
    json_object_set_object_member(body, "settings", object);
    return call_vm(client, "PATCH", name, "", body, error);
}

JsonNode *ospite_vm_delete(OspiteClient *client, const char *name, OspiteDelete what,
                           GError **error)
{
    static const char *const modes[] = {
        [OSPITE_DELETE_KEEP_DISKS] = "?mode=keep-disks",
        [OSPITE_DELETE_ALL] = "?mode=all",
        [OSPITE_DELETE_UNREGISTER] = "?mode=unregister",
    };

    g_return_val_if_fail((unsigned)what < G_N_ELEMENTS(modes), NULL);
    return call_vm(client, "DELETE", name, modes[what], NULL, error);
}

JsonNode *ospite_vm_clone(OspiteClient *client, const char *name, const char *clone,
                          const char *folder, gboolean linked, GError **error)
{
    JsonObject *body = json_object_new();

    json_object_set_string_member(body, "name", clone);
    client_set_file(body, "folder", folder);
    json_object_set_boolean_member(body, "linked", linked);
    return call_vm(client, "POST", name, "/clone", body, error);
}

JsonNode *ospite_vm_move(OspiteClient *client, const char *name, const char *folder, GError **error)
{
    JsonObject *body = json_object_new();

    client_set_file(body, "folder", folder);
    return call_vm(client, "POST", name, "/move", body, error);
}

char *ospite_vm_get_file(OspiteClient *client, const char *name, GError **error)
{
    g_autofree char *path = client_path("/vms", name, "/config");
    g_autoptr(GBytes) answer = client_send(client, "GET", path, NULL, NULL, error);

    return answer ? g_strndup(g_bytes_get_data(answer, NULL), g_bytes_get_size(answer)) : NULL;
}

JsonNode *ospite_vm_put_file(OspiteClient *client, const char *name, const char *xml,
                             GError **error)
{
    g_autofree char *path = client_path("/vms", name, "/config");
    g_autoptr(GBytes) sent = g_bytes_new(xml, strlen(xml));
    g_autoptr(GBytes) answer = client_send(client, "PUT", path, "application/xml", sent, error);

    return answer ? client_parse(answer, error) : NULL;
}

/* ---- running --------------------------------------------------------------------------------- */

JsonNode *ospite_vm_start(OspiteClient *client, const char *name, GError **error)
{
    return call_vm(client, "POST", name, "/start", NULL, error);
}

JsonNode *ospite_vm_stop(OspiteClient *client, const char *name, GError **error)
{
    return call_vm(client, "POST", name, "/stop", NULL, error);
}

JsonNode *ospite_vm_poweroff(OspiteClient *client, const char *name, GError **error)
{
    return call_vm(client, "POST", name, "/poweroff", NULL, error);
}

JsonNode *ospite_vm_reset(OspiteClient *client, const char *name, GError **error)
{
    return call_vm(client, "POST", name, "/reset", NULL, error);
}

JsonNode *ospite_vm_pause(OspiteClient *client, const char *name, GError **error)
{
    return call_vm(client, "POST", name, "/pause", NULL, error);
}

JsonNode *ospite_vm_resume(OspiteClient *client, const char *name, GError **error)
{
    return call_vm(client, "POST", name, "/resume", NULL, error);
}

JsonNode *ospite_vm_wait(OspiteClient *client, const char *name, const char *state,
                         unsigned timeout_s, GError **error)
{
    g_autofree char *wanted = g_uri_escape_string(state, NULL, FALSE);
    g_autofree char *rest = g_strdup_printf("/wait?for=%s&timeout=%u", wanted, timeout_s);

    return call_vm(client, "GET", name, rest, NULL, error);
}

JsonNode *ospite_vm_log(OspiteClient *client, const char *name, unsigned lines, GError **error)
{
    g_autofree char *rest = g_strdup_printf("/log?lines=%u", lines);

    return call_vm(client, "GET", name, rest, NULL, error);
}

JsonNode *ospite_vm_screen(OspiteClient *client, const char *name, GError **error)
{
    return call_vm(client, "GET", name, "/screen", NULL, error);
}

JsonNode *ospite_vm_type(OspiteClient *client, const char *name, const char *text, GError **error)
{
    JsonObject *body = json_object_new();

    json_object_set_string_member(body, "text", text);
    return call_vm(client, "POST", name, "/keys", body, error);
}
