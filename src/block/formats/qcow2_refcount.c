/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * qcow2: who uses each cluster.
 *
 * A refcount block that is missing is made in the first cluster that it counts, which is free then.
 * A refcount table that is too small is replaced: new copy, flush, switch, flush, free.
 */
#include <errno.h>

#include "block/formats/qcow2.h"

#define MAX_REFTABLE_ENTRIES (MIB(8) / 8)

static int ensure_block(Qcow2 *q, uint64_t cluster, uint8_t **ret_block);

static uint64_t count_max(const Qcow2 *q)
{
    unsigned bits = 1u << q->refcount_order;
    return bits == 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1;
}

static uint64_t count_load(const Qcow2 *q, const uint8_t *block, uint64_t i)
{
    switch (q->refcount_order) {
    case 3:
        return block[i];
    case 4:
        return load_be16(block + 2 * i);
    case 5:
        return load_be32(block + 4 * i);
    case 6:
        return load_be64(block + 8 * i);
    default: {
        unsigned bits = 1u << q->refcount_order, per_byte = 8 / bits;
        return bits_get(block[i / per_byte], (unsigned)(i % per_byte) * bits, bits);
    }
    }
}

static void count_store(const Qcow2 *q, uint8_t *block, uint64_t i, uint64_t count)
{
    switch (q->refcount_order) {
    case 3:
        block[i] = (uint8_t)count;
        break;
    case 4:
        store_be16(block + 2 * i, (uint16_t)count);
        break;
    case 5:
        store_be32(block + 4 * i, (uint32_t)count);
        break;
    case 6:
        store_be64(block + 8 * i, count);
        break;
    default: {
        unsigned bits = 1u << q->refcount_order, per_byte = 8 / bits;
        uint8_t *byte = &block[i / per_byte];
        *byte = (uint8_t)bits_set(*byte, (unsigned)(i % per_byte) * bits, bits, count);
    }
    }
}

static uint64_t index_in_block(const Qcow2 *q, uint64_t cluster)
{
    return cluster & ((UINT64_C(1) << q->ref_block_bits) - 1);
}

/* The block that counts a cluster; NULL with 0 where there is none. */
static int get_block(Qcow2 *q, uint64_t cluster, uint8_t **ret_block)
{
    uint64_t i = cluster >> q->ref_block_bits;
    uint64_t offset = i < q->reftable_size ? q->reftable[i] & QCOW2_OFFSET_MASK : 0;
    *ret_block = NULL;
    if (!offset)
        return 0;
    if (offset % q->cluster_size || qcow2_overlaps_tables(q, offset, q->cluster_size))
        return -EIO;
    return table_cache_get(q->ref_cache, offset, false, ret_block);
}

int qcow2_ref_get(Qcow2 *q, uint64_t cluster, uint64_t *ret_count)
{
    uint8_t *block;
    int result = get_block(q, cluster, &block);
    *ret_count = !result && block ? count_load(q, block, index_in_block(q, cluster)) : 0;
    return result;
}

static int make_block(Qcow2 *q, uint64_t i, uint64_t cluster)
{
    uint8_t *block;
    uint64_t offset = cluster << q->cluster_bits;
    int result = table_cache_add(q->ref_cache, offset, &block);
    if (result)
        return result;
    q->reftable[i] = offset;
    qcow2_range_add(&q->reftable_dirty, i, i + 1);
    q->map.dirty = true;
    return 0;
}

/* The new table is in the file, with what it leads to: the header may name it. */
static int switch_reftable(Qcow2 *q, uint64_t offset)
{
    uint8_t field[12];
    int result = table_cache_write(q->ref_cache);
    if (!result)
        result = qcow2_write_table(q, offset, q->reftable, 0, q->reftable_size);
    if (!result)
        result = host_file_sync(q->map.file);
    if (result)
        return result;
    store_be64(field, offset);
    store_be32(field + 8, (uint32_t)qcow2_clusters(q, q->reftable_size * 8));
    result = qcow2_write_header_field(q, QCOW2_H_REFTABLE_OFFSET, field, sizeof(field));
    return result ? result : host_file_sync(q->map.file);
}

/*
 * Behind all that the old table counted everything is free. There come first the blocks that count
 * what is made here, then the table.
 */
static int fill_grown_reftable(Qcow2 *q, uint64_t old_size, uint64_t *ret_offset)
{
    uint64_t per_block = UINT64_C(1) << q->ref_block_bits;
    uint64_t clusters = qcow2_clusters(q, q->reftable_size * 8);
    uint64_t blocks = per_block > 1 ? (clusters + per_block - 2) / (per_block - 1) : UINT64_MAX;
    uint64_t base = old_size << q->ref_block_bits;
    int result = blocks <= per_block ? 0 : -EFBIG;
    for (uint64_t i = 0; i < blocks && !result; i++)
        result = make_block(q, old_size + i, base + i);
    for (uint64_t i = 0; i < blocks + clusters && !result; i++)
        result = qcow2_ref_set(q, base + i, 1);
    *ret_offset = (base + blocks) << q->cluster_bits;
    return result ? result : switch_reftable(q, *ret_offset);
}

