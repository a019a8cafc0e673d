/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * GIO's names of errors, in a program that does without GIO: to load it would take as long as
 * everything else that most disk commands do, and these two functions are all of it that they call.
 * They do what GIO's do, so that both may be in one process (a module may load GIO).
 */
#include <errno.h>
#include <gio/gio.h>

GQuark g_io_error_quark(void)
{
    return g_quark_from_static_string("g-io-error-quark");
}

GIOErrorEnum g_io_error_from_errno(gint code)
{
    static const struct {
        int code;
        GIOErrorEnum error;
    } errors[] = {
        {EEXIST, G_IO_ERROR_EXISTS},
        {EISDIR, G_IO_ERROR_IS_DIRECTORY},
        {EACCES, G_IO_ERROR_PERMISSION_DENIED},
        {EPERM, G_IO_ERROR_PERMISSION_DENIED},
        {ENAMETOOLONG, G_IO_ERROR_FILENAME_TOO_LONG},
        {ENOENT, G_IO_ERROR_NOT_FOUND},
        {ENOTDIR, G_IO_ERROR_NOT_DIRECTORY},
        {EROFS, G_IO_ERROR_READ_ONLY},
        {ELOOP, G_IO_ERROR_TOO_MANY_LINKS},
        {ENOSPC, G_IO_ERROR_NO_SPACE},
        {ENOMEM, G_IO_ERROR_NO_SPACE},
        {EINVAL, G_IO_ERROR_INVALID_ARGUMENT},
        {ECANCELED, G_IO_ERROR_CANCELLED},
        {ENOTEMPTY, G_IO_ERROR_NOT_EMPTY},
        {ENOTSUP, G_IO_ERROR_NOT_SUPPORTED},
        {ETIMEDOUT, G_IO_ERROR_TIMED_OUT},
        {EBUSY, G_IO_ERROR_BUSY},
        {EAGAIN, G_IO_ERROR_WOULD_BLOCK},
        {EADDRINUSE, G_IO_ERROR_ADDRESS_IN_USE},
        {EHOSTUNREACH, G_IO_ERROR_HOST_UNREACHABLE},
        {ENETUNREACH, G_IO_ERROR_NETWORK_UNREACHABLE},
        {ECONNREFUSED, G_IO_ERROR_CONNECTION_REFUSED},
        {EPIPE, G_IO_ERROR_BROKEN_PIPE},
        {ECONNRESET, G_IO_ERROR_CONNECTION_CLOSED},
        {ENOTCONN, G_IO_ERROR_NOT_CONNECTED},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(errors); i++) {
        if (errors[i].code == code)
            return errors[i].error;
    }
    return G_IO_ERROR_FAILED;
}
