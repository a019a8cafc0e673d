/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Showing libblkid what names a file system; see file_system.h. */
#include "cli/file_system.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/fd.h"
#include "base/module.h"
#include "cli/blkid_module.h"

/* What libblkid gets to see of a file system: marks stand in its first bytes, some in the last. */
#define HEAD_SIZE MIB(4)
#define TAIL_SIZE MIB(1)
#define ROOM      KIB(64)

typedef struct Window {
    Image *image;
    uint64_t start, size;
    int fd; /* sparse, as large as the file system */
} Window;

static int show(const Window *w, uint64_t at, uint64_t size)
{
    g_autofree uint8_t *data = g_malloc(KIB(64));
    for (uint64_t end = at < w->size ? at + MIN(size, w->size - at) : at; at < end;) {
        uint64_t part = MIN(KIB(64), end - at);
        int result = image_read(w->image, w->start + at, data, part);
        if (result)
            return result;
        if (pwrite(w->fd, data, part, (off_t)at) != (ssize_t)part)
            return -errno;
        at += part;
    }
    return 0;
}

/* Labels of FAT32 lie in the root folder, those of NTFS in a file's record. */
static int show_label(const Window *w)
{
    uint8_t s[512];
    if (w->size < MIB(1))
        return 0;
    int result = image_read(w->image, w->start, s, sizeof(s));
    if (result)
        return result;
    uint64_t cluster = (uint64_t)load_le16(s + 11) * s[13], at = 0;
    if (cluster == 0)
        return 0;
    if (!memcmp(s + 3, "NTFS    ", 8) && !__builtin_mul_overflow(cluster, load_le64(s + 48), &at))
        return show(w, at / 512 * 512, ROOM);
    if (memcmp(s + 0x52, "FAT32", 5) || load_le32(s + 44) < 2)
        return 0;
    at = ((uint64_t)load_le16(s + 14) + (uint64_t)s[16] * load_le32(s + 36)) * load_le16(s + 11);
    at += (load_le32(s + 44) - 2) * cluster;
    return show(w, at / 512 * 512, MAX(cluster, 512));
}

int file_system_look(Image *image, uint64_t start, uint64_t size, FileSystem *ret)
{
    auto_fd fd = memfd_create("probe", MFD_CLOEXEC);
    Window w = {image, start, size, fd};
    if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
        return -errno;
    int result = show(&w, 0, HEAD_SIZE);
    if (!result && size > HEAD_SIZE)
        result = show(&w, (size - MIN(size, TAIL_SIZE)) / 512 * 512, TAIL_SIZE);
    if (!result)
        result = show_label(&w);
    if (result)
        return result;
    const BlkidApi *api = module_load("blkid", NULL);
    return api ? api->look(fd, size, ret) : -ELIBACC;
}
