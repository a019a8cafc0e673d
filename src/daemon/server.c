/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Connections and their limits; see server.h. libsoup speaks HTTP on streams that this file has
 * accepted, counted, and put under a deadline. The address object that a stream is given to libsoup
 * with leads from a request back to its Connection.
 */
#include "daemon/server.h"
#include "base/i18n.h"

#include <errno.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/remote.h"
#include "daemon/request.h"

#define ACCEPT_PAUSE_MS 100

typedef struct Listener {
    Server *server;
    int fd; /* -1: none */
    guint source;
    GTlsCertificate *certificate; /* of TCP; NULL: a Unix socket */
    unsigned connections, connections_max;
} Listener;

struct Server {
    SoupServer *soup;
    ServerHandler handler;
    void *obj;
    Listener local, remote;
    char *token; /* what those who come by TCP must know */
};

typedef struct Connection {
    Listener *listener;
    GSocket *socket;
    GIOStream *stream; /* on which libsoup speaks; it has us, not we it */
    guint deadline;
    bool refused; /* an answer was sent before the request was here */
} Connection;

static void watch_listener(Listener *listener);

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

    connection->listener->connections--;
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
    g_pollable_output_stream_write_nonblocking(
        G_POLLABLE_OUTPUT_STREAM(g_io_stream_get_output_stream(connection->stream)), answer,
        strlen(answer), NULL, NULL);
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

/* The handshake comes with the first byte that is read, under the same deadline. */
static GIOStream *open_stream(const Listener *listener, GSocket *socket, GError **error)
{
    GSocketConnection *plain = g_socket_connection_factory_create_connection(socket);
    GIOStream *secure;

    if (!listener->certificate)
        return G_IO_STREAM(plain);
    secure = g_tls_server_connection_new(G_IO_STREAM(plain), listener->certificate, error);
    g_object_unref(plain);
    return secure;
}

static void serve_stream(Listener *listener, int fd)
{
    auto_fd owned = fd;
    g_autoptr(GError) error = NULL;
    g_autoptr(GSocket) socket = g_socket_new_from_fd(owned, &error);
    /* libsoup makes a request's URI of it where a peer names no host, and knows no other kind. */
    g_autoptr(GSocketAddress) address = g_inet_socket_address_new_from_string("127.0.0.1", 80);
    g_autoptr(GIOStream) stream = NULL;
    Connection *connection;

    if (socket)
        fd_steal(&owned);
    stream = socket ? open_stream(listener, socket, &error) : NULL;
    if (!stream) {
        g_warning("%s", error->message);
        return;
    }
    connection = g_new0(Connection, 1);
    connection->listener = listener;
    connection->socket = g_object_ref(socket);
    connection->stream = stream;
    listener->connections++;
    g_object_weak_ref(G_OBJECT(stream), connection_free, connection);
    g_object_set_data(G_OBJECT(address), "connection", connection);
    connection_arm(connection);
    if (!soup_server_accept_iostream(listener->server->soup, stream, address, address, &error))
        g_warning("%s", error->message);
}

static gboolean listen_again(gpointer data)
{
    Listener *listener = data;

    listener->source = 0;
    watch_listener(listener);
    return G_SOURCE_REMOVE;
}

/* Accepts one; false when none waits. */
static bool accept_one(Listener *listener)
{
    auto_fd fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    bool full = listener->connections >= listener->connections_max;

    if (fd < 0)
        return false;
    if (!listener->certificate && !is_this_user(fd))
        turn_away(fd, "403 Forbidden", "unauthorized", "this daemon serves another user");
    else if (!listener->certificate && full)
        turn_away(fd, "503 Service Unavailable", "too_many", "the daemon has too many connections");
    else if (!full) /* a stranger who is too many hears nothing */
        serve_stream(listener, fd_steal(&fd));
    return true;
}

static gboolean on_listener(int fd, GIOCondition condition, gpointer data)
{
    Listener *listener = data;

    if (accept_one(listener) || errno == EAGAIN || errno == ECONNABORTED || errno == EINTR)
        return G_SOURCE_CONTINUE;
    g_warning("cannot accept a connection: %s", g_strerror(errno));
    listener->source = g_timeout_add(ACCEPT_PAUSE_MS, listen_again, listener);
    return G_SOURCE_REMOVE;
}

static void watch_listener(Listener *listener)
{
    listener->source = g_unix_fd_add(listener->fd, G_IO_IN, on_listener, listener);
}

