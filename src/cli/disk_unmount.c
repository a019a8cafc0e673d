/* SPDX-License-Identifier: GPL-3.0-or-later */
/* disk unmount: file systems first, then the folder; then the process behind it is waited for. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/fd.h"
#include "cli/disk.h"
#include "cli/disk_mount.h"
#include "fuse/fuse.h"

/* A helper such as fuse2fs writes what it has, and closes its file, after it was unmounted. */
#define HELPER_TRIES   200
#define HELPER_WAIT_US 50000

/* ---- what is mounted ------------------------------------------------------------------------- */

/* The mount points at and beneath a folder, in the order of their mounting; NULL: not ours. */
static GPtrArray *find_mounts(const char *folder)
{
    g_autofree char *text = NULL;
    if (!g_file_get_contents("/proc/self/mountinfo", &text, NULL, NULL))
        return NULL;
    g_autoptr(GPtrArray) found = g_ptr_array_new_with_free_func(g_free);
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    size_t length = strlen(folder);
    bool ours = false;
    for (char **line = lines; *line; line++) {
        g_auto(GStrv) words = g_strsplit(*line, " ", -1);
        const char *type = strstr(*line, " - ");
        if (g_strv_length(words) < 5 || !type)
            continue;
        g_autofree char *point = g_strcompress(words[4]);
        if (strncmp(point, folder, length) || (point[length] && point[length] != '/'))
            continue;
        if (!point[length])
            ours = g_str_has_prefix(type + 3, FUSE_TYPE " ");
        g_ptr_array_add(found, g_steal_pointer(&point));
    }
    return ours ? g_steal_pointer(&found) : NULL;
}

/* A descriptor that tells of the end of the process that serves the folder; -1: it is gone. */
static int watch_server(const char *folder)
{
    char text[16] = {0};
    ssize_t size = getxattr(folder, FUSE_PID_ATTRIBUTE, text, sizeof(text) - 1);
    return size > 0 ? (int)syscall(SYS_pidfd_open, atoi(text), 0) : -1;
}

/* ---- unmounting ------------------------------------------------------------------------------ */

static int unmount_by_program(const char *point, bool lazily)
{
    const char *argv[] = {"fusermount3", lazily ? "-uz" : "-u", "--", point, NULL};
    int status;
    bool ran =
        g_spawn_sync(NULL, (char **)argv, NULL,
                     G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL | G_SPAWN_STDERR_TO_DEV_NULL,
                     NULL, NULL, NULL, NULL, &status, NULL);
    return ran && g_spawn_check_wait_status(status, NULL) ? 0 : -EBUSY;
}

static int unmount_one(const char *point, bool lazily)
{
    if (geteuid() != 0)
        return unmount_by_program(point, lazily);
    return umount2(point, UMOUNT_NOFOLLOW | (lazily ? MNT_DETACH : 0)) < 0 ? -errno : 0;
}

static int unmount_patiently(const char *point, bool lazily, bool patiently)
{
    int result = unmount_one(point, lazily);
    for (int i = 0; result == -EBUSY && patiently && i < HELPER_TRIES; i++) {
        g_usleep(HELPER_WAIT_US);
        result = unmount_one(point, lazily);
    }
    return result;
}

/* What the server has not flushed yet; it fails here rather than unheard. */
static int flush_folder(const char *folder)
{
    auto_fd fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd >= 0 && fsync(fd) < 0 ? -errno : 0;
}

bool disk_unmount_folder(const char *folder, bool lazily, GError **error)
{
    g_autoptr(GPtrArray) mounts = find_mounts(folder);
    if (!mounts) {
        disk_refuse(error, "nothing of 'ospite disk mount' is mounted at '%s'", folder);
        return false;
    }
    for (guint i = mounts->len; i > 0; i--) {
        const char *point = mounts->pdata[i - 1];
        bool is_folder = !strcmp(point, folder);
        int result = is_folder ? flush_folder(folder) : 0;
        if (result && result != -ENOTCONN)
            return disk_fail(error, "write what was changed in", folder, result) == 0;
        result =
            unmount_patiently(point, lazily || result == -ENOTCONN, is_folder && mounts->len > 1);
        if (result)
            return disk_fail(error, "unmount", point, result) == 0;
    }
    return true;
}

int disk_command_unmount(DiskArgs *a, GError **error)
{
    if (a->count != 1)
        return disk_usage(error, "unmount takes a folder");
    /* Of a folder whose server was killed no real path can be had. */
    g_autofree char *real = realpath(a->rest[0], NULL);
    g_autofree char *folder =
        real ? g_steal_pointer(&real) : g_canonicalize_filename(a->rest[0], NULL);
    auto_fd server = watch_server(folder);
    if (!disk_unmount_folder(folder, false, error))
        return -1;
    struct pollfd end = {.fd = server, .events = POLLIN};
    while (server >= 0 && poll(&end, 1, -1) < 0 && errno == EINTR)
        ;
    if (a->json) {
        g_auto(JsonText) json;
        json_text_init(&json);
        json_begin(&json, '{');
        json_add_string(&json, "folder", folder);
        json_end(&json, '}');
        disk_print_json(&json);
    }
    return 0;
}
