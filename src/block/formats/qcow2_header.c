/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * qcow2: the header with its extensions, opening and closing.
 *
 * Opening is in two stages (SAFETY §2): numbers are read and checked against limits, then tables
 * are allocated and read.
 */
#include <errno.h>

#include "block/formats/qcow2.h"
#include "block/image.h"

#define L2_CACHE_BYTES  MIB(16)
#define REF_CACHE_BYTES MIB(4)
#define MAX_L1_BYTES    MIB(32)
#define MAX_REFTABLE    MIB(8)
#define MAX_NAME        1023

static bool qcow2_probe(const ProbeData *data)
{
    uint32_t version = load_be32(data->head + QCOW2_H_VERSION);
    return load_be32(data->head) == QCOW2_MAGIC && (version == 2 || version == 3);
}

/* ---- writing --------------------------------------------------------------------------------- */

int qcow2_write_header_field(Qcow2 *q, unsigned offset, const void *data, size_t size)
{
    return host_file_write(q->map.file, offset, data, size);
}

static int write_header_u64(Qcow2 *q, unsigned offset, uint64_t value)
{
    uint8_t field[8];
    store_be64(field, value);
    int result = qcow2_write_header_field(q, offset, field, sizeof(field));
    return result ? result : host_file_sync(q->map.file);
}

int qcow2_set_incompatible(Qcow2 *q, uint64_t features)
{
    int result = q->version < 3 ? -ENOTSUP : write_header_u64(q, QCOW2_H_INCOMPATIBLE, features);
    if (!result)
        q->incompatible = features;
    return result;
}

int qcow2_set_autoclear(Qcow2 *q, uint64_t features)
{
    int result = q->version < 3 ? -ENOTSUP : write_header_u64(q, QCOW2_H_AUTOCLEAR, features);
    if (!result)
        q->autoclear = features;
    return result;
}

int qcow2_write_table(Qcow2 *q, uint64_t offset, const uint64_t *table, uint64_t from, uint64_t to)
{
    g_autofree uint64_t *bytes = g_new(uint64_t, to - from + 1);
    for (uint64_t i = from; i < to; i++)
        store_be64(&bytes[i - from], table[i]);
    return host_file_write(q->map.file, offset + from * 8, bytes, (to - from) * 8);
}

static bool touches(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size)
{
    return a < b + b_size && b < a + a_size;
}

bool qcow2_overlaps_tables(const Qcow2 *q, uint64_t offset, uint64_t size)
{
    return touches(offset, size, 0, q->cluster_size) ||
           (q->luks_size && touches(offset, size, q->luks_offset, q->luks_size)) ||
           touches(offset, size, q->l1_offset, (uint64_t)q->l1_size * 8) ||
           touches(offset, size, q->reftable_offset, (uint64_t)q->reftable_size * 8);
}

/*
 * Features that this version does not keep up to date end with the first change, and so do bitmaps
 * that are damaged.
 */
int qcow2_begin_write(ImageMap *map)
{
    Qcow2 *q = (Qcow2 *)map;
    uint64_t kept = q->external_data ? QCOW2_RAW_DATA_FILE : 0;
    int good = qcow2_bitmaps_begin(q);
    if (good && good != -EINVAL)
        return good;
    kept = q->autoclear & (kept | (good ? 0 : QCOW2_BITMAPS));
    return q->version < 3 || kept == q->autoclear ? 0 : qcow2_set_autoclear(q, kept);
}

static void append_extension(GByteArray *to, uint32_t type, const void *data, size_t size)
{
    static const uint8_t padding[8];
    uint8_t head[8];
    store_be32(head, type);
    store_be32(head + 4, (uint32_t)size);
    g_byte_array_append(to, head, sizeof(head));
    if (size)
        g_byte_array_append(to, data, (guint)size);
    g_byte_array_append(to, padding, (guint)(align_up(size, 8) - size));
}

