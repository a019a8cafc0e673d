/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * qcow2: where bytes are, and how they get a place.
 *
 *   offset = | L1 index | L2 index | in the cluster |
 *
 * An entry of an L2 table is | COPIED | COMPRESSED | … offset … | ZERO |, with extended L2 followed
 * by a bitmap: 32 bits "allocated", above them 32 bits "reads as zeros", one for each subcluster.
 */
#include <errno.h>

#include "block/formats/qcow2.h"

#define MAX_ALLOCATION MIB(16)

typedef struct Entry {
    uint64_t word, bitmap;
} Entry;

static uint64_t l2_index(const Qcow2 *q, uint64_t offset)
{
    return (offset >> q->cluster_bits) & ((UINT64_C(1) << q->l2_bits) - 1);
}

static uint64_t l1_index(const Qcow2 *q, uint64_t offset)
{
    return offset >> (q->cluster_bits + q->l2_bits);
}

static Entry entry_load(const Qcow2 *q, const uint8_t *table, uint64_t i)
{
    const uint8_t *at = table + i * q->l2_entry_size;
    return (Entry){load_be64(at), q->l2_entry_size == 16 ? load_be64(at + 8) : 0};
}

static void entry_store(const Qcow2 *q, uint8_t *table, uint64_t i, Entry entry)
{
    uint8_t *at = table + i * q->l2_entry_size;
    store_be64(at, entry.word);
    if (q->l2_entry_size == 16)
        store_be64(at + 8, entry.bitmap);
}

/* The place of the cluster in the (data) file; false: it has none. */
static bool entry_place(const Qcow2 *q, Entry e, uint64_t *ret_offset)
{
    *ret_offset = e.word & QCOW2_OFFSET_MASK;
    if (e.word & QCOW2_COMPRESSED)
        return false;
    return *ret_offset || (q->external_data && (e.word & QCOW2_COPIED));
}

/* Places are the image's alone with COPIED; a data file knows no sharing. */
static bool is_own(const Qcow2 *q, Entry e)
{
    return (e.word & QCOW2_COPIED) != 0;
}

static ExtentKind entry_kind(const Qcow2 *q, Entry e, unsigned sub)
{
    uint64_t place;
    if (e.word & QCOW2_COMPRESSED)
        return EXTENT_COMPRESSED;
    if (q->sub_count > 1) {
        if (bits_get(e.bitmap, 32 + sub, 1))
            return EXTENT_ZERO;
        return bits_get(e.bitmap, sub, 1) && entry_place(q, e, &place) ? EXTENT_DATA
                                                                       : EXTENT_ABSENT;
    }
    if (q->version >= 3 && (e.word & QCOW2_ZERO))
        return EXTENT_ZERO;
    return entry_place(q, e, &place) ? EXTENT_DATA : EXTENT_ABSENT;
}

uint64_t qcow2_packed_offset(const Qcow2 *q, uint64_t entry, uint32_t *ret_size)
{
    unsigned shift = 62 - (q->cluster_bits - 8);
    uint64_t offset = bits_get(entry, 0, shift);
    uint64_t sectors = bits_get(entry, shift, q->cluster_bits - 8) + 1;
    *ret_size = (uint32_t)(sectors * 512 - offset % 512);
    return offset;
}

static int get_l2(Qcow2 *q, uint64_t offset, bool cached, uint8_t **ret_table)
{
    uint64_t i = l1_index(q, offset);
    uint64_t place = i < q->l1_size ? q->l1[i] & QCOW2_OFFSET_MASK : 0;
    *ret_table = NULL;
    if (!place)
        return 0;
    if (place % q->cluster_size || qcow2_overlaps_tables(q, place, q->cluster_size))
        return -EIO;
    return table_cache_get(q->l2_cache, place, cached, ret_table);
}

/* ---- lookup ---------------------------------------------------------------------------------- */

