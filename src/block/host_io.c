/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Host I/O by io_uring or threads; see host_io.h.
 *
 * Invariants: `in_flight` counts requests from submission to their completion call. Everything but
 * the finished queue is guarded by the caller's lock; other threads (the pool's, and those of files
 * on other machines) touch only their request and that queue, so that they never need the lock and
 * a drain under it makes progress.
 */
#include "block/host_io.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"

#define URING_ENTRIES 128
#define POOL_THREADS  8
/* Completions per turn of the main loop, so that a fast disk cannot starve it. */
#define REAP_BUDGET 64
/* Another thread may have taken the completion that a drain waits for: look again this often. */
#define DRAIN_POLL_MS 5

typedef struct HostIoBackend {
    const char *name;
    bool (*create)(HostIo *io);
    void (*destroy)(HostIo *io);
    /* Hands what was started while plugged to the host. NULL: starting did. */
    void (*push)(HostIo *io);
    /* Starts the request; false: no room now, offer it again after the next completion. */
    bool (*start)(HostIo *io, HostIoRequest *request);
    /* The next request that the ring has finished, its result filled in, or NULL. NULL: no ring. */
    HostIoRequest *(*finished)(HostIo *io);
} HostIoBackend;

struct HostIo {
    const HostIoBackend *backend;
    HostIoHook *hook;
    GRecMutex *lock;
    GSource *source;
    GSource *finished_source;
    int ready_fd; /* readable while the ring has finished something; -1: there is no ring */
    unsigned in_flight;
    GQueue waiting; /* for room in the backend */
    struct io_uring ring;
    unsigned ring_used;
    GThreadPool *pool;
    GMutex finished_lock;
    GQueue finished;  /* by other threads … */
    int finished_fd;  /* … an eventfd that is readable meanwhile */
    unsigned plugged; /* what is submitted waits for the last unplug */
};

/* ---- what other threads have done -------------------------------------------------------------
 */

/* The eventfd is written under the lock, so that host_io_free() never closes it under us. */
static void push_finished(HostIoRequest *request, int64_t result)
{
    HostIo *io = request->io;
    request->result = result;
    g_mutex_lock(&io->finished_lock);
    g_queue_push_tail_link(&io->finished, &request->link);
    eventfd_write(io->finished_fd, 1);
    g_mutex_unlock(&io->finished_lock);
}

static HostIoRequest *pop_finished(HostIo *io)
{
    g_mutex_lock(&io->finished_lock);
    GList *link = g_queue_pop_head_link(&io->finished);
    eventfd_t count;
    if (!io->finished.length)
        eventfd_read(io->finished_fd, &count);
    g_mutex_unlock(&io->finished_lock);
    return link ? link->data : NULL;
}

/* ---- files on other machines ------------------------------------------------------------------
 */

typedef struct RemoteRun {
    RemoteCall call;
    HostIoRequest *request;
} RemoteRun;

RemoteCall host_io_remote_call(const HostIoRequest *r)
{
    static const RemoteOp ops[] = {[HOST_IO_READ] = REMOTE_READ,
                                   [HOST_IO_WRITE] = REMOTE_WRITE,
                                   [HOST_IO_SYNC] = REMOTE_FLUSH,
                                   [HOST_IO_FALLOCATE] = REMOTE_ZERO};
    return (RemoteCall){.op = ops[r->op],
                        .offset = r->offset,
                        .size = r->size,
                        .iov = r->iov,
                        .iov_count = r->iov_count,
                        .durable = r->durable,
                        .keep = !(r->mode & FALLOC_FL_PUNCH_HOLE)};
}

int64_t host_io_remote_result(const RemoteCall *call, int result)
{
    bool moves = call->op == REMOTE_READ || call->op == REMOTE_WRITE;
    return result || !moves ? result : (int64_t)call->size;
}

static void remote_done(RemoteCall *call, int result)
{
    RemoteRun *run = call->obj;
    push_finished(run->request, host_io_remote_result(call, result));
    g_free(run);
}

static void remote_start(HostIoRequest *request)
{
    RemoteRun *run = g_new0(RemoteRun, 1);
    run->request = request;
    run->call = host_io_remote_call(request);
    run->call.done = remote_done;
    run->call.obj = run;
    remote_submit(request->remote, &run->call);
}

/* ---- io_uring -------------------------------------------------------------------------------- */

