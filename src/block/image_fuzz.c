/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Hostile images: the input is a file, opened as what it claims to be, looked through, checked,
 * written to and closed. The first byte says how, and whether the input is the file itself or its
 * parts: | place / 64, 3 bytes | length, 2 bytes | bytes |, with zeros between.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

#include "base/bits.h"
#include "block/crc32c.h"
#include "block/image.h"

enum { WRITES = 1, REPAIRS = 2, IGNORES_DAMAGE = 4, SEALED = 0x40, PARTS = 0x80 };

#define FILE_MAX MIB(12)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look(Image *image)
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

static void change(Image *image)
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

static void check(Image *image, bool repair)
{
    CheckResult result = {0};
    if (image->driver->check)
        image->driver->check(image->map, repair, &result, NULL);
    g_clear_pointer(&result.messages, g_ptr_array_unref);
}

/* ---- the file -------------------------------------------------------------------------------- */

static void put(int fd, const void *data, size_t size, uint64_t at)
{
    if (at + size <= FILE_MAX && pwrite(fd, data, size, (off_t)at) < 0)
        g_error("no memory for the image");
}

static void put_parts(int fd, const uint8_t *data, size_t size)
{
    for (size_t at = 0; at + 5 <= size;) {
        uint64_t place = (data[at] | (uint64_t)load_le16(data + at + 1) << 8) * 64;
        size_t length = MIN(load_le16(data + at + 3), size - at - 5);
        put(fd, data + at + 5, length, place);
        at += 5 + length;
    }
}

static void seal_crc(int fd, uint64_t at, size_t size)
{
    g_autofree uint8_t *block = g_malloc0(size);
    if (pread(fd, block, size, (off_t)at) < 0)
        return;
    store_le32(block + 4, crc32c_around(block, size, 4));
    put(fd, block + 4, 4, at + 4);
}

static void seal_sum(int fd, uint64_t at, size_t size, size_t hole)
{
    uint8_t block[1024] = {0}, sum[4];
    uint32_t total = 0;
    if (pread(fd, block, size, (off_t)at) < 0)
        return;
    for (size_t i = 0; i < size; i++)
        total += i >= hole && i < hole + 4 ? 0 : block[i];
    store_be32(sum, ~total);
    put(fd, sum, 4, at + hole);
}

/* Checksums are right, or nothing behind them would ever be reached. */
static void seal(int fd)
{
    uint8_t mark[8] = {0};
    if (pread(fd, mark, sizeof(mark), 0) < 0)
        return;
    if (memcmp(mark, "vhdxfile", 8) == 0) {
        for (uint64_t i = 0; i < 2; i++) {
            seal_crc(fd, KIB(64) + i * KIB(64), 4096);
            seal_crc(fd, KIB(192) + i * KIB(64), KIB(64));
        }
        seal_crc(fd, MIB(1), 4096); /* an entry of the log without data */
        seal_crc(fd, MIB(1) + 4096, 8192);
    } else if (memcmp(mark, "conectix", 8) == 0) {
        seal_sum(fd, 0, 512, 64);
        seal_sum(fd, 512, 1024, 36);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    if (size < 2)
        return 0;
    int fd = memfd_create("image", MFD_CLOEXEC);
    if (data[0] & PARTS)
        put_parts(fd, data + 1, size - 1);
    else
        put(fd, data + 1, size - 1, 0);
    if (data[0] & SEALED)
        seal(fd);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    uint64_t mark = 0;
    if (pread(fd, &mark, sizeof(mark), 0) < 0)
        mark = 0;
    bool writes = data[0] & WRITES, repairs = data[0] & REPAIRS;
    /* An SEsparse extent alone is an image for who says so. */
    ImageOptions options = {.format = mark == 0xcafebabe ? "vmdk" : NULL,
                            .read_only = !writes,
                            .no_parents = true,
                            .keeps_locked = true,
                            .ignore_damage = data[0] & IGNORES_DAMAGE};
    Image *image = image_open(path, &options, NULL);
    if (image) {
        /* Disks beyond this would make the file system, not the parser, the thing under test. */
        bool small = image->map->size <= UINT64_C(1) << 40;
        if (small)
            look(image);
        check(image, writes && repairs);
        if (writes && small && image->driver != &raw_format)
            change(image);
    }
    image_close(image);
    close(fd);
    return 0;
}
