/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The character backend "unix": a listening Unix socket for one peer at a time. While nobody is
 * connected output is dropped.
 */
#include <sys/socket.h>

#include "base/fd.h"
#include "char/stream.h"
#include "char/unix_socket.h"

typedef struct UnixChar {
    Stream stream;
    int listener;
    char *path;
    GSource *accept_source;
} UnixChar;

static void watch_listener(UnixChar *self);

static gboolean peer_arrived(int fd, GIOCondition condition, void *obj)
{
    UnixChar *self = obj;
    if (!stream_enter(&self->stream))
        return G_SOURCE_REMOVE;
    int peer = accept4(self->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (peer >= 0) {
        stream_unwatch(&self->accept_source); /* the next one waits in the backlog */
        stream_attach(&self->stream, peer, peer, false);
    }
    stream_leave(&self->stream);
    return peer >= 0 ? G_SOURCE_REMOVE : G_SOURCE_CONTINUE;
}

static void watch_listener(UnixChar *self)
{
    if (!self->accept_source)
        self->accept_source =
            stream_watch(&self->stream, self->listener, G_IO_IN, peer_arrived, self);
}

static void peer_left(Stream *stream)
{
    stream_detach(stream);
    g_byte_array_set_size(stream->input, 0);
    watch_listener((UnixChar *)stream);
}

static void unix_free(CharBackend *backend)
{
    UnixChar *self = (UnixChar *)backend;
    stream_unwatch(&self->accept_source);
    stream_clear(&self->stream);
    if (self->path)
        unlink(self->path);
    fd_clear(&self->listener);
    g_free(self->path);
    g_free(self);
}

static const CharBackendOps unix_ops = {
    .name = "unix",
    .write = stream_write,
    .accept_input = stream_accept_input,
    .free = unix_free,
};

CharBackend *char_unix_open(const char *argument, GMainContext *context, GRecMutex *lock,
                            GError **error)
{
    int listener = unix_socket_listen(argument, 1, error);
    if (listener < 0)
        return NULL;
    UnixChar *self = g_new0(UnixChar, 1);
    self->stream.backend.ops = &unix_ops;
    stream_init(&self->stream, context, lock);
    self->stream.closed = peer_left;
    self->listener = listener;
    self->path = g_strdup(argument);
    watch_listener(self);
    return &self->stream.backend;
}
