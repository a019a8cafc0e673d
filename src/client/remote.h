/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A daemon elsewhere, reached over TCP: where it is, how it is known and what we show it. The
 * environment says so (`ospite --connect` and its companions set it):
 *
 *     OSPITE_CONNECT      https://HOST:PORT; not set: the user's own daemon
 *     OSPITE_TOKEN_FILE   a file that nobody else can read
 *     OSPITE_FINGERPRINT  sha256:… of its certificate; not set: an authority of the host vouches
 */
#pragma once

#include <libsoup/soup.h>
#include <stdbool.h>

typedef struct Remote {
    char *base;  /* NULL: the user's own daemon */
    char *token; /* what the header says */
    char *fingerprint;
} Remote;
void remote_clear(Remote *remote);

bool remote_read(Remote *remote, GError **error);
/* A session that talks to it only (new). */
SoupSession *remote_session(const Remote *remote);
/* A request of "/vms" and the like, wherever the daemon is (new); NULL: that is no path. */
SoupMessage *remote_message(const Remote *remote, const char *method, const char *path);
/* Says what to do about a connection that failed. */
void remote_explain(const Remote *remote, GError **error);