static GByteArray *build_header(Qcow2 *q, const char *parent_format, GError **error)
{
    GByteArray *header = g_byte_array_new();
    g_byte_array_set_size(header, q->header_length);
    int result = host_file_read(q->map.file, 0, header->data, q->header_length);
    if (result) {
        format_fail_io(error, q->map.file->path, "read", result);
        g_byte_array_unref(header);
        return NULL;
    }
    if (g_strcmp0(parent_format, "vhd") == 0)
        parent_format = "vpc"; /* its name where qcow2 comes from */
    if (parent_format)
        append_extension(header, QCOW2_EXT_PARENT_FORMAT, parent_format, strlen(parent_format));
    for (guint i = 0; i < q->extensions->len; i++) {
        Qcow2Extension *e = &g_array_index(q->extensions, Qcow2Extension, i);
        gsize size;
        const void *data = g_bytes_get_data(e->data, &size);
        if (e->type != QCOW2_EXT_PARENT_FORMAT)
            append_extension(header, e->type, data, size);
    }
    append_extension(header, QCOW2_EXT_END, NULL, 0);
    return header;
}

/*
 * The name goes where the old one is not, so that the header, which names one of them, is right
 * before and after the write of its first sector.
 */
static uint64_t choose_name_place(const Qcow2 *q, uint64_t header_end, size_t length)
{
    uint64_t first = align_up(header_end, 8), second = align_up(first + MAX_NAME, 512);
    bool first_is_used = q->parent_offset && touches(first, length, q->parent_offset, MAX_NAME);
    return first_is_used && second + length <= q->cluster_size ? second : first;
}

bool qcow2_rewrite_header(Qcow2 *q, const char *parent, const char *parent_format, GError **error)
{
    size_t length = parent ? strlen(parent) : 0;
    g_autoptr(GByteArray) header = build_header(q, parent ? parent_format : NULL, error);
    if (!header)
        return false;
    uint64_t place = parent ? choose_name_place(q, header->len, length) : 0;
    if (length > MAX_NAME || place + length > q->cluster_size || header->len > q->cluster_size)
        return format_fail(error, q->map.file->path, "its header has no room for the name '%s'",
                           parent ? parent : "");
    store_be64(header->data + QCOW2_H_PARENT_OFFSET, place);
    store_be32(header->data + QCOW2_H_PARENT_SIZE, (uint32_t)length);
    int result = parent ? host_file_write(q->map.file, place, parent, length) : 0;
    if (!result)
        result = host_file_sync(q->map.file);
    if (!result)
        result = host_file_write(q->map.file, 0, header->data, header->len);
    if (!result)
        result = host_file_sync(q->map.file);
    if (result)
        return format_fail_io(error, q->map.file->path, "write the header of", result);
    q->parent_offset = place;
    return true;
}

static bool qcow2_set_parent(ImageMap *map, const char *name, const char *format, const char *path,
                             GError **error)
{
    Qcow2 *q = (Qcow2 *)map;
    if (!qcow2_rewrite_header(q, name, format, error))
        return false;
    image_map_name_parent(map, name, format);
    return true;
}

/* ---- the first stage: numbers ---------------------------------------------------------------- */

typedef struct Header {
    uint64_t parent_offset, size, l1_offset, reftable_offset, snapshot_offset;
    uint32_t parent_size, l1_size, reftable_clusters;
} Header;

