/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The disk engine: opens images, and turns requests for bytes into lookups in the format's map and
 * host I/O at the places it names.
 *
 * A request is worked off in steps, front to back: one step is one host call, at most one extent
 * long and STEP_IOVS vectors wide. A short read at the end of the file reads zeros; any other short
 * transfer is carried on by the next step.
 *
 * Invariants:
 * - `done` never runs inside disk_submit(), also when the answer is known at once.
 * - `sync_error`, once set, stays: the host may have dropped the unwritten pages with the error, so
 *   that a later fdatasync would lie (SAFETY §5.5).
 *
 * Threads: everything runs with `lock` held but disk_open() and disk_close().
 */
#include "block/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "block/format.h"
#include "block/host_io.h"
#include "block/locks.h"

#define STEP_IOVS  64
#define ZERO_CHUNK 65536

struct Disk {
    DiskInfo info;
    char *path;
    GRecMutex *lock;
    HostIo *io;
    const FormatDriver *driver;
    ImageMap *map;
    int fd;
    uint64_t written; /* counts changes that completed … */
    uint64_t synced;  /* … and how many of them are known to be on stable storage */
    int sync_error;   /* errno of the first sync that failed */
    int zero_method;  /* index in zero_methods: those before it do not work on this file */
    GQueue requests;  /* in flight */
};

/* A request being worked off. */
typedef struct DiskTask {
    HostIoRequest io;
    Disk *disk;
    DiskRequest *request;
    uint64_t position; /* bytes done; of a flush: the `written` that it makes stable */
    int iov_index;     /* where `position` is in the request's vectors */
    size_t iov_offset;
    struct iovec iov[STEP_IOVS];
} DiskTask;

/*
 * Ways to zero a range, best first: give the space back, keep it but mark it unwritten, and write
 * zeros (mode 0). A discard stops before the last, because its contents need not be zero.
 */
static const int zero_methods[] = {
    FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
    FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
    0,
};

static const uint8_t zeros[ZERO_CHUNK];

static void task_step(DiskTask *task);

/* ---- opening --------------------------------------------------------------------------------- */

static bool fail_open(GError **error, const char *path, int code, const char *advice)
{
    g_set_error(error, G_IO_ERROR, g_io_error_from_errno(code), "cannot open disk '%s': %s%s", path,
                g_strerror(code), advice);
    return false;
}

static const char *open_advice(int code, bool read_only)
{
    if (code == ENOENT)
        return read_only ? "; check the name"
                         : "; check the name, or create an empty disk with 'truncate -s SIZE FILE'";
    if ((code == EACCES || code == EROFS || code == EPERM) && !read_only)
        return "; change its permissions, or open it read-only";
    if (code == EACCES || code == EPERM)
        return "; change its permissions";
    if (code == EISDIR)
        return "; name an image file";
    return "";
}

static int open_file(const char *path, const DiskOptions *options, GError **error)
{
    /* O_NONBLOCK: a fifo must not hang us before we see that it is one. */
    int flags = (options->read_only ? O_RDONLY : O_RDWR) | O_NONBLOCK | O_NOCTTY;
    int fd = host_io_open(path, flags, options->io_hook);
    if (fd < 0)
        fail_open(error, path, -fd, open_advice(-fd, options->read_only));
    return fd;
}

static const char *file_kind(mode_t mode)
{
    if (S_ISDIR(mode))
        return "a directory";
    if (S_ISFIFO(mode))
        return "a fifo";
    if (S_ISCHR(mode))
        return "a character device";
    return "no file";
}

/* The size of a regular file or block device; refuses everything else. */
static bool measure_file(int fd, const char *path, uint64_t *ret_size, GError **error)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return fail_open(error, path, errno, "");
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_REGULAR_FILE,
                    "cannot open disk '%s': it is %s; name an image file or a block device", path,
                    file_kind(st.st_mode));
        return false;
    }
    off_t size = lseek(fd, 0, SEEK_END);
    if (size < 0)
        return fail_open(error, path, errno, "");
    if (size == 0) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "cannot open disk '%s': the file is empty; give it a size with "
                    "'truncate -s SIZE %s'",
                    path, path);
        return false;
    }
    *ret_size = (uint64_t)size;
    return true;
}

