/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Hostile images: the input is a file, opened as what it claims to be, looked through, checked,
 * written to and closed. The first byte says how.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

#include "block/image.h"

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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    if (size < 2)
        return 0;
    int fd = memfd_create("image", MFD_CLOEXEC);
    if (write(fd, data + 1, size - 1) < 0) {
        close(fd);
        return 0;
    }
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    bool writes = data[0] & 1, repairs = data[0] & 2;
    ImageOptions options = {.read_only = !writes, .no_parents = true, .ignore_damage = data[0] & 4};
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
