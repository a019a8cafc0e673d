/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Image locks; see locks.h. Source: fcntl(2), "Open file description locks". */
#include "block/locks.h"
#include "base/i18n.h"

#include <errno.h>
#include <fcntl.h>

bool image_lock(int fd, const char *path, bool exclusive, GError **error)
{
    struct flock lock = {.l_type = exclusive ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
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
