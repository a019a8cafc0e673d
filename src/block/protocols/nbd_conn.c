/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The socket's side of an NBD connection; see nbd_conn.h. */
#include "block/protocols/nbd_conn.h"

#include <errno.h>
#include <string.h>

#define CHUNK_SIZE   (256u << 10)
#define SEND_IOVS    64
#define READ_BUDGET  4 /* turns of recv() before others have theirs */
#define REQUESTS_MAX 256
#define BYTES_MAX    (16u << 20)
#define ANSWERS_MAX  1024 /* unsent */
/*
 * Data that a processor has just read are in its cache, and sending them from there costs a third
 * of what it costs later. So answers leave after so many bytes of requests, and nothing more is
 * read for a client that leaves so much unsent.
 */
#define BYTES_WARM (512u << 10)

/* ---- input ----------------------------------------------------------------------------------- */

NbdChunk *nbd_conn_chunk_new(NbdConn *conn, size_t size)
{
    NbdChunk *chunk;
    if (size > CHUNK_SIZE / 4 && size < CHUNK_SIZE)
        size = CHUNK_SIZE;
    if (size == CHUNK_SIZE && conn->spare_count)
        chunk = conn->spares[--conn->spare_count];
    else
        chunk = g_malloc(sizeof(NbdChunk) + size);
    chunk->refs = 1;
    chunk->size = size;
    chunk->start = chunk->used = 0;
    return chunk;
}

NbdChunk *nbd_chunk_ref(NbdChunk *chunk)
{
    chunk->refs++;
    return chunk;
}

void nbd_conn_chunk_unref(NbdConn *conn, NbdChunk *chunk)
{
    if (!chunk || --chunk->refs)
        return;
    if (chunk->size == CHUNK_SIZE && conn->spare_count < NBD_SPARES)
        conn->spares[conn->spare_count++] = chunk;
    else
        g_free(chunk);
}

/* Room for the message at hand, with what there is of it in front. */
static void make_room(NbdConn *conn)
{
    NbdChunk *old = conn->chunk;
    size_t have = old->used - old->start;
    if (!have && old->refs == 1)
        old->start = old->used = 0;
    if (old->start + MAX(conn->need, have + 1) <= old->size)
        return;
    conn->chunk = nbd_conn_chunk_new(conn, MAX(CHUNK_SIZE, conn->need));
    memcpy(conn->chunk->data, old->data + old->start, have);
    conn->chunk->used = have;
    nbd_conn_chunk_unref(conn, old);
}

const uint8_t *nbd_conn_take(NbdConn *conn, size_t size)
{
    NbdChunk *chunk = conn->chunk;
    if (chunk->used - chunk->start < size) {
        conn->need = size;
        return NULL;
    }
    conn->need = 0;
    chunk->start += size;
    return chunk->data + chunk->start - size;
}

/* ---- the end --------------------------------------------------------------------------------- */

static void drop_output(NbdConn *conn)
{
    GList *link;
    while ((link = g_queue_pop_head_link(&conn->out))) {
        NbdOut *out = link->data;
        out->free(out);
    }
}

void nbd_conn_end_timer(NbdConn *conn)
{
    if (!conn->timer)
        return;
    g_source_destroy(conn->timer);
    g_clear_pointer(&conn->timer, g_source_unref);
}

static void conn_free(NbdConn *conn)
{
    NbdServer *server = conn->server;
    g_queue_unlink(&server->conns, &conn->link);
    nbd_conn_chunk_unref(conn, conn->chunk);
    while (conn->spare_count)
        g_free(conn->spares[--conn->spare_count]);
    g_free(conn);
    if (server->options.client_left)
        server->options.client_left(server->options.obj, server->conns.length);
}

void nbd_conn_settle(NbdConn *conn)
{
    bool done = conn->closing && !conn->out.length && !conn->in_flight;
    if (done && !conn->closed)
        nbd_conn_close(conn, false);
    else if (conn->closed && !conn->busy && !conn->in_flight)
        conn_free(conn);
}

