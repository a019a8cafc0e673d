/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Character streams on file descriptors (see stream.h). */
#include "char/stream.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_CHUNK     4096
#define BLOCKING_CHUNK 64 /* what a descriptor that polls writable takes without blocking */
#define FAREWELL_MS    1000

/* ---- sources --------------------------------------------------------------------------------- */

GSource *stream_watch(Stream *stream, int fd, GIOCondition condition, GUnixFDSourceFunc fn,
                      void *obj)
{
    GSource *source = g_unix_fd_source_new(fd, condition);
    g_source_set_callback(source, G_SOURCE_FUNC(fn), obj, NULL);
    g_source_attach(source, stream->context);
    return source;
}

void stream_unwatch(GSource **source)
{
    if (!*source)
        return;
    g_source_destroy(*source);
    g_clear_pointer(source, g_source_unref);
}

/* A vCPU thread may have destroyed the source while its callback waited for the lock. */
bool stream_enter(Stream *stream)
{
    if (stream->backend.lock)
        g_rec_mutex_lock(stream->backend.lock);
    if (!g_source_is_destroyed(g_main_current_source()))
        return true;
    stream_leave(stream);
    return false;
}

void stream_leave(Stream *stream)
{
    if (stream->backend.lock)
        g_rec_mutex_unlock(stream->backend.lock);
}

static void peer_gone(Stream *stream)
{
    if (stream->closed)
        stream->closed(stream);
}

/* ---- output ---------------------------------------------------------------------------------- */

static void tell_writable(Stream *stream)
{
    const CharFrontend *frontend = stream->backend.frontend;
    if (!stream->refused)
        return;
    stream->refused = false;
    if (frontend && frontend->writable)
        frontend->writable(stream->backend.frontend_obj);
}

/* Sockets need no flag of the descriptor; anything else is asked whether it takes a few bytes. */
static ssize_t write_unblocked(int fd, const uint8_t *data, size_t size)
{
    struct pollfd ready = {.fd = fd, .events = POLLOUT};
    ssize_t sent = send(fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0 || errno != ENOTSOCK)
        return sent;
    return poll(&ready, 1, 0) > 0 ? write(fd, data, MIN(size, BLOCKING_CHUNK)) : 0;
}

/* Bytes written now; -1 when the peer is gone. */
static ssize_t write_now(Stream *stream, const uint8_t *data, size_t size)
{
    ssize_t written;
    do
        written = stream->out_blocks ? write_unblocked(stream->out, data, size)
                                     : write(stream->out, data, size);
    while (written < 0 && errno == EINTR);
    return written < 0 && errno == EAGAIN ? 0 : written;
}

static void output_broken(Stream *stream)
{
    stream_unwatch(&stream->out_source);
    g_byte_array_set_size(stream->output, 0);
    if (stream->out >= 0 && stream->out != stream->in)
        close(stream->out);
    stream->out = -1;
    tell_writable(stream);
    peer_gone(stream);
}

/* Writes from the queue; true while something is left in it. */
static bool flush_queue(Stream *stream)
{
    while (stream->output->len) {
        ssize_t written = write_now(stream, stream->output->data, stream->output->len);
        if (written < 0) {
            output_broken(stream);
            return false;
        }
        if (written == 0)
            return true;
        g_byte_array_remove_range(stream->output, 0, written);
    }
    return false;
}

static gboolean output_ready(int fd, GIOCondition condition, void *obj)
{
    Stream *stream = obj;
    if (!stream_enter(stream))
        return G_SOURCE_REMOVE;
    if (!flush_queue(stream))
        stream_unwatch(&stream->out_source);
    if (stream->output->len <= STREAM_OUTPUT_CAP / 2)
        tell_writable(stream);
    bool more = stream->out_source != NULL;
    stream_leave(stream);
    return more ? G_SOURCE_CONTINUE : G_SOURCE_REMOVE;
}