static int describe_sub(const Qcow2 *q, Entry e, unsigned sub, Extent *extent)
{
    *extent = (Extent){.kind = entry_kind(q, e, sub), .length = q->sub_size};
    if (extent->kind == EXTENT_COMPRESSED) {
        extent->file = q->map.file;
        extent->host_offset = qcow2_packed_offset(q, e.word, &extent->stored_size);
        extent->length = q->cluster_size;
    } else if (extent->kind == EXTENT_DATA) {
        uint64_t place;
        entry_place(q, e, &place);
        if (place % q->cluster_size ||
            (!q->external_data && qcow2_overlaps_tables(q, place, q->cluster_size)))
            return -EIO;
        extent->file = q->data_file;
        extent->host_offset = place + sub * q->sub_size;
        extent->writable = is_own(q, e);
    }
    return 0;
}

static bool continues(const Extent *run, const Extent *next)
{
    if (run->kind != next->kind || run->kind == EXTENT_COMPRESSED)
        return false;
    return run->kind != EXTENT_DATA ||
           (run->writable == next->writable && run->host_offset + run->length == next->host_offset);
}

int qcow2_lookup(ImageMap *map, uint64_t offset, uint64_t length, bool cached, Extent *extent)
{
    Qcow2 *q = (Qcow2 *)map;
    uint8_t *table;
    int result = get_l2(q, offset, cached, &table);
    if (result)
        return result;
    uint64_t table_span = q->cluster_size << q->l2_bits;
    if (!table) {
        *extent = (Extent){.kind = EXTENT_ABSENT, .length = table_span - offset % table_span};
        extent->length = MIN(extent->length, map->size - offset);
        return 0;
    }
    uint64_t i = l2_index(q, offset);
    unsigned sub = (unsigned)(offset % q->cluster_size / q->sub_size);
    result = describe_sub(q, entry_load(q, table, i), sub, extent);
    if (result)
        return result;
    uint64_t inside = offset % (extent->kind == EXTENT_COMPRESSED ? q->cluster_size : q->sub_size);
    while (extent->kind != EXTENT_COMPRESSED && extent->length - inside < length) {
        Extent next;
        if (++sub == q->sub_count) {
            sub = 0;
            i++;
        }
        if (i >> q->l2_bits || describe_sub(q, entry_load(q, table, i), sub, &next) ||
            !continues(extent, &next))
            break;
        extent->length += next.length;
    }
    extent->host_offset += extent->kind == EXTENT_DATA ? inside : 0;
    extent->length = MIN(extent->length - inside, map->size - offset);
    return 0;
}

/* ---- tables that may be changed -------------------------------------------------------------- */

/* A new L2 table, empty or a copy of the shared one, takes the place of entry `i`. */
static int renew_l2(Qcow2 *q, uint64_t i, uint8_t **ret_table)
{
    uint64_t old = q->l1[i] & QCOW2_OFFSET_MASK, offset, count;
    uint8_t *source = NULL;
    int result = qcow2_alloc(q, 1, &offset, &count);
    if (!result)
        result = table_cache_add(q->l2_cache, offset, ret_table);
    if (!result && old)
        result = table_cache_get(q->l2_cache, old, false, &source);
    if (result)
        return result;
    if (source) {
        memcpy(*ret_table, source, q->cluster_size);
        qcow2_free_later(q, old, q->cluster_size);
    }
    q->l1[i] = offset | QCOW2_COPIED;
    qcow2_range_add(&q->l1_dirty, i, i + 1);
    q->map.dirty = true;
    return 0;
}

static int own_l2(Qcow2 *q, uint64_t offset, uint8_t **ret_table)
{
    uint64_t i = l1_index(q, offset);
    if (i >= q->l1_size)
        return -EIO;
    bool own = (q->l1[i] & QCOW2_OFFSET_MASK) && (q->l1[i] & QCOW2_COPIED);
    int result = own ? get_l2(q, offset, false, ret_table) : renew_l2(q, i, ret_table);
    g_assert(result || *ret_table);
    return result;
}

/* ---- allocation ------------------------------------------------------------------------------ */

