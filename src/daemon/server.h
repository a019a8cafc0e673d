/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The HTTP server of the API: who may connect, how much and how long, and a request as its handler
 * sees it. Main thread.
 *
 * A request is answered exactly once, at once or later. Nothing is done for a peer before its
 * request has arrived whole and is known to be allowed.
 */
#pragma once

#include <json-glib/json-glib.h>
#include <libsoup/soup.h>
#include <stdbool.h>

#define SERVER_BODY_MAX        (1024 * 1024)
#define SERVER_CONNECTIONS_MAX 256
#define SERVER_REMOTE_MAX      64 /* of these, by TCP */
#define SERVER_REQUEST_SECONDS 10 /* for a request to arrive, or the next one to begin */

typedef struct Server Server;
typedef struct Request Request;

typedef void (*ServerHandler)(void *obj, Request *request);

Server *server_new(ServerHandler handler, void *obj);
void server_free(Server *server);
/* Serves a listening Unix socket (owned) to this user alone. */
bool server_listen(Server *server, int listener, GError **error);
/* Serves a listening TCP socket (owned) to whoever knows the token, over TLS. */
bool server_listen_remote(Server *server, int listener, GTlsCertificate *certificate,
                          const char *token, GError **error);
/* Stops listening at the Unix socket; false, and goes on, when somebody has come meanwhile. */
bool server_stop_listening(Server *server);
/* Whether it serves a TCP socket: nobody could start it again from afar. */
bool server_is_remote(const Server *server);
unsigned server_connections(const Server *server);

/* ---- a request ------------------------------------------------------------------------------- */

const char *request_method(const Request *request);
/* The path's parts, unescaped, NULL at the end. */
char **request_path(const Request *request);
/* A parameter of the query, or NULL. */
const char *request_query(const Request *request, const char *name);
/* The body's bytes; not terminated. */
GBytes *request_body(const Request *request);
/* The body as a JSON object; fails when it is none, or has members that are not among these,
 * between spaces. An empty body is an empty object. */
JsonObject *request_json(Request *request, const char *members, GError **error);

/* Each of these answers and frees the request. */
void request_answer(Request *request, unsigned status, JsonNode *body);
void request_answer_text(Request *request, const char *type, const char *text);
/* Takes the error. */
void request_fail(Request *request, GError *error);
void request_fail_code(Request *request, unsigned status, const char *code, const char *message);
/* The request becomes a WebSocket, which `fn` gets (owned) once the peer knows; NULL: it did not.
 */
typedef void (*RequestUpgraded)(void *obj, SoupWebsocketConnection *socket);
void request_upgrade(Request *request, RequestUpgraded fn, void *obj);

/* Called, at most once, when the peer has gone before the answer, which must still be given. */
void request_on_gone(Request *request, void (*fn)(void *obj), void *obj);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Server, server_free)
