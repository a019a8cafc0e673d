/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The character backend "unix": a listening Unix socket for one peer at a time. While nobody is
 * connected output is dropped.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/fd.h"
#include "char/stream.h"

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

/* A socket file that nobody listens at was left by a process that died. */
static void remove_stale(const struct sockaddr_un *address)
{
    auto_fd probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct stat st;
    if (probe < 0 || lstat(address->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
        return;
    if (connect(probe, (const struct sockaddr *)address, sizeof(*address)) < 0 &&
        errno == ECONNREFUSED)
        unlink(address->sun_path);
}

static int listen_at(const char *path, GError **error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (g_strlcpy(address.sun_path, path, sizeof(address.sun_path)) >= sizeof(address.sun_path)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_FILENAME_TOO_LONG,
                    "%s: a socket's path has at most %zu bytes; use a shorter one", path,
                    sizeof(address.sun_path) - 1);
        return -1;
    }
    remove_stale(&address);
    auto_fd fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* The mode set before bind() is the file's: nobody else can ever connect. */
    if (fd < 0 || fchmod(fd, 0600) < 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 1) < 0) {
        int code = errno;
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(code), "listening at %s: %s%s", path,
                    g_strerror(code),
                    code == EADDRINUSE ? " (another VM uses it, or a file of that name exists)"
                                       : "");
        return -1;
    }
    return fd_steal(&fd);
}

CharBackend *char_unix_open(const char *argument, GMainContext *context, GRecMutex *lock,
                            GError **error)
{
    int listener = listen_at(argument, error);
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
