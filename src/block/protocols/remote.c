/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Files on other machines; see remote.h. */
#include "block/protocols/remote.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/i18n.h"
#include "base/module.h"
#include "block/iov_cursor.h"

#define BLOCK_MAX       65536u
#define WAITING_THREADS 4

struct RemoteFile {
    const RemoteApi *api;
    void *file;
    RemoteInfo info;
    GMutex cut;      /* one writes to a part of a block at a time */
    GMutex answered; /* for what the server has told last of … */
    uint64_t from, to;
    bool zero;
    GThreadPool *pool; /* for calls that wait */
};

static const struct {
    const char *prefix, *module;
} protocols[] = {
    {"nbd://", "nbd"},       {"nbds://", "nbd"},  {"nbd+unix://", "nbd"},
    {"nbds+unix://", "nbd"}, {"http://", "http"}, {"https://", "http"},
};

static const char *find_module(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(protocols); i++) {
        if (g_str_has_prefix(name, protocols[i].prefix))
            return protocols[i].module;
    }
    return NULL;
}

bool remote_is_address(const char *name)
{
    return find_module(name) != NULL;
}

static void run_in_thread(gpointer data, gpointer obj);

static RemoteFile *open_with(const char *module, const char *address, int fd, bool read_only,
                             uint64_t *ret_size, GError **error)
{
    RemoteInfo info = {0};
    const RemoteApi *api = module_load(module, error);
    if (!api && fd >= 0)
        close(fd);
    void *opened = api ? api->open(address, fd, read_only, &info, error) : NULL;
    if (!opened)
        return NULL;
    RemoteFile *file = g_new0(RemoteFile, 1);
    file->api = api;
    file->file = opened;
    file->info = info;
    g_mutex_init(&file->cut);
    g_mutex_init(&file->answered);
    file->pool = g_thread_pool_new(run_in_thread, file, WAITING_THREADS, FALSE, NULL);
    *ret_size = info.size;
    const char *why = info.block > BLOCK_MAX || !is_power_of_two(info.block)
                          ? _("the server wants blocks of a size that is not supported")
                      : info.size > INT64_MAX          ? _("it is too large")
                      : (info.read_only && !read_only) ? _("the server lets nobody write to it")
                                                       : NULL;
    if (!why)
        return file;
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED, _("cannot open disk '%s': %s"),
                address, why);
    remote_close(file);
    return NULL;
}

RemoteFile *remote_open(const char *address, bool read_only, uint64_t *ret_size, GError **error)
{
    return open_with(find_module(address), address, -1, read_only, ret_size, error);
}

RemoteFile *remote_open_socket(const char *name, int fd, bool read_only, uint64_t *ret_size,
                               GError **error)
{
    return open_with("nbd", name, fd, read_only, ret_size, error);
}

void remote_close(RemoteFile *file)
{
    if (!file)
        return;
    g_thread_pool_free(file->pool, FALSE, TRUE);
    file->api->close(file->file);
    g_mutex_clear(&file->cut);
    g_mutex_clear(&file->answered);
    g_free(file);
}

/* ---- calls that wait ------------------------------------------------------------------------- */

typedef struct Waiter {
    GMutex lock;
    GCond cond;
    bool done;
    int result;
} Waiter;

static void wake_waiter(RemoteCall *call, int result)
{
    Waiter *waiter = call->obj;
    g_mutex_lock(&waiter->lock);
    waiter->done = true;
    waiter->result = result;
    g_cond_signal(&waiter->cond);
    g_mutex_unlock(&waiter->lock);
}

static int submit_and_wait(RemoteFile *f, RemoteCall *call)
{
    Waiter waiter = {0};
    RemoteCall asked = *call;
    g_mutex_init(&waiter.lock);
    g_cond_init(&waiter.cond);
    asked.done = wake_waiter;
    asked.obj = &waiter;
    f->api->submit(f->file, &asked);
    g_mutex_lock(&waiter.lock);
    while (!waiter.done)
        g_cond_wait(&waiter.cond, &waiter.lock);
    g_mutex_unlock(&waiter.lock);
    g_cond_clear(&waiter.cond);
    g_mutex_clear(&waiter.lock);
    call->ret_length = asked.ret_length;
    call->ret_zero = asked.ret_zero;
    return waiter.result;
}

/* ---- blocks ---------------------------------------------------------------------------------- */

/* The whole blocks around some bytes; the last one of a file may be short. */
static RemoteCall blocks_around(const RemoteFile *f, const RemoteCall *call, RemoteOp op,
                                struct iovec *iov)
{
    uint64_t begin = align_down(call->offset, f->info.block);
    uint64_t end = MIN(align_up(call->offset + call->size, f->info.block), f->info.size);
    *iov = (struct iovec){.iov_len = end - begin};
    return (RemoteCall){.op = op,
                        .offset = begin,
                        .size = end - begin,
                        .iov = iov,
                        .iov_count = 1,
                        .durable = call->durable};
}

static bool is_whole(const RemoteFile *f, const RemoteCall *call)
{
    struct iovec iov;
    return blocks_around(f, call, call->op, &iov).size == call->size;
}

