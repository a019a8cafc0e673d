/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * qcow2: making images and changing their size.
 *
 * A new image is | header | refcount table | refcount block | L1 table |, a cluster each, for a
 * disk of no size; resizing, which moves the L1 table, does the rest.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>

#include "block/formats/qcow2.h"
#include "block/image.h"

const FormatOption qcow2_options[] = {
    {"compat", "1.1", "version of the format: 0.10 or 1.1"},
    {"cluster_size", "65536", "512 to 2M"},
    {"refcount_bits", "16", "1 to 64"},
    {"lazy_refcounts", "off", "allow other programs to write counts late"},
    {"extended_l2", "off", "32 subclusters in each cluster"},
    {"compression_type", "zlib", "zlib or zstd"},
    {"data_file", NULL, "keep the data in this file"},
    {"data_file_raw", "off", "the data file alone is a raw disk"},
    {"preallocation", "off", "off, metadata, falloc or full"},
    {"nocow", "off", "no copy-on-write by the host's file system (btrfs)"},
    {"encrypt.format", NULL, "luks"},
    {"encrypt.cipher-alg", NULL, "aes-128, aes-192 or aes-256"},
    {"encrypt.cipher-mode", NULL, "xts or cbc"},
    {"encrypt.ivgen-alg", NULL, "plain64, plain or essiv"},
    {"encrypt.ivgen-hash-alg", NULL, "for essiv"},
    {"encrypt.hash-alg", NULL, "sha1, sha256 or sha512"},
    {"encrypt.iter-time", NULL, "milliseconds that trying a passphrase takes"},
    {NULL},
};

/* ---- size ------------------------------------------------------------------------------------ */

int qcow2_switch_l1(Qcow2 *q, uint64_t *l1, uint32_t l1_size, uint64_t disk_size)
{
    uint64_t offset, old_offset = q->l1_offset, old_bytes = (uint64_t)q->l1_size * 8;
    uint8_t fields[24];
    int result = qcow2_alloc_all(q, MAX(qcow2_clusters(q, l1_size * UINT64_C(8)), 1), &offset);
    if (!result)
        result = qcow2_commit_refs(q);
    if (!result)
        result = qcow2_write_table(q, offset, l1, 0, l1_size);
    if (!result)
        result = host_file_sync(q->map.file);
    if (result)
        return result;
    /* size, crypt_method, l1_size and l1_offset stand together: one write switches them all. */
    store_be64(fields, disk_size);
    store_be32(fields + 8, q->crypt);
    store_be32(fields + 12, l1_size);
    store_be64(fields + 16, offset);
    result = qcow2_write_header_field(q, QCOW2_H_SIZE, fields, sizeof(fields));
    if (!result)
        result = host_file_sync(q->map.file);
    if (result)
        return result;
    g_free(q->l1);
    q->l1 = l1;
    q->l1_size = l1_size;
    q->l1_offset = offset;
    q->l1_dirty = (Qcow2Range){0};
    q->map.size = disk_size;
    return old_bytes ? qcow2_ref_add(q, old_offset, old_bytes, -1) : 0;
}

static int write_size(Qcow2 *q, uint64_t size)
{
    uint8_t field[8];
    store_be64(field, size);
    int result = qcow2_write_header_field(q, QCOW2_H_SIZE, field, sizeof(field));
    if (!result)
        result = host_file_sync(q->map.file);
    if (!result)
        q->map.size = size;
    return result;
}

/* What lies behind the new end is given up before the size tells of it. */
static int drop_tail(Qcow2 *q, uint64_t size)
{
    uint64_t first = align_up(size, q->cluster_size), at = first;
    while (at < q->map.size) {
        uint64_t done = 0;
        image_map_tell_progress(&q->map, 0, 1, at - first, q->map.size - first);
        int result = qcow2_zero(&q->map, at, q->map.size - at, true, &done);
        if (result == -ENOTSUP)
            return 0; /* kept; it is out of sight */
        if (result)
            return result;
        at += done;
    }
    return qcow2_commit_all(q);
}

static int grow_l1(Qcow2 *q, uint32_t l1_size, uint64_t size)
{
    uint64_t *l1 = g_new0(uint64_t, MAX(l1_size, 1));
    memcpy(l1, q->l1, (size_t)q->l1_size * 8);
    int result = qcow2_commit_all(q);
    if (!result)
        result = qcow2_switch_l1(q, l1, l1_size, size);
    if (q->l1 != l1)
        g_free(l1);
    return result ? result : qcow2_commit_all(q);
}

