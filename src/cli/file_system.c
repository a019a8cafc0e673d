/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Naming file systems by libblkid; see file_system.h. */
#include "cli/file_system.h"

#include <blkid.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/fd.h"

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
    int result = w->size >= MIB(1) ? image_read(w->image, w->start, s, sizeof(s)) : -ENOENT;
    uint64_t cluster = (uint64_t)load_le16(s + 11) * s[13], at = 0;
    if (result || cluster == 0)
        return result == -ENOENT ? 0 : result;
    if (!memcmp(s + 3, "NTFS    ", 8) && !__builtin_mul_overflow(cluster, load_le64(s + 48), &at))
        return show(w, at / 512 * 512, ROOM);
    if (memcmp(s + 0x52, "FAT32", 5) || load_le32(s + 44) < 2)
        return 0;
    at = ((uint64_t)load_le16(s + 14) + (uint64_t)s[16] * load_le32(s + 36)) * load_le16(s + 11);
    at += (load_le32(s + 44) - 2) * cluster;
    return show(w, at / 512 * 512, MAX(cluster, 512));
}

static char *probe_value(blkid_probe probe, const char *name)
{
    const char *value;
    return blkid_probe_lookup_value(probe, name, &value, NULL) == 0 ? g_strdup(value) : NULL;
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
    blkid_probe probe = result ? NULL : blkid_new_probe();
    if (!probe)
        return result ? result : -ENOMEM;
    if (blkid_probe_set_device(probe, fd, 0, (blkid_loff_t)size) == 0) {
        blkid_probe_enable_superblocks(probe, 1);
        blkid_probe_set_superblocks_flags(probe, BLKID_SUBLKS_TYPE | BLKID_SUBLKS_LABEL |
                                                     BLKID_SUBLKS_UUID);
        if (blkid_do_safeprobe(probe) == 0)
            *ret = (FileSystem){probe_value(probe, "TYPE"), probe_value(probe, "LABEL"),
                                probe_value(probe, "UUID")};
    }
    blkid_free_probe(probe);
    return 0;
}