void nbd_conn_close(NbdConn *conn, bool after_output)
{
    conn->closing = true;
    if (!after_output && !conn->closed) {
        conn->closed = true;
        conn->busy++;
        drop_output(conn);
        nbd_conn_end_timer(conn);
        g_source_destroy(conn->source);
        g_source_unref(conn->source);
        if (conn->is_dirty)
            g_queue_unlink(&conn->server->dirty, &conn->dirty);
        nbd_stream_clear(&conn->stream);
        conn->busy--;
    }
    nbd_conn_settle(conn);
}

/* ---- what the socket is asked for ------------------------------------------------------------ */

/* A client that doesn't read its answers is not read from. */
static bool may_read(const NbdConn *conn)
{
    return !conn->closing && conn->requests_held < REQUESTS_MAX &&
           conn->bytes_held < (conn->out_waits ? BYTES_WARM : BYTES_MAX) &&
           conn->out.length < ANSWERS_MAX;
}

static void watch(NbdConn *conn)
{
    GIOCondition wanted = may_read(conn) ? G_IO_IN : 0;
    if (conn->closed)
        return;
    if (conn->out_waits || nbd_stream_wants_to_write(&conn->stream))
        wanted |= G_IO_OUT;
    g_source_modify_unix_fd(conn->source, conn->tag, wanted);
}

/* ---- output ---------------------------------------------------------------------------------- */

static int gather(const NbdConn *conn, struct iovec *iov)
{
    int n = 0;
    for (GList *l = conn->out.head; l && n + 2 <= SEND_IOVS; l = l->next) {
        const NbdOut *out = l->data;
        size_t sent = out->sent;
        if (sent < out->head_size)
            iov[n++] = (struct iovec){(void *)(out->head + sent), out->head_size - sent};
        sent -= MIN(sent, out->head_size);
        if (sent < out->data_size)
            iov[n++] =
                (struct iovec){(void *)((const uint8_t *)out->data + sent), out->data_size - sent};
    }
    return n;
}

static void pass_output(NbdConn *conn, size_t bytes)
{
    while (conn->out.length) {
        NbdOut *out = conn->out.head->data;
        size_t left = out->head_size + out->data_size - out->sent;
        if (left > bytes) {
            out->sent += bytes;
            return;
        }
        bytes -= left;
        g_queue_unlink(&conn->out, &out->link);
        out->free(out);
    }
}

static void send_all(NbdConn *conn)
{
    conn->out_waits = false;
    while (conn->out.length && !conn->closed) {
        struct iovec iov[SEND_IOVS];
        ssize_t n = nbd_stream_send(&conn->stream, iov, gather(conn, iov));
        if (n == -EAGAIN) {
            conn->out_waits = true;
            return;
        }
        if (n <= 0) {
            nbd_conn_close(conn, false);
            return;
        }
        pass_output(conn, (size_t)n);
    }
}

static void conn_read(NbdConn *conn);

void nbd_conn_flush(NbdConn *conn)
{
    bool could_read = may_read(conn);
    conn->busy++;
    send_all(conn);
    if (!conn->closed && !could_read && may_read(conn))
        conn_read(conn);
    watch(conn);
    conn->busy--;
    nbd_conn_settle(conn);
}

void nbd_conn_send(NbdConn *conn, NbdOut *out)
{
    out->link = (GList){.data = out};
    if (conn->closed) {
        out->free(out);
        return;
    }
    g_queue_push_tail_link(&conn->out, &out->link);
    if (conn->is_dirty)
        return;
    conn->is_dirty = true;
    g_queue_push_tail_link(&conn->server->dirty, &conn->dirty);
}

static void free_bytes(NbdOut *out)
{
    g_free((void *)out->data);
    g_free(out);
}

