/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The module `nbd`: files on NBD servers, through libnbd; see remote.h. Any number of calls is
 * under way at once, on one connection, which a thread of the file's own looks after:
 *
 *   submit() ──> waiting ──> sent ──> ended ──> done()
 *                   ^──────────┘ the connection broke
 *
 * A server that goes away is looked for until nothing has been answered for `patience`; then all
 * calls fail with -ENOLINK, and each one that comes later tries once more.
 *
 * What a server has taken but not yet made stable may be lost with it. So writes are kept in
 * `unstable` until a flush after them succeeds, and another connection begins with sending them
 * again, one by one and in their order, before anything else (`again`).
 *
 * Invariants: a call is in one queue. All but `waiting` and `quit` is the thread's alone.
 */
#include <errno.h>
#include <libnbd.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/i18n.h"
#include "base/module.h"
#include "block/iov_cursor.h"
#include "block/protocols/remote.h"

/* No server must take more in one request. */
#define REQUEST_MAX (32u << 20)
/* Shorter than the 30 s after which guests give up on a disk; `reconnect-delay=` of the address. */
#define PATIENCE_S   20
#define PATIENCE_MAX 86400
#define HANDSHAKE_MS 10000
#define DELAY_MIN_US 20000
#define DELAY_MAX_US 1000000
/* So much is kept before a flush of our own … */
#define UNSTABLE_MAX (16u << 20)
/* … and so much before writes wait for its end. */
#define UNSTABLE_LIMIT (32u << 20)

typedef struct NbdFile {
    char *address;
    int64_t patience_us;
    bool read_only, can_reconnect, can_flush;
    RemoteInfo info;
    uint32_t part_max;
    GThread *thread;
    int wake_fd;
    GMutex lock;
    GQueue arrived; /* NbdCall, from other threads */
    bool quit;

    struct nbd_handle *nbd; /* NULL: not connected */
    GQueue waiting, sent, ended, again, unstable;
    uint64_t unstable_size, taken; /* bytes kept; writes that the server has taken */
    bool flushing;                 /* by ourselves */
    int lost;                      /* negative errno: what was kept could not be written again */
    int64_t silent_since; /* when a connection broke without an answer since; 0: none did */
    int64_t delay_us;
} NbdFile;

typedef struct NbdCall {
    GList link;
    NbdFile *file;
    RemoteCall *call; /* NULL: the file's own */
    RemoteOp op;
    uint64_t offset, size;
    bool durable, keep, is_sent;
    uint8_t *data;
    bool owns_data;
    uint64_t position, part; /* bytes done; bytes under way */
    uint64_t number;         /* of a write: it was the n-th to be taken; of a flush: it covers n */
    int error;
} NbdCall;

/* ---- calls ----------------------------------------------------------------------------------- */

static NbdCall *call_new(NbdFile *file, RemoteOp op, RemoteCall *call)
{
    NbdCall *c = g_new0(NbdCall, 1);
    c->link.data = c;
    c->file = file;
    c->op = op;
    c->call = call;
    return c;
}

static void call_free(NbdCall *c)
{
    if (c->owns_data)
        g_free(c->data);
    g_free(c);
}

/* Data of a write are copied, for they may have to be sent again later. */
static void take_data(NbdCall *c)
{
    const RemoteCall *call = c->call;
    IovCursor from;
    c->owns_data = c->op == REMOTE_WRITE || call->iov_count > 1;
    c->data = c->owns_data ? g_malloc(c->size) : call->iov[0].iov_base;
    iov_cursor_init(&from, call->iov, call->iov_count);
    if (c->op == REMOTE_WRITE)
        iov_cursor_copy(&from, c->data, c->size);
}

static uint64_t unstable_cost(const NbdCall *c)
{
    return sizeof(*c) + (c->data ? c->size : 0);
}

/* The server has taken it, but may forget it. */
static void keep_unstable(NbdCall *c)
{
    c->call = NULL;
    c->position = 0;
    c->number = ++c->file->taken;
    g_queue_push_tail_link(&c->file->unstable, &c->link);
    c->file->unstable_size += unstable_cost(c);
}