/* A place that is the image's alone, and what is there counts for nothing or little. */
static bool has_own_place(const Qcow2 *q, Entry e)
{
    uint64_t place;
    return is_own(q, e) && entry_place(q, e, &place);
}

/* What is not written must be copied from the old place. */
static bool has_content(const Qcow2 *q, Entry e)
{
    uint64_t place;
    return (e.word & QCOW2_COMPRESSED) || entry_place(q, e, &place);
}

/* The extent of the write in whole subclusters, or in whole clusters at ends that have content. */
static void shape_allocation(const Qcow2 *q, const uint8_t *table, uint64_t offset, uint64_t end,
                             bool own_place, Allocation *a)
{
    Entry first = entry_load(q, table, l2_index(q, offset));
    Entry last = entry_load(q, table, l2_index(q, end - 1));
    bool whole_first = has_content(q, first) && !own_place;
    bool whole_last = has_content(q, last) && !own_place;
    a->offset = align_down(offset, whole_first ? q->cluster_size : q->sub_size);
    a->length = align_up(end, whole_last ? q->cluster_size : q->sub_size) - a->offset;
    a->file = q->data_file;
}

/* A cluster of ours whose subcluster (or, being zero, whose whole) has no data yet. */
static int use_own_place(Qcow2 *q, const uint8_t *table, uint64_t offset, uint64_t end,
                         Allocation *a)
{
    uint64_t place;
    Entry e = entry_load(q, table, l2_index(q, offset));
    end = MIN(end, align_down(offset, q->cluster_size) + q->cluster_size);
    entry_place(q, e, &place);
    if (place % q->cluster_size ||
        (!q->external_data && qcow2_overlaps_tables(q, place, q->cluster_size)))
        return -EIO;
    shape_allocation(q, table, offset, end, true, a);
    a->host_offset = place + a->offset % q->cluster_size;
    return 0;
}

static bool needs_place(const Qcow2 *q, Entry e)
{
    return !has_own_place(q, e);
}

/* How many clusters from `offset` on need a new place, at most as far as `end`. */
static uint64_t count_needed(const Qcow2 *q, const uint8_t *table, uint64_t offset, uint64_t end)
{
    uint64_t i = l2_index(q, offset), n = 0;
    uint64_t wanted = qcow2_clusters(q, end) - (offset >> q->cluster_bits);
    wanted = MIN(wanted, MAX_ALLOCATION >> q->cluster_bits);
    while (n < wanted && !((i + n) >> q->l2_bits) && needs_place(q, entry_load(q, table, i + n)))
        n++;
    return n;
}

int qcow2_allocate(ImageMap *map, uint64_t offset, uint64_t length, Allocation *a)
{
    Qcow2 *q = (Qcow2 *)map;
    uint8_t *table;
    uint64_t place, count, end = offset + length;
    int result = own_l2(q, offset, &table);
    if (result)
        return result;
    count = count_needed(q, table, offset, end);
    if (!count)
        return use_own_place(q, table, offset, end, a);
    uint64_t start = align_down(offset, q->cluster_size);
    if (q->external_data) {
        place = start; /* the data file is the disk, byte for byte */
    } else {
        result = qcow2_alloc(q, count, &place, &count);
        if (!result)
            result = own_l2(q, offset, &table); /* counting may have turned the table out */
    }
    if (result)
        return result;
    end = MIN(end, start + (count << q->cluster_bits));
    shape_allocation(q, table, offset, end, false, a);
    a->host_offset = place + (a->offset - start);
    a->reads_zero = a->host_offset >= a->file->size;
    a->cookie = 1; /* new clusters */
    return 0;
}

