/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "vm/path.h"
#include "base/address.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/i18n.h"
#include "vm/text.h"

#define TEMPORARY_PREFIX ".ospite-save-"

/* ---- names beneath a folder -------------------------------------------------------------------
 */

static int openat2_beneath(int folder, const char *name, int flags, mode_t mode)
{
    struct open_how how = {
        .flags = (unsigned)flags | O_CLOEXEC,
        .mode = flags & O_CREAT ? mode : 0,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    long fd;

    do {
        fd = syscall(SYS_openat2, folder, name, &how, sizeof(how));
    } while (fd < 0 && (errno == EINTR || errno == EAGAIN));
    return (int)fd;
}

int vm_open_beneath(int folder, const char *name, int flags, mode_t mode, GError **error)
{
    g_autofree char *quoted = NULL;
    int fd = openat2_beneath(folder, name, flags, mode);

    if (fd >= 0)
        return fd;
    quoted = text_quote(name);
    if (errno == EXDEV || errno == ELOOP)
        vm_error(error, G_IO_ERROR_PERMISSION_DENIED,
                 _("cannot open %s: it leads out of its folder or through a symbolic link"),
                 quoted);
    else
        vm_error(error, g_io_error_from_errno(errno), _("cannot open %s: %s"), quoted,
                 g_strerror(errno));
    return -1;
}

char *vm_path_resolve(const char *folder, const char *value, GError **error)
{
    g_autofree char *quoted = NULL;
    auto_fd folder_fd = -1;
    auto_fd fd = -1;

    if (!folder || *value == '/' || is_address(value))
        return g_strdup(value);
    folder_fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (folder_fd < 0) {
        quoted = text_quote(folder);
        vm_error(error, g_io_error_from_errno(errno), _("cannot open the folder %s: %s"), quoted,
                 g_strerror(errno));
        return NULL;
    }
    fd = openat2_beneath(folder_fd, value, O_PATH, 0);
    /* What is not there yet is for whoever opens it to say. */
    if (fd < 0 && (errno == EXDEV || errno == ELOOP)) {
        quoted = text_quote(value);
        vm_error(error, G_IO_ERROR_PERMISSION_DENIED,
                 _("%s leads out of the machine's folder or through a symbolic link; use its "
                   "absolute name"),
                 quoted);
        return NULL;
    }
    return g_build_filename(folder, value, NULL);
}

char *vm_path_store(const char *folder, const char *path)
{
    size_t length = strlen(folder);

    while (length > 1 && folder[length - 1] == '/')
        length--;
    if (!strncmp(path, folder, length) && path[length] == '/' && path[length + 1] &&
        !strstr(path + length, "/../") && !g_str_has_suffix(path, "/.."))
        return g_strdup(path + length + 1 + strspn(path + length + 1, "/"));
    return g_strdup(path);
}

bool vm_same_mount(const char *a, const char *b)
{
    struct statx one, other;
    const unsigned mask = STATX_INO | STATX_MNT_ID;

    return statx(AT_FDCWD, a, 0, mask, &one) == 0 && statx(AT_FDCWD, b, 0, mask, &other) == 0 &&
           one.stx_mnt_id == other.stx_mnt_id && one.stx_dev_major == other.stx_dev_major &&
           one.stx_dev_minor == other.stx_dev_minor;
}

/* ---- replacing a file -------------------------------------------------------------------------
 */

static bool write_all(int fd, const char *data, size_t size)
{
    while (size) {
        ssize_t n = write(fd, data, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        data += n;
        size -= n;
    }
    return true;
}

/* The old file's permissions, so that a replacement is no surprise; a new one is the user's own. */
static mode_t mode_of(int folder, const char *name)
{
    struct stat status;

    if (fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(status.st_mode))
        return status.st_mode & 0777;
    return 0600;
}

static bool write_temporary(int folder, const char *temporary, mode_t mode, const void *data,
                            size_t size)
{
    auto_fd fd =
        openat(folder, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

    return fd >= 0 && write_all(fd, data, size) && fchmod(fd, mode) == 0 && fsync(fd) == 0;
}

bool vm_replace_file(const char *path, const void *data, size_t size, GError **error)
{
    g_autofree char *folder_path = g_path_get_dirname(path), *name = g_path_get_basename(path);
    g_autofree char *random = g_uuid_string_random(), *quoted = text_quote(path);
    g_autofree char *temporary = g_strdup_printf(TEMPORARY_PREFIX "%.8s.tmp", random);
    auto_fd folder = open(folder_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int code;

    if (folder >= 0 && write_temporary(folder, temporary, mode_of(folder, name), data, size) &&
        renameat(folder, temporary, folder, name) == 0) {
        if (fsync(folder) == 0)
            return true;
        return vm_error(error, g_io_error_from_errno(errno),
                        _("cannot make sure that %s is stored: %s"), quoted, g_strerror(errno));
    }
    code = errno;
    if (folder >= 0)
        unlinkat(folder, temporary, 0);
    return vm_error(error, g_io_error_from_errno(code), _("cannot write %s: %s"), quoted,
                    g_strerror(code));
}

void vm_clear_temporary(const char *folder)
{
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(folder, name, NULL);
        if (g_str_has_prefix(name, TEMPORARY_PREFIX) && g_str_has_suffix(name, ".tmp"))
            unlink(path);
    }
}