static void undo_grown_reftable(Qcow2 *q, uint64_t old_size)
{
    for (uint64_t i = old_size; i < q->reftable_size; i++) {
        if (q->reftable[i])
            table_cache_drop(q->ref_cache, q->reftable[i]);
    }
    q->reftable_size = (uint32_t)old_size;
    q->reftable_dirty.to = MIN(q->reftable_dirty.to, old_size);
    q->reftable_dirty.from = MIN(q->reftable_dirty.from, q->reftable_dirty.to);
}

static int grow_reftable(Qcow2 *q, uint64_t needed)
{
    uint64_t old_size = q->reftable_size, old_offset = q->reftable_offset, offset;
    uint64_t entries = MAX(needed + needed / 2, old_size + 1) + 1;
    entries = qcow2_clusters(q, entries * 8) << q->cluster_bits >> 3;
    if (entries > MAX_REFTABLE_ENTRIES)
        return -EFBIG;
    q->reftable = g_realloc_n(q->reftable, entries, 8);
    memset(q->reftable + old_size, 0, (entries - old_size) * 8);
    q->reftable_size = (uint32_t)entries;
    int result = fill_grown_reftable(q, old_size, &offset);
    if (result) {
        undo_grown_reftable(q, old_size);
        return result;
    }
    q->reftable_offset = offset;
    q->reftable_dirty = (Qcow2Range){0};
    return qcow2_ref_add(q, old_offset, old_size * 8, -1);
}

static int ensure_block(Qcow2 *q, uint64_t cluster, uint8_t **ret_block)
{
    uint64_t i = cluster >> q->ref_block_bits;
    int result = 0;
    if (i >= q->reftable_size)
        result = grow_reftable(q, i + 1);
    if (!result && !(q->reftable[i] & QCOW2_OFFSET_MASK)) {
        /* What is in use without being counted: the image is damaged. */
        if (!i ||
            qcow2_overlaps_tables(q, i << (q->ref_block_bits + q->cluster_bits), q->cluster_size))
            return -EIO;
        result = make_block(q, i, i << q->ref_block_bits);
        if (!result)
            result = qcow2_ref_set(q, i << q->ref_block_bits, 1);
    }
    return result ? result : get_block(q, cluster, ret_block);
}

int qcow2_ref_set(Qcow2 *q, uint64_t cluster, uint64_t count)
{
    uint8_t *block;
    if (count > count_max(q))
        return -ERANGE;
    int result = ensure_block(q, cluster, &block);
    if (result)
        return result;
    count_store(q, block, index_in_block(q, cluster), count);
    table_cache_mark(q->ref_cache, block);
    q->map.dirty = true;
    if (count)
        return 0;
    q->free_hint = MIN(q->free_hint, cluster);
    if (q->packed_end >> q->cluster_bits == cluster)
        q->packed_end = 0;
    return 0;
}

static int add_one(Qcow2 *q, uint64_t cluster, int delta)
{
    uint64_t count;
    int result = qcow2_ref_get(q, cluster, &count);
    if (result)
        return result;
    if (delta < 0 && !count)
        return -EIO;
    result = qcow2_ref_set(q, cluster, count + delta);
    if (!result && count + delta == 0) {
        uint64_t offset = cluster << q->cluster_bits;
        table_cache_drop(q->l2_cache, offset);
        table_cache_drop(q->ref_cache, offset);
        host_file_discard(q->map.file, offset, q->cluster_size);
    }
    return result;
}

int qcow2_ref_add(Qcow2 *q, uint64_t offset, uint64_t size, int delta)
{
    uint64_t first = offset >> q->cluster_bits, end = qcow2_clusters(q, offset + size);
    for (uint64_t i = first; i < end; i++) {
        int result = add_one(q, i, delta);
        if (result) {
            while (delta > 0 && i-- > first)
                add_one(q, i, -delta);
            return result;
        }
    }
    return 0;
}

static int is_free(Qcow2 *q, uint64_t cluster, bool *ret_free)
{
    uint8_t *block;
    if (cluster >> (56 - q->cluster_bits))
        return -EFBIG;
    int result = ensure_block(q, cluster, &block);
    *ret_free = !result && count_load(q, block, index_in_block(q, cluster)) == 0;
    return result;
}

/* The first free cluster from `from` on. */
static int skip_used(Qcow2 *q, uint64_t from, uint64_t *ret_first)
{
    bool is_hint = from == q->free_hint, found = false;
    int result = is_free(q, from, &found);
    while (!result && !found)
        result = is_free(q, ++from, &found);
    if (is_hint && q->free_hint <= from)
        q->free_hint = MAX(q->free_hint, from);
    *ret_first = from;
    return result;
}

/* Finds `wanted` free clusters together, or with `any` as many as there are at the first place. */
static int find_free(Qcow2 *q, uint64_t wanted, bool any, uint64_t *ret_first, uint64_t *ret_count)
{
    for (uint64_t from = q->free_hint;;) {
        bool more = true;
        uint64_t run = 1;
        int result = skip_used(q, from, ret_first);
        while (!result && run < wanted) {
            result = is_free(q, *ret_first + run, &more);
            if (!more)
                break;
            run++;
        }
        *ret_count = run;
        if (result || any || run == wanted)
            return result;
        from = *ret_first + run + 1;
    }
}

