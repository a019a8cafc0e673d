/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * VMDK: the SEsparse extents of ESX 6.5 and later, for reading.
 *
 *   | header | volatile header | journal | directory | tables | free bitmap | back map | grains |
 *
 * A directory entry is 0 or 0x10000000 and the table's number; an entry of a table has its kind in
 * the topmost nibble. Numbers are little-endian, places and sizes in sectors.
 *
 * Source: VMware documents nothing; what is known is what "vmdk: Add read-only support for seSparse
 * snapshots" (qemu-devel, 2019) says of it. What differs from that is refused.
 */
#include <errno.h>

#include "block/formats/vmdk.h"

#define VERSION        UINT64_C(0x200000001)
#define VOLATILE_MAGIC 0xcafecafeu
#define GRAIN          8  /* sectors */
#define TABLE          64 /* sectors */
#define MAX_DIRECTORY  MIB(32)
#define MAX_SECTORS    (UINT64_C(1) << 37) /* 64 TiB */

/* Offsets in the header */
enum {
    H_VERSION = 8,
    H_CAPACITY = 16,
    H_GRAIN = 24,
    H_TABLE = 32,
    H_FLAGS = 40,
    H_VOLATILE = 80,
    H_DIRECTORY = 128,
    H_DIRECTORY_SIZE = 136,
    H_TABLES = 144,
    H_GRAINS = 192,
};
/* … and in the volatile one */
enum { V_REPLAY = 24 };

/* Kinds of entries */
enum { KIND_NONE = 0, KIND_UNMAPPED = 1, KIND_ZERO = 2, KIND_DATA = 3 };

static int no_commit(void *obj)
{
    return 0;
}

static bool check_header(VmdkExtent *e, const uint8_t *h, GError **error)
{
    uint64_t file = e->file->size / 512 + 1, capacity = load_le64(h + H_CAPACITY);
    const FormatLimit limits[] = {
        {"version", load_le64(h + H_VERSION), VERSION, VERSION},
        {"capacity", capacity, 1, MAX_SECTORS},
        {"grain size", load_le64(h + H_GRAIN), GRAIN, GRAIN},
        {"grain table size", load_le64(h + H_TABLE), TABLE, TABLE},
        {"flags", load_le64(h + H_FLAGS), 0, 0},
        {"volatile header", load_le64(h + H_VOLATILE), 1, file},
        {"grain directory", load_le64(h + H_DIRECTORY), 1, file},
        {"grain directory size", load_le64(h + H_DIRECTORY_SIZE), 1, MAX_DIRECTORY / 512},
        {"grain tables", load_le64(h + H_TABLES), 1, file},
        {"grains", load_le64(h + H_GRAINS), 1, UINT64_C(1) << 50},
    };
    if (!format_check_limits(e->file->path, limits, G_N_ELEMENTS(limits), error))
        return false;
    /* A sector holds 64 entries. */
    return capacity <= load_le64(h + H_DIRECTORY_SIZE) * 64 * TABLE * 64 * GRAIN ||
           format_fail(error, e->file->path, "its grain directory is too short");
}

static bool check_volatile(VmdkExtent *e, uint64_t sector, GError **error)
{
    uint8_t v[512];
    int result = host_file_read(e->file, sector * 512, v, sizeof(v));
    if (result)
        return format_fail_io(error, e->file->path, "read the header of", result);
    if (load_le64(v) != VOLATILE_MAGIC)
        return format_fail(error, e->file->path, "its volatile header is damaged");
    return !load_le64(v + V_REPLAY) ||
           format_fail(error, e->file->path,
                       "it was not closed and its journal must be replayed; do that with ESX");
}

bool vmdk_se_open(VmdkExtent *e, const uint8_t *h, GError **error)
{
    if (!e->file->read_only)
        return format_fail(error, e->file->path,
                           "SEsparse extents are for reading; convert the image, or make one over "
                           "it with 'ospite disk create -b'");
    if (!check_header(e, h, error) || !check_volatile(e, load_le64(h + H_VOLATILE), error))
        return false;
    uint64_t capacity = load_le64(h + H_CAPACITY) * 512;
    e->is_se = true;
    e->grain = GRAIN * 512;
    e->entries = TABLE * 512 / 8;
    e->tables_at = load_le64(h + H_TABLES) * 512;
    e->grains_at = load_le64(h + H_GRAINS) * 512;
    if (!e->size)
        e->size = capacity;
    if (e->size > capacity)
        return format_fail(error, e->file->path, "it is smaller than its descriptor says");
    uint64_t span = e->entries * (uint64_t)e->grain, size = (e->size + span - 1) / span * 8;
    int result = flat_table_load(&e->directory, e->file, load_le64(h + H_DIRECTORY) * 512, size);
    e->tables = table_cache_new(e->file, TABLE * 512, MIB(4), no_commit, e);
    return result ? format_fail_io(error, e->file->path, "read", result) : true;
}

/* `*ret_table` is NULL where there is none. */
static int get_table(VmdkExtent *e, uint64_t grain, bool cached, uint8_t **ret_table)
{
    uint64_t entry = load_le64(e->directory.data + grain / e->entries * 8);
    *ret_table = NULL;
    if (!entry)
        return 0;
    if (entry >> 32 != 0x10000000)
        return -EIO;
    uint64_t at = e->tables_at + (uint32_t)entry * (uint64_t)(TABLE * 512);
    return at > e->file->size ? -EIO : table_cache_get(e->tables, at, cached, ret_table);
}

/* The grain's number is turned: its topmost 12 bits of 60 are its lowest. */
static uint64_t place_of(const VmdkExtent *e, uint64_t entry)
{
    uint64_t number = (entry >> 48 & 0xfff) | (entry & UINT64_C(0xffffffffffff)) << 12;
    return number < UINT64_C(1) << 50 ? e->grains_at + number * e->grain : UINT64_MAX;
}

static int read_entry(const VmdkExtent *e, uint64_t entry, Extent *extent)
{
    switch (entry >> 60) {
    case KIND_NONE:
        extent->kind = EXTENT_ABSENT;
        return entry ? -EIO : 0;
    case KIND_UNMAPPED:
    case KIND_ZERO:
        extent->kind = EXTENT_ZERO;
        return 0;
    case KIND_DATA:
        extent->kind = EXTENT_DATA;
        extent->host_offset = place_of(e, entry);
        return extent->host_offset >= e->file->size ? -EIO : 0;
    default:
        return -EIO;
    }
}

int vmdk_se_lookup(VmdkExtent *e, uint64_t offset, uint64_t length, bool cached, Extent *extent)
{
    uint64_t grain = offset / e->grain, inside = offset % e->grain;
    uint32_t i = (uint32_t)(grain % e->entries);
    uint8_t *table;
    int result = get_table(e, grain, cached, &table);
    if (result)
        return result;
    extent->kind = EXTENT_ABSENT;
    extent->length = (e->entries - i) * (uint64_t)e->grain - inside;
    if (!table)
        return 0;
    result = read_entry(e, load_le64(table + i * 8), extent);
    uint64_t first = extent->host_offset;
    extent->host_offset += extent->kind == EXTENT_DATA ? inside : 0;
    extent->length = e->grain - inside;
    for (uint64_t n = 1; !result && ++i < e->entries && extent->length < length; n++) {
        Extent next = {0};
        bool same = !read_entry(e, load_le64(table + i * 8), &next) && next.kind == extent->kind;
        if (!same || (next.kind == EXTENT_DATA && next.host_offset != first + n * e->grain))
            break;
        extent->length += e->grain;
    }
    return result;
}