/* ---- what libsoup says of a request ---------------------------------------------------------- */

/* The Unix socket knows its peer; whoever comes by TCP must know the token. */
static bool is_authorized(const Server *server, const Connection *connection,
                          SoupServerMessage *message)
{
    static const char scheme[] = "Bearer ";
    SoupMessageHeaders *headers = soup_server_message_get_request_headers(message);
    const char *given = soup_message_headers_get_one(headers, "Authorization");

    return connection && (!connection->listener->certificate ||
                          (given && !g_ascii_strncasecmp(given, scheme, strlen(scheme)) &&
                           secret_is(server->token, given + strlen(scheme))));
}

/* The body of a stranger is read, as HTTP wants it, and thrown away. */
static void on_headers(SoupServerMessage *message, gpointer data)
{
    SoupMessageHeaders *headers = soup_server_message_get_request_headers(message);
    Connection *connection = connection_of(message);

    if (!is_authorized(data, connection, message))
        soup_message_body_set_accumulate(soup_server_message_get_request_body(message), FALSE);
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

    /* libsoup reads one request of a stream that it has not accepted itself. Whoever is not told
     * may send the next one where nobody reads it. */
    soup_message_headers_replace(soup_server_message_get_response_headers(message), "Connection",
                                 "close");
    if (!connection || connection->refused) {
        soup_server_message_set_status(message, SOUP_STATUS_REQUEST_ENTITY_TOO_LARGE, NULL);
    } else if (is_authorized(server, connection, message)) {
        Request *request = request_new(message, connection->socket, path, query);
        /* An event is English; what is said later, request_speak(). */
        request_speak(request);
        server->handler(server->obj, request);
        i18n_set_language(NULL);
    } else {
        soup_message_headers_replace(soup_server_message_get_response_headers(message),
                                     "WWW-Authenticate", "Bearer");
        request_fail_code(request_new(message, connection->socket, path, query),
                          SOUP_STATUS_UNAUTHORIZED, "unauthorized",
                          "cannot serve this request: it does not show the daemon's token; send "
                          "it as 'Authorization: Bearer TOKEN' (ospite: --token-file)");
    }
}

/* ---- life ------------------------------------------------------------------------------------ */

Server *server_new(ServerHandler handler, void *obj)
{
    Server *server = g_new0(Server, 1);

    server->handler = handler;
    server->obj = obj;
    server->local = (Listener){server, -1, .connections_max = SERVER_CONNECTIONS_MAX};
    server->remote = (Listener){server, -1, .connections_max = SERVER_REMOTE_MAX};
    server->soup = soup_server_new("raw-paths", TRUE, "server-header", NULL, NULL);
    soup_server_add_handler(server->soup, NULL, on_request, server, NULL);
    g_signal_connect(server->soup, "request-started", G_CALLBACK(on_started), server);
    g_signal_connect(server->soup, "request-read", G_CALLBACK(on_read), server);
    g_signal_connect(server->soup, "request-finished", G_CALLBACK(on_finished), server);
    return server;
}

static void listener_close(Listener *listener)
{
    if (listener->source)
        g_source_remove(listener->source);
    listener->source = 0;
    fd_clear(&listener->fd);
}

void server_free(Server *server)
{
    if (!server)
        return;
    listener_close(&server->local);
    listener_close(&server->remote);
    soup_server_disconnect(server->soup);
    g_object_unref(server->soup);
    g_clear_object(&server->remote.certificate);
    g_free(server->token);
    g_free(server);
}

static bool listener_open(Listener *listener, int fd, GError **error)
{
    listener->fd = fd;
    if (!g_unix_set_fd_nonblocking(fd, TRUE, error))
        return false;
    watch_listener(listener);
    return true;
}

bool server_listen(Server *server, int listener, GError **error)
{
    return listener_open(&server->local, listener, error);
}

bool server_listen_remote(Server *server, int listener, GTlsCertificate *certificate,
                          const char *token, GError **error)
{
    server->remote.certificate = g_object_ref(certificate);
    server->token = g_strdup(token);
    return listener_open(&server->remote, listener, error);
}

bool server_stop_listening(Server *server)
{
    if (accept_one(&server->local))
        return false;
    listener_close(&server->local);
    return true;
}

unsigned server_connections(const Server *server)
{
    return server->local.connections + server->remote.connections;
}

bool server_is_remote(const Server *server)
{
    return server->remote.fd >= 0;
}
