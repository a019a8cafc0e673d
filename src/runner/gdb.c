/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * See gdb.h. The socket, and when the machine stops: gdb_session.c knows the packets.
 *
 * A vCPU that stops says so from its thread; the main loop then pauses the rest and tells the
 * debugger. A debugger that lets a whole socket buffer fill up is hung up on.
 */
#include "runner/gdb.h"

#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "char/unix_socket.h"
#include "runner/gdb_session.h"

#define RECEIVE_BYTES 4096

struct Gdb {
    GdbSession session;
    GSocketService *service; /* NULL: debuggers are brought by gdb_adopt() alone */
    char *path;              /* of the Unix socket; NULL: TCP */
    GdbKillFn kill;
    void *kill_obj;

    GSocketConnection *connection; /* NULL: no debugger */
    GSource *input;
    GdbParser parser;
    GString *sent; /* the last packet, for a debugger that asks again */

    GSource *stop_source;           /* ready when a vCPU stopped */
    _Atomic uint32_t stopped_vcpus; /* bits by index */
};

/* ---- talking --------------------------------------------------------------------------------- */

static void send_bytes(Gdb *gdb, const char *bytes, size_t size)
{
    GSocket *socket = g_socket_connection_get_socket(gdb->connection);

    if (g_socket_send_with_blocking(socket, bytes, size, FALSE, NULL, NULL) != (gssize)size)
        g_socket_shutdown(socket, TRUE, TRUE, NULL);
}

static void send_packet(Gdb *gdb, const GString *data)
{
    g_string_truncate(gdb->sent, 0);
    gdb_packet_append(gdb->sent, data->str, data->len);
    send_bytes(gdb, gdb->sent->str, gdb->sent->len);
}

/* The machine goes on without a debugger. */
static void hang_up(Gdb *gdb)
{
    g_source_destroy(gdb->input);
    g_clear_pointer(&gdb->input, g_source_unref);
    g_io_stream_close(G_IO_STREAM(gdb->connection), NULL, NULL);
    g_clear_object(&gdb->connection);
    gdb_forget(&gdb->session);
    gdb->session.running = true;
    if (gdb->session.killing)
        gdb->kill(gdb->kill_obj);
    else
        pc_resume(gdb->session.pc);
}

static void stop(Gdb *gdb, Vcpu *reason)
{
    g_autoptr(GString) answer = g_string_new(NULL);

    atomic_store(&gdb->stopped_vcpus, 0);
    gdb_stop(&gdb->session, reason, answer);
    send_packet(gdb, answer);
}

static void serve_packet(Gdb *gdb)
{
    g_autoptr(GString) answer = g_string_new(NULL);

    if (!gdb->session.no_ack)
        send_bytes(gdb, "+", 1);
    if (gdb->session.running) /* all stop: nothing may be asked now but to stop */
        return;
    atomic_store(&gdb->stopped_vcpus, 0);
    if (gdb_serve(&gdb->session, gdb->parser.data, answer))
        send_packet(gdb, answer);
}

static void serve_byte(Gdb *gdb, uint8_t byte)
{
    switch (gdb_parser_feed(&gdb->parser, byte)) {
    case GDB_PACKET:
        serve_packet(gdb);
        break;
    case GDB_INTERRUPT:
        if (gdb->session.running)
            stop(gdb, NULL);
        break;
    case GDB_DAMAGED:
        if (!gdb->session.no_ack)
            send_bytes(gdb, "-", 1);
        break;
    case GDB_NAK:
        if (!gdb->session.no_ack)
            send_bytes(gdb, gdb->sent->str, gdb->sent->len);
        break;
    case GDB_ACK:
    case GDB_NOTHING:
        break;
    }
}

static gboolean on_input(GSocket *socket, GIOCondition condition, gpointer obj)
{
    Gdb *gdb = obj;
    char bytes[RECEIVE_BYTES];
    g_autoptr(GError) error = NULL;
    gssize got = g_socket_receive_with_blocking(socket, bytes, sizeof(bytes), FALSE, NULL, &error);

    if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK))
        return G_SOURCE_CONTINUE;
    for (gssize i = 0; i < got && !gdb->session.leaving; i++)
        serve_byte(gdb, (uint8_t)bytes[i]);
    if (got > 0 && !gdb->session.leaving)
        return G_SOURCE_CONTINUE;
    hang_up(gdb);
    return G_SOURCE_REMOVE;
}

bool gdb_adopt(Gdb *gdb, GSocketConnection *connection)
{
    GSocket *socket = g_socket_connection_get_socket(connection);
    g_autoptr(GString) unsent = g_string_new(NULL);

    if (gdb->connection)
        return false;
    gdb->connection = g_object_ref(connection);
    gdb->parser = (GdbParser){0};
    g_string_truncate(gdb->sent, 0);
    gdb->session.cpu = 0;
    gdb->session.leaving = gdb->session.no_ack = false;
    gdb_stop(&gdb->session, NULL, unsent); /* it will ask why */
    gdb->input = g_socket_create_source(socket, G_IO_IN | G_IO_HUP, NULL);
    g_source_set_callback(gdb->input, G_SOURCE_FUNC(on_input), gdb, NULL);
    g_source_attach(gdb->input, NULL);
    return true;
}

/* One at a time: another is closed. */
static gboolean on_incoming(GSocketService *service, GSocketConnection *connection, GObject *source,
                            gpointer obj)
{
    gdb_adopt(obj, connection);
    return TRUE;
}

