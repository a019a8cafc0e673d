/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * qcow, version 1. Numbers are big-endian.
 *
 *   | header 48 | parent's name | L1 table | … L2 tables and clusters … |
 *
 * Nothing counts uses: clusters are only added, at the end of the file.
 *
 * Invariants: a cluster's data are durable before its L2 entry, an L2 table before its L1 entry.
 *
 * Source: "The QCOW Image Format" (Mark McLoughlin, 2006).
 */
#include <errno.h>

#include "base/bits.h"
#include "block/compress.h"
#include "block/flat_table.h"
#include "block/format.h"
#include "block/table_cache.h"

#define MAGIC      0x514649fbu
#define COMPRESSED (UINT64_C(1) << 63)
#define MAX_L1     MIB(32)
#define MAX_NAME   1023

enum {
    H_VERSION = 4,
    H_PARENT = 8,
    H_PARENT_SIZE = 16,
    H_TIME = 20,
    H_SIZE = 24,
    H_CLUSTER_BITS = 32,
    H_L2_BITS = 33,
    H_CRYPT = 36,
    H_L1 = 40,
    H_LENGTH = 48,
};

/* Xen's tap:aio adds: | mark | sum of the L1 table | clusters to take at once | flags | */
enum { X_MAGIC = 48, X_FLAGS = 60, X_LENGTH = 64 };

#define XEN_MAGIC  0x58454efbu
#define XEN_L1_BIG 2u /* flag: without it, the L1 table is in the order of its host's bytes */

typedef struct Qcow {
    ImageMap map;
    unsigned cluster_bits, l2_bits;
    uint64_t cluster_size;
    FlatTable l1;
    TableCache *l2;
    uint64_t end; /* where the next cluster goes */
} Qcow;

static bool qcow_probe(const ProbeData *data)
{
    return load_be32(data->head) == MAGIC && load_be32(data->head + H_VERSION) == 1;
}

/* ---- opening --------------------------------------------------------------------------------- */

static bool parse(Qcow *q, const uint8_t *h, uint64_t *ret_l1_size, GError **error)
{
    const char *path = q->map.file->path;
    q->cluster_bits = h[H_CLUSTER_BITS];
    q->l2_bits = h[H_L2_BITS];
    q->map.size = load_be64(h + H_SIZE);
    const FormatLimit shape[] = {
        {"version", load_be32(h + H_VERSION), 1, 1},
        {"cluster_bits", q->cluster_bits, 9, 16},
        {"l2_bits", q->l2_bits, 6, 13},
        {"size", q->map.size, 1, FORMAT_SIZE_MAX},
        {"backing file name size", load_be32(h + H_PARENT_SIZE), 0, MAX_NAME},
        {"encryption method", load_be32(h + H_CRYPT), 0, 1},
    };
    if (!format_check_limits(path, shape, G_N_ELEMENTS(shape), error))
        return false;
    unsigned bits = q->cluster_bits + q->l2_bits;
    *ret_l1_size = (((q->map.size - 1) >> bits) + 1) * 8;
    const FormatLimit limits[] = {
        {"L1 table size", *ret_l1_size, 8, MAX_L1},
        {"L1 table offset", load_be64(h + H_L1), H_LENGTH, q->map.file->size},
        {"backing file name offset", load_be64(h + H_PARENT), 0, q->map.file->size},
    };
    return format_check_limits(path, limits, G_N_ELEMENTS(limits), error);
}

static bool is_xen(const uint8_t *h)
{
    uint64_t parent = load_be64(h + H_PARENT);
    return load_be32(h + X_MAGIC) == XEN_MAGIC && load_be64(h + H_L1) >= X_LENGTH &&
           (!parent || parent >= X_LENGTH);
}

/* Xen distrusts a table that is not as its header sums it up. */
static bool refuse_xen(const Qcow *q, const uint8_t *h, const OpenParameters *p, GError **error)
{
    return !is_xen(h) || p->read_only ||
           format_fail(error, q->map.file->path,
                       "it is an image of Xen's tap:aio, which can only be read; convert it");
}

