/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Files of images; see host_file.h. */
#include "block/host_file.h"
#include "base/address.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/i18n.h"
#include "block/locks.h"

#define ZERO_CHUNK 65536
#define ZERO_IOVS  16
/* For less than this the call costs more than it spares. */
#define RESERVE_MIN (64u << 10)

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

/* ---- opening --------------------------------------------------------------------------------- */

static bool fail_open(GError **error, const char *path, int code, const char *advice)
{
    g_set_error(error, G_IO_ERROR, g_io_error_from_errno(code), _("cannot open disk '%s': %s%s"),
                path, g_strerror(code), advice);
    return false;
}

static const char *open_advice(int code, bool read_only)
{
    if (code == ENOENT)
        return read_only ? _("; check the name")
                         : _("; check the name, or create it with 'ospite disk create'");
    if ((code == EACCES || code == EROFS || code == EPERM) && !read_only)
        return _("; change its permissions, or open it read-only");
    if (code == EACCES || code == EPERM)
        return _("; change its permissions");
    if (code == EISDIR)
        return _("; name an image file");
    return "";
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
static bool measure_file(HostFile *file, GError **error)
{
    struct stat st;
    if (fstat(file->fd, &st) < 0)
        return fail_open(error, file->path, errno, "");
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_REGULAR_FILE,
                    _("cannot open disk '%s': it is %s; name an image file or a block device"),
                    file->path, file_kind(st.st_mode));
        return false;
    }
    off_t size = lseek(file->fd, 0, SEEK_END);
    if (size < 0)
        return fail_open(error, file->path, errno, "");
    file->size = (uint64_t)size;
    return true;
}

static HostFile *host_file_take(const char *path, int fd, bool read_only, ImageLock lock,
                                HostIoHook *hook, GError **error)
{
    g_autoptr(HostFile) file = g_new0(HostFile, 1);
    file->fd = fd;
    file->path = g_strdup(path);
    file->hook = hook;
    file->read_only = read_only;
    file->written = 1; /* by whoever had the file before, perhaps */
    if (!measure_file(file, error) || !image_lock(fd, path, lock, error))
        return NULL;
    /* io_uring would answer EAGAIN where it has to wait for the host's disk. */
    fcntl(fd, F_SETFL, 0);
    return g_steal_pointer(&file);
}

/* By the address, or at the other end of a socket. */
static HostFile *open_remote(const char *address, int fd, bool read_only, HostIoHook *hook,
                             GError **error)
{
    uint64_t size;
    RemoteFile *remote = fd >= 0 ? remote_open_socket(address, fd, read_only, &size, error)
                                 : remote_open(address, read_only, &size, error);
    if (!remote)
        return NULL;
    HostFile *file = g_new0(HostFile, 1);
    file->fd = -1;
    file->remote = remote;
    file->path = g_strdup(address);
    file->hook = hook;
    file->read_only = read_only;
    file->size = size;
    file->written = 1;
    return file;
}

HostFile *host_file_open_fd(const char *path, int fd, bool read_only, HostIoHook *hook,
                            GError **error)
{
    struct stat st;
    if (fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode))
        return open_remote(path, fd, read_only, hook, error);
    return host_file_take(path, fd, read_only, read_only ? IMAGE_LOCK_READ : IMAGE_LOCK_WRITE, hook,
                          error);
}

static HostFile *open_with_flags(const char *path, int flags, ImageLock lock, HostIoHook *hook,
                                 GError **error)
{
    bool read_only = (flags & O_ACCMODE) == O_RDONLY;
    /* O_NONBLOCK: a fifo must not hang us before we see that it is one. */
    int fd = host_io_open(path, flags | O_NONBLOCK | O_NOCTTY, hook);
    if (fd >= 0)
        return host_file_take(path, fd, read_only, lock, hook, error);
    fail_open(error, path, -fd, open_advice(-fd, read_only));
    return NULL;
}

HostFile *host_file_open(const char *path, bool read_only, HostIoHook *hook, GError **error)
{
    if (is_address(path))
        return open_remote(path, -1, read_only, hook, error);
    return open_with_flags(path, read_only ? O_RDONLY : O_RDWR,
                           read_only ? IMAGE_LOCK_READ : IMAGE_LOCK_WRITE, hook, error);
}

