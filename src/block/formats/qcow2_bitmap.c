/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * qcow2: dirty bitmaps, which tell a backup what changed since the last one.
 *
 *   directory ──> | table of a bitmap | ──> clusters of bits; an entry 0: clear, 1: all set
 *   entry: | table 8 | its entries 4 | flags 4 | type 1 | granularity 1 | name 2 | extra 4 | … |
 *
 * Invariants: before the first change of the image every good bitmap is marked as in use, so that
 * after a crash nobody believes it; bits are kept in memory and stored at closing, when the mark
 * goes. Bits may be set too often, never too seldom. A bitmap that was found in use stays so.
 */
#include <errno.h>

#include "block/formats/qcow2.h"

#define ENTRY_HEAD    24
#define MAX_DIRECTORY MIB(1)
#define MAX_BITMAPS   MIB(16) /* bytes of bits in memory */
#define MAX_TABLE     (MIB(1) / 8)

enum { IN_USE = 1, AUTO = 2 };
enum { TABLE_IS_SET = 1 }; /* in the place of a cluster's offset */

typedef struct Bitmap {
    uint64_t entry_at; /* of its directory entry in the file */
    uint64_t table_at, disk_size;
    uint32_t flags, table_size;
    unsigned granularity; /* log2 of the bytes that a bit stands for */
    uint64_t *table;
    GByteArray *bits;
    GByteArray *changed; /* a flag for each entry of the table */
} Bitmap;

static void bitmap_free(gpointer data)
{
    Bitmap *b = data;
    g_free(b->table);
    if (b->bits)
        g_byte_array_unref(b->bits);
    if (b->changed)
        g_byte_array_unref(b->changed);
    g_free(b);
}

static uint64_t bits_size(const Bitmap *b, uint64_t disk_size)
{
    uint64_t bits = (disk_size + (UINT64_C(1) << b->granularity) - 1) >> b->granularity;
    return (bits + 7) / 8;
}

/* ---- reading --------------------------------------------------------------------------------- */

/* | count 4 | 0 | size of the directory 8 | its offset 8 |; false: there are no bitmaps. */
static bool find_directory(const Qcow2 *q, uint64_t *ret_at, uint64_t *ret_size)
{
    gsize size = 0;
    GBytes *extension = qcow2_find_extension(q, QCOW2_EXT_BITMAPS);
    const uint8_t *e = extension ? g_bytes_get_data(extension, &size) : NULL;
    if (size < 24 || !(q->autoclear & QCOW2_BITMAPS))
        return false;
    *ret_size = load_be64(e + 8);
    *ret_at = load_be64(e + 16);
    return true;
}

static int read_bits(Qcow2 *q, Bitmap *b)
{
    uint64_t size = bits_size(b, q->map.size), clusters = qcow2_clusters(q, size);
    if (b->table_size != clusters)
        return -EINVAL;
    b->disk_size = q->map.size;
    b->bits = g_byte_array_new();
    b->changed = g_byte_array_new();
    g_byte_array_set_size(b->bits, (guint)(clusters << q->cluster_bits));
    g_byte_array_set_size(b->changed, (guint)clusters);
    memset(b->bits->data, 0, b->bits->len);
    memset(b->changed->data, 0, b->changed->len);
    int result = qcow2_read_l1(q, b->table_at, b->table_size, &b->table);
    for (uint32_t i = 0; i < b->table_size && !result; i++) {
        uint8_t *to = b->bits->data + ((uint64_t)i << q->cluster_bits);
        uint64_t place = b->table[i] & QCOW2_OFFSET_MASK;
        if (place % q->cluster_size || (place && qcow2_overlaps_tables(q, place, q->cluster_size)))
            return -EINVAL;
        if (place)
            result = host_file_read(q->map.file, place, to, q->cluster_size);
        else if (b->table[i] & TABLE_IS_SET)
            memset(to, 0xff, q->cluster_size);
    }
    return result;
}

static int write_flags(Qcow2 *q, const Bitmap *b, uint32_t flags)
{
    uint8_t field[4];
    store_be32(field, flags);
    return host_file_write(q->map.file, b->entry_at + 12, field, sizeof(field));
}

