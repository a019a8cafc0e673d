/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * NBD transmission: requests become requests to the disk, and their ends answers.
 *
 * A request that moves data is answered when the disk has done it; requests overtake each other.
 * FUA on what has none of its own in disk.h (zeroing, trimming) is a flush after it.
 */
#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "block/protocols/nbd_conn.h"

#define EXTENTS_MAX 1024
#define ZERO_CHUNK  65536
#define ZERO_IOVS   512

typedef struct NbdRequest {
    NbdOut out; /* its answer */
    DiskRequest disk;
    NbdConn *conn;
    uint16_t flags, type;
    uint8_t cookie[8];
    uint64_t offset;
    uint32_t size;
    uint64_t done;       /* of zeros that are written */
    struct iovec iov;    /* of the data */
    struct iovec *zeros; /* of zeros to write */
    uint8_t *data;       /* extents as the wire has them */
    NbdChunk *chunk;     /* that the data are in */
    DiskExtent *extents;
    size_t held; /* of the connection's bytes_held */
} NbdRequest;

typedef struct Command {
    const char *name;
    uint16_t flags; /* that it may have */
    bool writes, needs_range, moves_data;
    void (*start)(NbdRequest *r);
} Command;

static const uint8_t zero_chunk[ZERO_CHUNK];

/* ---- answers --------------------------------------------------------------------------------- */

static uint32_t wire_error(int error)
{
    static const struct {
        int host;
        uint32_t wire;
    } errors[] = {{0, 0},
                  {EPERM, NBD_EPERM},
                  {EACCES, NBD_EPERM},
                  {EROFS, NBD_EPERM},
                  {ENOMEM, NBD_ENOMEM},
                  {EINVAL, NBD_EINVAL},
                  {ENOSPC, NBD_ENOSPC},
                  {EDQUOT, NBD_ENOSPC},
                  {EFBIG, NBD_ENOSPC},
                  {ENOTSUP, NBD_ENOTSUP},
                  {ESHUTDOWN, NBD_ESHUTDOWN}};
    for (size_t i = 0; i < G_N_ELEMENTS(errors); i++) {
        if (errors[i].host == error)
            return errors[i].wire;
    }
    return NBD_EIO;
}

static void request_free(NbdOut *out)
{
    NbdRequest *r = (NbdRequest *)out;
    NbdConn *conn = r->conn;
    conn->requests_held--;
    conn->bytes_held -= r->held;
    nbd_conn_chunk_unref(conn, r->chunk);
    g_free(r->data);
    g_free(r->zeros);
    g_free(r->extents);
    g_free(r);
}

/* One chunk that ends its reply; `fields` of its payload are filled in by the caller. */
static uint8_t *put_structured(NbdRequest *r, uint16_t type, size_t fields)
{
    uint8_t *head = r->out.head;
    store_be32(head, NBD_STRUCTURED_MAGIC);
    store_be16(head + 4, NBD_CHUNK_DONE);
    store_be16(head + 6, type);
    memcpy(head + 8, r->cookie, 8);
    store_be32(head + 16, (uint32_t)(fields + r->out.data_size));
    r->out.head_size = NBD_STRUCTURED_SIZE + fields;
    return head + NBD_STRUCTURED_SIZE;
}

static void put_simple(NbdRequest *r, uint32_t error)
{
    uint8_t *head = r->out.head;
    store_be32(head, NBD_SIMPLE_MAGIC);
    store_be32(head + 4, error);
    memcpy(head + 8, r->cookie, 8);
    r->out.head_size = NBD_SIMPLE_SIZE;
}

/* Only these two must be answered in chunks where structured replies were agreed on. */
static bool wants_chunks(const NbdRequest *r)
{
    return r->conn->structured && (r->type == NBD_CMD_READ || r->type == NBD_CMD_BLOCK_STATUS);
}

static void answer_error(NbdRequest *r, int error)
{
    r->out.data_size = 0;
    if (!wants_chunks(r)) {
        put_simple(r, wire_error(error));
    } else {
        uint8_t *fields = put_structured(r, NBD_CHUNK_ERROR, 6);
        store_be32(fields, wire_error(error));
        store_be16(fields + 4, 0); /* no message */
    }
}

static void answer_read(NbdRequest *r)
{
    r->out.data = r->chunk->data;
    r->out.data_size = r->size;
    if (wants_chunks(r))
        store_be64(put_structured(r, NBD_CHUNK_DATA, 8), r->offset);
    else
        put_simple(r, 0);
}

static uint32_t state_flags(const DiskExtent *e)
{
    return (e->hole ? NBD_STATE_HOLE : 0) | (e->zero ? NBD_STATE_ZERO : 0);
}