int qcow2_allocate_compressed(ImageMap *map, uint64_t offset, uint32_t size, Allocation *a)
{
    Qcow2 *q = (Qcow2 *)map;
    uint64_t count, place, end = align_up(q->packed_end, q->cluster_size);
    if (q->external_data)
        return -ENOTSUP;
    bool fits = q->packed_end && q->packed_end + size <= end;
    /* The count of the cluster that is begun grows with each packed one in it, if it can. */
    bool joins = q->packed_end && qcow2_ref_add(q, q->packed_end, 1, 1) == 0;
    place = q->packed_end;
    if (!fits || !joins) {
        int result = qcow2_alloc(q, 1, &place, &count);
        if (result)
            return result;
        if (joins && place == end)
            place = q->packed_end;
        else if (joins)
            qcow2_ref_add(q, q->packed_end, 1, -1);
    }
    *a = (Allocation){.offset = offset,
                      .length = q->cluster_size,
                      .file = map->file,
                      .host_offset = place,
                      .compressed = true,
                      .stored_size = size};
    q->packed_end = (place + size) % q->cluster_size ? place + size : 0;
    return 0;
}

/* What an entry used is given up. */
static void free_entry(Qcow2 *q, Entry e)
{
    uint64_t place;
    if (e.word & QCOW2_COMPRESSED) {
        uint32_t size;
        uint64_t offset = qcow2_packed_offset(q, e.word, &size);
        qcow2_free_later(q, offset, size);
        q->packed_end = 0; /* it may be in there */
    } else if (!q->external_data && entry_place(q, e, &place)) {
        qcow2_free_later(q, place, q->cluster_size);
    }
}

static int link_compressed(Qcow2 *q, const Allocation *a)
{
    uint8_t *table;
    unsigned shift = 62 - (q->cluster_bits - 8);
    int result = own_l2(q, a->offset, &table);
    if (result)
        return result;
    uint64_t i = l2_index(q, a->offset);
    uint64_t sectors = (a->host_offset + a->stored_size - 1) / 512 - a->host_offset / 512;
    free_entry(q, entry_load(q, table, i));
    entry_store(q, table, i, (Entry){QCOW2_COMPRESSED | sectors << shift | a->host_offset, 0});
    table_cache_mark(q->l2_cache, table);
    return 0;
}

/* The part of the cluster at `start` that the allocation covers, as bits of subclusters. */
static uint64_t covered_bits(const Qcow2 *q, const Allocation *a, uint64_t start)
{
    uint64_t from = MAX(a->offset, start) - start;
    uint64_t to = MIN(a->offset + a->length, start + q->cluster_size) - start;
    unsigned first = (unsigned)(from / q->sub_size);
    return bits_set(0, first, (unsigned)(to / q->sub_size) - first, UINT64_MAX);
}

static void link_cluster(Qcow2 *q, uint8_t *table, uint64_t start, const Allocation *a)
{
    uint64_t i = l2_index(q, start);
    Entry old = entry_load(q, table, i);
    uint64_t place = align_down(a->host_offset, q->cluster_size) +
                     (start - align_down(a->offset, q->cluster_size));
    Entry e = {place | QCOW2_COPIED, old.bitmap};
    if (q->sub_count > 1) {
        uint64_t bits = covered_bits(q, a, start);
        e.bitmap = (e.bitmap & ~(bits << 32)) | bits;
    }
    if (a->cookie)
        free_entry(q, old);
    entry_store(q, table, i, e);
}

int qcow2_link(ImageMap *map, const Allocation *a)
{
    Qcow2 *q = (Qcow2 *)map;
    uint8_t *table;
    if (a->compressed)
        return link_compressed(q, a);
    int result = own_l2(q, a->offset, &table);
    if (result)
        return result;
    uint64_t start = align_down(a->offset, q->cluster_size);
    for (; start < a->offset + a->length; start += q->cluster_size)
        link_cluster(q, table, start, a);
    table_cache_mark(q->l2_cache, table);
    map->dirty = true;
    return 0;
}

void qcow2_release(ImageMap *map, const Allocation *a)
{
    Qcow2 *q = (Qcow2 *)map;
    if (a->compressed) {
        q->packed_end = 0;
        qcow2_ref_add(q, a->host_offset, a->stored_size, -1);
    } else if (a->cookie && !q->external_data) {
        uint64_t first = align_down(a->host_offset, q->cluster_size);
        qcow2_ref_add(q, first, a->host_offset + a->length - first, -1);
    }
}

