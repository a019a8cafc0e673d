/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The asynchronous front of the engine: requests for bytes are worked off by host calls where the
 * map knows the place, and by the waiting engine (image.h) in a thread where it must be asked.
 *
 * A disk is in one of two phases. In the fast phase requests go in steps, front to back: one step
 * is one host call, at most one extent long and STEP_IOVS vectors wide. A request that needs more
 * (a place for new data, a table from the file, an unpacked cluster) waits in `slow` until no fast
 * request is in flight; then all of them are one batch, which a thread works off with one flush for
 * all that ask for one. New requests wait for the end of the batch. So the map is never used by two
 * threads, and nothing is moved or freed under a transfer.
 *
 * Invariants:
 * - `done` never runs inside disk_submit(), also when the answer is known at once.
 * - `sync_error` of a file, once set, stays: the host may have dropped the unwritten pages with the
 *   error, so that a later fdatasync would lie (SAFETY §5.5).
 *
 * Threads: everything runs with `lock` held but disk_open(), disk_close() and batch_run().
 */
#include "block/disk.h"

#include <errno.h>

#include "base/i18n.h"
#include "block/difference.h"
#include "block/host_io.h"
#include "block/image.h"

#define STEP_IOVS  64
#define ZERO_CHUNK 65536

struct Disk {
    DiskInfo info;
    GRecMutex *lock;
    HostIo *io;
    Image *image;
    DiskErrorPolicy on_full, on_error, on_read_error;
    void (*stopped)(void *obj, Disk *disk, DiskOp op, int error);
    void *stopped_obj;
    GQueue requests; /* in flight */
    GQueue kept;     /* DiskTask *, failed and waiting for disk_retry() */
    unsigned fast;   /* tasks whose step is in flight */
    GQueue slow;     /* DiskTask *, for the next batch */
    GQueue batch;    /* DiskTask *, in the thread */
    HostIoRequest batch_call;
    Throttle throttle, *common_throttle; /* the latter may be NULL */
    GMainContext *context;
    GQueue throttled; /* DiskTask *, for later */
    GSource *timer;   /* ready when the first of them may begin; NULL: no throttle */
};

/* A request being worked off. */
typedef struct DiskTask {
    HostIoRequest io;
    Disk *disk;
    DiskRequest *request;
    HostFile *file;    /* of the step in flight */
    uint64_t position; /* bytes done; of a flush: the `written` that it makes stable */
    IovCursor cursor;  /* where `position` is in the request's vectors */
    GList link;        /* in kept, slow or batch */
    int error;         /* of the batch */
    struct iovec iov[STEP_IOVS];
} DiskTask;

static const uint8_t zeros[ZERO_CHUNK];

static void task_step(DiskTask *task);
static void batch_start(Disk *disk);
static void need_timer(Disk *disk);

/* ---- opening --------------------------------------------------------------------------------- */

static bool refuse_empty(const Image *image, GError **error)
{
    if (image->map->size)
        return true;
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                _("cannot open disk '%s': the file is empty; give it a size with "
                  "'ospite disk resize %s 10G'"),
                image->path, image->path);
    return false;
}

Disk *disk_open(const char *path, const DiskOptions *options, GMainContext *context,
                GRecMutex *lock, GError **error)
{
    ImageOptions how = {.format = options->format,
                        .opened = options->opened,
                        .read_only = options->read_only,
                        .shared = options->sharing == DISK_SHARED,
                        .trust_names = options->trust_names,
                        .snapshot = options->snapshot,
                        .key = options->key,
                        .io_hook = options->io_hook};
    bool differs = options->sharing >= DISK_DIFFERENCE;
    g_autoptr(Image) image = differs
                                 ? difference_open(options->difference, path, &how,
                                                   options->sharing == DISK_DIFFERENCE_ANEW, error)
                                 : image_open(path, &how, error);
    if (!image || !refuse_empty(image, error))
        return NULL;
    Disk *disk = g_new0(Disk, 1);
    disk->lock = lock;
    disk->io = host_io_new(context, lock, options->io_hook);
    disk->on_full = options->on_full;
    disk->on_error = options->on_error;
    disk->on_read_error = options->on_read_error;
    disk->stopped = options->stopped;
    disk->stopped_obj = options->stopped_obj;
    disk->context = context;
    disk->throttle.limits = options->throttle;
    disk->common_throttle = options->common_throttle;
    need_timer(disk);
    disk->info = (DiskInfo){.size = image->map->size,
                            .sector_size = image->map->sector_size,
                            .read_only = options->read_only,
                            .format = image->driver->name,
                            .path = image->path};
    disk->image = g_steal_pointer(&image);
    return disk;
}

