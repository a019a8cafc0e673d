/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One client of an NBD server: what negotiation (nbd_handshake.c), transmission (nbd_session.c) and
 * the socket's side (nbd_conn.c) share.
 *
 *   socket ──> chunk of input ──> step() takes whole messages ──> requests to the disk
 *   socket <── queue of output <── answers, in the order they are ready
 *
 * Invariants: data of a write are used where they were received, so a chunk lives until the last
 * request that points into it is done. A connection that is closed lives until its last request
 * came back from the disk.
 */
#pragma once

#include "block/protocols/nbd_server.h"
#include "block/protocols/nbd_wire.h"

typedef struct NbdExport {
    char *name, *description;
    Disk *disk;
} NbdExport;

typedef struct NbdChunk {
    unsigned refs;
    size_t size, start, used; /* not yet taken: [start, used) */
    uint8_t data[];
} NbdChunk;

typedef struct NbdConn NbdConn;

/* Something to send: a head, and data that follow it. */
typedef struct NbdOut {
    GList link;
    uint8_t head[48];
    size_t head_size;
    const void *data;
    size_t data_size;
    size_t sent;
    void (*free)(struct NbdOut *out);
} NbdOut;

#define NBD_SPARES 16

struct NbdConn {
    NbdServer *server;
    GList link; /* in the server's list */
    NbdStream stream;
    GSource *source, *timer;
    gpointer tag;  /* of the socket in its source */
    unsigned busy; /* depth of calls that must not lose it */
    /* Takes one message from the input; false: it needs more, or must wait. */
    bool (*step)(NbdConn *conn);
    NbdChunk *chunk;
    NbdChunk *spares[NBD_SPARES]; /* fresh memory would cost as much as copying into it */
    unsigned spare_count;
    size_t need;    /* bytes that the next message is known to have */
    GQueue out;     /* NbdOut */
    bool out_waits; /* the socket takes no more for now */
    bool closing;   /* after the output */
    bool closed;
    GList dirty; /* in the server's list of those with output */
    bool is_dirty;

    /* negotiation */
    unsigned options;
    bool no_zeroes, structured;
    const NbdExport *context_export; /* base:allocation was asked for this one */

    /* transmission */
    const NbdExport *export;
    bool has_context;
    unsigned in_flight;     /* requests that the disk has … */
    unsigned requests_held; /* … and with those whose answers are not sent … */
    size_t bytes_held;      /* … their data … */
    size_t bytes_new;       /* … and those since answers were last sent in between */
};

struct NbdServer {
    NbdServerOptions options;
    GMainContext *context;
    GPtrArray *exports;   /* NbdExport */
    GPtrArray *listeners; /* GSource */
    GQueue conns, dirty;
    GSource *flush; /* sends what a turn of the loop brought */
};

/* nbd_conn.c */
/* The next `size` bytes, taken; NULL: they are not there yet. */
const uint8_t *nbd_conn_take(NbdConn *conn, size_t size);
void nbd_conn_send(NbdConn *conn, NbdOut *out);
/* Copies. */
void nbd_conn_send_bytes(NbdConn *conn, const void *head, size_t head_size, const void *data,
                         size_t size);
/* Hangs up; `after_output`: once all is sent. */
void nbd_conn_close(NbdConn *conn, bool after_output);
/* Negotiation is over. */
void nbd_conn_end_timer(NbdConn *conn);
/* Frees it if it is closed and nothing needs it any more. */
void nbd_conn_settle(NbdConn *conn);
/* Room for so many bytes. */
NbdChunk *nbd_conn_chunk_new(NbdConn *conn, size_t size);
NbdChunk *nbd_chunk_ref(NbdChunk *chunk);
void nbd_conn_chunk_unref(NbdConn *conn, NbdChunk *chunk);
NbdConn *nbd_conn_new(NbdServer *server, int fd);
/* Sends what is queued. */
void nbd_conn_flush(NbdConn *conn);

/* nbd_handshake.c */
void nbd_handshake_begin(NbdConn *conn);

/* nbd_session.c */
void nbd_session_begin(NbdConn *conn, const NbdExport *export);
uint16_t nbd_export_flags(const NbdExport *export);

/* nbd_server.c */
/* By name; the first one for "". */
const NbdExport *nbd_server_find(const NbdServer *server, const char *name, size_t length);