bool qcow2_resize(ImageMap *map, uint64_t size, GError **error)
{
    Qcow2 *q = (Qcow2 *)map;
    uint64_t span = q->cluster_size << q->l2_bits;
    uint64_t l1_size = (size + span - 1) / span;
    int result = 0;
    if (l1_size > MIB(32) / 8)
        return format_fail(error, map->file->path,
                           "its cluster size allows at most %" PRIu64
                           " bytes; make it with larger clusters",
                           span * (MIB(32) / 8));
    if (!qcow2_bitmaps_allow(q, size))
        return format_fail(error, map->file->path,
                           "its bitmaps would be too large; remove them with 'qemu-img bitmap'");
    if (size < map->size)
        result = drop_tail(q, size);
    if (!result && l1_size > q->l1_size)
        result = grow_l1(q, (uint32_t)l1_size, size);
    else if (!result)
        result = write_size(q, size);
    if (!result && q->external_data)
        result = host_file_truncate(q->data_file, MAX(size, q->data_file->size));
    if (!result)
        result = qcow2_bitmaps_resize(q, size);
    return result ? format_fail_io(error, map->file->path, "resize", result) : true;
}

/* ---- making ---------------------------------------------------------------------------------- */

typedef struct Plan {
    uint32_t version, cluster_bits, refcount_order, compression_type;
    uint64_t incompatible, compatible, autoclear;
} Plan;

static bool plan_features(Plan *p, const CreateOptions *o, GError **error, const char *path)
{
    static const char *const preallocations[] = {"off", "metadata", "falloc", "full", NULL};
    const char *packing = format_option(o, "compression_type");
    if (!g_strv_contains(preallocations, format_option(o, "preallocation")))
        return format_fail(error, path, "preallocation is off, metadata, falloc or full, not '%s'",
                           format_option(o, "preallocation"));
    if (strcmp(packing, "zlib") && strcmp(packing, "zstd"))
        return format_fail(error, path, "compression_type is zlib or zstd, not '%s'", packing);
    p->compression_type = !strcmp(packing, "zstd");
    p->incompatible = (p->compression_type ? QCOW2_COMPRESSION_TYPE : 0) |
                      (format_option_is_on(o, "extended_l2") ? QCOW2_EXTENDED_L2 : 0) |
                      (format_option(o, "data_file") ? QCOW2_DATA_FILE : 0);
    p->compatible = format_option_is_on(o, "lazy_refcounts") ? QCOW2_LAZY_REFCOUNTS : 0;
    p->autoclear = format_option_is_on(o, "data_file_raw") ? QCOW2_RAW_DATA_FILE : 0;
    if (p->version < 3 && (p->incompatible | p->compatible | p->autoclear))
        return format_fail(error, path, "compat=0.10 has none of the newer features; leave it out");
    if (p->autoclear && !(p->incompatible & QCOW2_DATA_FILE))
        return format_fail(error, path, "data_file_raw needs data_file");
    if ((p->incompatible & QCOW2_DATA_FILE) && o->parent && p->autoclear)
        return format_fail(error, path, "a raw data file can't have a backing file");
    if ((p->incompatible & QCOW2_EXTENDED_L2) && p->cluster_bits < 14)
        return format_fail(error, path, "extended_l2 needs a cluster_size of at least 16384");
    return true;
}

static bool plan_image(Plan *p, const CreateOptions *o, const char *path, GError **error)
{
    uint64_t cluster, bits;
    const char *compat = format_option(o, "compat");
    p->version = !strcmp(compat, "0.10") || !strcmp(compat, "v2") ? 2 : 3;
    if (p->version == 3 && strcmp(compat, "1.1") && strcmp(compat, "v3"))
        return format_fail(error, path, "compat is 0.10 or 1.1, not '%s'", compat);
    if (!format_parse_size(format_option(o, "cluster_size"), &cluster) ||
        !is_power_of_two(cluster) || cluster < 512 || cluster > MIB(2))
        return format_fail(error, path, "cluster_size is a power of two between 512 and 2M");
    if (!format_parse_size(format_option(o, "refcount_bits"), &bits) || !is_power_of_two(bits) ||
        bits > 64)
        return format_fail(error, path, "refcount_bits is a power of two between 1 and 64");
    if (p->version < 3 && bits != 16)
        return format_fail(error, path, "compat=0.10 has refcount_bits=16 only");
    p->cluster_bits = (uint32_t)__builtin_ctzll(cluster);
    p->refcount_order = (uint32_t)__builtin_ctzll(bits);
    return plan_features(p, o, error, path);
}

