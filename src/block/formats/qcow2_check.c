/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * qcow2: checking and repairing.
 *
 * The uses of every cluster are counted by walking all tables from the header, and compared with
 * the counts in the file. A count that is too high is a leak; one that is too low, an entry that
 * leads nowhere, a wrong COPIED flag or a cluster with two purposes is corruption.
 */
#include <errno.h>

#include "block/formats/qcow2.h"

#define MAX_CHECK_BYTES MIB(48)

enum { PHASE_USES, PHASE_COUNTS, PHASE_COPIED, PHASES };

/* What a cluster is for; two bits. Only data and L2 tables may be used by several. */
enum { FOR_NOTHING, FOR_DATA, FOR_L2, FOR_ONE };

typedef struct Check {
    Qcow2 *q;
    CheckResult *result;
    uint16_t *uses;    /* saturating */
    uint8_t *purposes; /* of four clusters each */
    uint64_t clusters;
    uint64_t next_place; /* behind the last one in the table: for fragmentation */
    bool active;
} Check;

static void complain(Check *c, const char *what, uint64_t where)
{
    c->result->corruptions++;
    check_result_add(c->result, "ERROR %s at 0x%" G_GINT64_MODIFIER "x", what, where);
}

static void use_cluster(Check *c, uint64_t cluster, uint8_t purpose)
{
    unsigned shift = cluster % 4 * 2;
    uint8_t before = c->purposes[cluster / 4] >> shift & 3;
    if (before && (before != purpose || purpose == FOR_ONE))
        complain(c, "cluster with two purposes", cluster << c->q->cluster_bits);
    c->purposes[cluster / 4] |= (uint8_t)(purpose << shift);
    c->uses[cluster] += c->uses[cluster] < UINT16_MAX;
}

/* Counts the clusters of a range; false when it leaves the file. */
static bool use(Check *c, uint64_t offset, uint64_t size, uint8_t purpose, const char *what)
{
    const Qcow2 *q = c->q;
    if (!size)
        return true;
    uint64_t first = offset >> q->cluster_bits, end = qcow2_clusters(q, offset + size);
    if (end > c->clusters || end < first) {
        complain(c, what, offset);
        return false;
    }
    for (uint64_t i = first; i < end; i++)
        use_cluster(c, i, purpose);
    c->result->end_offset = MAX(c->result->end_offset, end << q->cluster_bits);
    return true;
}

static void use_entry(Check *c, uint64_t word)
{
    Qcow2 *q = c->q;
    uint64_t offset = word & QCOW2_OFFSET_MASK;
    if (word & QCOW2_COMPRESSED) {
        uint32_t size;
        offset = qcow2_packed_offset(q, word, &size);
        use(c, offset, size, FOR_DATA, "compressed cluster outside of the file");
        c->result->compressed_units += c->active;
        c->result->allocated_units += c->active;
        c->result->fragmented_units += c->active;
        return;
    }
    bool is_there = offset || (q->external_data && (word & QCOW2_COPIED));
    if (!is_there)
        return;
    if (q->external_data)
        ; /* counts are for this file's clusters */
    else if (offset % q->cluster_size)
        complain(c, "cluster is not aligned", offset);
    else
        use(c, offset, q->cluster_size, FOR_DATA, "cluster outside of the file");
    if (!c->active)
        return;
    c->result->allocated_units++;
    c->result->fragmented_units += c->next_place && offset != c->next_place;
    c->next_place = offset + q->cluster_size;
}

static int use_tree(Check *c, const uint64_t *l1, uint32_t size)
{
    Qcow2 *q = c->q;
    g_autofree uint8_t *table = g_malloc(q->cluster_size);
    for (uint32_t i = 0; i < size; i++) {
        uint64_t offset = l1[i] & QCOW2_OFFSET_MASK;
        if (c->active)
            image_map_tell_progress(&q->map, PHASE_USES, PHASES, i, size);
        if (!offset)
            continue;
        if (offset % q->cluster_size) {
            complain(c, "L2 table is not aligned", offset);
            continue;
        }
        if (!use(c, offset, q->cluster_size, FOR_L2, "L2 table outside of the file"))
            continue;
        c->next_place = 0;
        int result = host_file_read(q->map.file, offset, table, q->cluster_size);
        if (result)
            return result;
        for (uint64_t k = 0; k < UINT64_C(1) << q->l2_bits; k++)
            use_entry(c, load_be64(table + k * q->l2_entry_size));
    }
    return 0;
}

static int use_snapshots(Check *c)
{
    Qcow2 *q = c->q;
    uint64_t bytes;
    g_autoptr(GPtrArray) list = qcow2_read_snapshots(q, &bytes, NULL);
    if (!list) {
        complain(c, "snapshot table is damaged", q->snapshot_offset);
        return 0;
    }
    use(c, q->snapshot_offset, bytes, FOR_ONE, "snapshot table outside of the file");
    for (guint i = 0; i < list->len; i++) {
        const Qcow2Snapshot *s = list->pdata[i];
        g_autofree uint64_t *l1 = NULL;
        if (!use(c, s->l1_offset, (uint64_t)s->l1_size * 8, FOR_ONE,
                 "L1 table outside of the file"))
            continue;
        int result = qcow2_read_l1(q, s->l1_offset, s->l1_size, &l1);
        if (!result)
            result = use_tree(c, l1, s->l1_size);
        if (result)
            return result;
    }
    return 0;
}