HostFile *host_file_open_shared(const char *path, HostIoHook *hook, GError **error)
{
    if (!is_address(path))
        return open_with_flags(path, O_RDWR, IMAGE_LOCK_SHARE, hook, error);
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                _("cannot share '%s': shareable disks are files of this host"), path);
    return NULL;
}

HostFile *host_file_create(const char *path, HostIoHook *hook, GError **error)
{
    if (is_address(path)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                    _("cannot create '%s': nothing can be made there; fill what is there with "
                      "'convert -n'"),
                    path);
        return NULL;
    }
    g_autoptr(HostFile) file =
        open_with_flags(path, O_RDWR | O_CREAT, IMAGE_LOCK_WRITE, hook, error);
    if (!file)
        return NULL;
    struct stat st;
    int result = fstat(file->fd, &st) < 0 ? -errno : 0;
    if (!result && S_ISREG(st.st_mode))
        result = host_file_truncate(file, 0);
    if (result) {
        fail_open(error, path, -result, "");
        return NULL;
    }
    return g_steal_pointer(&file);
}

void host_file_close(HostFile *file)
{
    if (!file)
        return;
    fd_clear(&file->fd);
    remote_close(file->remote);
    g_free(file->path);
    g_free(file);
}

/* ---- calls ----------------------------------------------------------------------------------- */

static int64_t make_call(const HostIoRequest *r)
{
    switch (r->op) {
    case HOST_IO_READ:
        return preadv(r->fd, r->iov, r->iov_count, (off_t)r->offset);
    case HOST_IO_WRITE:
        return pwritev(r->fd, r->iov, r->iov_count, (off_t)r->offset);
    case HOST_IO_SYNC:
        return fdatasync(r->fd);
    case HOST_IO_FALLOCATE:
        return fallocate(r->fd, r->mode, (off_t)r->offset, (off_t)r->size);
    case HOST_IO_TRUNCATE:
        return ftruncate(r->fd, (off_t)r->size);
    default:
        return 0;
    }
}

static int64_t call_host(const HostIoRequest *r)
{
    int64_t result = make_call(r);
    return result < 0 ? -errno : result;
}

static int64_t call_remote(const HostFile *file, const HostIoRequest *r)
{
    if (r->op == HOST_IO_TRUNCATE)
        return r->size == file->size ? 0 : -ENOSPC;
    RemoteCall call = host_io_remote_call(r);
    return host_io_remote_result(&call, remote_run(file->remote, &call));
}

/* One call, past the hook; what was moved, or a negative errno. */
static int64_t call(HostFile *file, HostIoRequest *r)
{
    r->fd = file->fd;
    int64_t result = host_io_ask_hook(file->hook, r);
    if (result < 0) {
        host_io_tell_hook(file->hook, r, result);
        return result;
    }
    do {
        result = file->remote ? call_remote(file, r) : call_host(r);
    } while (result == -EINTR);
    host_io_tell_hook(file->hook, r, result);
    return result;
}

static uint64_t iov_size(const struct iovec *iov, int count)
{
    uint64_t total = 0;
    for (int i = 0; i < count; i++)
        total += iov[i].iov_len;
    return total;
}

/* Drops `bytes` from the front of the vectors. */
static void iov_pass(struct iovec **iov, int *count, uint64_t bytes)
{
    while (*count && bytes >= (*iov)->iov_len) {
        bytes -= (*iov)->iov_len;
        ++*iov;
        --*count;
    }
    if (*count) {
        (*iov)->iov_base = (uint8_t *)(*iov)->iov_base + bytes;
        (*iov)->iov_len -= bytes;
    }
}

static void note_change(HostFile *file)
{
    __atomic_fetch_add(&file->written, 1, __ATOMIC_RELAXED);
}