static int take(Qcow2 *q, uint64_t first, uint64_t count)
{
    if (first == 0 || qcow2_overlaps_tables(q, first << q->cluster_bits, count << q->cluster_bits))
        return -EIO; /* the counts are wrong: these are in use */
    for (uint64_t i = 0; i < count; i++) {
        int result = qcow2_ref_set(q, first + i, 1);
        if (result) {
            while (i--)
                qcow2_ref_set(q, first + i, 0);
            return result;
        }
    }
    if (q->free_hint == first)
        q->free_hint = first + count;
    return 0;
}

int qcow2_alloc(Qcow2 *q, uint64_t wanted, uint64_t *ret_offset, uint64_t *ret_count)
{
    uint64_t first = 0;
    int result = find_free(q, wanted, true, &first, ret_count);
    if (!result)
        result = take(q, first, *ret_count);
    *ret_offset = first << q->cluster_bits;
    return result;
}

/* Blocks that the clusters' counts lack. */
static uint64_t missing_blocks(const Qcow2 *q, uint64_t first, uint64_t count)
{
    uint64_t missing = 0, last = (first + count - 1) >> q->ref_block_bits;
    for (uint64_t i = first >> q->ref_block_bits; i <= last; i++)
        missing += i >= q->reftable_size || !(q->reftable[i] & QCOW2_OFFSET_MASK);
    return missing;
}

/* The first free clusters together, with room for the blocks that they lack behind them. */
static int find_long(Qcow2 *q, uint64_t count, uint64_t *ret_first, uint64_t *ret_blocks)
{
    uint64_t first = q->free_hint, run = 0, used;
    *ret_blocks = 0;
    while (run < count + *ret_blocks) {
        if ((first + run) >> (56 - q->cluster_bits))
            return -EFBIG;
        int result = qcow2_ref_get(q, first + run, &used);
        if (result)
            return result;
        first += used ? run + 1 : 0;
        run = used ? 0 : run + 1;
        *ret_blocks = run >= count ? missing_blocks(q, first, run) : 0;
    }
    *ret_first = first;
    return 0;
}

/*
 * More clusters than a block counts. Elsewhere a block lies where its clusters begin: here, that
 * would leave no room for them.
 */
static int take_long(Qcow2 *q, uint64_t count, uint64_t *ret_first)
{
    uint64_t first = 0, blocks = 0, end = 0;
    int result;
    do {
        result = end ? grow_reftable(q, end) : 0;
        if (!result)
            result = find_long(q, count, &first, &blocks);
        end = ((first + count + blocks - 1) >> q->ref_block_bits) + 1;
    } while (!result && end > q->reftable_size);
    if (result)
        return result;
    if (qcow2_overlaps_tables(q, first << q->cluster_bits, (count + blocks) << q->cluster_bits))
        return -EIO; /* the counts are wrong: these are in use */
    uint64_t at = first + count;
    for (uint64_t i = first >> q->ref_block_bits; i < end && !result; i++) {
        if (!(q->reftable[i] & QCOW2_OFFSET_MASK))
            result = make_block(q, i, at++);
    }
    for (uint64_t i = 0; i < count + blocks && !result; i++)
        result = qcow2_ref_set(q, first + i, 1);
    *ret_first = first;
    return result;
}

int qcow2_alloc_all(Qcow2 *q, uint64_t count, uint64_t *ret_offset)
{
    uint64_t first = 0, found;
    bool is_long = count >> q->ref_block_bits;
    int result = is_long ? take_long(q, count, &first) : find_free(q, count, false, &first, &found);
    if (!result && !is_long)
        result = take(q, first, count);
    *ret_offset = first << q->cluster_bits;
    return result;
}

void qcow2_free_later(Qcow2 *q, uint64_t offset, uint64_t size)
{
    Qcow2Freed freed = {offset, size};
    g_array_append_val(q->freed, freed);
    q->map.dirty = true;
}

int qcow2_release_freed(Qcow2 *q)
{
    GArray *freed = q->freed;
    int result = 0;
    q->freed = g_array_new(FALSE, FALSE, sizeof(Qcow2Freed));
    for (guint i = 0; i < freed->len; i++) {
        Qcow2Freed *f = &g_array_index(freed, Qcow2Freed, i);
        int one = qcow2_ref_add(q, f->offset, f->size, -1);
        result = result ? result : one;
    }
    g_array_unref(freed);
    return result;
}

int qcow2_commit_refs(Qcow2 *q)
{
    Qcow2Range *dirty = &q->reftable_dirty;
    int result = table_cache_write(q->ref_cache);
    if (result || dirty->from == dirty->to)
        return result;
    result = host_file_sync(q->map.file);
    if (!result)
        result = qcow2_write_table(q, q->reftable_offset, q->reftable, dirty->from, dirty->to);
    if (!result)
        *dirty = (Qcow2Range){0};
    return result;
}