size_t stream_write(CharBackend *backend, const uint8_t *data, size_t size)
{
    Stream *stream = (Stream *)backend;
    if (stream->out < 0)
        return size;
    ssize_t written = stream->output->len ? 0 : write_now(stream, data, size);
    if (written < 0) {
        stream->refused = false; /* the caller is told by the answer */
        output_broken(stream);
        return size;
    }
    size_t rest = size - written;
    size_t queued = MIN(rest, STREAM_OUTPUT_CAP - stream->output->len);
    g_byte_array_append(stream->output, data + written, queued);
    if (rest && !stream->out_source)
        stream->out_source = stream_watch(stream, stream->out, G_IO_OUT, output_ready, stream);
    stream->refused |= queued < rest;
    return written + queued;
}

/* ---- input ----------------------------------------------------------------------------------- */

/* What the device takes now of what has arrived. */
static void deliver(Stream *stream)
{
    const CharFrontend *frontend = stream->backend.frontend;
    void *obj = stream->backend.frontend_obj;
    uint8_t chunk[256];
    while (frontend && frontend->receive && stream->input->len) {
        size_t size = MIN(frontend->can_receive(obj), MIN(stream->input->len, sizeof(chunk)));
        if (size == 0)
            return;
        memcpy(chunk, stream->input->data, size);
        g_byte_array_remove_range(stream->input, 0, size);
        frontend->receive(obj, chunk, size);
    }
}

static void input_ended(Stream *stream)
{
    stream_unwatch(&stream->in_source);
    if (stream->in != stream->out) {
        close(stream->in);
        stream->in = -1;
    }
    peer_gone(stream);
}

static void read_input(Stream *stream)
{
    uint8_t data[READ_CHUNK];
    ssize_t got = read(stream->in, data, sizeof(data));
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        input_ended(stream);
        return;
    }
    size_t size = stream->filter ? stream->filter(stream, data, got) : (size_t)got;
    size = MIN(size, STREAM_INPUT_CAP - stream->input->len);
    g_byte_array_append(stream->input, data, size);
    deliver(stream);
}

static gboolean input_ready(int fd, GIOCondition condition, void *obj)
{
    Stream *stream = obj;
    if (!stream_enter(stream))
        return G_SOURCE_REMOVE;
    if (stream->always_read || !stream->input->len)
        read_input(stream);
    else
        stream_unwatch(&stream->in_source); /* until the device takes what is here */
    bool more = stream->in_source != NULL;
    stream_leave(stream);
    return more ? G_SOURCE_CONTINUE : G_SOURCE_REMOVE;
}

static void watch_input(Stream *stream)
{
    if (stream->in >= 0 && !stream->in_source)
        stream->in_source =
            stream_watch(stream, stream->in, G_IO_IN | G_IO_HUP | G_IO_ERR, input_ready, stream);
}

void stream_accept_input(CharBackend *backend)
{
    Stream *stream = (Stream *)backend;
    deliver(stream);
    if (!stream->input->len)
        watch_input(stream);
}

/* ---- life ------------------------------------------------------------------------------------ */

void stream_init(Stream *stream, GMainContext *context, GRecMutex *lock)
{
    stream->backend.lock = lock;
    stream->context = context;
    stream->in = stream->out = -1;
    stream->input = g_byte_array_new();
    stream->output = g_byte_array_new();
}

void stream_attach(Stream *stream, int in, int out, bool out_blocks)
{
    stream->in = in;
    stream->out = out;
    stream->out_blocks = out_blocks;
    watch_input(stream);
}

void stream_detach(Stream *stream)
{
    stream_unwatch(&stream->in_source);
    stream_unwatch(&stream->out_source);
    if (stream->in >= 0)
        close(stream->in);
    if (stream->out >= 0 && stream->out != stream->in)
        close(stream->out);
    stream->in = stream->out = -1;
    g_byte_array_set_size(stream->output, 0);
    tell_writable(stream);
}

void stream_clear(Stream *stream)
{
    stream->backend.frontend = NULL;
    stream->closed = NULL;
    while (stream->out >= 0 && flush_queue(stream)) {
        struct pollfd ready = {.fd = stream->out, .events = POLLOUT};
        if (poll(&ready, 1, FAREWELL_MS) <= 0)
            break;
    }
    stream_detach(stream);
    g_clear_pointer(&stream->input, g_byte_array_unref);
    g_clear_pointer(&stream->output, g_byte_array_unref);
}
