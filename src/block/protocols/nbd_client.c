/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The module `nbd`: files on NBD servers, through libnbd; see remote.h. Calls that come at once go
 * through connections of their own where the server allows it.
 */
#include <errno.h>
#include <libnbd.h>
#include <string.h>

#include "base/i18n.h"
#include "base/module.h"
#include "block/protocols/remote.h"

#define CONNECTIONS_MAX 4
/* No server must take more in one request. */
#define REQUEST_MAX (32u << 20)

typedef struct NbdFile {
    char *address;
    bool read_only;
    unsigned allowed; /* connections */
    GMutex lock;      /* of those that are open and not in use: */
    GCond freed;
    unsigned open, idle_count;
    struct nbd_handle *idle[CONNECTIONS_MAX];
} NbdFile;

/* ---- connections ----------------------------------------------------------------------------- */

static struct nbd_handle *connect_to(const char *address, GError **error)
{
    struct nbd_handle *nbd = nbd_create();
    if (nbd && nbd_set_uri_allow_local_file(nbd, true) == 0 &&
        nbd_set_uri_allow_transports(nbd, LIBNBD_ALLOW_TRANSPORT_TCP |
                                              LIBNBD_ALLOW_TRANSPORT_UNIX) == 0 &&
        nbd_add_meta_context(nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) == 0 &&
        nbd_connect_uri(nbd, address) == 0)
        return nbd;
    g_set_error(error, G_IO_ERROR, g_io_error_from_errno(nbd_get_errno()),
                _("cannot open disk '%s': %s"), address, nbd_get_error());
    nbd_close(nbd);
    return NULL;
}

/* One that nobody uses; opens another or waits. NULL: the server is gone. */
static struct nbd_handle *take(NbdFile *file)
{
    struct nbd_handle *nbd = NULL;
    g_mutex_lock(&file->lock);
    while (!file->idle_count && file->open >= file->allowed && file->open)
        g_cond_wait(&file->freed, &file->lock);
    if (file->idle_count)
        nbd = file->idle[--file->idle_count];
    else if (file->open)
        file->open++; /* in this thread's hands from here */
    bool open = !nbd && file->open;
    g_mutex_unlock(&file->lock);
    if (open)
        nbd = connect_to(file->address, NULL);
    if (nbd || !open)
        return nbd;
    /* The server wants no more of us: make do with those that are there. */
    g_mutex_lock(&file->lock);
    file->allowed = --file->open;
    g_mutex_unlock(&file->lock);
    return file->allowed ? take(file) : NULL;
}

static void give_back(NbdFile *file, struct nbd_handle *nbd)
{
    bool dead = nbd_aio_is_dead(nbd) != 0 || nbd_aio_is_closed(nbd) != 0;
    g_mutex_lock(&file->lock);
    if (dead)
        file->allowed = --file->open;
    else
        file->idle[file->idle_count++] = nbd;
    g_cond_broadcast(&file->freed);
    g_mutex_unlock(&file->lock);
    if (dead)
        nbd_close(nbd);
}

/* After a call that failed. */
static int failure(struct nbd_handle *nbd)
{
    int code = nbd_get_errno();
    if (nbd_aio_is_dead(nbd) != 0 || nbd_aio_is_closed(nbd) != 0)
        return -ENOLINK;
    return code ? -code : -EIO;
}

static bool describe(NbdFile *file, struct nbd_handle *nbd, RemoteInfo *ret, GError **error)
{
    int64_t size = nbd_get_size(nbd), block = nbd_get_block_size(nbd, LIBNBD_SIZE_MINIMUM);
    if (size < 0) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED, _("cannot open disk '%s': %s"),
                    file->address, nbd_get_error());
        return false;
    }
    *ret = (RemoteInfo){.size = (uint64_t)size,
                        .block = block > 0 ? (uint32_t)MIN(block, G_MAXUINT32) : 1,
                        .read_only = nbd_is_read_only(nbd) != 0};
    file->allowed = nbd_can_multi_conn(nbd) == 1 ? CONNECTIONS_MAX : 1;
    return true;
}

static void nbd_file_close(void *obj)
{
    NbdFile *file = obj;
    for (unsigned i = 0; i < file->idle_count; i++) {
        nbd_shutdown(file->idle[i], 0);
        nbd_close(file->idle[i]);
    }
    g_mutex_clear(&file->lock);
    g_cond_clear(&file->freed);
    g_free(file->address);
    g_free(file);
}