static void note_end(HostFile *file, uint64_t end)
{
    uint64_t size = __atomic_load_n(&file->size, __ATOMIC_RELAXED);
    while (size < end && !__atomic_compare_exchange_n(&file->size, &size, end, true,
                                                      __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        ;
}

/* A hook may shorten the vectors of its call, so each call gets its own. */
static int transfer(HostFile *file, HostIoOp op, uint64_t offset, struct iovec *iov, int count)
{
    while (count) {
        struct iovec part[64];
        int n = MIN(count, (int)G_N_ELEMENTS(part));
        memcpy(part, iov, n * sizeof(*iov));
        HostIoRequest r = {.op = op, .offset = offset, .iov = part, .iov_count = n};
        r.size = iov_size(part, n);
        if (!r.size)
            return 0;
        int64_t result = call(file, &r);
        if (result < 0)
            return (int)result;
        if (result == 0 && op == HOST_IO_WRITE)
            return -EIO;
        if (result == 0)
            break;
        iov_pass(&iov, &count, result);
        offset += result;
        if (op == HOST_IO_WRITE)
            note_end(file, offset);
    }
    for (int i = 0; i < count; i++)
        memset(iov[i].iov_base, 0, iov[i].iov_len);
    return 0;
}

int host_file_readv(HostFile *file, uint64_t offset, struct iovec *iov, int count)
{
    return transfer(file, HOST_IO_READ, offset, iov, count);
}

int host_file_writev(HostFile *file, uint64_t offset, struct iovec *iov, int count)
{
    note_change(file);
    return transfer(file, HOST_IO_WRITE, offset, iov, count);
}

int host_file_read(HostFile *file, uint64_t offset, void *data, size_t size)
{
    struct iovec iov = {data, size};
    return host_file_readv(file, offset, &iov, 1);
}

int host_file_write(HostFile *file, uint64_t offset, const void *data, size_t size)
{
    struct iovec iov = {(void *)data, size};
    return host_file_writev(file, offset, &iov, 1);
}

int host_file_truncate(HostFile *file, uint64_t size)
{
    HostIoRequest r = {.op = HOST_IO_TRUNCATE, .size = size};
    if (size > INT64_MAX)
        return -EFBIG;
    int64_t result = call(file, &r);
    note_change(file);
    if (result == 0)
        __atomic_store_n(&file->size, size, __ATOMIC_RELAXED);
    return (int)result;
}

int host_file_sync(HostFile *file)
{
    if (file->sync_error)
        return -file->sync_error;
    if (file->no_sync || file->synced == file->written)
        return 0;
    HostIoRequest r = {.op = HOST_IO_SYNC};
    int64_t result = call(file, &r);
    if (result < 0)
        host_file_sync_failed(file, (int)result);
    else
        file->synced = file->written;
    return (int)result;
}

void host_file_sync_failed(HostFile *file, int result)
{
    if (result != -ENOLINK && !file->sync_error)
        file->sync_error = -result;
}

/* ---- inside the host ------------------------------------------------------------------------- */

static int clone_range(const HostFile *from, uint64_t from_offset, const HostFile *to,
                       uint64_t to_offset, uint64_t size)
{
    struct file_clone_range range = {.src_fd = from->fd,
                                     .src_offset = from_offset,
                                     .src_length = size,
                                     .dest_offset = to_offset};
    return ioctl(to->fd, FICLONERANGE, &range) < 0 ? -errno : 0;
}

bool host_file_can_clone(const HostFile *from, const HostFile *to)
{
    /* No file system shares parts of blocks; those that share none at all say EOPNOTSUPP. */
    return !from->hook && !to->hook && clone_range(from, 1, to, 1, 1) == -EINVAL;
}

int host_file_clone(HostFile *from, uint64_t from_offset, HostFile *to, uint64_t to_offset,
                    uint64_t size)
{
    int result = clone_range(from, from_offset, to, to_offset, size);
    if (result)
        return result == -EINVAL || result == -EXDEV ? -EOPNOTSUPP : result;
    note_change(to);
    note_end(to, to_offset + size);
    return 0;
}

int host_file_copy(HostFile *from, uint64_t from_offset, HostFile *to, uint64_t to_offset,
                   uint64_t size)
{
    if (from->hook || to->hook || from->remote || to->remote)
        return -EOPNOTSUPP;
    while (size) {
        off_t in = (off_t)from_offset, out = (off_t)to_offset;
        ssize_t moved = copy_file_range(from->fd, &in, to->fd, &out, size, 0);
        if (moved < 0 && errno == EINTR)
            continue;
        /* 0: the source ends here; what is behind reads as zeros and must be written so. */
        if (moved <= 0)
            return moved && errno != EXDEV && errno != EINVAL && errno != ENOSYS ? -errno
                                                                                 : -EOPNOTSUPP;
        note_change(to);
        from_offset += (uint64_t)moved;
        to_offset += (uint64_t)moved;
        size -= (uint64_t)moved;
        note_end(to, to_offset);
    }
    return 0;
}

void host_file_reserve(const HostFile *file, uint64_t offset, uint64_t size)
{
    struct statfs fs;
    if (size < RESERVE_MIN || file->hook || file->remote)
        return;
    /* Others take space for many blocks at once anyway, or don't compress what was reserved. */
    if (fstatfs(file->fd, &fs) == 0 && fs.f_type == EXT4_SUPER_MAGIC)
        fallocate(file->fd, FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)size);
}

/* ---- zeroing --------------------------------------------------------------------------------- */

int host_file_zero_mode(const HostFile *file)
{
    return zero_methods[file->zero_method];
}

void host_file_zero_refused(HostFile *file, int mode)
{
    if (mode && mode == zero_methods[file->zero_method])
        file->zero_method++;
}

static int write_zeros(HostFile *file, uint64_t offset, uint64_t size)
{
    while (size) {
        struct iovec iov[ZERO_IOVS];
        uint64_t total = 0;
        int n = 0;
        for (; n < ZERO_IOVS && total < size; n++) {
            iov[n] = (struct iovec){(void *)zeros, MIN(ZERO_CHUNK, size - total)};
            total += iov[n].iov_len;
        }
        int result = host_file_writev(file, offset, iov, n);
        if (result)
            return result;
        offset += total;
        size -= total;
    }
    return 0;
}

static int try_fallocate(HostFile *file, uint64_t offset, uint64_t size)
{
    int mode;
    while ((mode = host_file_zero_mode(file))) {
        HostIoRequest r = {.op = HOST_IO_FALLOCATE, .mode = mode, .offset = offset, .size = size};
        int64_t result = call(file, &r);
        note_change(file);
        if (result != -EOPNOTSUPP && result != -ENOSYS)
            return (int)result;
        host_file_zero_refused(file, mode);
    }
    return -EOPNOTSUPP;
}

int host_file_zero(HostFile *file, uint64_t offset, uint64_t size)
{
    /* What lies past the end of the file is zero already. */
    uint64_t inside = offset < file->size ? MIN(size, file->size - offset) : 0;
    if (!inside)
        return 0;
    int result = try_fallocate(file, offset, inside);
    return result == -EOPNOTSUPP ? write_zeros(file, offset, inside) : result;
}

int host_file_discard(HostFile *file, uint64_t offset, uint64_t size)
{
    uint64_t inside = offset < file->size ? MIN(size, file->size - offset) : 0;
    int result = inside ? try_fallocate(file, offset, inside) : 0;
    return result == -EOPNOTSUPP ? 0 : result;
}

/* Looking for the end of long data takes the host long, so nobody asks twice for the same. */
static bool is_known_data(const HostFile *file, uint64_t offset)
{
    return offset >= file->data_start && offset < file->data_end &&
           file->data_written == __atomic_load_n(&file->written, __ATOMIC_RELAXED);
}

uint64_t host_file_next_data(HostFile *file, uint64_t offset)
{
    if (is_known_data(file, offset))
        return offset;
    if (file->remote)
        return remote_next(file->remote, offset, false);
    off_t at = lseek(file->fd, (off_t)offset, SEEK_DATA);
    if (at >= 0)
        return at;
    return errno == ENXIO ? UINT64_MAX : offset;
}

static uint64_t find_hole(HostFile *file, uint64_t offset)
{
    if (file->remote)
        return remote_next(file->remote, offset, true);
    off_t at = lseek(file->fd, (off_t)offset, SEEK_HOLE);
    return at >= 0 ? (uint64_t)at : MAX(file->size, offset);
}

uint64_t host_file_next_hole(HostFile *file, uint64_t offset)
{
    if (!is_known_data(file, offset)) {
        file->data_written = __atomic_load_n(&file->written, __ATOMIC_RELAXED);
        file->data_start = offset;
        file->data_end = find_hole(file, offset);
    }
    return MAX(file->data_end, offset);
}