static const uint8_t uring_ops[] = {IORING_OP_NOP, IORING_OP_READV, IORING_OP_WRITEV,
                                    IORING_OP_FSYNC, IORING_OP_FALLOCATE};

static bool uring_can(void)
{
    struct io_uring_probe *probe = io_uring_get_probe();
    if (!probe)
        return false;
    bool can = true;
    for (size_t i = 0; i < G_N_ELEMENTS(uring_ops); i++)
        can = can && io_uring_opcode_supported(probe, uring_ops[i]);
    io_uring_free_probe(probe);
    return can;
}

/*
 * The ring does what this file asks of it and nothing else: no system call filter sees what a ring
 * does, and one that could open files would lead out of a machine's sandbox (runner/sandbox.c).
 */
static bool uring_restrict(struct io_uring *ring)
{
    struct io_uring_restriction allowed[G_N_ELEMENTS(uring_ops)] = {0};

    for (size_t i = 0; i < G_N_ELEMENTS(uring_ops); i++) {
        allowed[i].opcode = IORING_RESTRICTION_SQE_OP;
        allowed[i].sqe_op = uring_ops[i];
    }
    /* liburing 2.3 has functions for both and does not export them. */
    return syscall(SYS_io_uring_register, ring->ring_fd, IORING_REGISTER_RESTRICTIONS, allowed,
                   G_N_ELEMENTS(allowed)) == 0 &&
           syscall(SYS_io_uring_register, ring->ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0) ==
               0;
}

static void uring_call_run(gpointer data, gpointer obj)
{
    HostIoRequest *request = data;
    push_finished(request, request->call(request->obj));
}

static bool uring_create(HostIo *io)
{
    if (!g_strcmp0(g_getenv("OSPITE_NO_URING"), "1") || !uring_can())
        return false;
    if (io_uring_queue_init(URING_ENTRIES, &io->ring, IORING_SETUP_R_DISABLED) < 0)
        return false;
    if (!uring_restrict(&io->ring)) {
        io_uring_queue_exit(&io->ring);
        return false;
    }
    io_uring_ring_dontfork(&io->ring);
    io->ready_fd = io->ring.ring_fd;
    io->pool = g_thread_pool_new(uring_call_run, NULL, 1, FALSE, NULL);
    return true;
}

static void uring_destroy(HostIo *io)
{
    g_thread_pool_free(io->pool, FALSE, TRUE);
    io_uring_queue_exit(&io->ring);
}

static void uring_prepare(struct io_uring_sqe *sqe, HostIoRequest *r)
{
    switch (r->failure ? HOST_IO_NOP : r->op) {
    case HOST_IO_READ:
        io_uring_prep_readv(sqe, r->fd, r->iov, r->iov_count, r->offset);
        break;
    case HOST_IO_WRITE:
        io_uring_prep_writev2(sqe, r->fd, r->iov, r->iov_count, r->offset,
                              r->durable ? RWF_DSYNC : 0);
        break;
    case HOST_IO_SYNC:
        io_uring_prep_fsync(sqe, r->fd, IORING_FSYNC_DATASYNC);
        break;
    case HOST_IO_FALLOCATE:
        io_uring_prep_fallocate(sqe, r->fd, r->mode, r->offset, r->size);
        break;
    default:
        io_uring_prep_nop(sqe);
    }
    io_uring_sqe_set_data(sqe, r);
}

/* The kernel may be short of memory for a moment; entries it did not take stay in the ring. */
static void uring_push(HostIo *io)
{
    while (io_uring_sq_ready(&io->ring) && io_uring_submit(&io->ring) < 0)
        g_usleep(100);
}

static bool uring_start(HostIo *io, HostIoRequest *request)
{
    if (request->op == HOST_IO_CALL) {
        g_thread_pool_push(io->pool, request, NULL);
        return true;
    }
    struct io_uring_sqe *sqe = io->ring_used < URING_ENTRIES ? io_uring_get_sqe(&io->ring) : NULL;
    if (!sqe)
        return false;
    io->ring_used++;
    uring_prepare(sqe, request);
    if (!io->plugged)
        uring_push(io);
    return true;
}

static HostIoRequest *uring_finished(HostIo *io)
{
    struct io_uring_cqe *cqe;
    if (io_uring_peek_cqe(&io->ring, &cqe) < 0)
        return NULL;
    HostIoRequest *request = io_uring_cqe_get_data(cqe);
    request->result = cqe->res;
    io_uring_cqe_seen(&io->ring, cqe);
    io->ring_used--;
    return request;
}

