/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Raw images: the file is the disk, byte for byte.
 *
 * A file that does not end on a sector boundary is a disk with the last sector completed by zeros;
 * the file grows to the boundary when that sector is written.
 */
#include "base/bits.h"

#include <inttypes.h>

#include "block/format.h"

#define RAW_SECTOR_SIZE 512

static bool raw_create(HostFile *file, const CreateOptions *options, GError **error)
{
    int result = host_file_truncate(file, options->size);
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
    .create = raw_create,
    .open = raw_open,
    .close = raw_close,
    .lookup = raw_lookup,
    .resize = raw_resize,
};