/* One entry of the directory; a bitmap that cannot be kept is left marked as in use. */
static int load_bitmap(Qcow2 *q, const uint8_t *d, uint64_t at, uint64_t *budget)
{
    Bitmap *b = g_new0(Bitmap, 1);
    *b = (Bitmap){.entry_at = at,
                  .table_at = load_be64(d),
                  .table_size = load_be32(d + 8),
                  .flags = load_be32(d + 12),
                  .granularity = d[17]};
    if (b->flags & IN_USE) {
        bitmap_free(b);
        return 0;
    }
    bool good = d[16] == 1 && b->granularity >= 9 && b->granularity <= 31 &&
                b->table_size <= MAX_TABLE && b->table_at % q->cluster_size == 0 &&
                ((uint64_t)b->table_size << q->cluster_bits) <= *budget;
    int result = write_flags(q, b, b->flags | IN_USE);
    if (!result && good && !read_bits(q, b)) {
        *budget -= b->bits->len;
        g_ptr_array_add(q->bitmaps, b);
    } else {
        bitmap_free(b);
    }
    return result;
}

int qcow2_bitmaps_begin(Qcow2 *q)
{
    uint64_t start, size, budget = MAX_BITMAPS;
    if (q->bitmaps || !find_directory(q, &start, &size))
        return 0;
    if (size > MAX_DIRECTORY || start % q->cluster_size || start > q->map.file->size ||
        qcow2_overlaps_tables(q, start, size))
        return -EINVAL;
    q->bitmaps = g_ptr_array_new_with_free_func(bitmap_free);
    g_autofree uint8_t *directory = g_malloc0(size + ENTRY_HEAD);
    int result = host_file_read(q->map.file, start, directory, size);
    for (uint64_t at = 0; !result && at + ENTRY_HEAD <= size;) {
        const uint8_t *d = directory + at;
        result = load_bitmap(q, d, start + at, &budget);
        at += align_up(ENTRY_HEAD + (uint64_t)load_be16(d + 18) + load_be32(d + 20), 8);
    }
    if (!result)
        result = host_file_sync(q->map.file);
    q->map.tracks_changes = q->bitmaps->len > 0;
    return result;
}

/* ---- changes --------------------------------------------------------------------------------- */

void qcow2_note_change(ImageMap *map, uint64_t offset, uint64_t length)
{
    Qcow2 *q = (Qcow2 *)map;
    for (guint n = 0; length && q->bitmaps && n < q->bitmaps->len; n++) {
        Bitmap *b = q->bitmaps->pdata[n];
        uint64_t end = (offset + length - 1) >> b->granularity;
        for (uint64_t i = offset >> b->granularity; (b->flags & AUTO) && i <= end; i++) {
            b->bits->data[i / 8] |= (uint8_t)(1 << (i % 8));
            b->changed->data[i / 8 >> q->cluster_bits] = 1;
        }
    }
}

static void grow(GByteArray *array, uint64_t size)
{
    guint old = array->len;
    g_byte_array_set_size(array, (guint)size);
    if (size > old)
        memset(array->data + old, 0, size - old);
}

/* Bits of what comes behind the old end are clear, as those of a new image. */
static void fit_bits(const Qcow2 *q, Bitmap *b, uint64_t disk_size)
{
    uint64_t clusters = qcow2_clusters(q, bits_size(b, disk_size));
    uint64_t bits = (disk_size + (UINT64_C(1) << b->granularity) - 1) >> b->granularity;
    grow(b->bits, clusters << q->cluster_bits);
    grow(b->changed, clusters);
    for (uint64_t i = bits; i < (uint64_t)b->bits->len * 8; i++) {
        if (i % 8 == 0)
            b->bits->data[i / 8] = 0; /* the rest of the byte, too */
        b->bits->data[i / 8] &= (uint8_t) ~(1 << (i % 8));
    }
    memset(b->changed->data, 1, b->changed->len);
    b->disk_size = disk_size;
}

