/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Raw images: the file is the disk, byte for byte.
 *
 * A file that does not end on a sector boundary is a disk with the last sector completed by zeros;
 * the file grows to the boundary when that sector is written.
 */
#include "base/bits.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#include "block/format.h"

#define RAW_SECTOR_SIZE 512

static const FormatOption options_known[] = {
    {"preallocation", "off", "off, falloc or full"},
    {"nocow", "off", "no copy-on-write by the host's file system (btrfs)"},
    {NULL},
};

static int write_zeros(HostFile *file, uint64_t size)
{
    g_autofree uint8_t *zeros = g_malloc0(MIB(1));
    int result = 0;
    for (uint64_t at = 0; at < size && !result; at += MIB(1))
        result = host_file_write(file, at, zeros, MIN(size - at, MIB(1)));
    return result;
}

/* The space is the disk's at once, rather than when it is written to. */
static int preallocate(HostFile *file, const char *how, uint64_t size)
{
    if (!size || !strcmp(how, "off"))
        return 0;
    if (!strcmp(how, "full"))
        return write_zeros(file, size);
    return fallocate(file->fd, 0, 0, (off_t)size) < 0 ? -errno : 0;
}

static bool raw_create(HostFile *file, const CreateOptions *options, GError **error)
{
    const char *how = format_option(options, "preallocation");
    if (strcmp(how, "off") && strcmp(how, "falloc") && strcmp(how, "full"))
        return format_fail(error, file->path, "preallocation is off, falloc or full, not '%s'",
                           how);
    int result = host_file_truncate(file, options->size);
    if (!result)
        result = preallocate(file, how, options->size);
    if (!result)
        result = host_file_sync(file);
    return result ? format_fail_io(error, file->path, "create", result) : true;
}

static ImageMap *raw_open(HostFile *file, const OpenParameters *parameters, GError **error)
{
    if (file->size > FORMAT_SIZE_MAX) {
        format_fail(error, file->path, "it is too large");
        return NULL;
    }
    if (file->size && file->size < RAW_SECTOR_SIZE) {
        format_fail(error, file->path,
                    "%" PRIu64
                    " bytes are too short for a disk; the smallest is one sector of %d bytes",
                    file->size, RAW_SECTOR_SIZE);
        return NULL;
    }
    ImageMap *map = g_new0(ImageMap, 1);
    map->file = file;
    map->size = align_up(file->size, RAW_SECTOR_SIZE);
    map->sector_size = RAW_SECTOR_SIZE;
    return map;
}

static void raw_close(ImageMap *map)
{
    image_map_clear(map);
    g_free(map);
}

static int raw_lookup(ImageMap *map, uint64_t offset, uint64_t length, bool cached, Extent *extent)
{
    *extent = (Extent){.kind = EXTENT_DATA,
                       .writable = true,
                       .file = map->file,
                       .host_offset = offset,
                       .length = map->size - offset};
    return 0;
}

static bool raw_resize(ImageMap *map, uint64_t size, GError **error)
{
    int result = host_file_truncate(map->file, size);
    if (result)
        return format_fail_io(error, map->file->path, "resize", result);
    map->size = size;
    return true;
}

const FormatDriver raw_format = {
    .name = "raw",
    .options = options_known,
    .create = raw_create,
    .open = raw_open,
    .close = raw_close,
    .lookup = raw_lookup,
    .resize = raw_resize,
};
