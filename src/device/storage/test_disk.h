/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A disk on a file in memory for storage tests, whose sector n begins with n in four bytes. */
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"
#include "block/disk.h"
#include "block/host_io.h"
#include "device/test_board.h"

static inline Disk *test_disk_open_fd(TestBoard *b, int fd, bool read_only, HostIoHook *hook)
{
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);
    DiskOptions options = {.format = "raw", .read_only = read_only, .io_hook = hook};
    Disk *disk = disk_open(path, &options, NULL, &b->lock, NULL);
    g_assert_nonnull(disk);
    close(fd);
    return disk;
}

/* Of any size, and empty. */
static inline Disk *test_disk_open_zeros(TestBoard *b, uint64_t size)
{
    int fd = memfd_create("disk", MFD_CLOEXEC);
    g_assert_cmpint(ftruncate(fd, (off_t)size), ==, 0);
    return test_disk_open_fd(b, fd, true, NULL);
}

static inline Disk *test_disk_open(TestBoard *b, uint64_t size, bool read_only, HostIoHook *hook)
{
    g_autofree uint8_t *data = g_malloc0(size);
    for (uint64_t at = 0; at + 512 <= size; at += 512) {
        memset(data + at, (int)(at / 512 * 3), 512);
        store_le32(data + at, (uint32_t)(at / 512));
    }
    int fd = memfd_create("disk", MFD_CLOEXEC);
    g_assert_cmpint(write(fd, data, size), ==, (gssize)size);
    return test_disk_open_fd(b, fd, read_only, hook);
}