bool qcow2_bitmaps_allow(const Qcow2 *q, uint64_t disk_size)
{
    uint64_t total = 0;
    for (guint n = 0; q->bitmaps && n < q->bitmaps->len; n++)
        total += bits_size(q->bitmaps->pdata[n], disk_size) + q->cluster_size;
    return total <= MAX_BITMAPS;
}

int qcow2_bitmaps_resize(Qcow2 *q, uint64_t disk_size)
{
    if (!qcow2_bitmaps_allow(q, disk_size))
        return -EFBIG;
    for (guint n = 0; q->bitmaps && n < q->bitmaps->len; n++)
        fit_bits(q, q->bitmaps->pdata[n], disk_size);
    return 0;
}

/* ---- storing --------------------------------------------------------------------------------- */

static bool is_clear(const uint8_t *data, size_t size)
{
    return !data[0] && !memcmp(data, data + 1, size - 1);
}

/* The table has an entry for each cluster of bits; one that shrank or grew moves. */
static int fit_table(Qcow2 *q, Bitmap *b)
{
    uint32_t size = b->changed->len;
    uint64_t old_at = b->table_at, old_bytes = b->table_size * UINT64_C(8);
    if (size == b->table_size)
        return 0;
    for (uint32_t i = size; i < b->table_size; i++) {
        if (b->table[i] & QCOW2_OFFSET_MASK)
            qcow2_free_later(q, b->table[i] & QCOW2_OFFSET_MASK, q->cluster_size);
    }
    b->table = g_realloc_n(b->table, MAX(size, 1), 8);
    for (uint32_t i = b->table_size; i < size; i++)
        b->table[i] = 0;
    b->table_size = size;
    int result = qcow2_alloc_all(q, MAX(qcow2_clusters(q, size * UINT64_C(8)), 1), &b->table_at);
    if (!result && old_bytes)
        qcow2_free_later(q, old_at, old_bytes);
    return result;
}

static int store_cluster(Qcow2 *q, Bitmap *b, uint32_t i)
{
    const uint8_t *data = b->bits->data + ((uint64_t)i << q->cluster_bits);
    uint64_t place = b->table[i] & QCOW2_OFFSET_MASK, count;
    int result = 0;
    if (!place && is_clear(data, q->cluster_size)) {
        b->table[i] = 0;
        return 0;
    }
    if (!place)
        result = qcow2_alloc(q, 1, &place, &count);
    b->table[i] = place;
    return result ? result : host_file_write(q->map.file, place, data, q->cluster_size);
}

static int store_bitmap(Qcow2 *q, Bitmap *b)
{
    uint8_t fields[12];
    int result = fit_table(q, b);
    for (uint32_t i = 0; i < b->table_size && !result; i++)
        result = b->changed->data[i] ? store_cluster(q, b, i) : 0;
    if (!result)
        result = qcow2_commit_refs(q);
    if (!result)
        result = host_file_sync(q->map.file);
    if (!result)
        result = qcow2_write_table(q, b->table_at, b->table, 0, b->table_size);
    store_be64(fields, b->table_at);
    store_be32(fields + 8, b->table_size);
    if (!result)
        result = host_file_write(q->map.file, b->entry_at, fields, sizeof(fields));
    return result ? result : host_file_sync(q->map.file);
}

/* What fails leaves the bitmap marked as in use. */
void qcow2_bitmaps_end(Qcow2 *q)
{
    int result = q->map.dirty ? -EIO : 0;
    for (guint n = 0; q->bitmaps && n < q->bitmaps->len && !result; n++)
        result = store_bitmap(q, q->bitmaps->pdata[n]);
    if (!result && q->bitmaps && q->bitmaps->len)
        result = qcow2_commit_all(q);
    for (guint n = 0; q->bitmaps && n < q->bitmaps->len && !result; n++) {
        Bitmap *b = q->bitmaps->pdata[n];
        result = write_flags(q, b, b->flags);
    }
    if (!result && q->bitmaps && q->bitmaps->len)
        host_file_sync(q->map.file);
    g_clear_pointer(&q->bitmaps, g_ptr_array_unref);
}

/* ---- copying --------------------------------------------------------------------------------- */