static void fill_header(const Plan *p, const CreateOptions *o, uint8_t *h)
{
    uint64_t cs = UINT64_C(1) << p->cluster_bits;
    const char *data_file = format_option(o, "data_file");
    store_be32(h, QCOW2_MAGIC);
    store_be32(h + QCOW2_H_VERSION, p->version);
    store_be32(h + QCOW2_H_CLUSTER_BITS, p->cluster_bits);
    store_be64(h + QCOW2_H_L1_OFFSET, 3 * cs);
    store_be32(h + QCOW2_H_L1_SIZE, 1);
    store_be64(h + QCOW2_H_REFTABLE_OFFSET, cs);
    store_be32(h + QCOW2_H_REFTABLE_CLUSTERS, 1);
    if (p->version < 3)
        return;
    store_be64(h + QCOW2_H_INCOMPATIBLE, p->incompatible);
    store_be64(h + QCOW2_H_COMPATIBLE, p->compatible);
    store_be64(h + QCOW2_H_AUTOCLEAR, p->autoclear);
    store_be32(h + QCOW2_H_REFCOUNT_ORDER, p->refcount_order);
    store_be32(h + QCOW2_H_LENGTH, QCOW2_H_V3_LENGTH);
    h[QCOW2_H_COMPRESSION] = (uint8_t)p->compression_type;
    if (data_file) {
        size_t length = MIN(strlen(data_file), 300);
        store_be32(h + QCOW2_H_V3_LENGTH, QCOW2_EXT_DATA_FILE);
        store_be32(h + QCOW2_H_V3_LENGTH + 4, (uint32_t)length);
        memcpy(h + QCOW2_H_V3_LENGTH + 8, data_file, length);
    }
}

/* Counts of one for the first four clusters. */
static void fill_block(const Plan *p, uint8_t *block)
{
    unsigned bits = 1u << p->refcount_order;
    for (unsigned i = 0; i < 4; i++) {
        if (bits < 8)
            block[i * bits / 8] |= (uint8_t)(1u << (i * bits % 8));
        else
            block[(i + 1) * (bits / 8) - 1] = 1;
    }
}

static int write_skeleton(HostFile *file, const Plan *p, const CreateOptions *o)
{
    size_t cs = (size_t)1 << p->cluster_bits;
    g_autofree uint8_t *image = g_malloc0(4 * cs);
    fill_header(p, o, image);
    store_be64(image + cs, 2 * cs);
    fill_block(p, image + 2 * cs);
    return host_file_write(file, 0, image, 4 * cs);
}

static bool create_data_file(HostFile *file, const CreateOptions *o, GError **error)
{
    const char *name = format_option(o, "data_file");
    if (!name)
        return true;
    if (strlen(name) > 300)
        return format_fail(error, file->path, "the name of the data file is too long");
    g_autofree char *path = image_resolve_name(file->path, name, true, error);
    g_autoptr(HostFile) data = path ? format_create_file(path, o, error) : NULL;
    int result = data ? host_file_truncate(data, o->size) : 0;
    return data && (!result || format_fail_io(error, path, "create", result));
}

/* Every cluster gets its place now, so that writing is fast later. */
static int preallocate(ImageMap *map, const char *how)
{
    uint64_t end = 0;
    for (uint64_t at = 0; at < map->size;) {
        Allocation a = {0};
        int result = qcow2_allocate(map, at, map->size - at, &a);
        if (!result)
            result = qcow2_link(map, &a);
        if (!result && strcmp(how, "metadata"))
            result = fallocate(a.file->fd, 0, (off_t)a.host_offset, (off_t)a.length) ? -errno : 0;
        if (result && result != -EOPNOTSUPP)
            return result;
        at = a.offset + a.length;
        end = MAX(end, a.host_offset + a.length);
    }
    return map->file->size < end && !((Qcow2 *)map)->external_data
               ? host_file_truncate(map->file, end)
               : 0;
}

static bool finish(ImageMap *map, const CreateOptions *o, GError **error)
{
    Qcow2 *q = (Qcow2 *)map;
    const char *how = format_option(o, "preallocation");
    if (!qcow2_create_crypt(q, o, error) || !qcow2_resize(map, o->size, error) ||
        (o->parent && !qcow2_rewrite_header(q, o->parent, o->parent_format, error)))
        return false;
    int result = strcmp(how, "off") ? preallocate(map, how) : 0;
    if (!result)
        result = qcow2_commit_all(q);
    return result ? format_fail_io(error, map->file->path, "create", result) : true;
}

bool qcow2_create(HostFile *file, const CreateOptions *o, GError **error)
{
    Plan plan = {0};
    OpenParameters p = {.trust_names = true, .no_sync = o->no_sync, .io_hook = o->io_hook};
    if (!plan_image(&plan, o, file->path, error) ||
        !qcow2_check_crypt_options(o, file->path, error) || !create_data_file(file, o, error))
        return false;
    int result = write_skeleton(file, &plan, o);
    if (result)
        return format_fail_io(error, file->path, "create", result);
    ImageMap *map = qcow2_format.open(file, &p, error);
    bool good = map && finish(map, o, error);
    if (map)
        qcow2_format.close(map);
    return good;
}
