/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * An NBD server: exports disks to clients that connect to sockets it is given. Fixed newstyle
 * negotiation, simple and structured replies, base:allocation, several clients of one disk at once
 * (a flush of one covers what all of them wrote).
 *
 * A client is hostile: nothing is allocated by its word beyond NBD_TRANSFER_MAX, negotiation ends
 * after `handshake_ms`, there are at most `max_clients`, and one that does not read its answers is
 * not read from any more.
 *
 * Threads: everything on the thread of `context`, without the disks' lock.
 */
#pragma once

#include "block/disk.h"
#include "block/protocols/nbd_stream.h"

typedef struct NbdServer NbdServer;

typedef struct NbdServerOptions {
    unsigned max_clients;  /* 0: 16 */
    unsigned handshake_ms; /* 0: 10 s */
    NbdTls *tls;           /* not owned; NULL: in the clear. With it nobody goes without */
    void (*client_left)(void *obj, unsigned left); /* NULL: not wanted */
    void *obj;
} NbdServerOptions;

NbdServer *nbd_server_new(const NbdServerOptions *options, GMainContext *context);
/* Hangs up on all clients, after what their disks are at work on. NULL is allowed. */
void nbd_server_free(NbdServer *server);
/* The disk stays the caller's. The first export is what clients get that name none. */
void nbd_server_add_export(NbdServer *server, const char *name, const char *description,
                           Disk *disk);
/* Takes a listening socket, non-blocking. */
void nbd_server_listen(NbdServer *server, int fd);
/* Takes a connected socket. */
void nbd_server_adopt(NbdServer *server, int fd);
unsigned nbd_server_client_count(const NbdServer *server);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(NbdServer, nbd_server_free)