static void *nbd_file_open(const char *address, bool read_only, RemoteInfo *ret_info,
                           GError **error)
{
    struct nbd_handle *nbd = connect_to(address, error);
    if (!nbd)
        return NULL;
    NbdFile *file = g_new0(NbdFile, 1);
    g_mutex_init(&file->lock);
    g_cond_init(&file->freed);
    file->address = g_strdup(address);
    file->read_only = read_only;
    file->open = file->idle_count = 1;
    file->idle[0] = nbd;
    if (describe(file, nbd, ret_info, error))
        return file;
    nbd_file_close(file);
    return NULL;
}

/* ---- calls ----------------------------------------------------------------------------------- */

typedef int (*Call)(struct nbd_handle *nbd, uint8_t *data, size_t size, uint64_t offset);

/* In parts that every server takes. */
static int in_parts(NbdFile *file, Call call, uint64_t offset, uint8_t *data, uint64_t size)
{
    struct nbd_handle *nbd = take(file);
    if (!nbd)
        return -ENOLINK;
    int result = 0;
    for (uint64_t done = 0; done < size && !result;) {
        size_t part = MIN(size - done, REQUEST_MAX);
        result = call(nbd, data ? data + done : NULL, part, offset + done) ? failure(nbd) : 0;
        done += part;
    }
    give_back(file, nbd);
    return result;
}

static int call_read(struct nbd_handle *nbd, uint8_t *data, size_t size, uint64_t offset)
{
    return nbd_pread(nbd, data, size, offset, 0);
}

static int call_write(struct nbd_handle *nbd, uint8_t *data, size_t size, uint64_t offset)
{
    return nbd_pwrite(nbd, data, size, offset, 0);
}

static int call_punch(struct nbd_handle *nbd, uint8_t *data, size_t size, uint64_t offset)
{
    return nbd_zero(nbd, size, offset, 0);
}

static int call_zero(struct nbd_handle *nbd, uint8_t *data, size_t size, uint64_t offset)
{
    return nbd_zero(nbd, size, offset, LIBNBD_CMD_FLAG_NO_HOLE);
}

static int call_flush(struct nbd_handle *nbd, uint8_t *data, size_t size, uint64_t offset)
{
    return nbd_can_flush(nbd) == 1 ? nbd_flush(nbd, 0) : 0;
}

static int nbd_file_read(void *file, uint64_t offset, void *data, size_t size)
{
    return in_parts(file, call_read, offset, data, size);
}

static int nbd_file_write(void *file, uint64_t offset, const void *data, size_t size)
{
    return in_parts(file, call_write, offset, (uint8_t *)data, size);
}

static int nbd_file_zero(void *obj, uint64_t offset, uint64_t size, bool keep)
{
    int result = in_parts(obj, keep ? call_zero : call_punch, offset, NULL, size);
    return result == -EINVAL || result == -ENOTSUP ? -EOPNOTSUPP : result;
}

/* A server that lets several connect promises that a flush is for what all of them wrote. */
static int nbd_file_flush(void *obj)
{
    NbdFile *file = obj;
    return file->read_only ? 0 : in_parts(file, call_flush, 0, NULL, 1);
}

typedef struct Status {
    uint64_t length;
    bool zero;
} Status;

/* Neighbours of the same kind are one answer. */
static int on_status(void *obj, const char *context, uint64_t offset, uint32_t *entries,
                     size_t count, int *error)
{
    Status *status = obj;
    for (size_t i = 0; i + 1 < count && !strcmp(context, LIBNBD_CONTEXT_BASE_ALLOCATION); i += 2) {
        bool zero = (entries[i + 1] & LIBNBD_STATE_ZERO) != 0;
        if (status->length && zero != status->zero)
            break;
        status->zero = zero;
        status->length += entries[i];
    }
    return 0;
}

static int nbd_file_status(void *obj, uint64_t offset, uint64_t size, uint64_t *ret_length,
                           bool *ret_zero)
{
    Status status = {0};
    NbdFile *file = obj;
    struct nbd_handle *nbd = take(file);
    if (!nbd)
        return -ENOLINK;
    int result = 0;
    if (nbd_can_meta_context(nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) != 1)
        status.length = size;
    else if (nbd_block_status(nbd, MIN(size, REQUEST_MAX * 32ull), offset,
                              (nbd_extent_callback){.callback = on_status, .user_data = &status},
                              0))
        result = failure(nbd);
    give_back(file, nbd);
    *ret_length = MIN(status.length, size);
    *ret_zero = status.zero;
    return result;
}

static const RemoteApi api = {
    .open = nbd_file_open,
    .close = nbd_file_close,
    .read = nbd_file_read,
    .write = nbd_file_write,
    .zero = nbd_file_zero,
    .flush = nbd_file_flush,
    .status = nbd_file_status,
};
OSPITE_MODULE(&api);