static void parse_header(Qcow2 *q, const uint8_t *h, Header *header)
{
    *header = (Header){.parent_offset = load_be64(h + QCOW2_H_PARENT_OFFSET),
                       .parent_size = load_be32(h + QCOW2_H_PARENT_SIZE),
                       .size = load_be64(h + QCOW2_H_SIZE),
                       .l1_size = load_be32(h + QCOW2_H_L1_SIZE),
                       .l1_offset = load_be64(h + QCOW2_H_L1_OFFSET),
                       .reftable_offset = load_be64(h + QCOW2_H_REFTABLE_OFFSET),
                       .reftable_clusters = load_be32(h + QCOW2_H_REFTABLE_CLUSTERS)};
    q->version = load_be32(h + QCOW2_H_VERSION);
    q->crypt = load_be32(h + QCOW2_H_CRYPT);
    q->cluster_bits = load_be32(h + QCOW2_H_CLUSTER_BITS);
    q->snapshot_count = load_be32(h + QCOW2_H_SNAPSHOT_COUNT);
    q->snapshot_offset = load_be64(h + QCOW2_H_SNAPSHOT_OFFSET);
    q->refcount_order = 4;
    q->header_length = QCOW2_H_V2_LENGTH;
    if (q->version < 3)
        return;
    q->incompatible = load_be64(h + QCOW2_H_INCOMPATIBLE);
    q->compatible = load_be64(h + QCOW2_H_COMPATIBLE);
    q->autoclear = load_be64(h + QCOW2_H_AUTOCLEAR);
    q->refcount_order = load_be32(h + QCOW2_H_REFCOUNT_ORDER);
    q->header_length = load_be32(h + QCOW2_H_LENGTH);
    if (q->header_length > QCOW2_H_COMPRESSION)
        q->compression_type = h[QCOW2_H_COMPRESSION];
}

/* What follows from cluster_bits and features, once these are known to be good. */
static void derive(Qcow2 *q)
{
    bool extended = q->incompatible & QCOW2_EXTENDED_L2;
    q->cluster_size = UINT64_C(1) << q->cluster_bits;
    q->sub_count = extended ? 32 : 1;
    q->sub_size = q->cluster_size / q->sub_count;
    q->l2_entry_size = extended ? 16 : 8;
    q->l2_bits = q->cluster_bits - (extended ? 4 : 3);
    q->ref_block_bits = q->cluster_bits + 3 - q->refcount_order;
}

static bool check_header(Qcow2 *q, const Header *h, const char *path, GError **error)
{
    const FormatLimit shape[] = {
        {"version", q->version, 2, 3},
        {"cluster_bits", q->cluster_bits, 9, 21},
        {"refcount_order", q->refcount_order, 0, 6},
    };
    if (!format_check_limits(path, shape, G_N_ELEMENTS(shape), error))
        return false;
    derive(q);
    uint64_t cs = q->cluster_size, end = align_up(q->map.file->size, cs);
    uint64_t table_span = cs << q->l2_bits;
    const FormatLimit limits[] = {
        {"size", h->size, 0, FORMAT_SIZE_MAX},
        {"header length", q->header_length, q->version == 2 ? 72 : 104, cs,
         q->version == 2 ? 1 : 8},
        {"L1 table size", h->l1_size, (h->size + table_span - 1) / table_span, MAX_L1_BYTES / 8},
        {"L1 table offset", h->l1_offset, 0, h->l1_size ? end : UINT64_MAX >> 8, cs},
        {"L1 table end", h->l1_offset + h->l1_size * UINT64_C(8), 0, end},
        {"refcount table size", h->reftable_clusters, 1, MAX_REFTABLE >> q->cluster_bits},
        {"refcount table offset", h->reftable_offset, cs, end, cs},
        {"refcount table end", h->reftable_offset + h->reftable_clusters * cs, 0, end},
        {"backing file name size", h->parent_size, 0, MAX_NAME},
        {"backing file name offset", h->parent_offset, 0, cs},
        {"backing file name end", h->parent_offset + h->parent_size, 0, cs},
        {"snapshot count", q->snapshot_count, 0, 65536},
        {"snapshot table offset", q->snapshot_offset, 0, q->snapshot_count ? end : UINT64_MAX,
         q->snapshot_count ? cs : 0},
        {"compression type", q->compression_type, 0, 1},
        {"encryption method", q->crypt, 0, 2},
        {"cluster size with extended L2", q->sub_size, 512, cs},
    };
    size_t count = G_N_ELEMENTS(limits) - (q->sub_count > 1 ? 0 : 1);
    return format_check_limits(path, limits, count, error);
}

