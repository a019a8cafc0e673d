/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Reading whole files. See input_file.h. */
#include "machine/input_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/i18n.h"

static GBytes *input_file_fail(GError **error, const char *path, const char *what, int code)
{
    const char *hint = code == ENOENT   ? _("; check the path")
                       : code == EACCES ? _("; check the file's permissions")
                                        : "";

    g_set_error(error, G_IO_ERROR, g_io_error_from_errno(code), _("cannot read %s %s: %s%s"), what,
                path, g_strerror(code), hint);
    return NULL;
}

static bool input_file_check(const struct stat *st, const char *path, const char *what,
                             size_t max_size, GError **error)
{
    const char *problem = !S_ISREG(st->st_mode)            ? _("it is not a regular file")
                          : st->st_size == 0               ? _("the file is empty")
                          : (size_t)st->st_size > max_size ? _("the file is too large")
                                                           : NULL;

    if (!problem)
        return true;
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA, _("cannot use %s %s: %s"), what, path,
                problem);
    return false;
}

int input_file_open(const char *path, const char *what, size_t max_size, GError **error)
{
    /* Non-blocking, so that a FIFO cannot hang us before we see that it is one. */
    auto_fd fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0) {
        input_file_fail(error, path, what, errno);
        return -1;
    }
    return input_file_check(&st, path, what, max_size, error) ? fd_steal(&fd) : -1;
}

GBytes *input_file_read_fd(int fd, const char *path, const char *what, size_t max_size,
                           GError **error)
{
    struct stat st;
    size_t done = 0;

    if (fstat(fd, &st) < 0)
        return input_file_fail(error, path, what, errno);
    if (!input_file_check(&st, path, what, max_size, error))
        return NULL;
    size_t size = st.st_size;
    g_autofree uint8_t *data = g_try_malloc(size);
    if (!data)
        return input_file_fail(error, path, what, ENOMEM);
    while (done < size) {
        ssize_t got = pread(fd, data + done, size - done, (off_t)done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return input_file_fail(error, path, what, errno);
        if (got == 0)
            break; /* it shrank meanwhile */
        done += got;
    }
    return g_bytes_new_take(g_steal_pointer(&data), done);
}

GBytes *input_file_read(const char *path, const char *what, size_t max_size, GError **error)
{
    auto_fd fd = input_file_open(path, what, max_size, error);

    return fd < 0 ? NULL : input_file_read_fd(fd, path, what, max_size, error);
}