static void mend_xen_l1(Qcow *q, const uint8_t *h)
{
    bool is_little = is_xen(h) && !(load_be32(h + X_FLAGS) & XEN_L1_BIG);
    for (uint64_t at = 0; is_little && at < q->l1.size; at += 8)
        store_be64(q->l1.data + at, load_le64(q->l1.data + at));
}

static int qcow_commit(ImageMap *map);

static int read_tables(Qcow *q, const uint8_t *h, uint64_t l1_size)
{
    HostFile *file = q->map.file;
    uint32_t length = load_be32(h + H_PARENT_SIZE);
    int result = flat_table_load(&q->l1, file, load_be64(h + H_L1), l1_size);
    if (!result)
        mend_xen_l1(q, h);
    if (!result && load_be64(h + H_PARENT) && length) {
        q->map.parent_name = g_malloc0(length + 1);
        result = host_file_read(file, load_be64(h + H_PARENT), q->map.parent_name, length);
    }
    q->cluster_size = UINT64_C(1) << q->cluster_bits;
    q->l2 = table_cache_new(file, (size_t)8 << q->l2_bits, MIB(8), (int (*)(void *))qcow_commit, q);
    q->end = align_up(MAX(file->size, load_be64(h + H_L1) + l1_size), q->cluster_size);
    q->map.size = align_up(q->map.size, 512);
    q->map.sector_size = 512;
    q->map.unit_size = (uint32_t)q->cluster_size;
    return result;
}

static void qcow_close(ImageMap *map)
{
    Qcow *q = (Qcow *)map;
    flat_table_clear(&q->l1);
    table_cache_free(q->l2);
    image_map_clear(map);
    g_free(q);
}

static ImageMap *qcow_open(HostFile *file, const OpenParameters *p, GError **error)
{
    Qcow *q = g_new0(Qcow, 1);
    uint8_t h[X_LENGTH];
    uint64_t l1_size = 0;
    q->map.file = file;
    int result = host_file_read(file, 0, h, sizeof(h));
    bool good = !result && load_be32(h) == MAGIC && parse(q, h, &l1_size, error) &&
                refuse_xen(q, h, p, error) &&
                (!load_be32(h + H_CRYPT) || format_open_old_aes(&q->map, p, error));
    if (good)
        result = read_tables(q, h, l1_size);
    if (good && !result)
        return &q->map;
    if (result)
        format_fail_io(error, file->path, "read", result);
    else if (error && !*error)
        format_fail(error, file->path, "it is no qcow image");
    qcow_close(&q->map);
    return NULL;
}

/* ---- the map --------------------------------------------------------------------------------- */

static uint64_t l2_index(const Qcow *q, uint64_t offset)
{
    return (offset >> q->cluster_bits) & ((UINT64_C(1) << q->l2_bits) - 1);
}

static size_t l1_at(const Qcow *q, uint64_t offset)
{
    return (size_t)(offset >> (q->cluster_bits + q->l2_bits)) * 8;
}

/* Places that no file can have are damage. */
static bool is_place(uint64_t offset)
{
    return offset < FORMAT_SIZE_MAX;
}

static int get_l2(Qcow *q, uint64_t offset, bool cached, uint8_t **ret_table)
{
    uint64_t place = load_be64(q->l1.data + l1_at(q, offset));
    *ret_table = NULL;
    if (!is_place(place))
        return -EIO;
    return place ? table_cache_get(q->l2, place, cached, ret_table) : 0;
}

static int describe(const Qcow *q, uint64_t entry, Extent *extent)
{
    extent->kind = !entry ? EXTENT_ABSENT : entry & COMPRESSED ? EXTENT_COMPRESSED : EXTENT_DATA;
    extent->file = q->map.file;
    extent->host_offset = entry;
    extent->writable = true;
    if (extent->kind == EXTENT_COMPRESSED) {
        unsigned bits = 63 - q->cluster_bits;
        extent->host_offset = bits_get(entry, 0, bits);
        extent->stored_size = (uint32_t)bits_get(entry, bits, q->cluster_bits);
    }
    return is_place(extent->host_offset) ? 0 : -EIO;
}

