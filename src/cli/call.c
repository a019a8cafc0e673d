/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See call.h. */
#include "cli/call.h"

#include <stdio.h>

#include "client/ospite_client.h"

static JsonNode *object_node(JsonObject *object)
{
    JsonNode *node = json_node_new(JSON_NODE_OBJECT);

    json_node_take_object(node, object);
    return node;
}

JsonNode *call_api(const char *method, const char *path, JsonObject *body, GError **error)
{
    JsonNode *sent = body ? object_node(body) : NULL;
    g_autoptr(OspiteClient) client = ospite_client_new(error);

    if (client)
        return ospite_client_call(client, method, path, sent, error);
    g_clear_pointer(&sent, json_node_unref);
    return NULL;
}

const char *call_text(JsonObject *object, const char *name)
{
    return json_object_get_string_member_with_default(object, name, "");
}

bool call_finish(const CommandLine *line, JsonNode *answer, const char *format, ...)
{
    g_autoptr(JsonNode) owned = answer;
    va_list args;

    if (!answer)
        return false;
    if (line->json) {
        command_print_json(answer);
        return true;
    }
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    return true;
}
