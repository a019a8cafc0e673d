/* SPDX-License-Identifier: GPL-3.0-or-later */
/* An NBD server: its exports, sockets and clients; see nbd_server.h. */
#include "block/protocols/nbd_server.h"

#include <errno.h>
#include <glib-unix.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "block/protocols/nbd_conn.h"

#define DEFAULT_CLIENTS      16
#define DEFAULT_HANDSHAKE_MS 10000
/* Several large answers, so that the next ones are read while the client takes them. */
#define UNIX_SEND_BUFFER (1 << 20)

/* ---- output of a turn of the loop ------------------------------------------------------------ */

typedef struct FlushSource {
    GSource source;
    NbdServer *server;
} FlushSource;

static gboolean flush_prepare(GSource *source, gint *timeout)
{
    *timeout = -1;
    return ((FlushSource *)source)->server->dirty.length > 0;
}

static gboolean flush_check(GSource *source)
{
    return ((FlushSource *)source)->server->dirty.length > 0;
}

static gboolean flush_dispatch(GSource *source, GSourceFunc callback, gpointer data)
{
    NbdServer *server = ((FlushSource *)source)->server;
    GList *link;
    while ((link = g_queue_pop_head_link(&server->dirty))) {
        NbdConn *conn = link->data;
        conn->is_dirty = false;
        nbd_conn_flush(conn);
    }
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs flush_funcs = {flush_prepare, flush_check, flush_dispatch, NULL};

/* ---- sockets --------------------------------------------------------------------------------- */

typedef struct Listener {
    GSource *source;
    int fd;
} Listener;

/*
 * Answers of TCP leave at once, and a host that vanished is noticed in the end; its buffers grow by
 * themselves, which a Unix socket's don't.
 */
static void tune_socket(int fd)
{
    int on = 1, size = UNIX_SEND_BUFFER, domain = 0;
    socklen_t length = sizeof(domain);
    getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length);
    if (domain == AF_UNIX) {
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

static gboolean on_listener(gint fd, GIOCondition condition, gpointer obj)
{
    int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (client >= 0)
        nbd_server_adopt(obj, client);
    return G_SOURCE_CONTINUE;
}

static void listener_free(gpointer data)
{
    Listener *listener = data;
    g_source_destroy(listener->source);
    g_source_unref(listener->source);
    fd_clear(&listener->fd);
    g_free(listener);
}

void nbd_server_listen(NbdServer *server, int fd)
{
    Listener *listener = g_new(Listener, 1);
    *listener = (Listener){g_unix_fd_source_new(fd, G_IO_IN), fd};
    g_source_set_callback(listener->source, G_SOURCE_FUNC(on_listener), server, NULL);
    g_source_attach(listener->source, server->context);
    g_ptr_array_add(server->listeners, listener);
}

void nbd_server_adopt(NbdServer *server, int fd)
{
    if (server->conns.length >= server->options.max_clients) {
        close(fd);
        return;
    }
    g_unix_set_fd_nonblocking(fd, TRUE, NULL);
    tune_socket(fd);
    NbdConn *conn = nbd_conn_new(server, fd);
    g_queue_push_tail_link(&server->conns, &conn->link);
    nbd_handshake_begin(conn);
}

unsigned nbd_server_client_count(const NbdServer *server)
{
    return server->conns.length;
}

/* ---- exports --------------------------------------------------------------------------------- */

void nbd_server_add_export(NbdServer *server, const char *name, const char *description, Disk *disk)
{
    NbdExport *export = g_new0(NbdExport, 1);
    export->name = g_strdup(name);
    export->description = g_strdup(description);
    export->disk = disk;
    g_ptr_array_add(server->exports, export);
}

static void export_free(gpointer data)
{
    NbdExport *export = data;
    g_free(export->name);
    g_free(export->description);
    g_free(export);
}

const NbdExport *nbd_server_find(const NbdServer *server, const char *name, size_t length)
{
    for (guint i = 0; i < server->exports->len; i++) {
        const NbdExport *export = server->exports->pdata[i];
        if (strlen(export->name) == length && !memcmp(export->name, name, length))
            return export;
    }
    return length == 0 && server->exports->len ? server->exports->pdata[0] : NULL;
}

/* ---- life ------------------------------------------------------------------------------------ */

NbdServer *nbd_server_new(const NbdServerOptions *options, GMainContext *context)
{
    NbdServer *server = g_new0(NbdServer, 1);
    server->options = *options;
    if (!server->options.max_clients)
        server->options.max_clients = DEFAULT_CLIENTS;
    if (!server->options.handshake_ms)
        server->options.handshake_ms = DEFAULT_HANDSHAKE_MS;
    server->context = context;
    server->exports = g_ptr_array_new_with_free_func(export_free);
    server->listeners = g_ptr_array_new_with_free_func(listener_free);
    server->flush = g_source_new(&flush_funcs, sizeof(FlushSource));
    ((FlushSource *)server->flush)->server = server;
    g_source_attach(server->flush, context);
    return server;
}

void nbd_server_free(NbdServer *server)
{
    if (!server)
        return;
    g_ptr_array_unref(server->listeners);
    server->options.client_left = NULL;
    for (GList *l = server->conns.head, *next; l; l = next) {
        next = l->next;
        nbd_conn_close(l->data, false);
    }
    for (guint i = 0; i < server->exports->len; i++)
        disk_drain(((NbdExport *)server->exports->pdata[i])->disk);
    g_assert(!server->conns.length);
    g_source_destroy(server->flush);
    g_source_unref(server->flush);
    g_ptr_array_unref(server->exports);
    g_free(server);
}