static void forget_unstable(NbdFile *f, uint64_t number)
{
    GList *link;
    while ((link = g_queue_peek_head_link(&f->unstable)) &&
           ((NbdCall *)link->data)->number <= number) {
        g_queue_unlink(&f->unstable, link);
        f->unstable_size -= unstable_cost(link->data);
        call_free(link->data);
    }
}

static void answer(NbdCall *c, int result)
{
    RemoteCall *call = c->call;
    IovCursor to;
    if (!call)
        return;
    if (!result && c->op == REMOTE_READ && c->owns_data) {
        iov_cursor_init(&to, call->iov, call->iov_count);
        iov_cursor_fill(&to, c->data, c->size);
    }
    call->done(call, result);
}

static bool is_unstable(const NbdCall *c)
{
    return (c->op == REMOTE_WRITE || c->op == REMOTE_ZERO) && c->file->can_flush;
}

/* A write of an earlier connection. */
static bool is_repeated(const NbdCall *c)
{
    return !c->call && c->op != REMOTE_FLUSH;
}

static void call_end(NbdCall *c, int result)
{
    NbdFile *f = c->file;
    if (!c->call && c->op == REMOTE_FLUSH)
        f->flushing = false;
    else if (is_repeated(c) && result && !f->lost)
        f->lost = result;
    if (!result && c->op == REMOTE_FLUSH)
        forget_unstable(f, c->number);
    answer(c, result);
    if (!result && is_unstable(c))
        keep_unstable(c);
    else
        call_free(c);
}

/* ---- one request ----------------------------------------------------------------------------- */

static void end_sent(NbdCall *c, int error)
{
    c->error = error;
    c->is_sent = false;
    g_queue_unlink(&c->file->sent, &c->link);
    g_queue_push_tail_link(&c->file->ended, &c->link);
}

static int on_end(void *obj, int *error)
{
    NbdCall *c = obj;
    end_sent(c, *error);
    return 1;
}

/* Neighbours of the same kind are one answer. */
static int on_status(void *obj, const char *context, uint64_t offset, uint32_t *entries,
                     size_t count, int *error)
{
    RemoteCall *call = ((NbdCall *)obj)->call;
    for (size_t i = 0; i + 1 < count && !strcmp(context, LIBNBD_CONTEXT_BASE_ALLOCATION); i += 2) {
        bool zero = (entries[i + 1] & LIBNBD_STATE_ZERO) != 0;
        if (call->ret_length && zero != call->ret_zero)
            break;
        call->ret_zero = zero;
        call->ret_length += entries[i];
    }
    return 0;
}

static int64_t send_read(NbdCall *c, nbd_completion_callback end)
{
    return nbd_aio_pread(c->file->nbd, c->data + c->position, c->part, c->offset + c->position, end,
                         0);
}

static int64_t send_write(NbdCall *c, nbd_completion_callback end)
{
    return nbd_aio_pwrite(c->file->nbd, c->data + c->position, c->part, c->offset + c->position,
                          end, 0);
}

static int64_t send_zero(NbdCall *c, nbd_completion_callback end)
{
    return nbd_aio_zero(c->file->nbd, c->part, c->offset + c->position, end,
                        c->keep ? LIBNBD_CMD_FLAG_NO_HOLE : 0);
}

static int64_t send_flush(NbdCall *c, nbd_completion_callback end)
{
    c->number = c->file->taken;
    return nbd_aio_flush(c->file->nbd, end, 0);
}

static int64_t send_status(NbdCall *c, nbd_completion_callback end)
{
    nbd_extent_callback status = {.callback = on_status, .user_data = c};
    c->call->ret_length = 0;
    return nbd_aio_block_status(c->file->nbd, c->part, c->offset, status, end, 0);
}

static int64_t (*const senders[])(NbdCall *c, nbd_completion_callback end) = {
    [REMOTE_READ] = send_read,   [REMOTE_WRITE] = send_write,   [REMOTE_ZERO] = send_zero,
    [REMOTE_FLUSH] = send_flush, [REMOTE_STATUS] = send_status,
};

