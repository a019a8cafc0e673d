/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The character backends "stdio" and "file".
 *
 * A terminal is put into raw mode and has the escape key Ctrl-A; any other input is passed on as it
 * is. Standard descriptors are shared with the shell and other processes, so they are never made
 * non-blocking themselves: pipes and terminals are opened anew, others polled.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/i18n.h"
#include "char/stream.h"
#include "char/terminal.h"

#define ESCAPE_KEY 0x01 /* Ctrl-A */

typedef struct StdioChar {
    Stream stream;
    bool terminal;
    bool escaped; /* the last byte was the escape key */
    void (*command)(void *obj, char command);
    void *command_obj;
} StdioChar;

static size_t filter_escape(Stream *stream, uint8_t *data, size_t size)
{
    StdioChar *stdio = (StdioChar *)stream;
    size_t kept = 0;
    for (size_t i = 0; i < size; i++) {
        if (!stdio->escaped && data[i] == ESCAPE_KEY) {
            stdio->escaped = true;
        } else if (stdio->escaped && data[i] != ESCAPE_KEY) {
            stdio->escaped = false;
            if (stdio->command)
                stdio->command(stdio->command_obj, data[i]);
        } else {
            stdio->escaped = false;
            data[kept++] = data[i];
        }
    }
    return kept;
}

static void stdio_free(CharBackend *backend)
{
    StdioChar *stdio = (StdioChar *)backend;
    bool terminal = stdio->terminal;
    stream_clear(&stdio->stream);
    if (terminal)
        terminal_leave_raw();
    g_free(stdio);
}

static const CharBackendOps stdio_ops = {
    .name = "stdio",
    .write = stream_write,
    .accept_input = stream_accept_input,
    .free = stdio_free,
};

/* A descriptor of our own for the same file; *ret_blocks: writes may block. -1: none to be had. */
static int own_descriptor(int fd, int mode, bool *ret_blocks)
{
    struct stat st;
    *ret_blocks = false;
    if (fstat(fd, &st) < 0)
        return -1;
    if (S_ISFIFO(st.st_mode) || isatty(fd)) {
        g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);
        int own = open(path, mode | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (own >= 0)
            return own;
    }
    *ret_blocks = !S_ISREG(st.st_mode);
    return fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

CharBackend *char_stdio_new(int in, int out, GMainContext *context, GRecMutex *lock, GError **error)
{
    bool terminal = isatty(in), blocks, unused;
    if (terminal && !terminal_enter_raw(in, error))
        return NULL;
    StdioChar *stdio = g_new0(StdioChar, 1);
    stdio->stream.backend.ops = &stdio_ops;
    stream_init(&stdio->stream, context, lock);
    stdio->terminal = stdio->stream.always_read = terminal;
    stdio->stream.filter = terminal ? filter_escape : NULL;
    int own_in = own_descriptor(in, O_RDONLY, &unused);
    int own_out = own_descriptor(out, O_WRONLY, &blocks);
    stream_attach(&stdio->stream, own_in, own_out, blocks);
    return &stdio->stream.backend;
}

CharBackend *char_stdio_open(const char *argument, GMainContext *context, GRecMutex *lock,
                             GError **error)
{
    return char_stdio_new(STDIN_FILENO, STDOUT_FILENO, context, lock, error);
}

void char_stdio_set_escape(CharBackend *backend, void (*fn)(void *obj, char command), void *obj)
{
    if (!backend || backend->ops != &stdio_ops)
        return;
    ((StdioChar *)backend)->command = fn;
    ((StdioChar *)backend)->command_obj = obj;
}

/* ---- file ------------------------------------------------------------------------------------ */

static void file_free(CharBackend *backend)
{
    stream_clear((Stream *)backend);
    g_free(backend);
}

static const CharBackendOps file_ops = {
    .name = "file",
    .write = stream_write,
    .accept_input = stream_accept_input,
    .free = file_free,
};

CharBackend *char_file_open(const char *argument, GMainContext *context, GRecMutex *lock,
                            GError **error)
{
    int fd = open(argument, O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0666);
    if (fd < 0) {
        int code = errno;
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(code),
                    _("cannot open '%s' for a device's output: %s%s"), argument, g_strerror(code),
                    code == ENXIO ? _("; start the reader of the pipe first")
                                  : _("; check the path"));
        return NULL;
    }
    Stream *stream = g_new0(Stream, 1);
    stream->backend.ops = &file_ops;
    stream_init(stream, context, lock);
    stream_attach(stream, -1, fd, false);
    return &stream->backend;
}