const DiskInfo *disk_info(const Disk *disk)
{
    return &disk->info;
}

/* ---- the end of a request -------------------------------------------------------------------- */

static DiskErrorPolicy policy_for(const Disk *disk, const DiskTask *task, int error)
{
    DiskOp op = task->request->op;
    if (!error || error == EPERM || error == EINVAL || error == EROFS)
        return DISK_ERROR_REPORT; /* our refusal, not the host's */
    if (op == DISK_READ || op == DISK_MAP)
        return disk->on_read_error;
    bool is_full = error == ENOSPC || error == EDQUOT || error == EFBIG;
    return is_full ? disk->on_full : disk->on_error;
}

static void task_finish(DiskTask *task, int error)
{
    DiskRequest *request = task->request;
    Disk *disk = task->disk;
    g_queue_unlink(&disk->requests, &request->link);
    g_free(task);
    request->done(request, error);
}

/* The host's verdict: the device hears it, unless the policy keeps the request. */
static void task_end(DiskTask *task, int error)
{
    Disk *disk = task->disk;
    DiskErrorPolicy policy = policy_for(disk, task, error);
    if (policy != DISK_ERROR_STOP) {
        task_finish(task, policy == DISK_ERROR_IGNORE ? 0 : error);
        return;
    }
    g_queue_push_tail_link(&disk->kept, &task->link);
    if (disk->stopped)
        disk->stopped(disk->stopped_obj, disk, task->request->op, error);
}

static void known_done(HostIoRequest *io, int64_t result)
{
    task_finish(io->obj, io->mode);
}

static void task_finish_later(DiskTask *task, int error)
{
    task->io.op = HOST_IO_NOP;
    task->io.mode = error;
    task->io.done = known_done;
    host_io_submit(task->disk->io, &task->io);
}

/* ---- the slow phase -------------------------------------------------------------------------- */

static int run_map(Image *image, DiskRequest *r)
{
    uint64_t offset = r->offset, end = r->offset + r->size;
    unsigned count = 0;
    int result = 0;
    for (; offset < end && count < r->extent_count; count++) {
        ImageStatus s;
        result = image_status(image, offset, end - offset, true, &s);
        if (result)
            break;
        r->extents[count] = (DiskExtent){s.length, s.zero, s.zero && !s.data};
        offset += s.length;
    }
    r->extent_count = count;
    return count ? 0 : result;
}

static int run_slow(DiskTask *task)
{
    DiskRequest *r = task->request;
    Image *image = task->disk->image;
    uint64_t offset = r->offset + task->position;
    uint64_t size = r->size - task->position;
    /* A kept request begins again here, so the task's own cursor must not move. */
    IovCursor cursor = task->cursor;
    switch (r->op) {
    case DISK_READ:
        return image_readv(image, offset, size, &cursor);
    case DISK_WRITE:
        return image_writev(image, offset, size, &cursor);
    case DISK_DISCARD:
        return image_discard(image, offset, size);
    case DISK_WRITE_ZEROES:
        return image_write_zeros(image, offset, size);
    case DISK_MAP:
        return run_map(image, r);
    case DISK_FLUSH:
        break;
    }
    return 0;
}

static bool needs_flush(const DiskRequest *r)
{
    return r->op == DISK_FLUSH || (r->op == DISK_WRITE && r->fua);
}

/* In the layer's thread. */
static int64_t batch_run(void *obj)
{
    Disk *disk = obj;
    bool flush = false;
    for (GList *l = disk->batch.head; l; l = l->next) {
        DiskTask *task = l->data;
        task->error = -run_slow(task);
        flush = flush || needs_flush(task->request);
    }
    int result = flush ? -image_flush(disk->image) : 0;
    for (GList *l = disk->batch.head; l && result; l = l->next) {
        DiskTask *task = l->data;
        if (!task->error && needs_flush(task->request))
            task->error = result;
    }
    return 0;
}

static void task_start(DiskTask *task);

static void batch_done(HostIoRequest *io, int64_t result)
{
    Disk *disk = io->obj;
    GQueue done = disk->batch, waiting = disk->slow;
    GList *link;
    g_queue_init(&disk->batch);
    g_queue_init(&disk->slow);
    while ((link = g_queue_pop_head_link(&waiting)))
        task_start(link->data);
    while ((link = g_queue_pop_head_link(&done))) {
        DiskTask *task = link->data;
        task_end(task, task->error);
    }
    batch_start(disk);
}

