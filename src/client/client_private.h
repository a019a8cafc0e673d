/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the files of libospite share; nothing of it is exported. */
#pragma once

#include <libsoup/soup.h>
#include <ospite/client.h>
#include <stdbool.h>

/* All these escape `name`; `rest` begins with its slash or question mark. */
char *client_path(const char *collection, const char *name, const char *rest);
/* A call of that path (taken), with a body (taken; NULL: none). */
JsonNode *client_call_path(OspiteClient *client, const char *method, char *path, JsonObject *body,
                           GError **error);
/* The answer's bytes; `body` NULL: none. */
GBytes *client_send(OspiteClient *client, const char *method, const char *path, const char *type,
                    GBytes *body, GError **error);
JsonNode *client_parse(GBytes *answer, GError **error);
/* Sets an absolute path; `path` NULL: sets nothing. */
void client_set_file(JsonObject *object, const char *member, const char *path);

/* A WebSocket at that path. */
SoupWebsocketConnection *client_open(OspiteClient *client, const char *path, GError **error);
