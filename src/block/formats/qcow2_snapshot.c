/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * qcow2: snapshots inside the image.
 *
 * A snapshot is a copy of the L1 table; what it leads to is counted once more. Each change is:
 * counts up, new tables, flush, one write of the header (at most 24 bytes of its first sector),
 * flush, counts down. A crash leaves counts that are too high, never too low.
 */
#include <errno.h>

#include "block/formats/qcow2.h"

#define MAX_TABLE_BYTES MIB(16)
#define ENTRY_HEAD      40

static void snapshot_free(gpointer data)
{
    Qcow2Snapshot *s = data;
    g_free(s->info.id);
    g_free(s->info.name);
    if (s->unknown)
        g_bytes_unref(s->unknown);
    g_free(s);
}

/* ---- the table ------------------------------------------------------------------------------- */

/*
 * | l1_offset 8 | l1_size 4 | id_size 2 | name_size 2 | date 4+4 | vm_clock 8 | vm_state 4 |
 * | extra_size 4 | extra: vm_state 8, disk_size 8, icount 8, … | id | name | padding to 8 |
 */
static Qcow2Snapshot *parse_entry(const uint8_t *e, uint32_t extra, uint16_t id, uint16_t name)
{
    const uint8_t *x = e + ENTRY_HEAD;
    Qcow2Snapshot *s = g_new0(Qcow2Snapshot, 1);
    s->l1_offset = load_be64(e);
    s->l1_size = load_be32(e + 8);
    s->info.date_s = load_be32(e + 16);
    s->info.date_ns = load_be32(e + 20);
    s->info.vm_clock_ns = load_be64(e + 24);
    s->info.vm_state_size = extra >= 8 ? load_be64(x) : load_be32(e + 32);
    s->info.disk_size = extra >= 16 ? load_be64(x + 8) : UINT64_MAX;
    s->info.icount = extra >= 24 ? load_be64(x + 16) : UINT64_MAX;
    if (extra > 24)
        s->unknown = g_bytes_new(x + 24, extra - 24);
    s->info.id = g_strndup((const char *)x + extra, id);
    s->info.name = g_strndup((const char *)x + extra + id, name);
    return s;
}

/* One entry at `at`; false at a contradiction. */
static int read_entry(Qcow2 *q, uint64_t at, GPtrArray *list, uint64_t *ret_size)
{
    uint8_t head[ENTRY_HEAD];
    int result = host_file_read(q->map.file, at, head, sizeof(head));
    if (result)
        return result;
    uint32_t extra = load_be32(head + 36);
    uint16_t id = load_be16(head + 12), name = load_be16(head + 14);
    if (extra > 1024 || load_be32(head + 8) > MIB(32) / 8 || load_be64(head) % q->cluster_size)
        return -EINVAL;
    size_t size = ENTRY_HEAD + (size_t)extra + id + name;
    g_autofree uint8_t *entry = g_malloc(size);
    result = host_file_read(q->map.file, at, entry, size);
    if (!result)
        g_ptr_array_add(list, parse_entry(entry, extra, id, name));
    *ret_size = align_up(size, 8);
    return result;
}

GPtrArray *qcow2_read_snapshots(Qcow2 *q, uint64_t *ret_bytes, GError **error)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func(snapshot_free);
    uint64_t at = q->snapshot_offset, size;
    for (uint32_t i = 0; i < q->snapshot_count; i++, at += size) {
        int result = read_entry(q, at, list, &size);
        if (result || at - q->snapshot_offset > MAX_TABLE_BYTES) {
            format_fail(error, q->map.file->path, "its snapshot table is damaged");
            return NULL;
        }
    }
    *ret_bytes = at - q->snapshot_offset;
    return g_steal_pointer(&list);
}