/* How far, up to `limit`, clusters from `offset` on are like its own, whose entry is `entry`. */
static uint64_t run_length(const Qcow *q, const uint8_t *table, uint64_t entry, uint64_t offset,
                           uint64_t limit)
{
    uint64_t span = q->cluster_size << q->l2_bits, end = align_down(offset, q->cluster_size);
    limit = MIN(q->map.size - offset, limit);
    if (!table) {
        for (end = align_down(offset, span) + span;
             end - offset < limit && !load_be64(q->l1.data + l1_at(q, end)); end += span)
            ;
        return end - offset;
    }
    do {
        end += q->cluster_size;
        entry += entry ? q->cluster_size : 0;
    } while (end % span && end - offset < limit && !(entry & COMPRESSED) &&
             load_be64(table + l2_index(q, end) * 8) == entry);
    return end - offset;
}

static int qcow_lookup(ImageMap *map, uint64_t offset, uint64_t length, bool cached, Extent *extent)
{
    Qcow *q = (Qcow *)map;
    uint64_t inside = offset & (q->cluster_size - 1);
    uint8_t *table;
    int result = get_l2(q, offset, cached, &table);
    *extent = (Extent){.kind = EXTENT_ABSENT, .length = q->cluster_size - inside};
    uint64_t entry = !result && table ? load_be64(table + l2_index(q, offset) * 8) : 0;
    if (entry)
        result = describe(q, entry, extent);
    if (!result)
        extent->length = run_length(q, table, entry, offset, length);
    if (extent->kind == EXTENT_DATA)
        extent->host_offset += inside;
    extent->length = MIN(extent->length, map->size - offset);
    return result;
}

static int own_l2(Qcow *q, uint64_t offset, uint8_t **ret_table)
{
    int result = get_l2(q, offset, false, ret_table);
    if (result || *ret_table)
        return result;
    result = table_cache_add(q->l2, q->end, ret_table);
    if (result)
        return result;
    store_be64(q->l1.data + l1_at(q, offset), q->end);
    flat_table_mark(&q->l1, l1_at(q, offset), 8);
    q->end += align_up(UINT64_C(8) << q->l2_bits, q->cluster_size);
    q->map.dirty = true;
    return 0;
}

static int qcow_allocate(ImageMap *map, uint64_t offset, uint64_t length, Allocation *a)
{
    Qcow *q = (Qcow *)map;
    uint8_t *table;
    int result = own_l2(q, offset, &table);
    if (result)
        return result;
    *a = (Allocation){.offset = align_down(offset, q->cluster_size),
                      .length = q->cluster_size,
                      .file = map->file,
                      .host_offset = q->end,
                      .reads_zero = q->end >= map->file->size};
    q->end += q->cluster_size;
    return 0;
}

static int qcow_allocate_compressed(ImageMap *map, uint64_t offset, uint32_t size, Allocation *a)
{
    Qcow *q = (Qcow *)map;
    uint8_t *table;
    int result = own_l2(q, offset, &table);
    if (result)
        return result;
    *a = (Allocation){.offset = offset,
                      .length = q->cluster_size,
                      .file = map->file,
                      .host_offset = q->end,
                      .compressed = true,
                      .stored_size = size};
    q->end = align_up(q->end + size, 512);
    return 0;
}

static int qcow_link(ImageMap *map, const Allocation *a)
{
    Qcow *q = (Qcow *)map;
    uint8_t *table;
    uint64_t entry = a->host_offset;
    int result = own_l2(q, a->offset, &table);
    if (result)
        return result;
    if (a->compressed)
        entry |= COMPRESSED | (uint64_t)a->stored_size << (63 - q->cluster_bits);
    store_be64(table + l2_index(q, a->offset) * 8, entry);
    table_cache_mark(q->l2, table);
    map->dirty = true;
    return 0;
}

