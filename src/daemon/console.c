/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See console.h. */
#include "daemon/console.h"
#include "base/i18n.h"

#include <stdbool.h>
#include <string.h>

#define KEYS_MAX_BYTES (64 * 1024) /* typed and not taken */

struct Console {
    GSocketConnection *stream;
    SoupWebsocketConnection *socket; /* NULL: it has gone */
    GByteArray *keys;
    bool reading, writing, waiting;
    guint8 chunk[4096], typed[4096];
};

static void read_more(Console *console);
static void write_keys(Console *console);

/* When nothing is under way any more. */
static void free_if_idle(Console *console)
{
    if (console->socket || console->reading || console->writing || console->waiting)
        return;
    g_object_unref(console->stream);
    g_byte_array_unref(console->keys);
    g_free(console);
}

/* What is under way at the console ends at once. */
static void hang_up(Console *console)
{
    g_socket_shutdown(g_socket_connection_get_socket(console->stream), TRUE, TRUE, NULL);
}

static gboolean on_socket_writable(GObject *stream, gpointer data)
{
    Console *console = data;

    console->waiting = false;
    if (console->socket)
        read_more(console);
    free_if_idle(console);
    return G_SOURCE_REMOVE;
}

/* The peer's buffer is full: the console waits until it is not. */
static void wait_for_socket(Console *console)
{
    GIOStream *stream = soup_websocket_connection_get_io_stream(console->socket);
    GPollableOutputStream *output = G_POLLABLE_OUTPUT_STREAM(g_io_stream_get_output_stream(stream));
    g_autoptr(GSource) source = g_pollable_output_stream_create_source(output, NULL);

    console->waiting = true;
    g_source_set_callback(source, G_SOURCE_FUNC(on_socket_writable), console, NULL);
    g_source_attach(source, NULL);
}

static void on_read(GObject *stream, GAsyncResult *result, gpointer data)
{
    Console *console = data;
    gssize got = g_input_stream_read_finish(G_INPUT_STREAM(stream), result, NULL);

    console->reading = false;
    if (got > 0 && console->socket &&
        soup_websocket_connection_get_state(console->socket) == SOUP_WEBSOCKET_STATE_OPEN) {
        soup_websocket_connection_send_binary(console->socket, console->chunk, (gsize)got);
        wait_for_socket(console);
    } else if (console->socket &&
               soup_websocket_connection_get_state(console->socket) == SOUP_WEBSOCKET_STATE_OPEN) {
        soup_websocket_connection_close(console->socket, SOUP_WEBSOCKET_CLOSE_GOING_AWAY,
                                        _("the machine is off"));
    }
    free_if_idle(console);
}

static void read_more(Console *console)
{
    console->reading = true;
    g_input_stream_read_async(g_io_stream_get_input_stream(G_IO_STREAM(console->stream)),
                              console->chunk, sizeof(console->chunk), G_PRIORITY_DEFAULT, NULL,
                              on_read, console);
}

static void on_written(GObject *stream, GAsyncResult *result, gpointer data)
{
    Console *console = data;
    gssize sent = g_output_stream_write_finish(G_OUTPUT_STREAM(stream), result, NULL);

    console->writing = false;
    if (sent > 0)
        g_byte_array_remove_range(console->keys, 0, (guint)sent);
    if (sent > 0 && console->socket && console->keys->len)
        write_keys(console);
    free_if_idle(console);
}

static void write_keys(Console *console)
{
    gsize size = MIN(console->keys->len, sizeof(console->typed));

    memcpy(console->typed, console->keys->data, size);
    console->writing = true;
    g_output_stream_write_async(g_io_stream_get_output_stream(G_IO_STREAM(console->stream)),
                                console->typed, size, G_PRIORITY_DEFAULT, NULL, on_written,
                                console);
}

static void on_message(SoupWebsocketConnection *socket, int type, GBytes *message, gpointer data)
{
    Console *console = data;
    gsize size;
    const guint8 *bytes = g_bytes_get_data(message, &size);

    if (console->keys->len + size > KEYS_MAX_BYTES) {
        hang_up(console);
        return;
    }
    g_byte_array_append(console->keys, bytes, (guint)size);
    if (!console->writing && console->keys->len)
        write_keys(console);
}

static void on_closed(SoupWebsocketConnection *socket, gpointer data)
{
    Console *console = data;

    g_signal_handlers_disconnect_by_data(socket, console);
    g_clear_object(&console->socket);
    hang_up(console);
    free_if_idle(console);
}

Console *console_new(GSocketConnection *stream)
{
    Console *console = g_new0(Console, 1);

    console->stream = stream;
    console->keys = g_byte_array_new();
    return console;
}

void console_begin(void *obj, SoupWebsocketConnection *socket)
{
    Console *console = obj;

    console->socket = socket;
    if (!socket) {
        free_if_idle(console);
        return;
    }
    g_signal_connect(socket, "message", G_CALLBACK(on_message), console);
    g_signal_connect(socket, "closed", G_CALLBACK(on_closed), console);
    read_more(console);
}
