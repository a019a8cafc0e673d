/* SPDX-License-Identifier: GPL-3.0-or-later */
/* VMDK: sparse extents, their directories, tables and grains. */
#include <errno.h>

#include "block/formats/vmdk.h"

#define TEXT_SECTORS  20
#define GRAIN_SECTORS (VMDK_GRAIN / 512)
#define TABLE_ENTRIES 512
#define PADDING_MAX   KIB(128)

static int commit_extent(void *obj)
{
    return vmdk_extent_commit(obj);
}

void vmdk_extent_free(gpointer extent)
{
    VmdkExtent *e = extent;
    flat_table_clear(&e->directory);
    flat_table_clear(&e->redundant);
    table_cache_free(e->tables);
    table_cache_free(e->redundant_tables);
    if (e->own_file)
        host_file_close(e->file);
    g_free(e->kind);
    g_free(e->name);
    g_free(e);
}

/* ---- opening --------------------------------------------------------------------------------- */

typedef struct SparseHeader {
    uint64_t capacity, grain, entries, directory, redundant, directory_size;
    uint32_t version, flags, compression;
} SparseHeader;

/* A stream whose header leaves it to its footer, at its end, where the directory is. */
static bool is_open_ended(const uint8_t *h)
{
    return load_le32(h) == VMDK_MAGIC && load_le64(h + VMDK_H_DIRECTORY) == UINT64_MAX;
}

/* | … | marker of the footer | footer | marker of the end | perhaps what somebody padded it with |
 */
static int read_footer(HostFile *file, uint8_t *h)
{
    uint64_t end = align_down(file->size, 512);
    for (uint64_t at = end; at >= 2048 && end - at <= PADDING_MAX; at -= 512) {
        int result = host_file_read(file, at - 1024, h, 512);
        if (result)
            return result;
        if (load_le32(h) == VMDK_MAGIC && !is_open_ended(h))
            return 0;
    }
    return -EINVAL;
}

static int read_header(VmdkExtent *e, uint8_t *h)
{
    int result = host_file_read(e->file, 0, h, 512);
    e->at_end = !result && is_open_ended(h);
    return e->at_end ? read_footer(e->file, h) : result;
}

static void parse_new(SparseHeader *s, const uint8_t *h)
{
    *s = (SparseHeader){.capacity = load_le64(h + VMDK_H_CAPACITY),
                        .grain = load_le64(h + VMDK_H_GRAIN),
                        .entries = load_le32(h + VMDK_H_ENTRIES),
                        .directory = load_le64(h + VMDK_H_DIRECTORY),
                        .redundant = load_le64(h + VMDK_H_REDUNDANT),
                        .version = load_le32(h + VMDK_H_VERSION),
                        .flags = load_le32(h + VMDK_H_FLAGS),
                        .compression = load_le16(h + VMDK_H_COMPRESSION)};
    if (!(s->flags & VMDK_F_REDUNDANT))
        s->redundant = 0;
    /* Some writers have one directory only, and call it the redundant one. */
    if (!s->directory) {
        s->directory = s->redundant;
        s->redundant = 0;
    }
}

/* ESX: | COWD | version | flags | sectors | grain | directory | directory size | */
static void parse_old(SparseHeader *s, const uint8_t *h)
{
    *s = (SparseHeader){.capacity = load_le32(h + 12),
                        .grain = load_le32(h + 16),
                        .entries = 4096,
                        .directory = load_le32(h + 20),
                        .version = load_le32(h + 4)};
}

static bool check_header(VmdkExtent *e, SparseHeader *s, GError **error)
{
    uint64_t file = e->file->size / 512 + 1;
    const FormatLimit limits[] = {
        {"version", s->version, 1, 3},
        {"capacity", s->capacity, 0, VMDK_MAX_CAPACITY},
        {"grain size", s->grain, 1, 32768},
        {"grain table size", s->entries, 1, 4096},
        {"compression", s->compression, 0, 1},
        {"grain directory", s->directory, 1, file},
        {"redundant grain directory", s->redundant, 0, file},
    };
    if (!format_check_limits(e->file->path, limits, G_N_ELEMENTS(limits), error))
        return false;
    if (!is_power_of_two(s->grain))
        return format_fail(error, e->file->path, "its grain size is no power of two");
    uint64_t span = s->grain * s->entries;
    s->directory_size = (s->capacity + span - 1) / span;
    return s->directory_size * 4 <= VMDK_MAX_DIRECTORY ||
           format_fail(error, e->file->path, "its grain directory is too large");
}