static const HostIoBackend uring_backend = {
    .name = "io_uring",
    .create = uring_create,
    .destroy = uring_destroy,
    .push = uring_push,
    .start = uring_start,
    .finished = uring_finished,
};

/* ---- threads --------------------------------------------------------------------------------- */

static int64_t pool_call(const HostIoRequest *r)
{
    switch (r->failure ? HOST_IO_NOP : r->op) {
    case HOST_IO_READ:
        return preadv(r->fd, r->iov, r->iov_count, (off_t)r->offset);
    case HOST_IO_WRITE:
        return pwritev2(r->fd, r->iov, r->iov_count, (off_t)r->offset, r->durable ? RWF_DSYNC : 0);
    case HOST_IO_SYNC:
        return fdatasync(r->fd);
    case HOST_IO_FALLOCATE:
        return fallocate(r->fd, r->mode, (off_t)r->offset, (off_t)r->size);
    case HOST_IO_CALL:
        return r->call(r->obj);
    default:
        return 0;
    }
}

static void pool_run(gpointer data, gpointer obj)
{
    HostIoRequest *request = data;
    int64_t result = pool_call(request);
    push_finished(request, result < 0 ? -errno : result);
}

static bool pool_create(HostIo *io)
{
    io->pool = g_thread_pool_new(pool_run, NULL, POOL_THREADS, FALSE, NULL);
    return true;
}

static void pool_destroy(HostIo *io)
{
    g_thread_pool_free(io->pool, FALSE, TRUE);
}

static bool pool_start(HostIo *io, HostIoRequest *request)
{
    g_thread_pool_push(io->pool, request, NULL);
    return true;
}

static const HostIoBackend pool_backend = {
    .name = "threads",
    .create = pool_create,
    .destroy = pool_destroy,
    .start = pool_start,
};

/* ---- both ------------------------------------------------------------------------------------ */

/* NOP and CALL are no calls of the host's. */
static bool is_host_call(const HostIoRequest *request)
{
    return request->op != HOST_IO_NOP && request->op != HOST_IO_CALL;
}

static void start_or_wait(HostIo *io, HostIoRequest *request)
{
    if (request->remote && is_host_call(request) && !request->failure)
        remote_start(request);
    else if (io->waiting.length || !io->backend->start(io, request))
        g_queue_push_tail_link(&io->waiting, &request->link);
}

static void start_waiting(HostIo *io)
{
    GList *link;
    while ((link = g_queue_peek_head_link(&io->waiting))) {
        g_queue_unlink(&io->waiting, link);
        if (!io->backend->start(io, link->data)) {
            g_queue_push_head_link(&io->waiting, link);
            return;
        }
    }
}

/* The call did not happen: a signal, or the exit of the thread that had submitted it. */
static bool must_repeat(int64_t result)
{
    return result == -EINTR || result == -EAGAIN || result == -ECANCELED;
}

void host_io_plug(HostIo *io)
{
    g_rec_mutex_lock(io->lock);
    io->plugged++;
    g_rec_mutex_unlock(io->lock);
}

void host_io_unplug(HostIo *io)
{
    g_rec_mutex_lock(io->lock);
    if (--io->plugged == 0 && io->backend->push)
        io->backend->push(io);
    g_rec_mutex_unlock(io->lock);
}

static HostIoRequest *next_finished(HostIo *io)
{
    HostIoRequest *request = io->backend->finished ? io->backend->finished(io) : NULL;
    return request ? request : pop_finished(io);
}

static void reap(HostIo *io, unsigned budget)
{
    HostIoRequest *request;
    io->plugged++;
    while (budget-- && (request = next_finished(io))) {
        if (request->failure) {
            request->result = request->failure;
        } else if (must_repeat(request->result)) {
            start_or_wait(io, request);
            continue;
        }
        start_waiting(io);
        if (is_host_call(request))
            host_io_tell_hook(io->hook, request, request->result);
        io->in_flight--;
        request->done(request, request->result);
    }
    host_io_unplug(io);
}

void host_io_poll(HostIo *io)
{
    g_rec_mutex_lock(io->lock);
    reap(io, REAP_BUDGET);
    g_rec_mutex_unlock(io->lock);
}

static gboolean on_ready(gint fd, GIOCondition condition, gpointer obj)
{
    host_io_poll(obj);
    return G_SOURCE_CONTINUE;
}