static void use_reftable(Check *c)
{
    const Qcow2 *q = c->q;
    use(c, q->reftable_offset, (uint64_t)q->reftable_size * 8, FOR_ONE,
        "refcount table outside of the file");
    for (uint32_t i = 0; i < q->reftable_size; i++) {
        uint64_t offset = q->reftable[i] & QCOW2_OFFSET_MASK;
        if (offset % q->cluster_size)
            complain(c, "refcount block is not aligned", offset);
        else if (offset)
            use(c, offset, q->cluster_size, FOR_ONE, "refcount block outside of the file");
    }
}

/* The bitmap directory (24 bytes an entry and more) and what it names. */
static int use_bitmaps(Check *c)
{
    Qcow2 *q = c->q;
    const uint8_t *e = NULL;
    gsize size = 0;
    for (guint i = 0; i < q->extensions->len; i++) {
        Qcow2Extension *x = &g_array_index(q->extensions, Qcow2Extension, i);
        if (x->type == QCOW2_EXT_BITMAPS)
            e = g_bytes_get_data(x->data, &size);
    }
    if (!e || size < 24 || !(q->autoclear & QCOW2_BITMAPS))
        return 0;
    uint64_t bytes = load_be64(e + 8), offset = load_be64(e + 16);
    if (bytes > MIB(4) || !use(c, offset, bytes, FOR_ONE, "bitmap directory outside of the file"))
        return 0;
    g_autofree uint8_t *directory = g_malloc(bytes + 24);
    int result = host_file_read(q->map.file, offset, directory, bytes);
    for (uint64_t at = 0; !result && at + 24 <= bytes;) {
        const uint8_t *d = directory + at;
        uint64_t table = load_be64(d), entries = load_be32(d + 8);
        if (!use(c, table, entries * 8, FOR_ONE, "bitmap table outside of the file"))
            break;
        g_autofree uint64_t *words = NULL;
        result = entries <= MIB(1) ? qcow2_read_l1(q, table, (uint32_t)entries, &words) : -EFBIG;
        for (uint64_t i = 0; !result && i < entries; i++) {
            if (words[i] & QCOW2_OFFSET_MASK)
                use(c, words[i] & QCOW2_OFFSET_MASK, q->cluster_size, FOR_ONE,
                    "bitmap outside of the file");
        }
        at += align_up(24 + (uint64_t)load_be16(d + 18) + load_be32(d + 20), 8);
    }
    return result;
}

static int count_uses(Check *c)
{
    Qcow2 *q = c->q;
    use(c, 0, q->cluster_size, FOR_ONE, "header outside of the file");
    use(c, q->l1_offset, (uint64_t)q->l1_size * 8, FOR_ONE, "L1 table outside of the file");
    use(c, q->luks_offset, q->luks_size, FOR_ONE, "encryption header outside of the file");
    use_reftable(c);
    c->active = true;
    int result = use_tree(c, q->l1, q->l1_size);
    c->active = false;
    if (!result)
        result = use_snapshots(c);
    return result ? result : use_bitmaps(c);
}

/* ---- comparing ------------------------------------------------------------------------------- */

static void note(Check *c, uint64_t cluster, uint64_t count)
{
    bool leak = count > c->uses[cluster];
    check_result_add(c->result,
                     "%s cluster %" G_GUINT64_FORMAT " refcount=%" G_GUINT64_FORMAT " reference=%u",
                     leak ? "Leaked" : "ERROR", cluster, count, c->uses[cluster]);
}

/* A count needs its block, and a missing one would be made in the first cluster that it counts. */
static bool has_block(const Check *c, uint64_t cluster)
{
    uint64_t i = cluster >> c->q->ref_block_bits, first = i << c->q->ref_block_bits;
    bool is_there = i < c->q->reftable_size && (c->q->reftable[i] & QCOW2_OFFSET_MASK);
    return is_there || (i && first < c->clusters && !c->uses[first]);
}

static int compare_count(Check *c, uint64_t cluster, bool repair)
{
    uint64_t count;
    int result = qcow2_ref_get(c->q, cluster, &count);
    if (result == -EIO) {
        c->result->errors++;
        return 0;
    }
    if (result || count == c->uses[cluster] ||
        (c->uses[cluster] == UINT16_MAX && count > UINT16_MAX))
        return result;
    note(c, cluster, count);
    bool leak = count > c->uses[cluster];
    if (repair && !has_block(c, cluster)) {
        c->result->errors++;
        return 0;
    }
    if (!repair) {
        *(leak ? &c->result->leaks : &c->result->corruptions) += 1;
        return 0;
    }
    result = qcow2_ref_set(c->q, cluster, c->uses[cluster]);
    *(leak ? &c->result->leaks_fixed : &c->result->corruptions_fixed) += 1;
    return result;
}