bool vmdk_extent_open(VmdkExtent *e, GError **error)
{
    uint8_t h[512];
    SparseHeader s;
    int result = read_header(e, h);
    if (result)
        return format_fail_io(error, e->file->path, "read the header of", result);
    if (load_le64(h) == VMDK_SE_MAGIC)
        return vmdk_se_open(e, h, error);
    e->is_old = load_le32(h) == VMDK_COWD;
    if (!e->is_old && load_le32(h) != VMDK_MAGIC)
        return format_fail(error, e->file->path, "it is no sparse extent");
    (e->is_old ? parse_old : parse_new)(&s, h);
    if (!check_header(e, &s, error))
        return false;
    e->grain = (uint32_t)(s.grain * 512);
    e->entries = (uint32_t)s.entries;
    e->compressed = s.flags & VMDK_F_COMPRESSED;
    e->has_zero = s.flags & VMDK_F_ZERO;
    if (!e->size)
        e->size = s.capacity * 512;
    if (e->size > s.capacity * 512)
        return format_fail(error, e->file->path, "it is smaller than its descriptor says");
    e->end = align_up(e->file->size, 512);
    result = flat_table_load(&e->directory, e->file, s.directory * 512, s.directory_size * 4);
    if (!result && s.redundant)
        result = flat_table_load(&e->redundant, e->file, s.redundant * 512, s.directory_size * 4);
    size_t table = e->entries * (size_t)4;
    e->tables = table_cache_new(e->file, table, MIB(4), commit_extent, e);
    e->redundant_tables = table_cache_new(e->file, table, MIB(4), commit_extent, e);
    return result ? format_fail_io(error, e->file->path, "read", result) : true;
}

/* ---- lookup ---------------------------------------------------------------------------------- */

/* `*ret_table` is NULL where there is none. */
static int get_table(VmdkExtent *e, uint64_t grain, bool redundant, bool cached,
                     uint8_t **ret_table)
{
    const FlatTable *directory = redundant ? &e->redundant : &e->directory;
    uint64_t sector = load_le32(directory->data + grain / e->entries * 4);
    *ret_table = NULL;
    if (!sector)
        return 0;
    return table_cache_get(redundant ? e->redundant_tables : e->tables, sector * 512, cached,
                           ret_table);
}

static ExtentKind kind_of(const VmdkExtent *e, uint32_t sector)
{
    if (!sector)
        return EXTENT_ABSENT;
    if (sector == 1 && e->has_zero)
        return EXTENT_ZERO;
    return e->compressed ? EXTENT_COMPRESSED : EXTENT_DATA;
}

/* | lba 8 | size 4 | data | */
static int find_packed(VmdkExtent *e, uint64_t place, bool cached, Extent *extent)
{
    uint8_t marker[12];
    if (cached)
        return -EAGAIN;
    int result = host_file_read(e->file, place, marker, sizeof(marker));
    uint32_t size = load_le32(marker + 8);
    if (!result && (!size || size > 2 * (uint64_t)e->grain - 12))
        return -EIO;
    extent->stored_size = size + 12;
    extent->host_offset = place;
    return result;
}

static int lookup_sparse(VmdkExtent *e, uint64_t offset, uint64_t length, bool cached,
                         Extent *extent)
{
    uint64_t grain = offset / e->grain, inside = offset % e->grain;
    uint8_t *table;
    int result = get_table(e, grain, false, cached, &table);
    if (result)
        return result;
    uint32_t i = (uint32_t)(grain % e->entries);
    if (!table) {
        extent->kind = EXTENT_ABSENT;
        extent->length = (e->entries - i) * (uint64_t)e->grain - inside;
        return 0;
    }
    uint32_t sector = load_le32(table + i * 4);
    extent->kind = kind_of(e, sector);
    extent->length = e->grain - inside;
    if (extent->kind == EXTENT_COMPRESSED)
        return find_packed(e, sector * UINT64_C(512), cached, extent);
    if (extent->kind == EXTENT_DATA) {
        extent->writable = true;
        extent->host_offset = sector * UINT64_C(512) + inside;
    }
    uint32_t step = extent->kind == EXTENT_DATA ? e->grain / 512 : 0;
    for (uint32_t next = sector + step; ++i < e->entries && extent->length < length; next += step) {
        uint32_t there = load_le32(table + i * 4);
        if (there != next || kind_of(e, there) != extent->kind)
            break;
        extent->length += e->grain;
    }
    return 0;
}

int vmdk_extent_lookup(VmdkExtent *e, uint64_t offset, uint64_t length, bool cached, Extent *extent)
{
    *extent = (Extent){.kind = EXTENT_DATA, .file = e->file, .length = e->size - offset};
    int result = 0;
    if (!e->is_zero && !e->file)
        return -EIO; /* opened to look at the descriptor only */
    if (e->is_zero) {
        extent->kind = EXTENT_ZERO;
    } else if (e->is_sparse) {
        result = (e->is_se ? vmdk_se_lookup : lookup_sparse)(e, offset, length, cached, extent);
    } else {
        extent->writable = true;
        extent->host_offset = e->flat_offset + offset;
    }
    extent->length = MIN(extent->length, e->size - offset);
    return result;
}