void nbd_conn_send_bytes(NbdConn *conn, const void *head, size_t head_size, const void *data,
                         size_t size)
{
    NbdOut *out = g_new0(NbdOut, 1);
    memcpy(out->head, head, head_size);
    out->head_size = head_size;
    out->data = g_memdup2(data, size);
    out->data_size = size;
    out->free = free_bytes;
    nbd_conn_send(conn, out);
}

/* ---- reading --------------------------------------------------------------------------------- */

/* What the host had in memory leaves before more of it is read. */
static void send_what_is_done(NbdConn *conn, Disk *disk)
{
    conn->bytes_new = 0;
    disk_unplug(disk);
    disk_poll(disk);
    send_all(conn);
    disk_plug(disk);
}

static void take_messages(NbdConn *conn)
{
    Disk *disk = conn->export ? conn->export->disk : NULL;
    if (disk)
        disk_plug(disk);
    while (may_read(conn) && conn->step(conn)) {
        if (disk && conn->bytes_new >= BYTES_WARM)
            send_what_is_done(conn, disk);
    }
    if (disk)
        disk_unplug(disk);
}

/* Bytes that TLS has already decrypted make no socket ready, so they have no budget. */
static void conn_read(NbdConn *conn)
{
    take_messages(conn);
    for (int turn = 0; may_read(conn) && !conn->stream.negotiating; turn++) {
        if (turn >= READ_BUDGET && !nbd_stream_has_pending(&conn->stream))
            return;
        make_room(conn);
        NbdChunk *chunk = conn->chunk;
        size_t room = chunk->size - chunk->used;
        ssize_t n = nbd_stream_recv(&conn->stream, chunk->data + chunk->used, room);
        if (n == -EAGAIN)
            return;
        if (n <= 0) {
            nbd_conn_close(conn, false);
            return;
        }
        chunk->used += (size_t)n;
        take_messages(conn);
        if ((size_t)n < room && !nbd_stream_has_pending(&conn->stream))
            return;
    }
}

static void conn_ready(NbdConn *conn, GIOCondition condition)
{
    if (condition & G_IO_OUT)
        send_all(conn);
    if (!conn->closed && (condition & (G_IO_HUP | G_IO_ERR)) && !may_read(conn))
        nbd_conn_close(conn, false);
    else if (!conn->closed && (!conn->stream.negotiating || conn->step(conn)))
        conn_read(conn);
}

typedef struct ConnSource {
    GSource source;
    NbdConn *conn;
} ConnSource;

static gboolean source_dispatch(GSource *source, GSourceFunc callback, gpointer data)
{
    NbdConn *conn = ((ConnSource *)source)->conn;
    conn->busy++;
    conn_ready(conn, g_source_query_unix_fd(source, conn->tag));
    watch(conn);
    conn->busy--;
    nbd_conn_settle(conn);
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs source_funcs = {.dispatch = source_dispatch};

static gboolean on_timer(gpointer obj)
{
    nbd_conn_close(obj, false);
    return G_SOURCE_REMOVE;
}

NbdConn *nbd_conn_new(NbdServer *server, int fd)
{
    NbdConn *conn = g_new0(NbdConn, 1);
    conn->server = server;
    conn->link.data = conn->dirty.data = conn;
    nbd_stream_init(&conn->stream, fd);
    conn->chunk = nbd_conn_chunk_new(conn, CHUNK_SIZE);
    conn->source = g_source_new(&source_funcs, sizeof(ConnSource));
    ((ConnSource *)conn->source)->conn = conn;
    conn->tag = g_source_add_unix_fd(conn->source, fd, G_IO_IN);
    g_source_attach(conn->source, server->context);
    conn->timer = g_timeout_source_new(server->options.handshake_ms);
    g_source_set_callback(conn->timer, on_timer, conn, NULL);
    g_source_attach(conn->timer, server->context);
    return conn;
}