static bool read_at(int fd, void *data, size_t size, uint64_t offset)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = pread(fd, (uint8_t *)data + done, size - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        if (n == 0)
            return true;
        done += n;
    }
    return true;
}

static const FormatDriver *choose_driver(int fd, const char *path, uint64_t size,
                                         const DiskOptions *options, GError **error)
{
    if (options->format)
        return format_find(options->format, error);
    g_autofree ProbeData *data = g_new0(ProbeData, 1);
    data->file_size = size;
    uint64_t tail = size > sizeof(data->tail) ? size - sizeof(data->tail) : 0;
    if (!read_at(fd, data->head, sizeof(data->head), 0) ||
        !read_at(fd, data->tail, sizeof(data->tail), tail)) {
        fail_open(error, path, errno, "");
        return NULL;
    }
    return format_probe(data, path, error);
}

Disk *disk_open(const char *path, const DiskOptions *options, GMainContext *context,
                GRecMutex *lock, GError **error)
{
    uint64_t size;
    auto_fd fd = open_file(path, options, error);
    if (fd < 0 || !measure_file(fd, path, &size, error) ||
        !image_lock(fd, path, !options->read_only, error))
        return NULL;
    fcntl(fd, F_SETFL,
          0); /* io_uring would answer EAGAIN where it has to wait for the host's disk */
    const FormatDriver *driver = choose_driver(fd, path, size, options, error);
    ImageMap *map = driver ? driver->open(fd, size, path, error) : NULL;
    if (!map)
        return NULL;
    Disk *disk = g_new0(Disk, 1);
    disk->fd = fd_steal(&fd);
    disk->path = g_strdup(path);
    disk->lock = lock;
    disk->driver = driver;
    disk->map = map;
    disk->io = host_io_new(context, lock, options->io_hook);
    disk->written = 1; /* by whoever had the file before, perhaps */
    disk->info = (DiskInfo){.size = map->size,
                            .sector_size = map->sector_size,
                            .read_only = options->read_only,
                            .format = driver->name,
                            .path = disk->path};
    return disk;
}

const DiskInfo *disk_info(const Disk *disk)
{
    return &disk->info;
}

/* ---- working requests off -------------------------------------------------------------------- */

static void task_finish(DiskTask *task, int error)
{
    DiskRequest *request = task->request;
    Disk *disk = task->disk;
    if (request->op != DISK_READ && request->op != DISK_FLUSH)
        disk->written++;
    g_queue_unlink(&disk->requests, &request->link);
    g_free(task);
    request->done(request, error);
}

static void task_advance_iov(DiskTask *task, uint64_t bytes)
{
    while (bytes) {
        size_t left = task->request->iov[task->iov_index].iov_len - task->iov_offset;
        if (bytes < left) {
            task->iov_offset += bytes;
            return;
        }
        bytes -= left;
        task->iov_index++;
        task->iov_offset = 0;
    }
}

/* The next part of the request's buffers, at most `limit` bytes; returns its size. */
static uint64_t task_slice_iov(DiskTask *task, uint64_t limit)
{
    const DiskRequest *request = task->request;
    uint64_t total = 0;
    size_t offset = task->iov_offset;
    int count = 0;
    for (int i = task->iov_index; i < request->iov_count && count < STEP_IOVS && total < limit;
         i++, offset = 0) {
        size_t length = MIN(request->iov[i].iov_len - offset, limit - total);
        if (!length)
            continue;
        task->iov[count++] = (struct iovec){(uint8_t *)request->iov[i].iov_base + offset, length};
        total += length;
    }
    task->io.iov = task->iov;
    task->io.iov_count = count;
    return total;
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
    Disk *disk = task->disk;
    if (task->io.mode == zero_methods[disk->zero_method])
        disk->zero_method++;
    return true;
}

static void step_done(HostIoRequest *io, int64_t result)
{
    DiskTask *task = io->obj;
    if (try_next_zero_method(task, result)) {
        task_step(task);
        return;
    }
    if (result < 0) {
        if (io->op == HOST_IO_WRITE && io->durable && result == -EIO)
            task->disk->sync_error = EIO;
        task_finish(task, (int)-result);
        return;
    }
    if (io->op == HOST_IO_FALLOCATE) {
        result = (int64_t)io->size;
    } else if (result == 0 && io->op == HOST_IO_READ) {
        read_end_as_zeros(task);
        result = (int64_t)io->size;
    } else if (result == 0) {
        task_finish(task, EIO);
        return;
    }
    task->position += result;
    if (io->op != HOST_IO_FALLOCATE && task->request->iov_count)
        task_advance_iov(task, result);
    task_step(task);
}