/* True when the server need not be asked. */
static bool is_known(NbdCall *c)
{
    struct nbd_handle *nbd = c->file->nbd;
    if (c->op == REMOTE_FLUSH)
        return !c->file->can_flush;
    if (c->op != REMOTE_STATUS || nbd_can_meta_context(nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) == 1)
        return false;
    c->call->ret_length = c->size;
    c->call->ret_zero = false;
    return true;
}

/*
 * The next part of a call goes to libnbd, which sends it when it can. When the connection breaks
 * meanwhile, on_end() has run, and what was returned is no cookie (libnbd 1.14 takes it from the
 * command that it has just freed).
 */
static void call_send(NbdCall *c)
{
    NbdFile *f = c->file;
    nbd_completion_callback end = {.callback = on_end, .user_data = c};
    c->part = c->op == REMOTE_STATUS ? c->size : MIN(c->size - c->position, f->part_max);
    c->error = 0;
    if (c->op == REMOTE_FLUSH && f->lost) {
        call_end(c, f->lost);
    } else if (is_known(c)) {
        call_end(c, 0);
    } else {
        g_queue_push_tail_link(&f->sent, &c->link);
        c->is_sent = true;
        if (senders[c->op](c, end) < 0 && c->is_sent)
            end_sent(c, nbd_get_errno() ? nbd_get_errno() : EIO);
    }
}

/* ---- answers --------------------------------------------------------------------------------- */

static int result_of(const NbdCall *c)
{
    bool cannot = c->op == REMOTE_ZERO && (c->error == EINVAL || c->error == ENOTSUP);
    return cannot ? -EOPNOTSUPP : c->error == ESHUTDOWN ? -ENOLINK : -c->error;
}

/* A part was answered. A durable write is one with a flush behind it. */
static void call_go_on(NbdCall *c)
{
    c->position += c->part;
    if (c->error || (c->op == REMOTE_FLUSH || c->op == REMOTE_STATUS)) {
        call_end(c, result_of(c));
    } else if (c->position < c->size) {
        call_send(c);
    } else if (c->durable) {
        NbdCall *flush = call_new(c->file, REMOTE_FLUSH, g_steal_pointer(&c->call));
        call_end(c, 0);
        call_send(flush);
    } else {
        call_end(c, 0);
    }
}

/* ---- connections ----------------------------------------------------------------------------- */

static int64_t patience_of(const char *address)
{
    g_autoptr(GUri) uri = g_uri_parse(address, G_URI_FLAGS_NONE, NULL);
    const char *query = uri ? g_uri_get_query(uri) : NULL;
    g_autoptr(GHashTable) options =
        query ? g_uri_parse_params(query, -1, "&;", G_URI_PARAMS_NONE, NULL) : NULL;
    const char *text = options ? g_hash_table_lookup(options, "reconnect-delay") : NULL;
    guint64 seconds = PATIENCE_S;
    if (text && !g_ascii_string_to_unsigned(text, 10, 0, PATIENCE_MAX, &seconds, NULL))
        return -1;
    return (int64_t)seconds * G_USEC_PER_SEC;
}

/* A host that vanished is noticed when data are under way; a server that is slow is waited for. */
static void tune_socket(const NbdFile *f, struct nbd_handle *nbd)
{
    int fd = nbd_aio_get_fd(nbd), on = 1, idle_s = 10;
    unsigned limit_ms = (unsigned)MIN(MAX(f->patience_us / 1000, 1000), 60000);
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &limit_ms, sizeof(limit_ms));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

static bool set_up(struct nbd_handle *nbd)
{
    return nbd_set_uri_allow_local_file(nbd, true) == 0 &&
           nbd_set_uri_allow_transports(nbd, LIBNBD_ALLOW_TRANSPORT_TCP |
                                                 LIBNBD_ALLOW_TRANSPORT_UNIX) == 0 &&
           nbd_add_meta_context(nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) == 0;
}

