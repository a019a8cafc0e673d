/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A file with other contents, at once or not at all (SAFETY §5.7); see host_file.h. */
#include "block/host_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "block/locks.h"

static int sync_folder(const char *path)
{
    g_autofree char *folder = g_path_get_dirname(path);
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int result = fd < 0 || fsync(fd) < 0 ? -errno : 0;
    fd_clear(&fd);
    return result;
}

/* The path where the file is, and not another one; free it. */
static char *find_file(const HostFile *file, struct stat *ret_stat)
{
    struct stat there;
    g_autofree char *path = file->remote ? NULL : realpath(file->path, NULL);
    bool found = path && stat(path, &there) == 0 && fstat(file->fd, ret_stat) == 0 &&
                 S_ISREG(there.st_mode) && there.st_dev == ret_stat->st_dev &&
                 there.st_ino == ret_stat->st_ino;
    return found ? g_steal_pointer(&path) : NULL;
}

static int fill(int fd, const uint8_t *data, size_t size)
{
    while (size) {
        ssize_t n = write(fd, data, size);
        if (n < 0 && errno != EINTR)
            return -errno;
        data += MAX(n, 0);
        size -= (size_t)MAX(n, 0);
    }
    return fsync(fd) < 0 ? -errno : 0;
}

/* The new file is locked before anyone else can find it, and takes the old one's descriptor. */
static int fill_and_rename(HostFile *file, int fd, const char *new_path, const char *path,
                           const struct stat *old, const void *data, size_t size)
{
    if (fchmod(fd, old->st_mode & 07777) < 0)
        return -errno;
    /* Only root may keep another's file theirs. */
    if (fchown(fd, old->st_uid, old->st_gid) < 0 && errno != EPERM)
        return -errno;
    int result = image_lock(fd, new_path, IMAGE_LOCK_WRITE, NULL) ? fill(fd, data, size) : -EBUSY;
    /* What the new contents name must be in the folder before them. */
    if (!result)
        result = sync_folder(path);
    if (!result)
        result = rename(new_path, path) < 0 ? -errno : 0;
    if (result)
        return result;
    if (dup3(fd, file->fd, O_CLOEXEC) < 0)
        return -errno;
    file->size = size;
    return sync_folder(path);
}

static int replace(HostFile *file, const char *path, const struct stat *old, const void *data,
                   size_t size)
{
    g_autofree char *new_path = g_strdup_printf("%s.XXXXXX", path);
    int fd = g_mkstemp_full(new_path, O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    int result = fill_and_rename(file, fd, new_path, path, old, data, size);
    if (result)
        unlink(new_path); /* not there any more when it was renamed */
    fd_clear(&fd);
    return result;
}

/* Where nothing can be made beside the file, or nobody knows where it is. */
static int overwrite(HostFile *file, const void *data, size_t size)
{
    int result = host_file_write(file, 0, data, size);
    if (!result)
        result = host_file_truncate(file, size);
    return result ? result : host_file_sync(file);
}

int host_file_replace(HostFile *file, const void *data, size_t size)
{
    struct stat old;
    g_autofree char *path = find_file(file, &old);
    struct iovec iov = {(void *)data, size};
    HostIoRequest r = {
        .op = HOST_IO_REPLACE, .fd = file->fd, .iov = &iov, .iov_count = 1, .size = size};
    if (!path)
        return overwrite(file, data, size);
    int result = (int)host_io_ask_hook(file->hook, &r);
    if (!result)
        result = replace(file, path, &old, data, size);
    host_io_tell_hook(file->hook, &r, result);
    return result == -EACCES || result == -EPERM ? overwrite(file, data, size) : result;
}