int host_io_open(const char *path, int flags, HostIoHook *hook)
{
    HostIoRequest call = {.op = HOST_IO_OPEN, .mode = flags};
    int verdict = hook ? hook->before(hook, &call) : HOST_IO_RUN;
    if (verdict < 0)
        return verdict;
    int fd = open(path, flags | O_CLOEXEC, 0644);
    return fd < 0 ? -errno : fd;
}

static GSource *watch(HostIo *io, int fd, GMainContext *context)
{
    GSource *source = g_unix_fd_source_new(fd, G_IO_IN);
    g_source_set_callback(source, G_SOURCE_FUNC(on_ready), io, NULL);
    g_source_attach(source, context);
    return source;
}

static void unwatch(GSource *source)
{
    if (!source)
        return;
    g_source_destroy(source);
    g_source_unref(source);
}

HostIo *host_io_new(GMainContext *context, GRecMutex *lock, HostIoHook *hook)
{
    HostIo *io = g_new0(HostIo, 1);
    io->hook = hook;
    io->lock = lock;
    io->ready_fd = -1;
    io->finished_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    g_mutex_init(&io->finished_lock);
    io->backend = uring_create(io) ? &uring_backend : &pool_backend;
    if (io->backend == &pool_backend)
        pool_create(io);
    if (io->ready_fd >= 0)
        io->source = watch(io, io->ready_fd, context);
    io->finished_source = watch(io, io->finished_fd, context);
    return io;
}

void host_io_free(HostIo *io)
{
    if (!io)
        return;
    host_io_drain(io);
    unwatch(io->source);
    unwatch(io->finished_source);
    io->backend->destroy(io);
    g_mutex_lock(&io->finished_lock); /* the last one to finish may still hold it */
    g_mutex_unlock(&io->finished_lock);
    g_mutex_clear(&io->finished_lock);
    fd_clear(&io->finished_fd);
    g_free(io);
}

/* Cuts the vector to `size` bytes, at least one of them. */
static void cut_request(HostIoRequest *request, uint64_t size)
{
    request->size = MIN(request->size, size);
    uint64_t left = request->size;
    int count = 0;
    for (; count < request->iov_count && left; count++) {
        request->iov[count].iov_len = MIN(request->iov[count].iov_len, left);
        left -= request->iov[count].iov_len;
    }
    request->iov_count = count;
}

int host_io_ask_hook(HostIoHook *hook, HostIoRequest *request)
{
    int verdict = hook ? hook->before(hook, request) : HOST_IO_RUN;
    if (verdict > 0 && verdict != HOST_IO_HOLD)
        cut_request(request, verdict);
    return MIN(verdict, 0);
}

void host_io_tell_hook(HostIoHook *hook, HostIoRequest *request, int64_t result)
{
    if (hook && hook->after)
        hook->after(hook, request, result);
}

void host_io_submit(HostIo *io, HostIoRequest *request)
{
    g_rec_mutex_lock(io->lock);
    request->io = io;
    request->link = (GList){.data = request};
    io->in_flight++;
    int verdict = HOST_IO_RUN;
    if (io->hook && is_host_call(request))
        verdict = io->hook->before(io->hook, request);
    /* A call that failed is reported as every result is, from the loop: it runs as a NOP. */
    request->failure = MIN(verdict, 0);
    if (verdict > 0 && verdict != HOST_IO_HOLD)
        cut_request(request, verdict);
    if (verdict != HOST_IO_HOLD)
        start_or_wait(io, request);
    g_rec_mutex_unlock(io->lock);
}

void host_io_resume(HostIoRequest *request)
{
    HostIo *io = request->io;
    g_rec_mutex_lock(io->lock);
    start_or_wait(io, request);
    g_rec_mutex_unlock(io->lock);
}

void host_io_drain(HostIo *io)
{
    for (;;) {
        g_rec_mutex_lock(io->lock);
        if (io->backend->push)
            io->backend->push(io); /* also inside a completion, where it is plugged */
        reap(io, G_MAXUINT);
        bool idle = io->in_flight == 0;
        g_rec_mutex_unlock(io->lock);
        if (idle)
            return;
        struct pollfd ready[] = {{.fd = io->ready_fd, .events = POLLIN},
                                 {.fd = io->finished_fd, .events = POLLIN}};
        poll(ready, G_N_ELEMENTS(ready), DRAIN_POLL_MS);
    }
}

const char *host_io_backend(const HostIo *io)
{
    return io->backend->name;
}