/* One that was there before is waited for no longer than for its answers. */
static int64_t handshake_us(const NbdFile *f)
{
    int64_t most = HANDSHAKE_MS * INT64_C(1000);
    return f->thread ? CLAMP(f->patience_us, G_USEC_PER_SEC, most) : most;
}

static bool shake_hands(const NbdFile *f, struct nbd_handle *nbd)
{
    int64_t end = g_get_monotonic_time() + handshake_us(f);
    while (nbd_aio_is_connecting(nbd) == 1) {
        int64_t left_ms = (end - g_get_monotonic_time()) / 1000;
        if (left_ms <= 0 || nbd_poll(nbd, (int)left_ms) < 0)
            return false;
    }
    return nbd_aio_is_ready(nbd) == 1;
}

/* `fd`: taken, on failure, too; -1: by the address. */
static struct nbd_handle *connect_to(const NbdFile *f, int fd, GError **error)
{
    struct nbd_handle *nbd = nbd_create();
    bool started = nbd && set_up(nbd) &&
                   (fd < 0 ? nbd_aio_connect_uri(nbd, f->address) == 0
                           : nbd_aio_connect_socket(nbd, fd_steal(&fd)) == 0);
    if (started && shake_hands(f, nbd)) {
        tune_socket(f, nbd);
        return nbd;
    }
    const char *why = nbd_get_error();
    g_set_error(error, G_IO_ERROR, g_io_error_from_errno(nbd_get_errno()),
                _("cannot open disk '%s': %s"), f->address,
                why ? why : _("its server does not answer"));
    fd_clear(&fd);
    nbd_close(nbd);
    return NULL;
}

static bool describe(struct nbd_handle *nbd, RemoteInfo *ret, uint32_t *ret_part_max)
{
    int64_t size = nbd_get_size(nbd), block = nbd_get_block_size(nbd, LIBNBD_SIZE_MINIMUM);
    int64_t most = nbd_get_block_size(nbd, LIBNBD_SIZE_MAXIMUM);
    *ret = (RemoteInfo){.size = (uint64_t)size,
                        .block = block > 0 ? (uint32_t)MIN(block, G_MAXUINT32) : 1,
                        .read_only = nbd_is_read_only(nbd) != 0};
    *ret_part_max = most > 0 ? (uint32_t)MIN(most, REQUEST_MAX) : REQUEST_MAX;
    *ret_part_max -= *ret_part_max % ret->block;
    return size >= 0;
}

static void prepend(GQueue *queue, GQueue *first)
{
    GList *link;
    while ((link = g_queue_pop_tail_link(first)))
        g_queue_push_head_link(queue, link);
}

static void fail_waiting(NbdFile *f, int result)
{
    GQueue waiting = f->waiting;
    GList *link;
    g_queue_init(&f->waiting);
    while ((link = g_queue_pop_head_link(&waiting)))
        call_end(link->data, result);
}

/* The file must be the one that was opened. */
static int try_again(NbdFile *f)
{
    RemoteInfo info;
    struct nbd_handle *nbd = f->can_reconnect ? connect_to(f, -1, NULL) : NULL;
    uint32_t part_max;
    if (!nbd)
        return -ENOLINK;
    if (!describe(nbd, &info, &part_max) || info.size != f->info.size ||
        info.block > f->info.block || (info.read_only && !f->read_only)) {
        nbd_close(nbd);
        return -ESTALE;
    }
    f->part_max = part_max;
    f->can_flush = nbd_can_flush(nbd) == 1;
    f->nbd = nbd;
    return 0;
}

static bool is_late(const NbdFile *f)
{
    return g_get_monotonic_time() >= f->silent_since + f->patience_us;
}

static void reconnect(NbdFile *f)
{
    int result;
    if (!f->silent_since)
        f->silent_since = g_get_monotonic_time();
    do {
        g_usleep((gulong)f->delay_us);
        f->delay_us = CLAMP(f->delay_us * 2, DELAY_MIN_US, DELAY_MAX_US);
        result = try_again(f);
    } while (result == -ENOLINK && f->can_reconnect && !is_late(f));
    if (result)
        fail_waiting(f, result);
}

