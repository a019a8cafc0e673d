/* SPDX-License-Identifier: GPL-3.0-or-later */
/* An image's way to another file system: a durable copy that was compared with it; see media.h. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bits.h"
#include "base/fd.h"
#include "base/i18n.h"
#include "block/locks.h"
#include "vm/media_internal.h"
#include "vm/path.h"
#include "vm/text.h"

#define CHUNK MIB(1)

int media_lock_image(const char *path, GError **error)
{
    auto_fd fd = open(path, O_RDWR | O_CLOEXEC);
    g_autofree char *quoted = text_quote(path);

    if (fd < 0)
        vm_error(error, g_io_error_from_errno(errno), _("cannot open %s: %s"), quoted,
                 g_strerror(errno));
    return fd >= 0 && image_lock(fd, path, IMAGE_LOCK_WRITE, error) ? fd_steal(&fd) : -1;
}

static bool host_failed(GError **error, const char *doing, const char *path)
{
    g_autofree char *quoted = text_quote(path);

    return vm_error(error, g_io_error_from_errno(errno), doing, quoted, g_strerror(errno));
}

MediaCopy *media_copy_new(const char *from, const char *to, GError **error)
{
    g_autoptr(MediaCopy) copy = g_new0(MediaCopy, 1);
    g_autofree char *folder = g_path_get_dirname(to), *random = g_uuid_string_random();

    copy->from_fd = copy->fd = -1;
    copy->from = g_strdup(from);
    copy->to = g_strdup(to);
    copy->from_fd = media_lock_image(from, error);
    if (copy->from_fd < 0)
        return NULL;
    copy->temporary = g_strdup_printf("%s/.ospite-%.8s.tmp", folder, random);
    copy->fd = open(copy->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (copy->fd >= 0)
        return g_steal_pointer(&copy);
    g_clear_pointer(&copy->temporary, g_free);
    host_failed(error, _("cannot write %s: %s"), to);
    return NULL;
}

void media_copy_free(MediaCopy *copy)
{
    if (!copy)
        return;
    if (copy->temporary && copy->fd >= 0)
        unlink(copy->temporary);
    fd_clear(&copy->fd);
    fd_clear(&copy->from_fd);
    g_free(copy->from);
    g_free(copy->to);
    g_free(copy->temporary);
    g_free(copy);
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

/* What lies between `start` and `end` holds data. */
static bool copy_range(const MediaCopy *copy, char *chunk, off_t start, off_t end, GError **error)
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
    }
    return true;
}

/* Holes stay holes. */
static bool copy_data(const MediaCopy *copy, char *chunk, off_t size, GError **error)
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
static bool verify(const MediaCopy *copy, char *chunk, off_t size, GError **error)
{
    g_autofree char *other = g_malloc(CHUNK), *quoted = NULL;

    posix_fadvise(copy->fd, 0, 0, POSIX_FADV_DONTNEED);
    for (off_t at = 0; at < size; at += (off_t)CHUNK) {
        ssize_t got = read_whole(copy->from_fd, chunk, CHUNK, at);
        ssize_t same = read_whole(copy->fd, other, CHUNK, at);
        if (got >= 0 && got == same && !memcmp(chunk, other, (size_t)got))
            continue;
        quoted = text_quote(copy->to);
        return vm_error(error, G_IO_ERROR_FAILED,
                        _("the copy in %s is not what was written; the image stays where it was, "
                          "and that disk wants to be looked at"),
                        quoted);
    }
    return true;
}

bool media_copy_run(MediaCopy *copy, GError **error)
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
    copy->done = verify(copy, chunk, st.st_size, error);
    return copy->done;
}