/* ---- change ---------------------------------------------------------------------------------- */

/* Tables that the directory lacks are made at the end, the redundant one first. */
static int make_tables(VmdkExtent *e, uint64_t grain)
{
    size_t bytes = e->entries * (size_t)4, at = grain / e->entries * 4;
    FlatTable *directories[] = {&e->redundant, &e->directory};
    TableCache *caches[] = {e->redundant_tables, e->tables};
    for (int i = 0; i < 2; i++) {
        uint8_t *table;
        if (!directories[i]->data || load_le32(directories[i]->data + at))
            continue;
        if (e->end / 512 > UINT32_MAX)
            return -EFBIG;
        int result = table_cache_add(caches[i], e->end, &table);
        if (result)
            return result;
        store_le32(directories[i]->data + at, (uint32_t)(e->end / 512));
        flat_table_mark(directories[i], at, 4);
        e->end += align_up(bytes, 512);
        e->vmdk->map.dirty = true;
    }
    return 0;
}

int vmdk_extent_allocate(VmdkExtent *e, uint64_t offset, uint64_t length, Allocation *a)
{
    if (!e->is_sparse || e->is_old || e->compressed)
        return -EROFS;
    uint64_t grain = offset / e->grain;
    uint64_t wanted = (offset + length + e->grain - 1) / e->grain - grain, n = 1;
    uint8_t *table;
    int result = make_tables(e, grain);
    if (!result)
        result = get_table(e, grain, false, false, &table);
    if (result)
        return result;
    g_assert(table); /* make_tables() made it */
    uint32_t i = (uint32_t)(grain % e->entries);
    while (n < wanted && i + n < e->entries && load_le32(table + (i + n) * 4) <= e->has_zero)
        n++;
    *a = (Allocation){.offset = grain * e->grain,
                      .length = n * e->grain,
                      .file = e->file,
                      .host_offset = e->end,
                      .reads_zero = e->end >= e->file->size};
    if ((e->end + a->length) / 512 > UINT32_MAX)
        return -EFBIG;
    e->end += a->length;
    return 0;
}

int vmdk_extent_allocate_packed(VmdkExtent *e, uint64_t offset, uint32_t size, Allocation *a)
{
    if (!e->compressed)
        return -ENOTSUP;
    int result = make_tables(e, offset / e->grain);
    if (result)
        return result;
    if ((e->end + size) / 512 > UINT32_MAX)
        return -EFBIG;
    *a = (Allocation){.offset = offset,
                      .length = e->grain,
                      .file = e->file,
                      .host_offset = e->end,
                      .compressed = true,
                      .stored_size = size};
    e->end = align_up(e->end + size, 512);
    return 0;
}

static int set_entry(VmdkExtent *e, uint64_t grain, uint32_t sector)
{
    TableCache *caches[] = {e->redundant_tables, e->tables};
    for (int i = e->redundant.data ? 0 : 1; i < 2; i++) {
        uint8_t *table;
        int result = get_table(e, grain, i == 0, false, &table);
        if (!result && !table)
            result = -EIO;
        if (result)
            return result;
        store_le32(table + grain % e->entries * 4, sector);
        table_cache_mark(caches[i], table);
    }
    e->vmdk->map.dirty = true;
    return 0;
}

int vmdk_extent_link(VmdkExtent *e, const Allocation *a)
{
    uint64_t first = a->offset / e->grain;
    int result = 0;
    for (uint64_t i = 0; i < a->length / e->grain && !result; i++)
        result = set_entry(e, first + i, (uint32_t)((a->host_offset + i * e->grain) / 512));
    return result;
}

int vmdk_extent_zero(VmdkExtent *e, uint64_t offset, uint64_t length, uint64_t *ret_done)
{
    uint64_t end = offset + length;
    if (!e->is_sparse || !e->has_zero || offset % e->grain)
        return -ENOTSUP;
    if (end < e->size)
        end -= end % e->grain;
    if (end <= offset)
        return -ENOTSUP;
    int result = 0;
    for (uint64_t at = offset; at < end && !result; at += e->grain) {
        result = make_tables(e, at / e->grain);
        if (!result)
            result = set_entry(e, at / e->grain, 1);
    }
    *ret_done = end - offset;
    return result;
}

int vmdk_extent_forget(VmdkExtent *e, uint64_t offset, uint64_t length, uint64_t *ret_done)
{
    uint8_t *table;
    if (!e->is_sparse || e->is_old)
        return -ENOTSUP;
    uint64_t span = e->entries * (uint64_t)e->grain;
    uint64_t end = MIN(offset + length, align_down(offset, span) + span);
    int result = get_table(e, offset / e->grain, false, false, &table);
    for (uint64_t at = offset; table && at < end && !result; at += e->grain)
        result = set_entry(e, at / e->grain, 0);
    *ret_done = end - offset;
    return result;
}