static void batch_start(Disk *disk)
{
    if (disk->fast || disk->batch.length || !disk->slow.length)
        return;
    disk->batch = disk->slow;
    g_queue_init(&disk->slow);
    disk->batch_call =
        (HostIoRequest){.op = HOST_IO_CALL, .call = batch_run, .done = batch_done, .obj = disk};
    host_io_submit(disk->io, &disk->batch_call);
}

static void task_go_slow(DiskTask *task)
{
    g_queue_push_tail_link(&task->disk->slow, &task->link);
    batch_start(task->disk);
}

/* ---- the fast phase -------------------------------------------------------------------------- */

/* Ends a step: what comes next may be a batch. */
static void fast_end(DiskTask *task, int error)
{
    Disk *disk = task->disk;
    task_end(task, error);
    batch_start(disk);
}

static void read_end_as_zeros(DiskTask *task)
{
    for (int i = 0; i < task->io.iov_count; i++)
        memset(task->iov[i].iov_base, 0, task->iov[i].iov_len);
}

/* True when the step failed in a way that another method may not. */
static bool try_next_zero_method(DiskTask *task, int64_t result)
{
    if (task->io.op != HOST_IO_FALLOCATE || (result != -EOPNOTSUPP && result != -ENOSYS))
        return false;
    host_file_zero_refused(task->file, task->io.mode);
    return true;
}

static void note_change(DiskTask *task, int64_t result)
{
    HostFile *file = task->file;
    if (task->io.op == HOST_IO_READ)
        return;
    file->written++;
    if (task->io.op == HOST_IO_WRITE && result > 0)
        file->size = MAX(file->size, task->io.offset + result);
    if (task->io.durable && result == -EIO)
        file->sync_error = EIO;
}

static void step_done(HostIoRequest *io, int64_t result)
{
    DiskTask *task = io->obj;
    task->disk->fast--;
    note_change(task, result);
    if (try_next_zero_method(task, result)) {
        task_step(task);
        return;
    }
    if (result < 0) {
        fast_end(task, (int)-result);
        return;
    }
    if (io->op == HOST_IO_FALLOCATE) {
        result = (int64_t)io->size;
    } else if (result == 0 && io->op == HOST_IO_READ) {
        read_end_as_zeros(task);
        result = (int64_t)io->size;
    } else if (result == 0) {
        fast_end(task, EIO);
        return;
    }
    task->position += result;
    if (io->op != HOST_IO_FALLOCATE && task->request->iov_count)
        iov_cursor_advance(&task->cursor, result);
    if (task->position < task->request->size)
        task_step(task);
    else
        fast_end(task, 0);
}

static uint64_t task_slice(DiskTask *task, uint64_t limit)
{
    task->io.iov = task->iov;
    return iov_cursor_slice(&task->cursor, task->iov, STEP_IOVS, limit, &task->io.iov_count);
}

static uint64_t task_slice_zeros(DiskTask *task, uint64_t limit)
{
    uint64_t total = 0;
    int count = 0;
    for (; count < STEP_IOVS && total < limit; count++) {
        size_t length = MIN(ZERO_CHUNK, limit - total);
        task->iov[count] = (struct iovec){(void *)zeros, length};
        total += length;
    }
    task->io.iov = task->iov;
    task->io.iov_count = count;
    return total;
}

static void step_prepare(DiskTask *task, HostFile *file, uint64_t limit)
{
    static const HostIoOp transfers[] = {[DISK_READ] = HOST_IO_READ, [DISK_WRITE] = HOST_IO_WRITE};
    const DiskRequest *request = task->request;
    task->file = file;
    task->io.fd = file->fd;
    task->io.remote = file->remote;
    task->io.done = step_done;
    task->io.durable = false;
    if (request->op == DISK_READ || request->op == DISK_WRITE) {
        task->io.op = transfers[request->op];
        task->io.durable = request->op == DISK_WRITE && request->fua;
        task->io.size = task_slice(task, limit);
        return;
    }
    task->io.mode = host_file_zero_mode(file);
    if (task->io.mode) {
        task->io.op = HOST_IO_FALLOCATE;
        task->io.size = limit;
    } else {
        task->io.op = HOST_IO_WRITE;
        task->io.size = task_slice_zeros(task, limit);
    }
}

/* A discard where nothing gives space back. */
static bool is_useless(const DiskRequest *request, const HostFile *file)
{
    return request->op == DISK_DISCARD && !host_file_zero_mode(file);
}

/*
 * Formats that keep a map want to hear of zeroed and discarded ranges, and of a durable write when
 * the map has something to say, too.
 */
static bool is_for_the_map(const Disk *disk, const DiskRequest *request)
{
    const ImageMap *map = disk->image->map;
    bool erases = request->op == DISK_DISCARD || request->op == DISK_WRITE_ZEROES;
    return (erases && image_map_can_zero(disk->image)) || (map->dirty && needs_flush(request));
}