/* What one entry says: its bitmap and how long it is. */
static Bitmap *parse_entry(const uint8_t *d, uint64_t *ret_length)
{
    Bitmap *b = g_new0(Bitmap, 1);
    *b = (Bitmap){.table_at = load_be64(d),
                  .table_size = load_be32(d + 8),
                  .flags = load_be32(d + 12),
                  .granularity = d[17]};
    *ret_length = align_up(ENTRY_HEAD + (uint64_t)load_be16(d + 18) + load_be32(d + 20), 8);
    return b;
}

/* The same bits for the clusters of another image, where nothing of them is yet. */
static int move_bits(Qcow2 *to, Qcow2 *from, Bitmap *b, uint64_t *budget)
{
    if (b->granularity < 9 || b->granularity > 31 || b->table_at % from->cluster_size)
        return -EINVAL;
    uint64_t clusters = qcow2_clusters(to, bits_size(b, to->map.size));
    uint64_t room =
        MAX(clusters << to->cluster_bits, (uint64_t)b->table_size << from->cluster_bits);
    if (MAX(clusters, b->table_size) > MAX_TABLE || room > *budget)
        return -EFBIG;
    *budget -= room;
    int result = read_bits(from, b);
    if (result)
        return result;
    grow(b->bits, clusters << to->cluster_bits);
    grow(b->changed, clusters);
    memset(b->changed->data, 1, b->changed->len);
    g_clear_pointer(&b->table, g_free);
    b->table_size = 0;
    return 0;
}

/* The entry of a bitmap, and its bits, from one image to the other. */
static bool copy_entry(Qcow2 *to, Qcow2 *from, const uint8_t *d, uint64_t length, Bitmap *b,
                       GByteArray *directory, uint64_t *budget, GError **error)
{
    int result = move_bits(to, from, b, budget);
    if (result)
        return format_fail_io(error, from->map.file->path, "read the bitmaps of", result);
    b->entry_at = directory->len;
    g_byte_array_append(directory, d, (guint)length);
    uint8_t *entry = directory->data + b->entry_at;
    memset(entry, 0, 12);
    store_be32(entry + 12, b->flags | IN_USE); /* until its bits are there */
    return true;
}

static bool is_inconsistent(const Qcow2 *from, const uint8_t *d, bool skip, bool *ret_skipped,
                            GError **error)
{
    g_autofree char *name =
        g_strndup((const char *)d + ENTRY_HEAD + load_be32(d + 20), load_be16(d + 18));
    *ret_skipped = load_be32(d + 12) & IN_USE;
    if (!*ret_skipped)
        return false;
    if (!skip)
        format_fail(error, from->map.file->path,
                    "its bitmap '%s' cannot be believed, for a program that used it has crashed; "
                    "--skip-broken-bitmaps leaves it out",
                    name);
    return !skip;
}

static bool collect(Qcow2 *to, Qcow2 *from, bool skip, GPtrArray *bitmaps, GByteArray *directory,
                    GError **error)
{
    uint64_t start, size, length, budget = 2 * MAX_BITMAPS;
    if (!find_directory(from, &start, &size))
        return true;
    if (size > MAX_DIRECTORY || start % from->cluster_size || start > from->map.file->size)
        return format_fail(error, from->map.file->path, "its bitmaps are damaged");
    g_autofree uint8_t *old = g_malloc0(size + ENTRY_HEAD);
    int result = host_file_read(from->map.file, start, old, size);
    if (result)
        return format_fail_io(error, from->map.file->path, "read the bitmaps of", result);
    for (uint64_t at = 0; at + ENTRY_HEAD <= size; at += length) {
        Bitmap *b = parse_entry(old + at, &length);
        bool skipped;
        g_ptr_array_add(bitmaps, b);
        if (at + length > size)
            return format_fail(error, from->map.file->path, "its bitmaps are damaged");
        if (is_inconsistent(from, old + at, skip, &skipped, error))
            return false;
        if (skipped)
            g_ptr_array_remove_index(bitmaps, bitmaps->len - 1);
        else if (!copy_entry(to, from, old + at, length, b, directory, &budget, error))
            return false;
    }
    return true;
}

