/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A character stream between a device (serial port, debug console) and the host: terminal, file,
 * Unix socket, nothing, or memory (tests).
 *
 * A backend never blocks its caller: what the host can't take now is queued up to a cap; then
 * char_write() accepts less and `writable` is called later. All calls: board lock held.
 */
#pragma once

#include <gio/gio.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct CharBackend CharBackend;

typedef struct CharFrontend {
    /* How many bytes the device can take now. */
    size_t (*can_receive)(void *obj);
    /* At most that many bytes arrive. */
    void (*receive)(void *obj, const uint8_t *data, size_t size);
    /* There is room for output again; NULL: not needed. */
    void (*writable)(void *obj);
} CharFrontend;

typedef struct CharBackendOps {
    const char *name;
    size_t (*write)(CharBackend *backend, const uint8_t *data, size_t size);
    /* The frontend can take input again. */
    void (*accept_input)(CharBackend *backend);
    void (*free)(CharBackend *backend);
} CharBackendOps;

/* Concrete backends embed this first. */
struct CharBackend {
    const CharBackendOps *ops;
    const CharFrontend *frontend; /* the device at the other end; NULL: none */
    void *frontend_obj;
    GRecMutex *lock; /* the board lock, taken around frontend calls */
};

/*
 * From the text a user writes: "none", "stdio", "file:PATH", "unix:PATH" (a listening socket for
 * one peer), "console:PATH" (one for several, with what was written lately), "pty". Fails naming
 * the word and the choices, or the file and the reason. Callbacks come on `context`.
 */
CharBackend *char_open(const char *spec, GMainContext *context, GRecMutex *lock, GError **error);
/* NULL is allowed. Output that was accepted is written out first, except to a stuck peer. */
void char_free(CharBackend *backend);
void char_connect(CharBackend *backend, const CharFrontend *frontend, void *obj);
/* Returns how many bytes were taken; a NULL backend takes all. */
size_t char_write(CharBackend *backend, const uint8_t *data, size_t size);
void char_accept_input(CharBackend *backend);

/* A backend in memory for tests: what the device wrote is appended to a GByteArray. */
CharBackend *char_memory_new(GRecMutex *lock);
GByteArray *char_memory_output(CharBackend *backend);
/* Input for the device; what it can't take now waits. */
void char_memory_feed(CharBackend *backend, const uint8_t *data, size_t size);
/* From now on it takes `room` more bytes (SIZE_MAX: any number); tells the device when there is
 * room. */
void char_memory_set_room(CharBackend *backend, size_t room);

/*
 * On a terminal Ctrl-A is the escape key of "stdio": the character after it goes to `fn` instead of
 * the device, but for a second Ctrl-A, which sends one. Called from the main loop with the lock
 * held. No effect on other backends.
 */
void char_stdio_set_escape(CharBackend *backend, void (*fn)(void *obj, char command), void *obj);
/* As char_open("stdio") on two descriptors of the caller's, which stay open. For tests. */
CharBackend *char_stdio_new(int in, int out, GMainContext *context, GRecMutex *lock,
                            GError **error);
/* The terminal to attach to ("/dev/pts/3"), or NULL when the backend is no "pty". */
const char *char_pty_path(const CharBackend *backend);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(CharBackend, char_free)