static int read_cut(RemoteFile *f, const RemoteCall *call)
{
    struct iovec iov;
    RemoteCall whole = blocks_around(f, call, REMOTE_READ, &iov);
    g_autofree uint8_t *blocks = iov.iov_base = g_malloc(whole.size);
    int result = submit_and_wait(f, &whole);
    IovCursor to;
    iov_cursor_init(&to, call->iov, call->iov_count);
    if (!result)
        iov_cursor_fill(&to, blocks + (call->offset - whole.offset), call->size);
    return result;
}

static int write_cut(RemoteFile *f, const RemoteCall *call)
{
    struct iovec iov;
    RemoteCall read = blocks_around(f, call, REMOTE_READ, &iov), write = read;
    g_autofree uint8_t *blocks = iov.iov_base = g_malloc(read.size);
    write.op = REMOTE_WRITE;
    IovCursor from;
    iov_cursor_init(&from, call->iov, call->iov_count);
    g_mutex_lock(&f->cut);
    int result = submit_and_wait(f, &read);
    iov_cursor_copy(&from, blocks + (call->offset - read.offset), call->size);
    if (!result)
        result = submit_and_wait(f, &write);
    g_mutex_unlock(&f->cut);
    return result;
}

/* ---- calls ----------------------------------------------------------------------------------- */

static void forget_answer(RemoteFile *f)
{
    g_mutex_lock(&f->answered);
    f->from = f->to = 0;
    g_mutex_unlock(&f->answered);
}

/* For reading alone, vector by vector. */
static int read_vectors(RemoteFile *f, const RemoteCall *call)
{
    int result = 0;
    uint64_t done = 0;
    for (int i = 0; done < call->size && !result; i++) {
        size_t part = MIN(call->iov[i].iov_len, call->size - done);
        result = f->api->read(f->file, call->offset + done, call->iov[i].iov_base, part);
        done += part;
    }
    return result;
}

/* True when there is something to do; else `ret` is the result. */
static bool prepare(RemoteFile *f, RemoteCall *call, int *ret)
{
    bool changes = call->op == REMOTE_WRITE || call->op == REMOTE_ZERO;
    *ret = 0;
    if (call->op == REMOTE_FLUSH)
        return f->api->submit != NULL;
    uint64_t there = call->offset < f->info.size ? f->info.size - call->offset : 0;
    bool has_size = call->size != 0;
    call->size = MIN(call->size, there);
    if (changes && !f->api->submit)
        *ret = -EROFS;
    else if (call->op == REMOTE_WRITE && has_size && !call->size)
        *ret = -ENOSPC;
    else if (call->op == REMOTE_ZERO && !is_whole(f, call))
        *ret = -EOPNOTSUPP;
    if (*ret || !call->size)
        return false;
    if (changes)
        forget_answer(f);
    return true;
}

static int run_prepared(RemoteFile *f, RemoteCall *call)
{
    if (!f->api->submit)
        return read_vectors(f, call);
    if (call->op == REMOTE_FLUSH || is_whole(f, call))
        return submit_and_wait(f, call);
    return call->op == REMOTE_READ ? read_cut(f, call) : write_cut(f, call);
}

int remote_run(RemoteFile *f, RemoteCall *call)
{
    int result;
    return prepare(f, call, &result) ? run_prepared(f, call) : result;
}

static void run_in_thread(gpointer data, gpointer obj)
{
    RemoteCall *call = data;
    call->done(call, run_prepared(obj, call));
}

void remote_submit(RemoteFile *f, RemoteCall *call)
{
    int result;
    if (!prepare(f, call, &result))
        call->done(call, result);
    else if (f->api->submit && (call->op == REMOTE_FLUSH || is_whole(f, call)))
        f->api->submit(f->file, call);
    else
        g_thread_pool_push(f->pool, call, NULL);
}

/* ---- where data are -------------------------------------------------------------------------- */

/* Asks for all that is left: servers tell as much of it as they like. */
static int ask(RemoteFile *f, uint64_t offset)
{
    if (offset >= f->from && offset < f->to)
        return 0;
    uint64_t begin = align_down(offset, f->info.block);
    RemoteCall call = {.op = REMOTE_STATUS, .offset = begin, .size = f->info.size - begin};
    int result = submit_and_wait(f, &call);
    if (result || begin + call.ret_length <= offset)
        return result ? result : -EIO;
    f->from = begin;
    f->to = begin + call.ret_length;
    f->zero = call.ret_zero;
    return 0;
}

uint64_t remote_next(RemoteFile *f, uint64_t offset, bool hole)
{
    if (!f->api->submit || offset >= f->info.size)
        return hole ? MAX(offset, f->info.size) : offset < f->info.size ? offset : UINT64_MAX;
    g_mutex_lock(&f->answered);
    int result = 0;
    while (offset < f->info.size && !(result = ask(f, offset)) && f->zero != hole)
        offset = f->to;
    g_mutex_unlock(&f->answered);
    /* Who can't tell has data everywhere. */
    if (result)
        return hole ? f->info.size : offset;
    return offset < f->info.size || hole ? offset : UINT64_MAX;
}
