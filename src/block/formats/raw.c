/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Raw images: the file is the disk, byte for byte.
 *
 * A file that does not end on a sector boundary is a disk with the last sector completed by zeros;
 * the file grows to the boundary when that sector is written.
 */
#include "base/bits.h"
#include "block/format.h"

#define RAW_SECTOR_SIZE 512

static ImageMap *raw_open(int fd, uint64_t file_size, const char *path, GError **error)
{
    if (file_size < RAW_SECTOR_SIZE) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "cannot open disk '%s': %" G_GUINT64_FORMAT
                    " bytes are too short for a disk; the smallest is one sector of %d bytes",
                    path, file_size, RAW_SECTOR_SIZE);
        return NULL;
    }
    ImageMap *map = g_new0(ImageMap, 1);
    map->size = align_up(file_size, RAW_SECTOR_SIZE);
    map->sector_size = RAW_SECTOR_SIZE;
    return map;
}

static void raw_close(ImageMap *map)
{
    g_free(map);
}

static Extent raw_lookup(ImageMap *map, uint64_t offset)
{
    return (Extent){.host_offset = offset, .length = map->size - offset};
}

const FormatDriver raw_format = {
    .name = "raw",
    .open = raw_open,
    .close = raw_close,
    .lookup = raw_lookup,
};