static void append_entry(GByteArray *table, const Qcow2Snapshot *s)
{
    static const uint8_t padding[8];
    gsize unknown_size = 0;
    const void *unknown = s->unknown ? g_bytes_get_data(s->unknown, &unknown_size) : NULL;
    size_t id = strlen(s->info.id), name = strlen(s->info.name);
    uint8_t e[ENTRY_HEAD + 24] = {0};
    store_be64(e, s->l1_offset);
    store_be32(e + 8, s->l1_size);
    store_be16(e + 12, (uint16_t)id);
    store_be16(e + 14, (uint16_t)name);
    store_be32(e + 16, (uint32_t)s->info.date_s);
    store_be32(e + 20, s->info.date_ns);
    store_be64(e + 24, s->info.vm_clock_ns);
    store_be32(e + 32, (uint32_t)s->info.vm_state_size);
    store_be32(e + 36, (uint32_t)(24 + unknown_size));
    store_be64(e + 40, s->info.vm_state_size);
    store_be64(e + 48, s->info.disk_size);
    store_be64(e + 56, s->info.icount);
    g_byte_array_append(table, e, sizeof(e));
    if (unknown_size)
        g_byte_array_append(table, unknown, (guint)unknown_size);
    g_byte_array_append(table, (const uint8_t *)s->info.id, (guint)id);
    g_byte_array_append(table, (const uint8_t *)s->info.name, (guint)name);
    g_byte_array_append(table, padding, (guint)(align_up(table->len, 8) - table->len));
}

/* A table with these snapshots becomes the image's. `old_bytes` is the size of the old one. */
static int switch_table(Qcow2 *q, GPtrArray *list, uint64_t old_bytes)
{
    g_autoptr(GByteArray) table = g_byte_array_new();
    uint64_t offset = 0, old = q->snapshot_offset;
    uint8_t fields[12];
    int result = 0;
    for (guint i = 0; i < list->len; i++)
        append_entry(table, list->pdata[i]);
    if (table->len)
        result = qcow2_alloc_all(q, qcow2_clusters(q, table->len), &offset);
    if (!result && table->len)
        result = host_file_write(q->map.file, offset, table->data, table->len);
    if (!result)
        result = qcow2_commit_all(q);
    if (result)
        return result;
    store_be32(fields, list->len);
    store_be64(fields + 4, offset);
    result = qcow2_write_header_field(q, QCOW2_H_SNAPSHOT_COUNT, fields, sizeof(fields));
    if (!result)
        result = host_file_sync(q->map.file);
    if (result)
        return result;
    q->snapshot_count = list->len;
    q->snapshot_offset = offset;
    return old_bytes ? qcow2_ref_add(q, old, old_bytes, -1) : 0;
}

/* ---- what an L1 table leads to --------------------------------------------------------------- */

int qcow2_read_l1(Qcow2 *q, uint64_t offset, uint32_t size, uint64_t **ret_l1)
{
    *ret_l1 = g_new0(uint64_t, MAX(size, 1));
    int result = host_file_read(q->map.file, offset, *ret_l1, (size_t)size * 8);
    for (uint32_t i = 0; i < size; i++)
        (*ret_l1)[i] = GUINT64_FROM_BE((*ret_l1)[i]);
    return result;
}

static int count_entry(Qcow2 *q, uint64_t word, int delta)
{
    if (word & QCOW2_COMPRESSED) {
        uint32_t size;
        uint64_t offset = qcow2_packed_offset(q, word, &size);
        return qcow2_ref_add(q, offset, size, delta);
    }
    uint64_t offset = word & QCOW2_OFFSET_MASK;
    return offset && !q->external_data ? qcow2_ref_add(q, offset, q->cluster_size, delta) : 0;
}

static int count_table(Qcow2 *q, uint64_t offset, int delta)
{
    /* A copy: counting goes through the caches. */
    g_autofree uint8_t *table = g_malloc(q->cluster_size);
    uint8_t *cached;
    int result = table_cache_get(q->l2_cache, offset, false, &cached);
    if (result)
        return result;
    memcpy(table, cached, q->cluster_size);
    for (uint64_t i = 0; i < UINT64_C(1) << q->l2_bits && !result; i++)
        result = count_entry(q, load_be64(table + i * q->l2_entry_size), delta);
    return result ? result : qcow2_ref_add(q, offset, q->cluster_size, delta);
}

static int count_tree(Qcow2 *q, const uint64_t *l1, uint32_t size, int delta)
{
    int result = 0;
    for (uint32_t i = 0; i < size && !result; i++) {
        uint64_t offset = l1[i] & QCOW2_OFFSET_MASK;
        if (offset)
            result = count_table(q, offset, delta);
    }
    return result;
}

/* ---- the operations -------------------------------------------------------------------------- */

static bool fail_snapshot(Qcow2 *q, const char *doing, int result, GError **error)
{
    if (result == -ERANGE)
        return format_fail(error, q->map.file->path,
                           "its refcounts have too few bits for another "
                           "snapshot; convert it with -o refcount_bits=16");
    return format_fail_io(error, q->map.file->path, doing, result);
}

