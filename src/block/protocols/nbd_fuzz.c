/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A hostile NBD client: the input is what it sends, after which it reads all it gets and hangs up.
 * The first byte says whether the disk is read-only, and whether it has negotiated already.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bits.h"
#include "block/protocols/nbd_server.h"
#include "block/protocols/nbd_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define DISK_SIZE MIB(1)

/* Sends what the socket takes and drops what comes back; false: the server hung up. */
static bool exchange(int fd, const uint8_t **data, size_t *left)
{
    uint8_t dropped[65536];
    ssize_t n = 1;
    if (*left)
        n = send(fd, *data, *left, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n > 0 && *left) {
        *data += n;
        *left -= (size_t)n;
        if (!*left)
            shutdown(fd, SHUT_WR);
    }
    do {
        n = recv(fd, dropped, sizeof(dropped), MSG_DONTWAIT);
    } while (n > 0);
    return n < 0 && errno == EAGAIN;
}

static const uint8_t *skip_negotiation(GByteArray *all)
{
    uint8_t go[4 + 16 + 16 + 6] = {0};
    store_be32(go, NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES);
    store_be64(go + 4, NBD_OPTION_MAGIC);
    store_be32(go + 12, NBD_OPT_STRUCTURED_REPLY);
    store_be64(go + 20, NBD_OPTION_MAGIC);
    store_be32(go + 28, NBD_OPT_GO);
    store_be32(go + 32, 6);
    g_byte_array_prepend(all, go, sizeof(go));
    return all->data;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    int pair[2];
    if (size < 2 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return 0;
    int fd = memfd_create("disk", MFD_CLOEXEC);
    g_assert_cmpint(ftruncate(fd, DISK_SIZE), ==, 0);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    GRecMutex lock;
    g_rec_mutex_init(&lock);
    g_autoptr(GMainContext) context = g_main_context_new();
    DiskOptions options = {.format = "raw", .read_only = data[0] & 1};
    Disk *disk = disk_open(path, &options, context, &lock, NULL);
    NbdServer *server = nbd_server_new(&(NbdServerOptions){.handshake_ms = 60000}, context);
    g_autoptr(GByteArray) all = g_byte_array_new();
    g_byte_array_append(all, data + 1, (guint)size - 1);
    const uint8_t *at = data[0] & 2 ? skip_negotiation(all) : all->data;
    size_t left = all->len;
    nbd_server_add_export(server, "disk", "a disk", disk);
    nbd_server_adopt(server, pair[1]);
    while (exchange(pair[0], &at, &left))
        g_main_context_iteration(context, FALSE);
    close(pair[0]);
    nbd_server_free(server);
    disk_close(disk);
    g_rec_mutex_clear(&lock);
    close(fd);
    return 0;
}
