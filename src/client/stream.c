/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Events and consoles; see ospite/stream.h. Messages wait in a queue until somebody asks for them,
 * or watches.
 */
#include <ospite/stream.h>

#include "base/i18n.h"
#include "client/client_private.h"

#define MESSAGE_MAX_BYTES (1024 * 1024)

struct OspiteStream {
    SoupWebsocketConnection *socket;
    GMainContext *context;
    GQueue *messages; /* of GBytes */
    OspiteStreamFunc func;
    void *data;
};

static bool is_open(OspiteStream *stream)
{
    return soup_websocket_connection_get_state(stream->socket) != SOUP_WEBSOCKET_STATE_CLOSED;
}

static void on_message(SoupWebsocketConnection *socket, int type, GBytes *message, gpointer data)
{
    OspiteStream *stream = data;

    if (stream->func)
        stream->func(stream, message, stream->data);
    else
        g_queue_push_tail(stream->messages, g_bytes_ref(message));
}

static void on_closed(SoupWebsocketConnection *socket, gpointer data)
{
    OspiteStream *stream = data;

    if (stream->func)
        stream->func(stream, NULL, stream->data);
}

static OspiteStream *open_stream(OspiteClient *client, const char *path, GError **error)
{
    SoupWebsocketConnection *socket = client_open(client, path, error);
    OspiteStream *stream;

    if (!socket)
        return NULL;
    stream = g_new0(OspiteStream, 1);
    stream->socket = socket;
    stream->context = g_main_context_ref_thread_default();
    stream->messages = g_queue_new();
    soup_websocket_connection_set_max_incoming_payload_size(socket, MESSAGE_MAX_BYTES);
    g_signal_connect(socket, "message", G_CALLBACK(on_message), stream);
    g_signal_connect(socket, "closed", G_CALLBACK(on_closed), stream);
    return stream;
}

OspiteStream *ospite_events_open(OspiteClient *client, GError **error)
{
    return open_stream(client, "/events", error);
}

OspiteStream *ospite_vm_console_open(OspiteClient *client, const char *name, GError **error)
{
    g_autofree char *path = client_path("/vms", name, "/console");

    return open_stream(client, path, error);
}

static gboolean on_late(gpointer data)
{
    bool *late = data;

    *late = true;
    return G_SOURCE_CONTINUE;
}

GBytes *ospite_stream_next(OspiteStream *stream, int timeout_ms, GError **error)
{
    bool late = timeout_ms == 0;
    GSource *timer = timeout_ms > 0 ? g_timeout_source_new((guint)timeout_ms) : NULL;

    g_return_val_if_fail(!stream->func, NULL);
    if (timer) {
        g_source_set_callback(timer, on_late, &late, NULL);
        g_source_attach(timer, stream->context);
    }
    while (g_queue_is_empty(stream->messages) && is_open(stream) && !late)
        g_main_context_iteration(stream->context, TRUE);
    if (timer) {
        g_source_destroy(timer);
        g_source_unref(timer);
    }
    if (!g_queue_is_empty(stream->messages))
        return g_queue_pop_head(stream->messages);
    if (is_open(stream))
        g_set_error(error, OSPITE_ERROR, OSPITE_ERROR_TIMED_OUT, _("nothing came in time"));
    else
        g_set_error(error, OSPITE_ERROR, OSPITE_ERROR_UNREACHABLE,
                    _("the daemon has ended the stream"));
    return NULL;
}

JsonNode *ospite_events_next(OspiteStream *stream, int timeout_ms, GError **error)
{
    g_autoptr(GBytes) message = ospite_stream_next(stream, timeout_ms, error);

    return message ? client_parse(message, error) : NULL;
}

gboolean ospite_stream_send(OspiteStream *stream, const void *data, size_t size, GError **error)
{
    if (soup_websocket_connection_get_state(stream->socket) == SOUP_WEBSOCKET_STATE_OPEN) {
        soup_websocket_connection_send_binary(stream->socket, data, size);
        return TRUE;
    }
    g_set_error(error, OSPITE_ERROR, OSPITE_ERROR_UNREACHABLE,
                _("the daemon has ended the stream"));
    return FALSE;
}

void ospite_stream_watch(OspiteStream *stream, OspiteStreamFunc func, void *data)
{
    stream->func = func;
    stream->data = data;
    while (!g_queue_is_empty(stream->messages)) {
        g_autoptr(GBytes) message = g_queue_pop_head(stream->messages);
        func(stream, message, data);
    }
    if (!is_open(stream))
        func(stream, NULL, data);
}

void ospite_stream_free(OspiteStream *stream)
{
    if (!stream)
        return;
    g_signal_handlers_disconnect_by_data(stream->socket, stream);
    if (soup_websocket_connection_get_state(stream->socket) == SOUP_WEBSOCKET_STATE_OPEN)
        soup_websocket_connection_close(stream->socket, SOUP_WEBSOCKET_CLOSE_NORMAL, NULL);
    g_object_unref(stream->socket);
    g_queue_free_full(stream->messages, (GDestroyNotify)g_bytes_unref);
    g_main_context_unref(stream->context);
    g_free(stream);
}
