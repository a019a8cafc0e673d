/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A disk on a temporary file for storage tests, whose sector n begins with n in four bytes. */
#pragma once

#include <glib/gstdio.h>

#include "base/bits.h"
#include "block/disk.h"
#include "block/host_io.h"
#include "device/test_board.h"

static inline Disk *test_disk_open(TestBoard *b, uint64_t size, bool read_only, HostIoHook *hook)
{
    g_autofree char *path = NULL;
    g_autofree uint8_t *data = g_malloc0(size);
    for (uint64_t at = 0; at + 512 <= size; at += 512) {
        memset(data + at, (int)(at / 512 * 3), 512);
        store_le32(data + at, (uint32_t)(at / 512));
    }
    int fd = g_file_open_tmp("ospite-storage-XXXXXX", &path, NULL);
    g_assert_cmpint(fd, >=, 0);
    close(fd);
    g_assert_true(g_file_set_contents(path, (char *)data, (gssize)size, NULL));
    DiskOptions options = {.format = "raw", .read_only = read_only, .io_hook = hook};
    Disk *disk = disk_open(path, &options, NULL, &b->lock, NULL);
    g_assert_nonnull(disk);
    g_unlink(path);
    return disk;
}
