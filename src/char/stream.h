/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The part that backends on file descriptors share: a bounded output queue, and input that waits
 * for the device.
 *
 * Invariant: nothing here blocks. Descriptors are non-blocking, or polled before each small write.
 * Sources run on the main loop and take the lock; everything else is called with it held.
 */
#pragma once

#include <glib-unix.h>

#include "char/char.h"

#define STREAM_OUTPUT_CAP (1024 * 1024) /* bytes queued before the device feels it */
#define STREAM_INPUT_CAP  (64 * 1024)   /* bytes a terminal may run ahead of the guest */

typedef struct Stream Stream;

struct Stream {
    CharBackend backend;
    GMainContext *context;
    int in, out;      /* -1: none; output is then dropped */
    bool out_blocks;  /* `out` could not be made non-blocking */
    bool always_read; /* a terminal is read even if the guest does not: the escape key works */
    bool refused;     /* the device was told to wait */
    GByteArray *input, *output;
    GSource *in_source, *out_source;
    /* Input as it arrives becomes input for the device, in place; NULL: unchanged. */
    size_t (*filter)(Stream *stream, uint8_t *data, size_t size);
    /* The peer is gone: end of file, hang-up or an error. NULL: stop using that direction. */
    void (*closed)(Stream *stream);
};

/* `stream` is zeroed, with its backend's ops set. Takes no descriptors yet. */
void stream_init(Stream *stream, GMainContext *context, GRecMutex *lock);
/* Begins to use descriptors (owned from now on; may be the same one twice). */
void stream_attach(Stream *stream, int in, int out, bool out_blocks);
/* Stops using and closes them; what was queued is lost, the device is told that there is room. */
void stream_detach(Stream *stream);
/* Writes out what was accepted, except to a peer that takes nothing for a second; then detaches. */
void stream_clear(Stream *stream);
/* Entries for CharBackendOps. */
size_t stream_write(CharBackend *backend, const uint8_t *data, size_t size);
void stream_accept_input(CharBackend *backend);

/* A source on the stream's context that calls fn(fd, condition, obj); destroy and unref it. */
GSource *stream_watch(Stream *stream, int fd, GIOCondition condition, GUnixFDSourceFunc fn,
                      void *obj);
void stream_unwatch(GSource **source);
/* The board lock around a callback of a source; false when the source has been destroyed meanwhile.
 */
bool stream_enter(Stream *stream);
void stream_leave(Stream *stream);

/* The backends that char_open() knows; `argument` is what follows the colon, or NULL. */
CharBackend *char_null_open(const char *argument, GMainContext *context, GRecMutex *lock,
                            GError **error);
CharBackend *char_stdio_open(const char *argument, GMainContext *context, GRecMutex *lock,
                             GError **error);
CharBackend *char_file_open(const char *argument, GMainContext *context, GRecMutex *lock,
                            GError **error);
CharBackend *char_unix_open(const char *argument, GMainContext *context, GRecMutex *lock,
                            GError **error);
CharBackend *char_console_open(const char *argument, GMainContext *context, GRecMutex *lock,
                               GError **error);
CharBackend *char_pty_open(const char *argument, GMainContext *context, GRecMutex *lock,
                           GError **error);
