/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The registry of character backends, and what all of them share (see char.h). */
#include "char/char.h"

#include <signal.h>
#include <string.h>

#include "base/i18n.h"
#include "char/stream.h"

typedef CharBackend *(*CharOpenFn)(const char *argument, GMainContext *context, GRecMutex *lock,
                                   GError **error);

static const struct {
    const char *word;
    bool takes_path;
    CharOpenFn open;
} kinds[] = {
    {"none", false, char_null_open}, {"stdio", false, char_stdio_open},
    {"file", true, char_file_open},  {"unix", true, char_unix_open},
    {"pty", false, char_pty_open},   {"console", true, char_console_open},
};

CharBackend *char_open(const char *spec, GMainContext *context, GRecMutex *lock, GError **error)
{
    size_t length = strcspn(spec, ":");
    const char *argument = spec[length] ? spec + length + 1 : NULL;
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        if (strlen(kinds[i].word) != length || memcmp(kinds[i].word, spec, length))
            continue;
        if (kinds[i].takes_path != (argument && *argument))
            break;
        signal(SIGPIPE, SIG_IGN); /* a reader that leaves is an error of write(), not our end */
        return kinds[i].open(argument, context, lock, error);
    }
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                _("'%s' is no character device; use none, stdio, file:PATH, unix:PATH, "
                  "console:PATH or pty"),
                spec);
    return NULL;
}

void char_free(CharBackend *backend)
{
    if (backend)
        backend->ops->free(backend);
}

void char_connect(CharBackend *backend, const CharFrontend *frontend, void *obj)
{
    backend->frontend = frontend;
    backend->frontend_obj = obj;
    if (frontend)
        char_accept_input(backend);
}

size_t char_write(CharBackend *backend, const uint8_t *data, size_t size)
{
    return backend && backend->ops->write ? backend->ops->write(backend, data, size) : size;
}

void char_accept_input(CharBackend *backend)
{
    if (backend->ops->accept_input)
        backend->ops->accept_input(backend);
}

/* ---- none ------------------------------------------------------------------------------------ */

static void null_free(CharBackend *backend)
{
    g_free(backend);
}

static const CharBackendOps null_ops = {.name = "none", .free = null_free};

CharBackend *char_null_open(const char *argument, GMainContext *context, GRecMutex *lock,
                            GError **error)
{
    CharBackend *backend = g_new0(CharBackend, 1);
    backend->ops = &null_ops;
    backend->lock = lock;
    return backend;
}