static Qcow2Snapshot *find_snapshot(Qcow2 *q, GPtrArray *list, const char *tag, GError **error)
{
    for (guint i = 0; i < list->len; i++) {
        Qcow2Snapshot *s = list->pdata[i];
        if (!strcmp(s->info.name, tag))
            return s;
    }
    for (guint i = 0; i < list->len; i++) {
        Qcow2Snapshot *s = list->pdata[i];
        if (!strcmp(s->info.id, tag))
            return s;
    }
    format_fail(error, q->map.file->path,
                "it has no snapshot '%s'; 'ospite disk snapshot -l' "
                "lists them",
                tag);
    return NULL;
}

static char *new_id(GPtrArray *list)
{
    guint64 last = 0;
    for (guint i = 0; i < list->len; i++)
        last = MAX(last, g_ascii_strtoull(((Qcow2Snapshot *)list->pdata[i])->info.id, NULL, 10));
    return g_strdup_printf("%" G_GUINT64_FORMAT, last + 1);
}

static GPtrArray *qcow2_list(ImageMap *map)
{
    uint64_t bytes;
    g_autoptr(GPtrArray) list = qcow2_read_snapshots((Qcow2 *)map, &bytes, NULL);
    GPtrArray *infos = g_ptr_array_new_with_free_func((GDestroyNotify)snapshot_info_free);
    for (guint i = 0; list && i < list->len; i++) {
        Qcow2Snapshot *s = list->pdata[i];
        SnapshotInfo *info = g_memdup2(&s->info, sizeof(s->info));
        info->id = g_strdup(s->info.id);
        info->name = g_strdup(s->info.name);
        if (info->disk_size == UINT64_MAX)
            info->disk_size = map->size;
        g_ptr_array_add(infos, info);
    }
    return infos;
}

/* The snapshot's own copy of the active L1 table; a disk without bytes has none. */
static int copy_l1(Qcow2 *q, Qcow2Snapshot *s)
{
    uint64_t bytes = (uint64_t)q->l1_size * 8;
    s->l1_size = q->l1_size;
    if (!bytes)
        return 0;
    int result = qcow2_alloc_all(q, qcow2_clusters(q, bytes), &s->l1_offset);
    return result ? result : qcow2_write_table(q, s->l1_offset, q->l1, 0, q->l1_size);
}

static bool qcow2_create_snapshot(ImageMap *map, const char *name, GError **error)
{
    Qcow2 *q = (Qcow2 *)map;
    uint64_t old_bytes, wrong;
    g_autoptr(GPtrArray) list = qcow2_read_snapshots(q, &old_bytes, error);
    if (!list)
        return false;
    if (q->external_data)
        return format_fail(error, map->file->path, "images with a data file have no snapshots");
    if (strlen(name) > UINT16_MAX || list->len >= 65535)
        return format_fail(error, map->file->path, "it can't hold that snapshot");
    Qcow2Snapshot *s = g_new0(Qcow2Snapshot, 1);
    gint64 now = g_get_real_time();
    s->info = (SnapshotInfo){.id = new_id(list),
                             .name = g_strdup(name),
                             .disk_size = map->size,
                             .date_s = now / G_USEC_PER_SEC,
                             .date_ns = (uint32_t)(now % G_USEC_PER_SEC * 1000),
                             .icount = 0};
    g_ptr_array_add(list, s);
    int result = qcow2_commit_all(q);
    if (!result)
        result = count_tree(q, q->l1, q->l1_size, 1);
    if (result)
        return fail_snapshot(q, "take a snapshot of", result, error);
    result = qcow2_refresh_copied(q, true, &wrong);
    if (!result)
        result = copy_l1(q, s);
    if (!result)
        result = switch_table(q, list, old_bytes);
    if (!result)
        result = qcow2_commit_all(q);
    return result ? fail_snapshot(q, "take a snapshot of", result, error) : true;
}

static void clear_copied(uint64_t *l1, uint32_t size)
{
    for (uint32_t i = 0; i < size; i++)
        l1[i] &= ~QCOW2_COPIED;
}