/* ---- zero ------------------------------------------------------------------------------------ */

/* What a cluster of zeros has in the table: nothing, unless a parent would show through. */
static Entry zero_entry(const Qcow2 *q)
{
    if (!q->map.parent_name)
        return (Entry){0};
    return q->sub_count > 1 ? (Entry){.bitmap = UINT64_C(0xffffffff) << 32}
                            : (Entry){.word = QCOW2_ZERO};
}

/* The clusters of [offset, end) that are in one table; `*ret_end` is how far that is. */
static void replace_entries(Qcow2 *q, uint8_t *table, uint64_t offset, uint64_t end, Entry entry,
                            uint64_t *ret_end)
{
    uint64_t span = q->cluster_size << q->l2_bits;
    *ret_end = MIN(end, align_down(offset, span) + span);
    for (uint64_t at = offset; table && at < *ret_end; at += q->cluster_size) {
        uint64_t i = l2_index(q, at);
        free_entry(q, entry_load(q, table, i));
        entry_store(q, table, i, entry);
    }
    if (table)
        table_cache_mark(q->l2_cache, table);
    q->map.dirty = true;
}

int qcow2_zero(ImageMap *map, uint64_t offset, uint64_t length, bool discard, uint64_t *ret_done)
{
    Qcow2 *q = (Qcow2 *)map;
    uint8_t *table;
    uint64_t end = offset + length;
    if (end < map->size)
        end = align_down(end, q->cluster_size);
    if (q->external_data || offset % q->cluster_size || end <= offset ||
        (map->parent_name && q->version < 3))
        return -ENOTSUP;
    int result = get_l2(q, offset, false, &table);
    if (!result && (table || map->parent_name))
        result = own_l2(q, offset, &table);
    if (result)
        return result;
    replace_entries(q, table, offset, end, zero_entry(q), &end);
    *ret_done = end - offset;
    return 0;
}

int qcow2_forget(ImageMap *map, uint64_t offset, uint64_t length, uint64_t *ret_done)
{
    Qcow2 *q = (Qcow2 *)map;
    uint8_t *table;
    uint64_t end;
    int result = get_l2(q, offset, false, &table);
    if (!result && table)
        result = own_l2(q, offset, &table);
    if (result)
        return result;
    replace_entries(q, table, offset, offset + length, (Entry){0}, &end);
    *ret_done = end - offset;
    return 0;
}

/* ---- commit ---------------------------------------------------------------------------------- */

static int sync_data(Qcow2 *q)
{
    int result = host_file_sync(q->map.file);
    return result || !q->external_data ? result : host_file_sync(q->data_file);
}

static int commit_l1(Qcow2 *q)
{
    Qcow2Range *dirty = &q->l1_dirty;
    if (dirty->from == dirty->to)
        return 0;
    int result = host_file_sync(q->map.file);
    if (!result)
        result = qcow2_write_table(q, q->l1_offset, q->l1, dirty->from, dirty->to);
    if (!result)
        *dirty = (Qcow2Range){0};
    return result;
}

/* Counts and data, then tables, then the table of tables; only then what they gave up is free. */
int qcow2_commit(ImageMap *map)
{
    Qcow2 *q = (Qcow2 *)map;
    int result = qcow2_commit_refs(q);
    if (!result)
        result = sync_data(q);
    if (!result && table_cache_is_dirty(q->l2_cache))
        result = table_cache_write(q->l2_cache);
    if (!result)
        result = commit_l1(q);
    if (!result)
        result = host_file_sync(map->file);
    if (result)
        return result;
    map->dirty = false;
    return q->freed->len ? qcow2_release_freed(q) : 0;
}

int qcow2_commit_all(Qcow2 *q)
{
    int result;
    do {
        result = qcow2_commit(&q->map);
    } while (!result && q->map.dirty);
    return result;
}