/* Neighbours that are alike become one; a length never exceeds the request's 32 bits. */
static void answer_status(NbdRequest *r)
{
    unsigned count = 0;
    r->data = g_malloc(r->disk.extent_count * 8 + 8);
    for (unsigned i = 0; i < r->disk.extent_count; i++) {
        const DiskExtent *e = &r->extents[i];
        uint8_t *at = r->data + (size_t)count * 8, *last = at - 8;
        if (count && load_be32(last + 4) == state_flags(e)) {
            store_be32(last, load_be32(last) + (uint32_t)e->length);
            continue;
        }
        if (count && (r->flags & NBD_FLAG_REQ_ONE))
            break;
        store_be32(at, (uint32_t)e->length);
        store_be32(at + 4, state_flags(e));
        count++;
    }
    r->out.data = r->data;
    r->out.data_size = (size_t)count * 8;
    store_be32(put_structured(r, NBD_CHUNK_STATUS, 4), 0);
}

static void request_end(NbdRequest *r, int error)
{
    NbdConn *conn = r->conn;
    if (error)
        answer_error(r, error);
    else if (r->type == NBD_CMD_READ && r->size)
        answer_read(r);
    else if (r->type == NBD_CMD_BLOCK_STATUS)
        answer_status(r);
    else if (wants_chunks(r))
        put_structured(r, NBD_CHUNK_NONE, 0);
    else
        put_simple(r, 0);
    nbd_conn_send(conn, &r->out);
}

/* ---- the disk's part ------------------------------------------------------------------------- */

static void disk_done(DiskRequest *disk, int error);

static void submit(NbdRequest *r, DiskOp op, uint64_t offset, uint64_t size)
{
    r->disk.op = op;
    r->disk.offset = offset;
    r->disk.size = size;
    r->disk.done = disk_done;
    r->disk.obj = r;
    r->conn->in_flight++;
    disk_submit(r->conn->export->disk, &r->disk);
}

static void write_zeros(NbdRequest *r)
{
    uint64_t left = r->size - r->done, part = MIN(left, (uint64_t)ZERO_CHUNK * ZERO_IOVS);
    r->disk.iov = r->zeros;
    r->disk.iov_count = (int)((part + ZERO_CHUNK - 1) / ZERO_CHUNK);
    for (int i = 0; i < r->disk.iov_count; i++)
        r->zeros[i] =
            (struct iovec){(void *)zero_chunk, MIN(ZERO_CHUNK, part - (uint64_t)i * ZERO_CHUNK)};
    submit(r, DISK_WRITE, r->offset + r->done, part);
    r->done += part;
}

/* True when the request goes on. */
static bool go_on(NbdRequest *r)
{
    if (r->zeros && r->done < r->size) {
        write_zeros(r);
        return true;
    }
    bool wants_flush = (r->flags & NBD_FLAG_FUA) && !r->disk.fua && r->disk.op != DISK_FLUSH;
    if (wants_flush)
        submit(r, DISK_FLUSH, 0, 0);
    return wants_flush;
}

static void disk_done(DiskRequest *disk, int error)
{
    NbdRequest *r = disk->obj;
    NbdConn *conn = r->conn;
    conn->in_flight--;
    if (!error && !conn->closed && go_on(r))
        return;
    conn->busy++;
    request_end(r, error);
    conn->busy--;
    nbd_conn_settle(conn);
}

static void start_read(NbdRequest *r)
{
    r->chunk = nbd_conn_chunk_new(r->conn, r->size);
    r->iov = (struct iovec){r->chunk->data, r->size};
    r->disk.iov = &r->iov;
    r->disk.iov_count = 1;
    submit(r, DISK_READ, r->offset, r->size);
}

static void start_write(NbdRequest *r)
{
    r->disk.iov = &r->iov;
    r->disk.iov_count = 1;
    r->disk.fua = r->flags & NBD_FLAG_FUA;
    submit(r, DISK_WRITE, r->offset, r->size);
}

static void start_flush(NbdRequest *r)
{
    submit(r, DISK_FLUSH, 0, 0);
}

static void start_trim(NbdRequest *r)
{
    submit(r, DISK_DISCARD, r->offset, r->size);
}

/* Zeros that must take up space are written. */
static void start_write_zeroes(NbdRequest *r)
{
    if (r->flags & NBD_FLAG_NO_HOLE && r->size) {
        r->zeros = g_new(struct iovec, ZERO_IOVS);
        write_zeros(r);
    } else {
        submit(r, DISK_WRITE_ZEROES, r->offset, r->size);
    }
}

static void start_block_status(NbdRequest *r)
{
    if (!r->conn->has_context || !r->size) {
        request_end(r, EINVAL);
        return;
    }
    r->extents = g_new(DiskExtent, EXTENTS_MAX);
    r->disk.extents = r->extents;
    r->disk.extent_count = EXTENTS_MAX;
    submit(r, DISK_MAP, r->offset, r->size);
}