/* ---- extensions ------------------------------------------------------------------------------ */

static void clear_extension(gpointer data)
{
    g_bytes_unref(((Qcow2Extension *)data)->data);
}

static bool parse_extensions(Qcow2 *q, const uint8_t *header, const Header *h, GError **error)
{
    uint64_t at = q->header_length;
    uint64_t end = h->parent_offset > at ? h->parent_offset : q->cluster_size;
    while (at + 8 <= end) {
        uint32_t type = load_be32(header + at), size = load_be32(header + at + 4);
        at += 8;
        if (type == QCOW2_EXT_END)
            break;
        if (size > end - at)
            return format_fail(error, q->map.file->path,
                               "a header extension ends past its cluster");
        Qcow2Extension e = {type, g_bytes_new(header + at, size)};
        g_array_append_val(q->extensions, e);
        at += align_up(size, 8);
    }
    return true;
}

GBytes *qcow2_find_extension(const Qcow2 *q, uint32_t type)
{
    for (guint i = 0; i < q->extensions->len; i++) {
        Qcow2Extension *e = &g_array_index(q->extensions, Qcow2Extension, i);
        if (e->type == type)
            return e->data;
    }
    return NULL;
}

static char *extension_text(const Qcow2 *q, uint32_t type)
{
    GBytes *bytes = qcow2_find_extension(q, type);
    gsize size = 0;
    const char *text = bytes ? g_bytes_get_data(bytes, &size) : NULL;
    return size ? g_strndup(text, size) : NULL;
}

void qcow2_add_extension(Qcow2 *q, uint32_t type, const void *data, size_t size)
{
    Qcow2Extension extension = {type, g_bytes_new(data, size)};
    for (guint i = 0; i < q->extensions->len; i++) {
        if (g_array_index(q->extensions, Qcow2Extension, i).type == type)
            g_array_remove_index(q->extensions, i--);
    }
    g_array_append_val(q->extensions, extension);
}

/* The image's own name for an incompatible feature. */
static char *feature_name(const Qcow2 *q, unsigned bit)
{
    GBytes *bytes = qcow2_find_extension(q, QCOW2_EXT_FEATURES);
    gsize size = 0;
    const uint8_t *table = bytes ? g_bytes_get_data(bytes, &size) : NULL;
    for (gsize at = 0; at + 48 <= size; at += 48) {
        if (table[at] == 0 && table[at + 1] == bit)
            return g_strndup((const char *)table + at + 2, 46);
    }
    return g_strdup_printf("bit %u", bit);
}

static bool refuse_unknown_features(const Qcow2 *q, GError **error)
{
    uint64_t known =
        QCOW2_DIRTY | QCOW2_CORRUPT | QCOW2_DATA_FILE | QCOW2_COMPRESSION_TYPE | QCOW2_EXTENDED_L2;
    uint64_t unknown = q->incompatible & ~known;
    if (!unknown)
        return true;
    g_autofree char *name = feature_name(q, (unsigned)__builtin_ctzll(unknown));
    return format_fail(error, q->map.file->path,
                       "it uses the feature '%s', which this version does not know; open it with "
                       "the program that made it",
                       name);
}

/* ---- the second stage: tables ---------------------------------------------------------------- */

static bool read_table(Qcow2 *q, uint64_t offset, uint32_t count, uint64_t **ret_table,
                       GError **error)
{
    *ret_table = g_new0(uint64_t, MAX(count, 1));
    int result = host_file_read(q->map.file, offset, *ret_table, (size_t)count * 8);
    for (uint32_t i = 0; i < count; i++)
        (*ret_table)[i] = GUINT64_FROM_BE((*ret_table)[i]);
    return result ? format_fail_io(error, q->map.file->path, "read a table of", result) : true;
}

