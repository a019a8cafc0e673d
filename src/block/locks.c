/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Image locks; see locks.h. Source: fcntl(2), "Open file description locks". */
#include "block/locks.h"
#include "base/i18n.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>

/* Where those who share have a byte each, and how many of them there may be. */
#define SHARE_START (INT64_C(1) << 62)
#define SHARE_COUNT 256

static int lock_bytes(int fd, short type, off_t start, off_t length)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
    return fcntl(fd, F_OFD_SETLK, &lock);
}

static int lock_own_byte(int fd)
{
    int result = -1;
    for (off_t i = 0; i < SHARE_COUNT && result < 0; i++)
        result = lock_bytes(fd, F_WRLCK, SHARE_START + i, 1);
    return result;
}

bool image_lock(int fd, const char *path, ImageLock how, GError **error)
{
    short type = how == IMAGE_LOCK_READ ? F_RDLCK : F_WRLCK;
    if ((how == IMAGE_LOCK_SHARE ? lock_own_byte(fd) : lock_bytes(fd, type, 0, 0)) == 0)
        return true;
    int code = errno;
    if (code == EAGAIN || code == EACCES)
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_BUSY,
                    _("cannot open disk '%s': it is in use by another VM or program; "
                      "close that one first, or open the disk read-only in both"),
                    path);
    else
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(code),
                    _("cannot lock disk '%s': %s; move it to a file system with working locks"),
                    path, g_strerror(code));
    return false;
}