static int compare(Check *c, bool repair)
{
    int result = 0;
    for (uint64_t i = 0; i < c->clusters && !result; i++) {
        if (i % 4096 == 0)
            image_map_tell_progress(&c->q->map, PHASE_COUNTS, PHASES, i, c->clusters);
        result = compare_count(c, i, repair);
    }
    return result;
}

static bool must_be_copied(Qcow2 *q, uint64_t word, int *ret_result)
{
    uint64_t offset = word & QCOW2_OFFSET_MASK, count;
    if (!offset || (word & QCOW2_COMPRESSED))
        return false;
    if (q->external_data)
        return true;
    int result = qcow2_ref_get(q, offset >> q->cluster_bits, &count);
    if (result)
        *ret_result = result;
    return count == 1;
}

static int refresh_table(Qcow2 *q, uint64_t offset, bool repair, uint64_t *wrong)
{
    uint8_t *table;
    int result = table_cache_get(q->l2_cache, offset, false, &table);
    for (uint64_t i = 0; !result && i < UINT64_C(1) << q->l2_bits; i++) {
        uint8_t *at = table + i * q->l2_entry_size;
        uint64_t word = load_be64(at);
        if ((word & QCOW2_COMPRESSED) || !(word & QCOW2_OFFSET_MASK))
            continue;
        bool copied = must_be_copied(q, word, &result);
        if (copied == ((word & QCOW2_COPIED) != 0) || result)
            continue;
        ++*wrong;
        if (!repair)
            continue;
        store_be64(at, (word & ~QCOW2_COPIED) | (copied ? QCOW2_COPIED : 0));
        table_cache_mark(q->l2_cache, table);
        q->map.dirty = true;
    }
    return result;
}

int qcow2_refresh_copied(Qcow2 *q, bool repair, uint64_t *ret_wrong)
{
    int result = 0;
    *ret_wrong = 0;
    for (uint32_t i = 0; i < q->l1_size && !result; i++) {
        uint64_t offset = q->l1[i] & QCOW2_OFFSET_MASK;
        image_map_tell_progress(&q->map, PHASE_COPIED, PHASES, i, q->l1_size);
        if (!offset || offset % q->cluster_size)
            continue;
        uint64_t count;
        result = qcow2_ref_get(q, offset >> q->cluster_bits, &count);
        bool copied = count == 1;
        if (!result && copied != ((q->l1[i] & QCOW2_COPIED) != 0)) {
            ++*ret_wrong;
            if (repair) {
                q->l1[i] = (q->l1[i] & ~QCOW2_COPIED) | (copied ? QCOW2_COPIED : 0);
                qcow2_range_add(&q->l1_dirty, i, i + 1);
                q->map.dirty = true;
            }
        }
        if (!result)
            result = refresh_table(q, offset, repair, ret_wrong);
    }
    return result;
}

static int clear_marks(Qcow2 *q, const CheckResult *r)
{
    uint64_t left = q->incompatible & ~(QCOW2_DIRTY | QCOW2_CORRUPT);
    if (r->corruptions || r->errors || left == q->incompatible)
        return 0;
    q->map.needs_repair = false;
    return qcow2_set_incompatible(q, left);
}

static int run(Check *c, bool repair)
{
    uint64_t wrong = 0;
    int result = count_uses(c);
    if (!result)
        result = compare(c, repair && !c->result->corruptions);
    if (!result)
        result = qcow2_refresh_copied(c->q, repair, &wrong);
    if (result == -EIO) {
        c->result->errors++;
        result = 0;
    }
    *(repair ? &c->result->corruptions_fixed : &c->result->corruptions) += wrong;
    if (!result && repair)
        result = qcow2_commit_all(c->q);
    return result || !repair ? result : clear_marks(c->q, c->result);
}

bool qcow2_check(ImageMap *map, bool repair, CheckResult *result, GError **error)
{
    Qcow2 *q = (Qcow2 *)map;
    Check c = {.q = q, .result = result};
    int code = map->dirty ? qcow2_commit_all(q) : 0;
    c.clusters = qcow2_clusters(q, map->file->size);
    if (c.clusters * sizeof(*c.uses) > MAX_CHECK_BYTES)
        return format_fail(error, map->file->path, "it has too many clusters to check");
    g_autofree uint16_t *uses = g_new0(uint16_t, MAX(c.clusters, 1));
    g_autofree uint8_t *purposes = g_malloc0(c.clusters / 4 + 1);
    c.uses = uses;
    c.purposes = purposes;
    result->total_units = qcow2_clusters(q, map->size);
    if (!code)
        code = run(&c, repair);
    return code ? format_fail_io(error, map->file->path, "check", code) : true;
}