/* What is written goes behind the footer, so the header takes its place. */
static int replace_footer(VmdkExtent *e)
{
    uint8_t h[512];
    int result = read_footer(e->file, h);
    if (!result)
        result = host_file_write(e->file, 0, h, sizeof(h));
    if (!result)
        result = host_file_sync(e->file);
    e->at_end = result != 0;
    return result;
}

int vmdk_extent_set_unclean(VmdkExtent *e, bool unclean)
{
    uint8_t flag = unclean;
    if (!e->is_sparse || e->is_old || (e->at_end && !unclean))
        return 0;
    int result = e->at_end ? replace_footer(e) : 0;
    if (result)
        return result;
    return host_file_write(e->file, VMDK_H_UNCLEAN, &flag, 1);
}

static int commit_tables(VmdkExtent *e, TableCache *tables, FlatTable *directory)
{
    bool has_new = directory->dirty;
    int result = table_cache_write(tables);
    if (!result && has_new)
        result = host_file_sync(e->file);
    if (!result && has_new)
        result = flat_table_write(directory);
    return result ? result : host_file_sync(e->file);
}

int vmdk_extent_commit(VmdkExtent *e)
{
    int result = 0;
    if (!e->file)
        return 0;
    if (e->is_sparse && e->vmdk->map.dirty && e->file->size < e->end)
        result = host_file_truncate(e->file, e->end);
    if (!result)
        result = host_file_sync(e->file);
    if (!result && e->redundant.data && table_cache_is_dirty(e->redundant_tables))
        result = commit_tables(e, e->redundant_tables, &e->redundant);
    if (!result && e->is_sparse && table_cache_is_dirty(e->tables))
        result = commit_tables(e, e->tables, &e->directory);
    return result;
}

/* ---- making ---------------------------------------------------------------------------------- */

static void fill_directory(uint8_t *image, uint64_t directory, uint64_t first, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        store_le32(image + directory * 512 + i * 4, (uint32_t)(first + i * 4));
}

int vmdk_extent_create(HostFile *file, uint64_t size, uint32_t flags, const char *text)
{
    uint64_t sectors = size / 512, span = GRAIN_SECTORS * TABLE_ENTRIES;
    uint64_t tables = (sectors + span - 1) / span, directory = (tables * 4 + 511) / 512;
    uint64_t redundant_at = 1 + TEXT_SECTORS, primary_at = redundant_at + directory + tables * 4;
    uint64_t overhead = align_up(primary_at + directory + tables * 4, GRAIN_SECTORS);
    if (tables * 4 > VMDK_MAX_DIRECTORY || (text && strlen(text) > TEXT_SECTORS * 512))
        return -EFBIG;
    /* Tables of zeros are a hole. */
    g_autofree uint8_t *head = g_malloc0((1 + TEXT_SECTORS) * 512);
    g_autofree uint8_t *table = g_malloc0((directory + 1) * 512);
    store_le32(head, VMDK_MAGIC);
    store_le32(head + VMDK_H_VERSION, flags & VMDK_F_COMPRESSED ? 3 : flags & VMDK_F_ZERO ? 2 : 1);
    store_le32(head + VMDK_H_FLAGS, flags | VMDK_F_NEWLINES | VMDK_F_REDUNDANT);
    store_le64(head + VMDK_H_CAPACITY, sectors);
    store_le64(head + VMDK_H_GRAIN, GRAIN_SECTORS);
    store_le64(head + VMDK_H_TEXT, text ? 1 : 0);
    store_le64(head + VMDK_H_TEXT_SIZE, text ? TEXT_SECTORS : 0);
    store_le32(head + VMDK_H_ENTRIES, TABLE_ENTRIES);
    store_le64(head + VMDK_H_REDUNDANT, redundant_at);
    store_le64(head + VMDK_H_DIRECTORY, primary_at);
    store_le64(head + VMDK_H_OVERHEAD, overhead);
    memcpy(head + VMDK_H_NEWLINES, "\n \r\n", 4);
    store_le16(head + VMDK_H_COMPRESSION, flags & VMDK_F_COMPRESSED ? 1 : 0);
    if (text)
        memcpy(head + 512, text, strlen(text));
    int result = host_file_truncate(file, overhead * 512);
    if (!result)
        result = host_file_write(file, 0, head, (1 + TEXT_SECTORS) * 512);
    fill_directory(table, 0, redundant_at + directory, tables);
    if (!result)
        result = host_file_write(file, redundant_at * 512, table, directory * 512);
    fill_directory(table, 0, primary_at + directory, tables);
    if (!result)
        result = host_file_write(file, primary_at * 512, table, directory * 512);
    return result ? result : host_file_sync(file);
}
