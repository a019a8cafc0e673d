/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Connections and their limits; see server.h. libsoup speaks HTTP on streams that this file has
 * accepted, counted, and put under a deadline. The address object that a stream is given to libsoup
 * with leads from a request back to its Connection.
 */
#include "daemon/server.h"

#include <errno.h>
#include <gio/gunixsocketaddress.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "daemon/request.h"

#define ACCEPT_PAUSE_MS 100

struct Server {
    SoupServer *soup;
    ServerHandler handler;
    void *obj;
    int listener;
    guint listen_source;
    unsigned connections;
};

typedef struct Connection {
    Server *server;
    GSocket *socket;
    guint deadline;
    bool refused; /* an answer was sent before the request was here */
} Connection;

static void watch_listener(Server *server);

/* ---- connections ----------------------------------------------------------------------------- */

static Connection *connection_of(SoupServerMessage *message)
{
    GSocketAddress *address = soup_server_message_get_remote_address(message);
    return address ? g_object_get_data(G_OBJECT(address), "connection") : NULL;
}

static void connection_disarm(Connection *connection)
{
    if (connection->deadline)
        g_source_remove(connection->deadline);
    connection->deadline = 0;
}

static gboolean on_deadline(gpointer data)
{
    Connection *connection = data;

    connection->deadline = 0;
    g_socket_shutdown(connection->socket, TRUE, TRUE, NULL);
    return G_SOURCE_REMOVE;
}

static void connection_arm(Connection *connection)
{
    connection_disarm(connection);
    connection->deadline = g_timeout_add_seconds(SERVER_REQUEST_SECONDS, on_deadline, connection);
}

/* The stream is gone. */
static void connection_free(gpointer data, GObject *stream)
{
    Connection *connection = data;

    connection->server->connections--;
    connection_disarm(connection);
    g_object_unref(connection->socket);
    g_free(connection);
}

/*
 * An answer to a request that is too large to wait for. What still arrives is thrown away until the
 * deadline, so that a peer that writes first can read the answer.
 */
static void connection_refuse(Connection *connection)
{
    static const char body[] =
        "{\"error\":{\"code\":\"too_large\",\"message\":\"cannot take a body of "
        "more than 1 MiB\",\"hint\":\"send less\"}}";
    g_autofree char *answer =
        g_strdup_printf("HTTP/1.1 413 Content Too Large\r\nContent-Type: application/json\r\n"
                        "Content-Length: %zu\r\nConnection: close\r\n\r\n%s",
                        strlen(body), body);

    if (connection->refused)
        return;
    connection->refused = true;
    g_socket_send_with_blocking(connection->socket, answer, strlen(answer), FALSE, NULL, NULL);
    g_socket_shutdown(connection->socket, FALSE, TRUE, NULL);
}

static bool is_this_user(int fd)
{
    struct ucred peer;
    socklen_t size = sizeof(peer);

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == getuid();
}