/* ---- stops ----------------------------------------------------------------------------------- */

static void on_vcpu_stop(void *obj, Vcpu *vcpu)
{
    Gdb *gdb = obj;

    atomic_fetch_or(&gdb->stopped_vcpus, 1u << vcpu->index);
    g_source_set_ready_time(gdb->stop_source, 0);
}

static gboolean on_stopped(gpointer obj)
{
    Gdb *gdb = obj;
    uint32_t stopped;

    g_source_set_ready_time(gdb->stop_source, -1);
    stopped = atomic_load(&gdb->stopped_vcpus);
    if (stopped && gdb->connection && gdb->session.running)
        stop(gdb, gdb->session.pc->vm->vcpus[__builtin_ctz(stopped)]);
    return G_SOURCE_CONTINUE;
}

static gboolean dispatch_ready(GSource *source, GSourceFunc callback, gpointer obj)
{
    return callback(obj);
}

static GSource *stop_source_new(Gdb *gdb)
{
    static GSourceFuncs ready = {.dispatch = dispatch_ready};
    GSource *source = g_source_new(&ready, sizeof(GSource));

    g_source_set_callback(source, on_stopped, gdb, NULL);
    g_source_attach(source, NULL);
    return source;
}

/* ---- life ------------------------------------------------------------------------------------ */

static bool parse_port(const char *where, guint64 *ret)
{
    return g_str_has_prefix(where, "tcp:") &&
           g_ascii_string_to_unsigned(where + strlen("tcp:"), 10, 1, 65535, ret, NULL);
}

bool gdb_place_is_valid(const char *where)
{
    guint64 port;
    return parse_port(where, &port) || (g_str_has_prefix(where, "unix:") && where[strlen("unix:")]);
}

static bool listen_tcp(GSocketListener *listener, guint16 port, GError **error)
{
    g_autoptr(GInetAddress) loopback = g_inet_address_new_loopback(G_SOCKET_FAMILY_IPV4);
    g_autoptr(GSocketAddress) address = g_inet_socket_address_new(loopback, port);

    return g_socket_listener_add_address(listener, address, G_SOCKET_TYPE_STREAM,
                                         G_SOCKET_PROTOCOL_TCP, NULL, NULL, error);
}

static bool listen_unix(GSocketListener *listener, const char *path, GError **error)
{
    g_autoptr(GSocket) socket = NULL;
    auto_fd fd = unix_socket_listen(path, 1, error);

    if (fd < 0)
        return false;
    socket = g_socket_new_from_fd(fd, error);
    if (!socket)
        return false;
    fd_steal(&fd);
    return g_socket_listener_add_socket(listener, socket, NULL, error);
}

bool gdb_place_listen(GSocketListener *listener, const char *where, char **ret_path, GError **error)
{
    guint64 port;

    *ret_path = NULL;
    if (parse_port(where, &port))
        return listen_tcp(listener, (guint16)port, error);
    if (!listen_unix(listener, where + strlen("unix:"), error))
        return false;
    *ret_path = g_strdup(where + strlen("unix:"));
    return true;
}

Gdb *gdb_new(Pc *pc, const char *where, GdbKillFn kill, void *obj, GError **error)
{
    Gdb *gdb = g_new0(Gdb, 1);

    gdb->session.pc = pc;
    gdb->session.running = true;
    gdb->session.debug.on_stop = on_vcpu_stop;
    gdb->session.debug.obj = gdb;
    gdb->kill = kill;
    gdb->kill_obj = obj;
    gdb->sent = g_string_new(NULL);
    gdb->stop_source = stop_source_new(gdb);
    if (where) {
        gdb->service = g_socket_service_new();
        g_signal_connect(gdb->service, "incoming", G_CALLBACK(on_incoming), gdb);
    }
    if ((!where || gdb_place_listen(G_SOCKET_LISTENER(gdb->service), where, &gdb->path, error)) &&
        vm_set_debug(pc->vm, &gdb->session.debug, error))
        return gdb;
    gdb_free(gdb, 0);
    return NULL;
}

static void say_goodbye(Gdb *gdb, int status)
{
    g_autoptr(GString) answer = g_string_new(NULL);

    g_string_printf(answer, "W%02x", status & 0xff);
    if (gdb->session.running)
        send_packet(gdb, answer);
    g_source_destroy(gdb->input);
    g_source_unref(gdb->input);
    g_io_stream_close(G_IO_STREAM(gdb->connection), NULL, NULL);
    g_object_unref(gdb->connection);
}

void gdb_free(Gdb *gdb, int status)
{
    if (!gdb)
        return;
    if (gdb->connection)
        say_goodbye(gdb, status);
    if (gdb->session.pc->vm->debug == &gdb->session.debug) {
        gdb_forget(&gdb->session);
        gdb->session.pc->vm->debug = NULL;
    }
    if (gdb->service) {
        g_socket_service_stop(gdb->service);
        g_signal_handlers_disconnect_by_data(gdb->service, gdb);
        g_object_unref(gdb->service);
    }
    g_source_destroy(gdb->stop_source);
    g_source_unref(gdb->stop_source);
    if (gdb->path)
        unlink(gdb->path);
    g_free(gdb->path);
    g_free(gdb->session.xml);
    g_string_free(gdb->sent, TRUE);
    g_free(gdb);
}