/* What was sent waits to be sent anew; what the server may forget comes before it. */
static void disconnect(NbdFile *f)
{
    GList *link;
    nbd_close(g_steal_pointer(&f->nbd));
    prepend(&f->sent, &f->ended); /* what could not be sent any more */
    while ((link = g_queue_pop_tail_link(&f->sent))) {
        NbdCall *c = link->data;
        c->position = 0;
        g_queue_push_head_link(is_repeated(c) ? &f->again : &f->waiting, link);
    }
    prepend(&f->again, &f->unstable);
    f->unstable_size = 0;
    if (!f->waiting.length)
        return;
    if (!f->silent_since)
        f->silent_since = g_get_monotonic_time();
    if (is_late(f))
        fail_waiting(f, -ENOLINK);
}

/* ---- the thread ------------------------------------------------------------------------------ */

/* False: the file is closed. */
static bool take_arrived(NbdFile *f)
{
    GList *link;
    g_mutex_lock(&f->lock);
    while ((link = g_queue_pop_head_link(&f->arrived)))
        g_queue_push_tail_link(&f->waiting, link);
    bool quit = f->quit;
    g_mutex_unlock(&f->lock);
    return !quit;
}

/* Much that may be forgotten is made stable, whether anybody asked for it or not. */
static void bound_unstable(NbdFile *f)
{
    if (f->unstable_size <= UNSTABLE_MAX || f->flushing)
        return;
    f->flushing = true;
    call_send(call_new(f, REMOTE_FLUSH, NULL));
}

static void send_waiting(NbdFile *f)
{
    GList *link = g_queue_peek_head_link(&f->sent);
    if (link && is_repeated(link->data))
        return;
    if ((link = g_queue_pop_head_link(&f->again))) {
        call_send(link->data);
        return;
    }
    bound_unstable(f);
    while ((link = g_queue_peek_head_link(&f->waiting))) {
        NbdCall *c = link->data;
        if (c->op == REMOTE_WRITE && f->unstable_size > UNSTABLE_LIMIT && f->flushing)
            return;
        g_queue_unlink(&f->waiting, link);
        call_send(c);
    }
}

static void wait_for_something(NbdFile *f)
{
    unsigned way = f->nbd ? nbd_aio_get_direction(f->nbd) : 0;
    struct pollfd fds[] = {{.fd = f->wake_fd, .events = POLLIN},
                           {.fd = f->nbd ? nbd_aio_get_fd(f->nbd) : -1}};
    fds[1].events = (way & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) |
                    (way & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0);
    if (poll(fds, G_N_ELEMENTS(fds), f->ended.length ? 0 : -1) <= 0)
        return;
    eventfd_t count;
    if (fds[0].revents)
        eventfd_read(f->wake_fd, &count);
    bool broken = fds[1].revents & (POLLHUP | POLLERR | POLLNVAL);
    if (way & LIBNBD_AIO_DIRECTION_READ && (fds[1].revents & POLLIN || broken))
        nbd_aio_notify_read(f->nbd);
    if (fds[1].revents & POLLOUT && nbd_aio_get_direction(f->nbd) & LIBNBD_AIO_DIRECTION_WRITE)
        nbd_aio_notify_write(f->nbd);
}

static bool is_broken(const NbdFile *f)
{
    return nbd_aio_is_dead(f->nbd) == 1 || nbd_aio_is_closed(f->nbd) == 1;
}

/* Who came by a socket cannot come again: what is behind it is away, but may return. */
static bool leaves(const NbdFile *f, int error)
{
    return error == ENOTCONN || (error == ESHUTDOWN && f->can_reconnect);
}

