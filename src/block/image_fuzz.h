/* SPDX-License-Identifier: GPL-3.0-or-later */
/* For fuzz targets: a file in memory that is made of the input's parts, and what is done to it. */
#pragma once

#include <stdio.h>
#include <sys/mman.h>

#include "base/bits.h"
#include "block/image.h"

#define FUZZ_FILE_MAX MIB(12)

static inline void fuzz_put(int fd, const void *data, size_t size, uint64_t at)
{
    if (at + size <= FUZZ_FILE_MAX && pwrite(fd, data, size, (off_t)at) < 0)
        g_error("no memory for the image");
}

/* | place / 64, 3 bytes | length, 2 bytes | bytes |, with zeros between. */
static inline void fuzz_put_parts(int fd, const uint8_t *data, size_t size)
{
    for (size_t at = 0; at + 5 <= size;) {
        uint64_t place = (data[at] | (uint64_t)load_le16(data + at + 1) << 8) * 64;
        size_t length = MIN(load_le16(data + at + 3), size - at - 5);
        fuzz_put(fd, data + at + 5, length, place);
        at += 5 + length;
    }
}

/* An empty file in memory; `path` (64 bytes) leads to it as long as it is open. */
static inline int fuzz_new_file(char *path)
{
    int fd = memfd_create("image", MFD_CLOEXEC);
    snprintf(path, 64, "/proc/self/fd/%d", fd);
    return fd;
}

/* Reads a part of the disk at 64 places. */
static inline void fuzz_look(Image *image)
{
    uint8_t buffer[4096];
    uint64_t end = image->map->size;
    for (int i = 0; i < 64 && end >= sizeof(buffer); i++) {
        ImageStatus status;
        uint64_t at = end / 64 * (uint64_t)i / 512 * 512;
        if (at + sizeof(buffer) <= end) {
            image_read(image, at, buffer, sizeof(buffer));
            image_status(image, at, sizeof(buffer), true, &status);
        }
    }
}

static inline void fuzz_change(Image *image)
{
    uint8_t buffer[4096] = {1, 2, 3};
    uint64_t end = image->map->size;
    for (int i = 0; i < 8 && end >= sizeof(buffer); i++) {
        uint64_t at = (end - sizeof(buffer)) / 8 * (uint64_t)i / 512 * 512;
        image_write(image, at, buffer, sizeof(buffer));
        image_write_zeros(image, at, 512);
    }
    image_flush(image);
}

/* What is wrong with an image, by its own check; messages are dropped. */
static inline CheckResult fuzz_check(Image *image, bool repair)
{
    CheckResult result = {0};
    if (image->driver->check && !image->driver->check(image->map, repair, &result, NULL))
        result.errors++;
    g_clear_pointer(&result.messages, g_ptr_array_unref);
    return result;
}

/* Disks beyond this would make the file system, not the parser, the thing under test. */
static inline bool fuzz_is_small(const Image *image)
{
    return image->map->size <= UINT64_C(1) << 36;
}
