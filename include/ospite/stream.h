/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file
 * What comes without being asked for: events, and what a guest writes on its console.
 */
#pragma once

#include <ospite/client.h>

G_BEGIN_DECLS

/** A row of messages from the daemon, and for consoles one to it. */
typedef struct OspiteStream OspiteStream;

/**
 * Follows what happens to machines and images. Each message is an "Event" of the description; the
 * first is of the kind "hello", and what happens after that is not missed.
 *
 * @param client  a client
 * @param error   set when it fails
 * @return the stream, to be freed with ospite_stream_free(); or NULL
 */
OspiteStream *ospite_events_open(OspiteClient *client, GError **error);

/**
 * Opens the serial port of a machine that runs. What it wrote lately comes first (64 KiB), then
 * what it writes from now on; what is sent is typed there.
 *
 * @param client  a client
 * @param name    the machine's name or UUID
 * @param error   set when it fails, #OSPITE_ERROR_WRONG_STATE when it is off
 * @return the stream, to be freed with ospite_stream_free(); or NULL
 */
OspiteStream *ospite_vm_console_open(OspiteClient *client, const char *name, GError **error);

/**
 * Waits for the next message. Not with ospite_stream_watch().
 *
 * @param stream      a stream
 * @param timeout_ms  milliseconds; -1: for ever
 * @param error       set to #OSPITE_ERROR_TIMED_OUT, or #OSPITE_ERROR_UNREACHABLE when the daemon
 *                    has ended the stream, which it does when the machine is off
 * @return the message (new); or NULL
 */
GBytes *ospite_stream_next(OspiteStream *stream, int timeout_ms, GError **error);

/**
 * Waits for the next event. Not with ospite_stream_watch().
 *
 * @param stream      of ospite_events_open()
 * @param timeout_ms  milliseconds; -1: for ever
 * @param error       as of ospite_stream_next()
 * @return the event: `kind`, `name`, `state`, … (new); or NULL
 */
JsonNode *ospite_events_next(OspiteStream *stream, int timeout_ms, GError **error);

/**
 * Types on a console.
 *
 * @param stream  of ospite_vm_console_open()
 * @param data    any bytes
 * @param size    how many
 * @param error   set to #OSPITE_ERROR_UNREACHABLE when the stream has ended
 * @return whether they were taken
 */
gboolean ospite_stream_send(OspiteStream *stream, const void *data, size_t size, GError **error);

/**
 * What ospite_stream_watch() calls.
 *
 * @param stream   the stream
 * @param message  a message, the stream's own; NULL: it has ended, and this is the last call
 * @param data     what was given to ospite_stream_watch()
 */
typedef void (*OspiteStreamFunc)(OspiteStream *stream, GBytes *message, void *data);

/**
 * Has a function called for each message, from the default main context of the thread that opened
 * the stream; messages that have come already are given to it at once.
 *
 * @param stream  a stream
 * @param func    called for each message and for the end
 * @param data    for it
 */
void ospite_stream_watch(OspiteStream *stream, OspiteStreamFunc func, void *data);

/**
 * Closes a stream. Its function is not called any more.
 *
 * @param stream  a stream, or NULL
 */
void ospite_stream_free(OspiteStream *stream);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(OspiteStream, ospite_stream_free)

G_END_DECLS