/* What ended with its connection is sent anew. */
static void settle(NbdFile *f)
{
    GQueue ended = f->ended;
    GList *link;
    if (!f->nbd)
        return;
    bool broken = is_broken(f);
    g_queue_init(&f->ended);
    while ((link = g_queue_pop_head_link(&ended))) {
        NbdCall *c = link->data;
        if (c->error && (broken || leaves(f, c->error))) {
            broken = true;
            g_queue_push_tail_link(&f->sent, link);
            continue;
        }
        f->silent_since = f->delay_us = 0;
        call_go_on(c);
    }
    if (broken)
        disconnect(f);
}

static gpointer look_after(gpointer obj)
{
    NbdFile *f = obj;
    while (take_arrived(f)) {
        if (!f->nbd && f->waiting.length)
            reconnect(f);
        if (f->nbd)
            send_waiting(f);
        wait_for_something(f);
        settle(f);
    }
    return NULL;
}

/* ---- the module ------------------------------------------------------------------------------ */

static void wake(NbdFile *f)
{
    eventfd_write(f->wake_fd, 1);
}

static void nbd_file_submit(void *obj, RemoteCall *call)
{
    NbdFile *f = obj;
    NbdCall *c = call_new(f, call->op, call);
    c->offset = call->offset;
    c->size = call->size;
    c->durable = call->durable;
    c->keep = call->keep;
    if (c->op == REMOTE_STATUS)
        c->size = MIN(c->size, REQUEST_MAX * 32ull);
    if (c->op == REMOTE_READ || c->op == REMOTE_WRITE)
        take_data(c);
    g_mutex_lock(&f->lock);
    g_queue_push_tail_link(&f->arrived, &c->link);
    bool first = f->arrived.length == 1;
    g_mutex_unlock(&f->lock);
    if (first)
        wake(f);
}

static void free_queue(GQueue *queue)
{
    GList *link;
    while ((link = g_queue_pop_head_link(queue)))
        call_free(link->data);
}

static void nbd_file_close(void *obj)
{
    NbdFile *f = obj;
    g_mutex_lock(&f->lock);
    f->quit = true;
    g_mutex_unlock(&f->lock);
    wake(f);
    if (f->thread)
        g_thread_join(f->thread);
    if (f->nbd && !is_broken(f))
        nbd_shutdown(f->nbd, LIBNBD_SHUTDOWN_ABANDON_PENDING);
    nbd_close(f->nbd);
    GQueue *queues[] = {&f->waiting, &f->sent, &f->ended, &f->again, &f->unstable};
    for (size_t i = 0; i < G_N_ELEMENTS(queues); i++)
        free_queue(queues[i]);
    fd_clear(&f->wake_fd);
    g_mutex_clear(&f->lock);
    g_free(f->address);
    g_free(f);
}

static bool refuse(const NbdFile *f, const char *why, GError **error)
{
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT, _("cannot open disk '%s': %s"),
                f->address, why);
    return false;
}

static bool begin(NbdFile *f, int fd, GError **error)
{
    if (f->patience_us < 0) {
        fd_clear(&fd);
        return refuse(f, _("reconnect-delay is a number of seconds up to a day"), error);
    }
    f->nbd = connect_to(f, fd, error);
    if (!f->nbd)
        return false;
    if (!describe(f->nbd, &f->info, &f->part_max))
        return refuse(f, nbd_get_error(), error);
    f->can_flush = nbd_can_flush(f->nbd) == 1;
    f->thread = g_thread_new("nbd-client", look_after, f);
    return true;
}

static void *nbd_file_open(const char *address, int fd, bool read_only, RemoteInfo *ret_info,
                           GError **error)
{
    NbdFile *f = g_new0(NbdFile, 1);
    g_mutex_init(&f->lock);
    f->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    f->address = g_strdup(address);
    f->can_reconnect = fd < 0;
    f->patience_us = patience_of(address);
    f->read_only = read_only;
    if (begin(f, fd, error)) {
        *ret_info = f->info;
        return f;
    }
    nbd_file_close(f);
    return NULL;
}

static const RemoteApi api = {
    .open = nbd_file_open, .close = nbd_file_close, .submit = nbd_file_submit};
OSPITE_MODULE(&api);
