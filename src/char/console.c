/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The character backend "console": a listening Unix socket for several peers at once. Each sees
 * what was written lately, then what is written from now on; what any of them sends reaches the
 * device. A slow peer loses output, the guest never waits.
 *
 * A peer is a Stream in a slot: slots are never freed while the backend lives, so a stream may find
 * out in the middle of its own work that its peer has gone.
 */
#include <sys/socket.h>

#include "base/fd.h"
#include "char/stream.h"
#include "char/unix_socket.h"

#define PEERS_MAX       8
#define HISTORY_KEPT    (64 * 1024)
#define HISTORY_TRIM_AT (2 * HISTORY_KEPT)

typedef struct ConsoleChar ConsoleChar;

typedef struct ConsolePeer {
    Stream stream;
    ConsoleChar *console;
} ConsolePeer;

struct ConsoleChar {
    CharBackend backend;
    ConsolePeer peers[PEERS_MAX];
    GByteArray *history;
    int listener;
    char *path;
    GSource *accept_source;
};

/* ---- what a peer's stream sees of the device ------------------------------------------------- */

static size_t device_can_receive(void *obj)
{
    ConsoleChar *self = obj;
    const CharFrontend *frontend = self->backend.frontend;
    return frontend && frontend->receive ? frontend->can_receive(self->backend.frontend_obj) : 0;
}

static void device_receive(void *obj, const uint8_t *data, size_t size)
{
    ConsoleChar *self = obj;
    self->backend.frontend->receive(self->backend.frontend_obj, data, size);
}

static const CharFrontend device = {.can_receive = device_can_receive, .receive = device_receive};

/* ---- peers ----------------------------------------------------------------------------------- */

static bool peer_is_connected(const ConsolePeer *peer)
{
    return peer->stream.in >= 0;
}

static ConsolePeer *free_slot(ConsoleChar *self)
{
    for (unsigned i = 0; i < PEERS_MAX; i++) {
        if (!peer_is_connected(&self->peers[i]))
            return &self->peers[i];
    }
    return NULL;
}

static gboolean peer_arrived(int fd, GIOCondition condition, void *obj)
{
    ConsoleChar *self = obj;
    Stream *any = &self->peers[0].stream; /* for its lock */
    if (!stream_enter(any))
        return G_SOURCE_REMOVE;
    int arrived = accept4(self->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (arrived >= 0) {
        Stream *stream = &free_slot(self)->stream;
        size_t kept = MIN(self->history->len, HISTORY_KEPT);
        stream_attach(stream, arrived, arrived, false);
        stream_write(&stream->backend, self->history->data + self->history->len - kept, kept);
    }
    if (!free_slot(self))
        stream_unwatch(&self->accept_source); /* the next one waits in the backlog */
    bool more = self->accept_source != NULL;
    stream_leave(any);
    return more ? G_SOURCE_CONTINUE : G_SOURCE_REMOVE;
}

static void watch_listener(ConsoleChar *self)
{
    if (!self->accept_source)
        self->accept_source =
            stream_watch(&self->peers[0].stream, self->listener, G_IO_IN, peer_arrived, self);
}

static void peer_left(Stream *stream)
{
    stream_detach(stream);
    g_byte_array_set_size(stream->input, 0);
    watch_listener(((ConsolePeer *)stream)->console);
}

/* ---- backend --------------------------------------------------------------------------------- */

static size_t console_write(CharBackend *backend, const uint8_t *data, size_t size)
{
    ConsoleChar *self = (ConsoleChar *)backend;
    g_byte_array_append(self->history, data, size);
    if (self->history->len > HISTORY_TRIM_AT)
        g_byte_array_remove_range(self->history, 0, self->history->len - HISTORY_KEPT);
    for (unsigned i = 0; i < PEERS_MAX; i++) {
        if (peer_is_connected(&self->peers[i]))
            stream_write(&self->peers[i].stream.backend, data, size);
    }
    return size;
}

static void console_accept_input(CharBackend *backend)
{
    ConsoleChar *self = (ConsoleChar *)backend;
    for (unsigned i = 0; i < PEERS_MAX; i++) {
        if (peer_is_connected(&self->peers[i]))
            stream_accept_input(&self->peers[i].stream.backend);
    }
}

static void console_free(CharBackend *backend)
{
    ConsoleChar *self = (ConsoleChar *)backend;
    stream_unwatch(&self->accept_source);
    for (unsigned i = 0; i < PEERS_MAX; i++)
        stream_clear(&self->peers[i].stream);
    unlink(self->path);
    fd_clear(&self->listener);
    g_byte_array_unref(self->history);
    g_free(self->path);
    g_free(self);
}

static const CharBackendOps console_ops = {
    .name = "console",
    .write = console_write,
    .accept_input = console_accept_input,
    .free = console_free,
};

CharBackend *char_console_open(const char *argument, GMainContext *context, GRecMutex *lock,
                               GError **error)
{
    int listener = unix_socket_listen(argument, PEERS_MAX, error);
    if (listener < 0)
        return NULL;
    ConsoleChar *self = g_new0(ConsoleChar, 1);
    self->backend.ops = &console_ops;
    self->backend.lock = lock;
    self->history = g_byte_array_new();
    self->listener = listener;
    self->path = g_strdup(argument);
    for (unsigned i = 0; i < PEERS_MAX; i++) {
        ConsolePeer *peer = &self->peers[i];
        peer->console = self;
        stream_init(&peer->stream, context, lock);
        peer->stream.closed = peer_left;
        peer->stream.backend.frontend = &device;
        peer->stream.backend.frontend_obj = self;
    }
    watch_listener(self);
    return &self->backend;
}