/* More than the daemon serves, or another user: told so, and closed. */
static void turn_away(int fd, const char *status, const char *code, const char *message)
{
    g_autofree char *body = g_strdup_printf(
        "{\"error\":{\"code\":\"%s\",\"message\":\"%s\",\"hint\":\"\"}}", code, message);
    g_autofree char *answer =
        g_strdup_printf("HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: "
                        "%zu\r\nConnection: close\r\n\r\n%s",
                        status, strlen(body), body);

    if (send(fd, answer, strlen(answer), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        return; /* it did not want to know */
}

static void serve_stream(Server *server, int fd)
{
    auto_fd owned = fd;
    g_autoptr(GError) error = NULL;
    g_autoptr(GSocket) socket = g_socket_new_from_fd(owned, &error);
    g_autoptr(GSocketConnection) stream = NULL;
    g_autoptr(GSocketAddress) address = g_unix_socket_address_new("peer");
    Connection *connection;

    if (!socket) {
        g_warning("%s", error->message);
        return;
    }
    fd_steal(&owned);
    connection = g_new0(Connection, 1);
    connection->server = server;
    connection->socket = g_object_ref(socket);
    server->connections++;
    stream = g_socket_connection_factory_create_connection(socket);
    g_object_weak_ref(G_OBJECT(stream), connection_free, connection);
    g_object_set_data(G_OBJECT(address), "connection", connection);
    connection_arm(connection);
    if (!soup_server_accept_iostream(server->soup, G_IO_STREAM(stream), address, address, &error))
        g_warning("%s", error->message);
}

static gboolean listen_again(gpointer data)
{
    Server *server = data;

    server->listen_source = 0;
    watch_listener(server);
    return G_SOURCE_REMOVE;
}

/* Accepts one; false when none waits. */
static bool accept_one(Server *server)
{
    auto_fd fd = accept4(server->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd < 0)
        return false;
    if (!is_this_user(fd))
        turn_away(fd, "403 Forbidden", "unauthorized", "this daemon serves another user");
    else if (server->connections >= SERVER_CONNECTIONS_MAX)
        turn_away(fd, "503 Service Unavailable", "too_many", "the daemon has too many connections");
    else
        serve_stream(server, fd_steal(&fd));
    return true;
}

static gboolean on_listener(int fd, GIOCondition condition, gpointer data)
{
    Server *server = data;

    if (accept_one(server) || errno == EAGAIN || errno == ECONNABORTED || errno == EINTR)
        return G_SOURCE_CONTINUE;
    g_warning("cannot accept a connection: %s", g_strerror(errno));
    server->listen_source = g_timeout_add(ACCEPT_PAUSE_MS, listen_again, server);
    return G_SOURCE_REMOVE;
}

static void watch_listener(Server *server)
{
    server->listen_source = g_unix_fd_add(server->listener, G_IO_IN, on_listener, server);
}

/* ---- what libsoup says of a request ---------------------------------------------------------- */

static void on_headers(SoupServerMessage *message, gpointer data)
{
    SoupMessageHeaders *headers = soup_server_message_get_request_headers(message);
    Connection *connection = connection_of(message);

    if (connection && soup_message_headers_get_encoding(headers) == SOUP_ENCODING_CONTENT_LENGTH &&
        soup_message_headers_get_content_length(headers) > SERVER_BODY_MAX) {
        soup_message_body_set_accumulate(soup_server_message_get_request_body(message), FALSE);
        connection_refuse(connection);
    }
}

static void on_chunk(SoupServerMessage *message, GBytes *chunk, gpointer data)
{
    SoupMessageBody *body = soup_server_message_get_request_body(message);
    Connection *connection = connection_of(message);

    if (connection && body->length > SERVER_BODY_MAX) {
        soup_message_body_set_accumulate(body, FALSE);
        connection_refuse(connection);
    }
}

static void on_started(SoupServer *soup, SoupServerMessage *message, gpointer data)
{
    g_signal_connect(message, "got-headers", G_CALLBACK(on_headers), data);
    g_signal_connect(message, "got-chunk", G_CALLBACK(on_chunk), data);
}

static void on_read(SoupServer *soup, SoupServerMessage *message, gpointer data)
{
    Connection *connection = connection_of(message);

    if (connection && !connection->refused)
        connection_disarm(connection);
}

static void on_finished(SoupServer *soup, SoupServerMessage *message, gpointer data)
{
    Connection *connection = connection_of(message);

    if (connection && soup_server_message_get_status(message) != SOUP_STATUS_SWITCHING_PROTOCOLS)
        connection_arm(connection);
}

static void on_request(SoupServer *soup, SoupServerMessage *message, const char *path,
                       GHashTable *query, gpointer data)
{
    Server *server = data;
    Connection *connection = connection_of(message);

    if (connection && connection->refused)
        soup_server_message_set_status(message, SOUP_STATUS_REQUEST_ENTITY_TOO_LARGE, NULL);
    else
        server->handler(server->obj, request_new(message, path, query));
}

/* ---- life ------------------------------------------------------------------------------------ */

Server *server_new(ServerHandler handler, void *obj)
{
    Server *server = g_new0(Server, 1);

    server->handler = handler;
    server->obj = obj;
    server->listener = -1;
    server->soup = soup_server_new("raw-paths", TRUE, "server-header", NULL, NULL);
    soup_server_add_handler(server->soup, NULL, on_request, server, NULL);
    g_signal_connect(server->soup, "request-started", G_CALLBACK(on_started), server);
    g_signal_connect(server->soup, "request-read", G_CALLBACK(on_read), server);
    g_signal_connect(server->soup, "request-finished", G_CALLBACK(on_finished), server);
    return server;
}

void server_free(Server *server)
{
    if (!server)
        return;
    if (server->listen_source)
        g_source_remove(server->listen_source);
    fd_clear(&server->listener);
    soup_server_disconnect(server->soup);
    g_object_unref(server->soup);
    g_free(server);
}

bool server_listen(Server *server, int listener, GError **error)
{
    server->listener = listener;
    if (!g_unix_set_fd_nonblocking(listener, TRUE, error))
        return false;
    watch_listener(server);
    return true;
}

bool server_stop_listening(Server *server)
{
    if (accept_one(server))
        return false;
    g_source_remove(server->listen_source);
    server->listen_source = 0;
    fd_clear(&server->listener);
    return true;
}

unsigned server_connections(const Server *server)
{
    return server->connections;
}