/* Nothing counts uses: the places are lost. */
static int qcow_forget(ImageMap *map, uint64_t offset, uint64_t length, uint64_t *ret_done)
{
    Qcow *q = (Qcow *)map;
    uint8_t *table;
    uint64_t span = q->cluster_size << q->l2_bits;
    uint64_t end = MIN(offset + length, align_down(offset, span) + span);
    int result = get_l2(q, offset, false, &table);
    *ret_done = end - offset;
    if (result || !table)
        return result;
    uint64_t count =
        (end - align_down(offset, q->cluster_size) + q->cluster_size - 1) >> q->cluster_bits;
    memset(table + l2_index(q, offset) * 8, 0, count * 8);
    table_cache_mark(q->l2, table);
    map->dirty = true;
    return 0;
}

static int qcow_commit(ImageMap *map)
{
    Qcow *q = (Qcow *)map;
    int result = 0;
    q->end = align_up(q->end, q->cluster_size);
    if (map->dirty && map->file->size < q->end)
        result = host_file_truncate(map->file, q->end);
    if (!result)
        result = host_file_sync(map->file);
    if (!result)
        result = table_cache_write(q->l2);
    if (!result && q->l1.dirty)
        result = host_file_sync(map->file);
    if (!result)
        result = flat_table_write(&q->l1);
    if (!result)
        result = host_file_sync(map->file);
    map->dirty = map->dirty && result;
    return result;
}

static int qcow_decompress(const ImageMap *map, const Extent *extent, const uint8_t *stored,
                           uint8_t *unit)
{
    return unpack(PACKING_DEFLATE, stored, extent->stored_size, unit, map->unit_size);
}

static size_t qcow_compress(const ImageMap *map, const uint8_t *unit, uint8_t *stored)
{
    return pack(PACKING_DEFLATE, unit, map->unit_size, stored, map->unit_size);
}

/* ---- making ---------------------------------------------------------------------------------- */

/* With a parent, clusters of a sector: small writes copy little. */
static bool qcow_create(HostFile *file, const CreateOptions *o, GError **error)
{
    uint8_t h[H_LENGTH] = {0};
    size_t name = o->parent ? strlen(o->parent) : 0;
    unsigned cluster_bits = o->parent ? 9 : 12, l2_bits = o->parent ? 12 : 9;
    uint64_t l1 = align_up(H_LENGTH + name, 8);
    uint64_t l1_size = (o->size >> (cluster_bits + l2_bits)) * 8 + 8;
    if (!o->size || l1_size > MAX_L1 || name > MAX_NAME)
        return format_fail(error, file->path, "a qcow image can't have that size or parent");
    store_be32(h, MAGIC);
    store_be32(h + H_VERSION, 1);
    store_be64(h + H_PARENT, name ? H_LENGTH : 0);
    store_be32(h + H_PARENT_SIZE, (uint32_t)name);
    store_be64(h + H_SIZE, o->size);
    h[H_CLUSTER_BITS] = (uint8_t)cluster_bits;
    h[H_L2_BITS] = (uint8_t)l2_bits;
    store_be64(h + H_L1, l1);
    int result = host_file_write(file, 0, h, sizeof(h));
    if (!result && name)
        result = host_file_write(file, H_LENGTH, o->parent, name);
    if (!result)
        result = host_file_truncate(file, align_up(l1 + l1_size, 4096));
    if (!result)
        result = host_file_sync(file);
    return result ? format_fail_io(error, file->path, "create", result) : true;
}

