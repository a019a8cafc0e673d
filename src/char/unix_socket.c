/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Listening at a path; see unix_socket.h. */
#include "char/unix_socket.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/fd.h"
#include "base/i18n.h"

/* A socket file that nobody listens at was left by a process that died. */
static void remove_stale(const struct sockaddr_un *address)
{
    auto_fd probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct stat st;
    if (probe < 0 || lstat(address->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
        return;
    if (connect(probe, (const struct sockaddr *)address, sizeof(*address)) < 0 &&
        errno == ECONNREFUSED)
        unlink(address->sun_path);
}

int unix_socket_listen(const char *path, int backlog, GError **error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (g_strlcpy(address.sun_path, path, sizeof(address.sun_path)) >= sizeof(address.sun_path)) {
        g_set_error(
            error, G_IO_ERROR, G_IO_ERROR_FILENAME_TOO_LONG,
            _("cannot listen at '%s': a socket's path has at most %zu bytes; use a shorter one"),
            path, sizeof(address.sun_path) - 1);
        return -1;
    }
    remove_stale(&address);
    auto_fd fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* The mode set before bind() is the file's: nobody else can ever connect. */
    if (fd < 0 || fchmod(fd, 0600) < 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, backlog) < 0) {
        int code = errno;
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(code),
                    _("cannot listen at '%s': %s%s"), path, g_strerror(code),
                    code == EADDRINUSE ? _("; another VM uses it, or a file of that name exists")
                                       : _("; check the path"));
        return -1;
    }
    return fd_steal(&fd);
}