/*
 * Finds what the next step is about; zeros on the way need no call. Returns 0 with what is left in
 * `ret_extent`, nothing (length 0) when the request is complete; -EAGAIN: a batch must do it.
 */
static int step_find(DiskTask *task, Extent *ret_extent)
{
    const DiskRequest *request = task->request;
    Disk *disk = task->disk;
    while (task->position < request->size) {
        if (is_for_the_map(disk, request) ||
            image_find(disk->image, request->offset + task->position,
                       request->size - task->position, request->op != DISK_READ, ret_extent))
            return -EAGAIN;
        ret_extent->length = MIN(ret_extent->length, request->size - task->position);
        if (ret_extent->kind != EXTENT_ZERO)
            return 0;
        iov_cursor_fill(&task->cursor, NULL, ret_extent->length);
        task->position += ret_extent->length;
    }
    ret_extent->length = 0;
    return 0;
}

static void task_step(DiskTask *task)
{
    Disk *disk = task->disk;
    Extent extent = {0};
    if (step_find(task, &extent)) {
        task_go_slow(task);
    } else if (!extent.length || is_useless(task->request, extent.file)) {
        task_finish_later(task, 0);
        batch_start(disk);
    } else {
        task->io.offset = extent.host_offset;
        step_prepare(task, extent.file, extent.length);
        disk->fast++;
        host_io_submit(disk->io, &task->io);
    }
}

/* ---- flush ----------------------------------------------------------------------------------- */

static void sync_done(HostIoRequest *io, int64_t result)
{
    DiskTask *task = io->obj;
    HostFile *file = task->file;
    task->disk->fast--;
    if (result < 0)
        host_file_sync_failed(file, (int)result);
    else if (!file->sync_error)
        file->synced = MAX(file->synced, task->position);
    fast_end(task, file->sync_error ? file->sync_error : (int)-result);
}

/* A map that has nothing to say leaves it to the file. */
static void task_flush(DiskTask *task)
{
    Disk *disk = task->disk;
    HostFile *file = disk->image->file;
    if (disk->image->map->dirty || disk->image->map->many_files) {
        task_go_slow(task);
    } else if (disk->info.read_only || file->sync_error || file->synced == file->written) {
        task_finish_later(task, file->sync_error);
    } else {
        task->file = file;
        task->position = file->written;
        task->io.op = HOST_IO_SYNC;
        task->io.fd = file->fd;
        task->io.remote = file->remote;
        task->io.done = sync_done;
        disk->fast++;
        host_io_submit(disk->io, &task->io);
    }
}

/* ---- the interface --------------------------------------------------------------------------- */

static bool iov_fits(const DiskRequest *request)
{
    uint64_t total = 0;
    for (int i = 0; i < request->iov_count; i++)
        total += request->iov[i].iov_len;
    return total == request->size;
}

/* 0, or the errno that refuses the request. */
static int check_request(const Disk *disk, const DiskRequest *request)
{
    uint64_t end;
    if (request->op == DISK_FLUSH)
        return 0;
    if (request->op != DISK_READ && request->op != DISK_MAP && disk->info.read_only)
        return EROFS;
    if ((request->offset | request->size) % disk->info.sector_size)
        return EINVAL;
    if (__builtin_add_overflow(request->offset, request->size, &end) || end > disk->info.size)
        return EIO;
    if ((request->op == DISK_READ || request->op == DISK_WRITE) && !iov_fits(request))
        return EINVAL;
    IovCursor cursor;
    iov_cursor_init(&cursor, request->iov, request->iov_count);
    if (request->op == DISK_WRITE &&
        image_forges_mark(disk->image, request->offset, request->size, &cursor))
        return EPERM;
    if (request->op == DISK_WRITE && request->fua)
        return disk->image->file->sync_error;
    return 0;
}

static void task_start(DiskTask *task)
{
    Disk *disk = task->disk;
    if (disk->batch.length || disk->slow.length || task->request->op == DISK_MAP)
        task_go_slow(task);
    else if (task->request->op == DISK_FLUSH)
        task_flush(task);
    else
        task_step(task);
}

static int64_t throttle_wait_us(Disk *disk, const DiskRequest *request)
{
    int64_t now_us = g_get_monotonic_time(), wait_us;

    if (request->op != DISK_READ && request->op != DISK_WRITE)
        return 0;
    wait_us = throttle_wait(&disk->throttle, now_us);
    if (disk->common_throttle)
        wait_us = MAX(wait_us, throttle_wait(disk->common_throttle, now_us));
    if (wait_us)
        return wait_us;
    throttle_count(&disk->throttle, now_us, request->size);
    if (disk->common_throttle)
        throttle_count(disk->common_throttle, now_us, request->size);
    return 0;
}