static bool open_data_file(Qcow2 *q, const OpenParameters *p, GError **error)
{
    q->data_file = q->map.file;
    if (!(q->incompatible & QCOW2_DATA_FILE))
        return true;
    q->external_data = q->map.many_files = true;
    q->data_file_name = extension_text(q, QCOW2_EXT_DATA_FILE);
    if (p->only_look)
        return true;
    if (!q->data_file_name)
        return format_fail(error, q->map.file->path, "it does not name its data file");
    g_autofree char *path =
        image_resolve_name(q->map.file->path, q->data_file_name, p->trust_names, error);
    q->data_file = path ? host_file_open(path, p->read_only, p->io_hook, error) : NULL;
    if (q->data_file)
        q->data_file->no_sync = p->no_sync;
    return q->data_file != NULL;
}

static bool read_tables(Qcow2 *q, const Header *h, GError **error)
{
    q->l1_size = h->l1_size;
    q->l1_offset = h->l1_offset;
    q->reftable_size = (uint32_t)(h->reftable_clusters << q->cluster_bits >> 3);
    q->reftable_offset = h->reftable_offset;
    q->map.size = align_up(h->size, 512);
    q->map.sector_size = 512;
    q->map.unit_size = (uint32_t)q->cluster_size;
    q->l2_cache = table_cache_new(q->map.file, q->cluster_size, L2_CACHE_BYTES,
                                  (int (*)(void *))qcow2_commit, q);
    q->ref_cache = table_cache_new(q->map.file, q->cluster_size, REF_CACHE_BYTES,
                                   (int (*)(void *))qcow2_commit, q);
    q->freed = g_array_new(FALSE, FALSE, sizeof(Qcow2Freed));
    return read_table(q, q->l1_offset, q->l1_size, &q->l1, error) &&
           read_table(q, q->reftable_offset, q->reftable_size, &q->reftable, error);
}

static bool read_names(Qcow2 *q, const uint8_t *header, const Header *h, GError **error)
{
    if (!parse_extensions(q, header, h, error) || !refuse_unknown_features(q, error))
        return false;
    if (h->parent_offset && h->parent_size) {
        const char *name = (const char *)header + h->parent_offset;
        q->map.parent_name = g_strndup(name, h->parent_size);
        q->map.parent_format = extension_text(q, QCOW2_EXT_PARENT_FORMAT);
        q->parent_offset = h->parent_offset;
    }
    return true;
}

static void qcow2_close(ImageMap *map)
{
    Qcow2 *q = (Qcow2 *)map;
    qcow2_bitmaps_end(q);
    if (q->data_file != map->file)
        host_file_close(q->data_file);
    qcow2_close_crypt(q);
    table_cache_free(q->l2_cache);
    table_cache_free(q->ref_cache);
    g_clear_pointer(&q->extensions, g_array_unref);
    g_clear_pointer(&q->freed, g_array_unref);
    g_free(q->data_file_name);
    g_free(q->l1);
    g_free(q->reftable);
    image_map_clear(map);
    g_free(q);
}

static bool fill(Qcow2 *q, const OpenParameters *p, GError **error)
{
    Header h;
    uint8_t first[512];
    const char *path = q->map.file->path;
    int result = host_file_read(q->map.file, 0, first, sizeof(first));
    if (result)
        return format_fail_io(error, path, "read", result);
    if (load_be32(first) != QCOW2_MAGIC)
        return format_fail(error, path, "it is no qcow2 image");
    parse_header(q, first, &h);
    if (!check_header(q, &h, path, error))
        return false;
    g_autofree uint8_t *header = g_malloc(q->cluster_size);
    result = host_file_read(q->map.file, 0, header, q->cluster_size);
    if (result)
        return format_fail_io(error, path, "read", result);
    if (!read_names(q, header, &h, error))
        return false;
    if ((q->incompatible & QCOW2_CORRUPT) && !p->read_only && !p->ignore_damage)
        return format_fail(error, path,
                           "it is marked as corrupt; 'ospite disk check --repair' may "
                           "mend it, or open it read-only");
    q->map.needs_repair = q->incompatible & QCOW2_DIRTY;
    return qcow2_open_crypt(q, p, error) && open_data_file(q, p, error) &&
           read_tables(q, &h, error);
}

