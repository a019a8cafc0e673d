/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See events.h. */
#include "daemon/events.h"

#include <stdbool.h>

#include "daemon/machine_json.h"

struct Events {
    GPtrArray *sockets; /* of SoupWebsocketConnection */
    gint64 sequence;
};

Events *events_new(void)
{
    Events *events = g_new0(Events, 1);

    events->sockets = g_ptr_array_new_with_free_func(g_object_unref);
    return events;
}

void events_free(Events *events)
{
    if (!events)
        return;
    for (guint i = 0; i < events->sockets->len; i++)
        g_signal_handlers_disconnect_by_data(events->sockets->pdata[i], events);
    g_ptr_array_unref(events->sockets);
    g_free(events);
}

static char *event_text(const Events *events, const Event *event)
{
    g_autoptr(JsonObject) object = json_object_new();
    g_autoptr(JsonNode) node = json_node_init_object(json_node_alloc(), object);
    g_autofree char *time = json_time(g_get_real_time() / G_USEC_PER_SEC);
    const struct {
        const char *name, *value;
    } texts[] = {{"kind", event->kind},        {"time", time},          {"name", event->name},
                 {"uuid", event->uuid},        {"state", event->state}, {"problem", event->problem},
                 {"snapshot", event->snapshot}};

    for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++) {
        if (texts[i].value)
            json_object_set_string_member(object, texts[i].name, texts[i].value);
    }
    json_object_set_int_member(object, "sequence", events->sequence);
    if (event->end)
        json_object_set_member(object, "end", event->end);
    return json_to_string(node, FALSE);
}

/* A peer that does not take what it asked for is no listener any more. */
static bool takes_more(SoupWebsocketConnection *socket)
{
    GIOStream *stream = soup_websocket_connection_get_io_stream(socket);
    GOutputStream *output = stream ? g_io_stream_get_output_stream(stream) : NULL;

    return G_IS_POLLABLE_OUTPUT_STREAM(output) &&
           g_pollable_output_stream_is_writable(G_POLLABLE_OUTPUT_STREAM(output));
}

void events_tell(Events *events, const Event *event)
{
    g_autofree char *text = NULL;

    events->sequence++;
    text = event_text(events, event);
    for (guint i = events->sockets->len; i-- > 0;) {
        SoupWebsocketConnection *socket = events->sockets->pdata[i];
        if (soup_websocket_connection_get_state(socket) != SOUP_WEBSOCKET_STATE_OPEN)
            continue;
        if (takes_more(socket))
            soup_websocket_connection_send_text(socket, text);
        else
            g_io_stream_close(soup_websocket_connection_get_io_stream(socket), NULL, NULL);
    }
}

static void on_closed(SoupWebsocketConnection *socket, gpointer data)
{
    Events *events = data;

    g_ptr_array_remove_fast(events->sockets, socket);
}

void events_add(void *obj, SoupWebsocketConnection *socket)
{
    Events *events = obj;
    g_autofree char *hello = NULL;

    if (!socket)
        return;
    hello = event_text(events, &(Event){.kind = "hello"});
    g_ptr_array_add(events->sockets, socket);
    g_signal_connect(socket, "closed", G_CALLBACK(on_closed), events);
    soup_websocket_connection_send_text(socket, hello);
}