/* The extension is taken notice of when the header's bit is set, which is last. */
static int store_copies(Qcow2 *q, GPtrArray *bitmaps, const GByteArray *directory)
{
    uint8_t extension[24] = {0};
    uint64_t at;
    int result = qcow2_alloc_all(q, MAX(qcow2_clusters(q, directory->len), 1), &at);
    if (!result)
        result = qcow2_commit_refs(q);
    if (!result)
        result = host_file_write(q->map.file, at, directory->data, directory->len);
    for (guint i = 0; i < bitmaps->len && !result; i++) {
        Bitmap *b = bitmaps->pdata[i];
        b->entry_at += at;
        result = store_bitmap(q, b);
        if (!result)
            result = write_flags(q, b, b->flags);
    }
    store_be32(extension, bitmaps->len);
    store_be64(extension + 8, directory->len);
    store_be64(extension + 16, at);
    qcow2_add_extension(q, QCOW2_EXT_BITMAPS, extension, sizeof(extension));
    return result ? result : qcow2_commit_all(q);
}

bool qcow2_copy_bitmaps(ImageMap *to, ImageMap *from, bool skip_broken, GError **error)
{
    Qcow2 *q = (Qcow2 *)to;
    uint64_t start, size;
    g_autoptr(GPtrArray) bitmaps = g_ptr_array_new_with_free_func(bitmap_free);
    g_autoptr(GByteArray) directory = g_byte_array_new();
    if (q->version < 3)
        return format_fail(error, to->file->path, "compat=0.10 has no bitmaps; leave it out");
    if (find_directory(q, &start, &size))
        return format_fail(error, to->file->path, "it has bitmaps already");
    if (!collect(q, (Qcow2 *)from, skip_broken, bitmaps, directory, error))
        return false;
    if (!bitmaps->len)
        return true;
    int result = store_copies(q, bitmaps, directory);
    if (result)
        return format_fail_io(error, to->file->path, "write the bitmaps of", result);
    if (!qcow2_rewrite_header(q, to->parent_name, to->parent_format, error))
        return false;
    result = qcow2_set_autoclear(q, q->autoclear | QCOW2_BITMAPS);
    return result ? format_fail_io(error, to->file->path, "write the header of", result) : true;
}

/* ---- words ----------------------------------------------------------------------------------- */

static GVariant *describe_entry(const uint8_t *d, const char *name, uint16_t length)
{
    static const char *const names[] = {"in-use", "auto"};
    uint32_t flags = load_be32(d + 12);
    g_autofree char *text = g_strndup(name, length);
    GVariantBuilder list;
    GVariantDict dict;
    g_variant_builder_init(&list, G_VARIANT_TYPE("as"));
    for (int i = 0; i < 2; i++) {
        if (flags >> i & 1)
            g_variant_builder_add(&list, "s", names[i]);
    }
    g_variant_dict_init(&dict, NULL);
    g_variant_dict_insert_value(&dict, "flags", g_variant_builder_end(&list));
    g_variant_dict_insert(&dict, "name", "s", g_utf8_validate(text, -1, NULL) ? text : "?");
    g_variant_dict_insert(&dict, "granularity", "x", (gint64)1 << (d[17] & 63));
    return g_variant_dict_end(&dict);
}

GVariant *qcow2_describe_bitmaps(const Qcow2 *q)
{
    uint64_t start, size;
    GVariantBuilder list;
    if (!find_directory(q, &start, &size) || size > MAX_DIRECTORY)
        return NULL;
    g_autofree uint8_t *directory = g_malloc0(size + ENTRY_HEAD);
    if (host_file_read(q->map.file, start, directory, size))
        return NULL;
    g_variant_builder_init(&list, G_VARIANT_TYPE("aa{sv}"));
    for (uint64_t at = 0; at + ENTRY_HEAD <= size;) {
        const uint8_t *d = directory + at;
        uint64_t name = at + ENTRY_HEAD + load_be32(d + 20);
        uint16_t length = load_be16(d + 18);
        if (name + length > size)
            break;
        g_variant_builder_add_value(&list,
                                    describe_entry(d, (const char *)directory + name, length));
        at = align_up(name + length, 8);
    }
    return g_variant_builder_end(&list);
}