static ImageMap *qcow2_open(HostFile *file, const OpenParameters *p, GError **error)
{
    Qcow2 *q = g_new0(Qcow2, 1);
    q->map.file = q->data_file = file;
    q->extensions = g_array_new(FALSE, FALSE, sizeof(Qcow2Extension));
    g_array_set_clear_func(q->extensions, clear_extension);
    if (fill(q, p, error))
        return &q->map;
    qcow2_close(&q->map);
    return NULL;
}

/* ---- units and words ------------------------------------------------------------------------- */

static Packing packing(const Qcow2 *q)
{
    return q->compression_type ? PACKING_ZSTD : PACKING_DEFLATE;
}

static int qcow2_decompress(const ImageMap *map, const Extent *extent, const uint8_t *stored,
                            uint8_t *unit)
{
    return unpack(packing((const Qcow2 *)map), stored, extent->stored_size, unit, map->unit_size);
}

static size_t qcow2_compress(const ImageMap *map, const uint8_t *unit, uint8_t *stored)
{
    const Qcow2 *q = (const Qcow2 *)map;
    return q->external_data || map->encrypted
               ? 0
               : pack(packing(q), unit, map->unit_size, stored, map->unit_size);
}

static void qcow2_describe(const ImageMap *map, GVariantDict *d)
{
    const Qcow2 *q = (const Qcow2 *)map;
    g_variant_dict_insert(d, "compat", "s", q->version >= 3 ? "1.1" : "0.10");
    if (q->crypt)
        g_variant_dict_insert_value(d, "encrypt", qcow2_describe_crypt(q));
    g_variant_dict_insert(d, "compression-type", "s", q->compression_type ? "zstd" : "zlib");
    if (q->version >= 3) {
        g_variant_dict_insert(d, "lazy-refcounts", "b",
                              (q->compatible & QCOW2_LAZY_REFCOUNTS) != 0);
        g_variant_dict_insert(d, "corrupt", "b", (q->incompatible & QCOW2_CORRUPT) != 0);
        GVariant *bitmaps = qcow2_describe_bitmaps(q);
        if (bitmaps)
            g_variant_dict_insert_value(d, "bitmaps", bitmaps);
        g_variant_dict_insert(d, "extended-l2", "b", q->sub_count > 1);
        if (q->external_data) {
            g_variant_dict_insert(d, "data-file", "s", q->data_file_name ? q->data_file_name : "");
            g_variant_dict_insert(d, "data-file-raw", "b",
                                  (q->autoclear & QCOW2_RAW_DATA_FILE) != 0);
        }
    }
    g_variant_dict_insert(d, "refcount-bits", "x", (gint64)1 << q->refcount_order);
}

const FormatDriver qcow2_format = {
    .name = "qcow2",
    .probe = qcow2_probe,
    .options = qcow2_options,
    .create = qcow2_create,
    .open = qcow2_open,
    .close = qcow2_close,
    .lookup = qcow2_lookup,
    .begin_write = qcow2_begin_write,
    .note_change = qcow2_note_change,
    .allocate = qcow2_allocate,
    .link = qcow2_link,
    .release = qcow2_release,
    .zero = qcow2_zero,
    .forget = qcow2_forget,
    .commit = qcow2_commit,
    .decompress = qcow2_decompress,
    .compress = qcow2_compress,
    .allocate_compressed = qcow2_allocate_compressed,
    .resize = qcow2_resize,
    .copy_bitmaps = qcow2_copy_bitmaps,
    .check = qcow2_check,
    .set_parent = qcow2_set_parent,
    .snapshots = &qcow2_snapshots,
    .keys = &qcow2_keys,
    .describe = qcow2_describe,
};
