/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See file_copy.h. */
#include "vm/file_copy.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/i18n.h"
#include "vm/text.h"

#define CHUNK MIB(1)

static bool host_failed(GError **error, const char *doing, const char *path)
{
    g_autofree char *quoted = text_quote(path);

    return vm_error(error, g_io_error_from_errno(errno), doing, quoted, g_strerror(errno));
}

static bool write_whole(int fd, const char *data, ssize_t size, off_t offset)
{
    while (size > 0) {
        ssize_t n = pwrite(fd, data, (size_t)size, offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        data += n;
        size -= n;
        offset += n;
    }
    return true;
}

static void count(const FileCopy *copy, ssize_t bytes)
{
    if (copy->done)
        atomic_fetch_add(copy->done, (uint64_t)bytes);
}

/* What lies between `start` and `end` holds data. */
static bool copy_range(const FileCopy *copy, char *chunk, off_t start, off_t end, GError **error)
{
    while (start < end) {
        ssize_t got = pread(copy->from_fd, chunk, (size_t)MIN(end - start, (off_t)CHUNK), start);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return host_failed(error, _("cannot read %s: %s"), copy->from);
        if (got == 0)
            return true;
        if (!write_whole(copy->fd, chunk, got, start))
            return host_failed(error, _("cannot write %s: %s; it stays where it was"), copy->to);
        start += got;
        count(copy, got);
    }
    return true;
}

/* Holes stay holes. */
static bool copy_data(const FileCopy *copy, char *chunk, off_t size, GError **error)
{
    off_t start = 0, end = 0;

    if (ftruncate(copy->fd, size) < 0)
        return host_failed(error, _("cannot write %s: %s; it stays where it was"), copy->to);
    while (end < size) {
        start = lseek(copy->from_fd, end, SEEK_DATA);
        if (start < 0 && errno == ENXIO)
            return true;
        if (start < 0)
            start = end; /* a file system that knows no holes */
        end = lseek(copy->from_fd, start, SEEK_HOLE);
        if (end <= start)
            end = size;
        if (!copy_range(copy, chunk, start, end, error))
            return false;
    }
    return true;
}

static ssize_t read_whole(int fd, char *data, size_t size, off_t offset)
{
    size_t done = 0;

    while (done < size) {
        ssize_t got = pread(fd, data + done, size - done, offset + (off_t)done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? -1 : (ssize_t)done;
        done += (size_t)got;
    }
    return (ssize_t)done;
}

/* Reads the copy back, from the device where the host lets us. */
static bool verify(const FileCopy *copy, char *chunk, off_t size, GError **error)
{
    g_autofree char *other = g_malloc(CHUNK), *quoted = NULL;

    posix_fadvise(copy->fd, 0, 0, POSIX_FADV_DONTNEED);
    for (off_t at = 0; at < size; at += (off_t)CHUNK) {
        ssize_t got = read_whole(copy->from_fd, chunk, CHUNK, at);
        ssize_t same = read_whole(copy->fd, other, CHUNK, at);
        if (got >= 0 && got == same && !memcmp(chunk, other, (size_t)got))
            continue;
        quoted = text_quote(copy->to);
        return vm_error(
            error, G_IO_ERROR_FAILED,
            _("the copy in %s is not what was written; the original stays where it was, "
              "and that disk wants to be looked at"),
            quoted);
    }
    return true;
}

bool file_copy_run(const FileCopy *copy, GError **error)
{
    g_autofree char *chunk = g_malloc(CHUNK);
    struct stat st;

    if (fstat(copy->from_fd, &st) < 0)
        return host_failed(error, _("cannot read %s: %s"), copy->from);
    if (!S_ISREG(st.st_mode)) {
        errno = EINVAL;
        return host_failed(error, _("cannot move %s, which is no file: %s"), copy->from);
    }
    if (!copy_data(copy, chunk, st.st_size, error))
        return false;
    if (fchmod(copy->fd, st.st_mode & 0777) < 0 || fsync(copy->fd) < 0)
        return host_failed(error, _("cannot write %s: %s; it stays where it was"), copy->to);
    return verify(copy, chunk, st.st_size, error);
}
