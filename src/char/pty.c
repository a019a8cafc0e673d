/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The character backend "pty": a new pseudo-terminal for a terminal program to attach to. While
 * nobody has it open output is dropped; the kernel tells of that only as a hang-up that lasts, so a
 * timer looks again.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <termios.h>

#include "base/fd.h"
#include "base/i18n.h"
#include "char/stream.h"

#define LOOK_AGAIN_MS 200

typedef struct PtyChar {
    Stream stream;
    int master;
    char *path;
    GSource *timer; /* while nobody is there */
} PtyChar;

static gboolean look_again(void *obj)
{
    PtyChar *self = obj;
    struct pollfd state = {.fd = self->master, .events = POLLIN};
    if (!stream_enter(&self->stream))
        return G_SOURCE_REMOVE;
    bool present = poll(&state, 1, 0) >= 0 && !(state.revents & POLLHUP);
    int copy = present ? fcntl(self->master, F_DUPFD_CLOEXEC, 3) : -1;
    if (copy >= 0) {
        stream_unwatch(&self->timer);
        stream_attach(&self->stream, copy, copy, false);
    }
    stream_leave(&self->stream);
    return copy >= 0 ? G_SOURCE_REMOVE : G_SOURCE_CONTINUE;
}

static void wait_for_peer(Stream *stream)
{
    PtyChar *self = (PtyChar *)stream;
    stream_detach(stream);
    if (self->timer)
        return;
    self->timer = g_timeout_source_new(LOOK_AGAIN_MS);
    g_source_set_callback(self->timer, look_again, self, NULL);
    g_source_attach(self->timer, stream->context);
}

static void pty_free(CharBackend *backend)
{
    PtyChar *self = (PtyChar *)backend;
    stream_unwatch(&self->timer);
    stream_clear(&self->stream);
    fd_clear(&self->master);
    g_free(self->path);
    g_free(self);
}

static const CharBackendOps pty_ops = {
    .name = "pty",
    .write = stream_write,
    .accept_input = stream_accept_input,
    .free = pty_free,
};

/* The slave's side starts raw: a guest's bytes are not to be echoed or changed. */
static bool make_raw(const char *path)
{
    struct termios mode;
    auto_fd slave = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (slave < 0 || tcgetattr(slave, &mode) < 0)
        return false;
    cfmakeraw(&mode);
    return tcsetattr(slave, TCSANOW, &mode) == 0;
}

CharBackend *char_pty_open(const char *argument, GMainContext *context, GRecMutex *lock,
                           GError **error)
{
    char path[128];
    auto_fd master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0 ||
        ptsname_r(master, path, sizeof(path)) != 0 || !make_raw(path)) {
        int code = errno;
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(code),
                    _("cannot open a pseudo-terminal: %s; is /dev/pts mounted?"), g_strerror(code));
        return NULL;
    }
    PtyChar *self = g_new0(PtyChar, 1);
    self->stream.backend.ops = &pty_ops;
    stream_init(&self->stream, context, lock);
    self->stream.closed = wait_for_peer;
    self->master = fd_steal(&master);
    self->path = g_strdup(path);
    wait_for_peer(&self->stream);
    return &self->stream.backend;
}

const char *char_pty_path(const CharBackend *backend)
{
    return backend && backend->ops == &pty_ops ? ((const PtyChar *)backend)->path : NULL;
}
