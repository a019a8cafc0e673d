/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See remote_disk.h. */
#include "runner/remote_disk.h"

#include <errno.h>
#include <glib-unix.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/address.h"
#include "base/fd.h"
#include "base/i18n.h"
#include "block/protocols/nbd_server.h"

/* Descriptors of the process: the export's socket, and where to say why there is none. */
enum { EXPORT_FD = 3, WHY_FD = 4 };

/* ---- in the machine's process -----------------------------------------------------------------
 */

static bool fail(GError **error, const char *address, int code)
{
    g_set_error(error, G_IO_ERROR, g_io_error_from_errno(code), _("cannot open disk '%s': %s"),
                address, g_strerror(code));
    return false;
}

static bool spawn(const PcDrive *drive, int export, int why, GError **error)
{
    static const int targets[] = {EXPORT_FD, WHY_FD};
    const int sources[] = {export, why};
    g_autofree char *self = g_file_read_link("/proc/self/exe", error);
    bool writes = drive->kind != PC_DRIVE_CDROM &&
                  (drive->mode == PC_DRIVE_NORMAL || drive->mode == PC_DRIVE_WRITETHROUGH);
    const char *const words[] = {self, REMOTE_DISK_OPTION, drive->path, writes ? "rw" : "ro", NULL};

    return self && g_spawn_async_with_pipes_and_fds(
                       NULL, words, NULL, G_SPAWN_DEFAULT, NULL, NULL, -1, -1, -1, sources, targets,
                       G_N_ELEMENTS(targets), NULL, NULL, NULL, NULL, error);
}

/* Nothing before the end: the disk is there. */
static bool hear_why(int fd, GError **error)
{
    char text[2048];
    size_t size = 0;
    ssize_t n;

    while (size < sizeof(text) - 1 && (n = read(fd, text + size, sizeof(text) - 1 - size)) > 0)
        size += (size_t)n;
    text[size] = '\0';
    if (size)
        g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_FAILED, text);
    return size == 0;
}

static bool start(const PcDrive *drive, int *ret_socket, GError **error)
{
    int sockets[2] = {-1, -1}, pipe_fds[2] = {-1, -1};

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) < 0 ||
        !g_unix_open_pipe(pipe_fds, FD_CLOEXEC, NULL)) {
        fd_clear(&sockets[0]);
        fd_clear(&sockets[1]);
        return fail(error, drive->path, EMFILE);
    }
    auto_fd near = sockets[0], far = sockets[1], why = pipe_fds[0], tell = pipe_fds[1];
    bool started = spawn(drive, far, tell, error);
    fd_clear(&far);
    fd_clear(&tell);
    if (!started || !hear_why(why, error))
        return false;
    *ret_socket = fd_steal(&near);
    return true;
}

bool remote_disks_start(PcConfig *config, int sockets[PC_DRIVE_MAX], GError **error)
{
    for (unsigned i = 0; i < config->drive_count; i++) {
        PcDrive *drive = &config->drives[i];
        /* Shareable ones are refused where disks are opened. */
        if (!drive->path || !is_address(drive->path) || drive->mode == PC_DRIVE_SHAREABLE)
            continue;
        if (!start(drive, &sockets[i], error))
            return false;
        drive->opened = &sockets[i];
    }
    return true;
}

/* ---- in the disk's process --------------------------------------------------------------------
 */

static void on_client_left(void *obj, unsigned left)
{
    g_main_loop_quit(obj);
}

static void say_why(const GError *error)
{
    /* Nobody listens any more: then nobody needs the disk either. */
    if (write(WHY_FD, error->message, strlen(error->message)) < 0)
        perror("ospite-vm");
}

static void serve(Disk *disk)
{
    GMainLoop *loop = g_main_loop_new(NULL, FALSE);
    NbdServerOptions options = {.max_clients = 1, .client_left = on_client_left, .obj = loop};
    NbdServer *server = nbd_server_new(&options, NULL);

    nbd_server_add_export(server, "", NULL, disk);
    nbd_server_adopt(server, EXPORT_FD);
    g_main_loop_run(loop);
    nbd_server_free(server);
    g_main_loop_unref(loop);
}

int remote_disk_main(int argc, char **argv)
{
    /* The machine's end is ours, not what ends it: it may have something to write yet. */
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP};
    bool is_known = argc == 4;
    /* Whatever is there is handed on byte for byte; the machine's process knows its format. */
    DiskOptions options = {.format = "raw", .read_only = is_known && !strcmp(argv[3], "ro")};
    g_autoptr(GError) error = NULL;
    GRecMutex lock;

    if (!is_known)
        return 2;
    for (unsigned i = 0; i < G_N_ELEMENTS(signals); i++)
        signal(signals[i], SIG_IGN);
    g_rec_mutex_init(&lock);
    Disk *disk = disk_open(argv[2], &options, NULL, &lock, &error);
    if (disk) {
        close(WHY_FD);
        serve(disk);
    } else {
        say_why(error);
    }
    disk_close(disk);
    g_rec_mutex_clear(&lock);
    return error ? 1 : 0;
}