/* ---- requests -------------------------------------------------------------------------------- */

static const Command commands[] = {
    [NBD_CMD_READ] = {"read", NBD_FLAG_DF | NBD_FLAG_FUA, false, true, true, start_read},
    [NBD_CMD_WRITE] = {"write", NBD_FLAG_FUA, true, true, true, start_write},
    [NBD_CMD_FLUSH] = {"flush", NBD_FLAG_FUA, false, false, false, start_flush},
    [NBD_CMD_TRIM] = {"trim", NBD_FLAG_FUA, true, true, false, start_trim},
    /* The host caches what is read. */
    [NBD_CMD_CACHE] = {"cache", 0, false, true, true, start_read},
    [NBD_CMD_WRITE_ZEROES] = {"zero", NBD_FLAG_FUA | NBD_FLAG_NO_HOLE, true, true, false,
                              start_write_zeroes},
    [NBD_CMD_BLOCK_STATUS] = {"status", NBD_FLAG_REQ_ONE, false, true, false, start_block_status},
};

static const Command *find_command(uint16_t type)
{
    return type < G_N_ELEMENTS(commands) && commands[type].start ? &commands[type] : NULL;
}

/* 0, or the errno that refuses the request. */
static int check_request(const NbdRequest *r, const Command *command)
{
    const DiskInfo *info = disk_info(r->conn->export->disk);
    if (!command || r->flags & ~command->flags)
        return EINVAL;
    if (command->writes && info->read_only)
        return EPERM;
    if (!command->needs_range)
        return 0;
    if (r->offset > info->size || r->size > info->size - r->offset)
        return command->writes ? ENOSPC : EINVAL;
    if ((r->offset | r->size) % info->sector_size)
        return EINVAL;
    return command->moves_data && r->size > NBD_TRANSFER_MAX ? EINVAL : 0;
}

static NbdRequest *request_new(NbdConn *conn, const uint8_t *head)
{
    NbdRequest *r = g_new0(NbdRequest, 1);
    r->conn = conn;
    r->out.free = request_free;
    r->flags = load_be16(head + 4);
    r->type = load_be16(head + 6);
    memcpy(r->cookie, head + 8, sizeof(r->cookie));
    r->offset = load_be64(head + 16);
    r->size = load_be32(head + 24);
    conn->requests_held++;
    return r;
}

static void request_start(NbdRequest *r)
{
    const Command *command = find_command(r->type);
    int error = check_request(r, command);
    if (!error && command->moves_data) {
        r->held = r->size;
        r->conn->bytes_held += r->held;
        r->conn->bytes_new += r->held;
    }
    if (error)
        request_end(r, error);
    else
        command->start(r);
}

/* A write is taken with its data, which stay where they are. */
static bool step_request(NbdConn *conn)
{
    NbdChunk *chunk = conn->chunk;
    if (chunk->used - chunk->start < NBD_REQUEST_SIZE) {
        conn->need = NBD_REQUEST_SIZE;
        return false;
    }
    const uint8_t *head = chunk->data + chunk->start;
    uint16_t type = load_be16(head + 6);
    uint32_t size = type == NBD_CMD_WRITE ? load_be32(head + 24) : 0;
    if (load_be32(head) != NBD_REQUEST_MAGIC || size > NBD_TRANSFER_MAX) {
        nbd_conn_close(conn, false);
        return false;
    }
    if (type == NBD_CMD_DISCONNECT) {
        nbd_conn_close(conn, true);
        return false;
    }
    head = nbd_conn_take(conn, NBD_REQUEST_SIZE + size);
    if (!head)
        return false;
    NbdRequest *r = request_new(conn, head);
    if (size) {
        r->chunk = nbd_chunk_ref(chunk);
        r->iov = (struct iovec){(void *)(head + NBD_REQUEST_SIZE), size};
    }
    request_start(r);
    return true;
}

uint16_t nbd_export_flags(const NbdExport *export)
{
    uint16_t flags = NBD_HAS_FLAGS | NBD_SEND_FLUSH | NBD_SEND_FUA | NBD_SEND_DF |
                     NBD_CAN_MULTI_CONN | NBD_SEND_CACHE;
    bool read_only = disk_info(export->disk)->read_only;
    return flags | (read_only ? NBD_READ_ONLY : NBD_SEND_TRIM | NBD_SEND_WRITE_ZEROES);
}

void nbd_session_begin(NbdConn *conn, const NbdExport *export)
{
    nbd_conn_end_timer(conn);
    conn->export = export;
    conn->has_context = conn->context_export == export;
    conn->step = step_request;
}