/* In their order; `all` of them when the disk is drained. */
static void start_throttled(Disk *disk, bool all)
{
    GList *link;
    while ((link = g_queue_peek_head_link(&disk->throttled))) {
        DiskTask *task = link->data;
        int64_t wait_us = all ? 0 : throttle_wait_us(disk, task->request);
        if (wait_us) {
            g_source_set_ready_time(disk->timer, g_get_monotonic_time() + wait_us);
            return;
        }
        g_queue_unlink(&disk->throttled, link);
        task_start(task);
    }
}

static gboolean on_throttle_timer(gpointer obj)
{
    Disk *disk = obj;
    g_rec_mutex_lock(disk->lock);
    g_source_set_ready_time(disk->timer, -1);
    start_throttled(disk, false);
    g_rec_mutex_unlock(disk->lock);
    return G_SOURCE_CONTINUE;
}

static gboolean timer_dispatch(GSource *source, GSourceFunc callback, gpointer obj)
{
    return callback(obj);
}

static GSourceFuncs timer_funcs = {.dispatch = timer_dispatch};

static void need_timer(Disk *disk)
{
    bool limited = throttle_is_on(&disk->throttle) ||
                   (disk->common_throttle && throttle_is_on(disk->common_throttle));

    if (disk->timer || !limited)
        return;
    disk->timer = g_source_new(&timer_funcs, sizeof(GSource));
    g_source_set_callback(disk->timer, on_throttle_timer, disk, NULL);
    g_source_attach(disk->timer, disk->context);
}

/* What waits for the old limits is measured by the new ones. */
void disk_set_throttle(Disk *disk, const ThrottleLimits *limits)
{
    g_rec_mutex_lock(disk->lock);
    disk->throttle = (Throttle){.limits = *limits};
    disk_limits_changed(disk);
    g_rec_mutex_unlock(disk->lock);
}

void disk_limits_changed(Disk *disk)
{
    g_rec_mutex_lock(disk->lock);
    need_timer(disk);
    start_throttled(disk, false);
    g_rec_mutex_unlock(disk->lock);
}

/* Those behind one that waits wait, too. */
static bool must_wait(Disk *disk, DiskTask *task)
{
    if (!disk->timer)
        return false;
    g_queue_push_tail_link(&disk->throttled, &task->link);
    if (disk->throttled.length == 1)
        start_throttled(disk, false);
    return true;
}

void disk_submit(Disk *disk, DiskRequest *request)
{
    g_rec_mutex_lock(disk->lock);
    DiskTask *task = g_new0(DiskTask, 1);
    task->disk = disk;
    task->request = request;
    task->io.obj = task;
    task->link.data = task;
    iov_cursor_init(&task->cursor, request->iov, request->iov_count);
    request->link = (GList){.data = request};
    g_queue_push_tail_link(&disk->requests, &request->link);
    int error = check_request(disk, request);
    if (error || (request->size == 0 && request->op != DISK_FLUSH))
        task_finish_later(task, error);
    else if (!must_wait(disk, task))
        task_start(task);
    g_rec_mutex_unlock(disk->lock);
}

void disk_plug(Disk *disk)
{
    host_io_plug(disk->io);
}

void disk_unplug(Disk *disk)
{
    host_io_unplug(disk->io);
}

void disk_poll(Disk *disk)
{
    host_io_poll(disk->io);
}

void disk_retry(Disk *disk)
{
    g_rec_mutex_lock(disk->lock);
    GQueue kept = disk->kept;
    GList *link;
    g_queue_init(&disk->kept);
    while ((link = g_queue_pop_head_link(&kept)))
        task_start(link->data);
    g_rec_mutex_unlock(disk->lock);
}

unsigned disk_stopped_count(const Disk *disk)
{
    return disk->kept.length;
}

void disk_drain(Disk *disk)
{
    g_rec_mutex_lock(disk->lock);
    start_throttled(disk, true);
    g_rec_mutex_unlock(disk->lock);
    host_io_drain(disk->io);
}

void disk_close(Disk *disk)
{
    if (!disk)
        return;
    disk_drain(disk);
    if (disk->timer) {
        g_source_destroy(disk->timer);
        g_source_unref(disk->timer);
    }
    GList *link;
    while ((link = g_queue_pop_head_link(&disk->kept)))
        task_finish(link->data, EIO);
    host_io_free(disk->io);
    image_close(disk->image);
    g_free(disk);
}