/* The new name goes to the end of the file, and one write of the header switches to it. */
static bool qcow_set_parent(ImageMap *map, const char *name, const char *format, const char *path,
                            GError **error)
{
    Qcow *q = (Qcow *)map;
    uint8_t fields[12] = {0};
    int result = qcow_commit(map);
    if (name && strlen(name) > MAX_NAME)
        return format_fail(error, map->file->path, "the name of its parent is too long");
    if (name && !result) {
        store_be64(fields, q->end);
        store_be32(fields + 8, (uint32_t)strlen(name));
        result = host_file_write(map->file, q->end, name, strlen(name));
        q->end += align_up(strlen(name), q->cluster_size);
    }
    if (!result)
        result = host_file_sync(map->file);
    if (!result)
        result = host_file_write(map->file, H_PARENT, fields, sizeof(fields));
    if (!result)
        result = host_file_sync(map->file);
    if (result)
        return format_fail_io(error, map->file->path, "write the header of", result);
    image_map_name_parent(map, name, NULL);
    return true;
}

/* ---- another size ---------------------------------------------------------------------------- */

/* Clusters behind a smaller end must not come back. */
static int forget_behind(Qcow *q, uint64_t size)
{
    uint64_t first = align_up(size, q->cluster_size), at = first, done = 0;
    int result = 0;
    for (; at < q->map.size && !result; at += done) {
        image_map_tell_progress(&q->map, 0, 1, at - first, q->map.size - first);
        result = qcow_forget(&q->map, at, q->map.size - at, &done);
    }
    return result ? result : qcow_commit(&q->map);
}

/* A longer table goes to the end of the file; nothing refers to it yet. */
static int write_longer_l1(Qcow *q, uint64_t l1_size)
{
    int result = host_file_write(q->map.file, q->end, q->l1.data, q->l1.size);
    if (!result)
        result = host_file_truncate(q->map.file, align_up(q->end + l1_size, q->cluster_size));
    return result ? result : host_file_sync(q->map.file);
}

/* One write of the header switches size and table. */
static int write_size(Qcow *q, uint64_t size, uint64_t l1)
{
    uint8_t h[H_LENGTH];
    int result = host_file_read(q->map.file, 0, h, sizeof(h));
    store_be64(h + H_SIZE, size);
    store_be64(h + H_L1, l1);
    if (!result)
        result = host_file_write(q->map.file, 0, h, sizeof(h));
    return result ? result : host_file_sync(q->map.file);
}

static int change_size(Qcow *q, uint64_t size, uint64_t l1_size)
{
    uint64_t l1 = q->l1.offset;
    bool moves = l1_size > q->l1.size;
    int result = forget_behind(q, size);
    if (!result && moves) {
        l1 = q->end;
        result = write_longer_l1(q, l1_size);
    }
    if (!result)
        result = write_size(q, size, l1);
    if (result || !moves)
        return result;
    q->end = align_up(l1 + l1_size, q->cluster_size);
    flat_table_clear(&q->l1);
    return flat_table_load(&q->l1, q->map.file, l1, l1_size);
}

static bool qcow_resize(ImageMap *map, uint64_t size, GError **error)
{
    Qcow *q = (Qcow *)map;
    uint64_t l1_size = size ? (((size - 1) >> (q->cluster_bits + q->l2_bits)) + 1) * 8 : 0;
    if (!l1_size || l1_size > MAX_L1)
        return format_fail(error, map->file->path, "a qcow image can't have that size");
    int result = change_size(q, size, l1_size);
    if (result)
        return format_fail_io(error, map->file->path, "resize", result);
    map->size = size;
    return true;
}

const FormatDriver qcow_format = {
    .name = "qcow",
    .probe = qcow_probe,
    .create = qcow_create,
    .open = qcow_open,
    .close = qcow_close,
    .lookup = qcow_lookup,
    .allocate = qcow_allocate,
    .allocate_compressed = qcow_allocate_compressed,
    .link = qcow_link,
    .forget = qcow_forget,
    .leaves_space = true,
    .commit = qcow_commit,
    .decompress = qcow_decompress,
    .compress = qcow_compress,
    .resize = qcow_resize,
    .set_parent = qcow_set_parent,
};
