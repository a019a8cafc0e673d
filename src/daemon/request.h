/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What server.c makes a Request of; handlers use server.h. */
#pragma once

#include "daemon/server.h"

/* `path` as it was sent, `query` NULL for none; `socket` is the peer's. */
/* For what is said later: messages are in the language of this request until it is answered. */
void request_speak(const Request *request);
Request *request_new(SoupServerMessage *message, GSocket *socket, const char *path,
                     GHashTable *query);

/*
 * JSON from a peer, as json_read() takes it. Apart from the connection, for tests and fuzzing.
 */
JsonNode *request_parse_json(const char *text, size_t size, GError **error);

/* The HTTP status and the API's code for an error. */
unsigned request_error_status(const GError *error, const char **ret_code);