static void step_prepare(DiskTask *task, uint64_t limit)
{
    static const HostIoOp transfers[] = {[DISK_READ] = HOST_IO_READ, [DISK_WRITE] = HOST_IO_WRITE};
    const DiskRequest *request = task->request;
    if (request->op == DISK_READ || request->op == DISK_WRITE) {
        task->io.op = transfers[request->op];
        task->io.durable = request->op == DISK_WRITE && request->fua;
        task->io.size = task_slice_iov(task, limit);
        return;
    }
    task->io.mode = zero_methods[task->disk->zero_method];
    if (task->io.mode) {
        task->io.op = HOST_IO_FALLOCATE;
        task->io.size = limit;
    } else {
        task->io.op = HOST_IO_WRITE;
        task->io.size = task_slice_zeros(task, limit);
    }
}

/* A discard where nothing gives space back. */
static bool is_useless(const Disk *disk, const DiskRequest *request)
{
    return request->op == DISK_DISCARD && !zero_methods[disk->zero_method];
}

static void task_step(DiskTask *task)
{
    Disk *disk = task->disk;
    const DiskRequest *request = task->request;
    if (task->position == request->size || is_useless(disk, request)) {
        task_finish(task, 0);
        return;
    }
    uint64_t offset = request->offset + task->position;
    Extent extent = disk->driver->lookup(disk->map, offset);
    task->io.fd = disk->fd;
    task->io.offset = extent.host_offset;
    task->io.done = step_done;
    step_prepare(task, MIN(extent.length, request->size - task->position));
    host_io_submit(disk->io, &task->io);
}

/* ---- results that are known at once ---------------------------------------------------------- */

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

/* ---- flush ----------------------------------------------------------------------------------- */

static void sync_done(HostIoRequest *io, int64_t result)
{
    DiskTask *task = io->obj;
    Disk *disk = task->disk;
    if (result < 0 && !disk->sync_error)
        disk->sync_error = (int)-result;
    if (!disk->sync_error)
        disk->synced = MAX(disk->synced, task->position);
    task_finish(task, disk->sync_error);
}

static void task_flush(DiskTask *task)
{
    Disk *disk = task->disk;
    if (disk->sync_error || disk->synced == disk->written) {
        task_finish_later(task, disk->sync_error);
        return;
    }
    task->position = disk->written;
    task->io.op = HOST_IO_SYNC;
    task->io.fd = disk->fd;
    task->io.done = sync_done;
    host_io_submit(disk->io, &task->io);
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
    if (request->op != DISK_READ && disk->info.read_only)
        return EROFS;
    if ((request->offset | request->size) % disk->info.sector_size)
        return EINVAL;
    if (__builtin_add_overflow(request->offset, request->size, &end) || end > disk->info.size)
        return EIO;
    if ((request->op == DISK_READ || request->op == DISK_WRITE) && !iov_fits(request))
        return EINVAL;
    if (request->op == DISK_WRITE && request->fua)
        return disk->sync_error;
    return 0;
}

void disk_submit(Disk *disk, DiskRequest *request)
{
    g_rec_mutex_lock(disk->lock);
    DiskTask *task = g_new0(DiskTask, 1);
    task->disk = disk;
    task->request = request;
    task->io.obj = task;
    request->link = (GList){.data = request};
    g_queue_push_tail_link(&disk->requests, &request->link);
    int error = check_request(disk, request);
    if (!error && request->op == DISK_FLUSH)
        task_flush(task);
    else if (error || request->size == 0 || is_useless(disk, request))
        task_finish_later(task, error);
    else
        task_step(task);
    g_rec_mutex_unlock(disk->lock);
}

void disk_drain(Disk *disk)
{
    host_io_drain(disk->io);
}

void disk_close(Disk *disk)
{
    if (!disk)
        return;
    host_io_free(disk->io);
    if (!disk->info.read_only && disk->synced != disk->written)
        fdatasync(disk->fd);
    disk->driver->close(disk->map);
    fd_clear(&disk->fd);
    g_free(disk->path);
    g_free(disk);
}