/* The snapshot's tree becomes the active one; the old active tree is given up. */
static int switch_to(Qcow2 *q, const Qcow2Snapshot *s)
{
    g_autofree uint64_t *old = g_memdup2(q->l1, (size_t)MAX(q->l1_size, 1) * 8);
    uint32_t old_size = q->l1_size;
    uint64_t *l1, wrong;
    uint64_t size = s->info.disk_size == UINT64_MAX ? q->map.size : s->info.disk_size;
    uint64_t span = q->cluster_size << q->l2_bits;
    if (size > FORMAT_SIZE_MAX || (size + span - 1) / span > s->l1_size)
        return -EINVAL;
    int result = qcow2_read_l1(q, s->l1_offset, s->l1_size, &l1);
    clear_copied(l1, s->l1_size);
    if (!result)
        result = count_tree(q, l1, s->l1_size, 1);
    if (!result)
        result = qcow2_commit_all(q);
    if (!result)
        result = qcow2_switch_l1(q, l1, s->l1_size, align_up(size, 512));
    if (q->l1 != l1)
        g_free(l1);
    if (!result)
        result = count_tree(q, old, old_size, -1);
    return result ? result : qcow2_refresh_copied(q, true, &wrong);
}

static bool qcow2_apply_snapshot(ImageMap *map, const char *tag, GError **error)
{
    Qcow2 *q = (Qcow2 *)map;
    uint64_t bytes;
    g_autoptr(GPtrArray) list = qcow2_read_snapshots(q, &bytes, error);
    const Qcow2Snapshot *s = list ? find_snapshot(q, list, tag, error) : NULL;
    if (!s)
        return false;
    int result = qcow2_begin_write(map);
    if (!result)
        result = qcow2_commit_all(q);
    if (!result)
        result = switch_to(q, s);
    if (!result && !qcow2_bitmaps_resize(q, map->size))
        qcow2_note_change(map, 0, map->size);
    if (!result)
        result = qcow2_commit_all(q);
    return result ? fail_snapshot(q, "apply a snapshot of", result, error) : true;
}

static bool qcow2_delete_snapshot(ImageMap *map, const char *tag, GError **error)
{
    Qcow2 *q = (Qcow2 *)map;
    uint64_t bytes, offset, wrong;
    g_autoptr(GPtrArray) list = qcow2_read_snapshots(q, &bytes, error);
    Qcow2Snapshot *s = list ? find_snapshot(q, list, tag, error) : NULL;
    if (!s)
        return false;
    g_autofree uint64_t *l1 = NULL;
    uint32_t size = s->l1_size;
    offset = s->l1_offset;
    int result = qcow2_commit_all(q);
    if (!result)
        result = qcow2_read_l1(q, offset, size, &l1);
    g_ptr_array_remove(list, s);
    if (!result)
        result = switch_table(q, list, bytes);
    if (!result)
        result = count_tree(q, l1, size, -1);
    if (!result)
        result = size ? qcow2_ref_add(q, offset, (uint64_t)size * 8, -1) : 0;
    if (!result)
        result = qcow2_refresh_copied(q, true, &wrong);
    if (!result)
        result = qcow2_commit_all(q);
    return result ? fail_snapshot(q, "delete a snapshot of", result, error) : true;
}

static bool qcow2_load_snapshot(ImageMap *map, const char *tag, GError **error)
{
    Qcow2 *q = (Qcow2 *)map;
    uint64_t bytes, span = q->cluster_size << q->l2_bits;
    g_autofree uint64_t *l1 = NULL;
    g_autoptr(GPtrArray) list = qcow2_read_snapshots(q, &bytes, error);
    const Qcow2Snapshot *s = list ? find_snapshot(q, list, tag, error) : NULL;
    if (!s)
        return false;
    uint64_t size = s->info.disk_size == UINT64_MAX ? map->size : s->info.disk_size;
    if (size > FORMAT_SIZE_MAX || (size + span - 1) / span > s->l1_size)
        return fail_snapshot(q, "open a snapshot of", -EINVAL, error);
    int result = qcow2_read_l1(q, s->l1_offset, s->l1_size, &l1);
    if (result)
        return fail_snapshot(q, "open a snapshot of", result, error);
    g_free(q->l1);
    q->l1 = g_steal_pointer(&l1);
    q->l1_size = s->l1_size;
    map->size = align_up(size, 512);
    return true;
}

const FormatSnapshots qcow2_snapshots = {
    .list = qcow2_list,
    .create = qcow2_create_snapshot,
    .apply = qcow2_apply_snapshot,
    .remove = qcow2_delete_snapshot,
    .load = qcow2_load_snapshot,
};
