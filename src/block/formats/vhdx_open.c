/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * VHDX: opening. Header, log, regions, metadata, BAT, each checked before the next is believed.
 */
#include <errno.h>

#include "block/crc32c.h"
#include "block/formats/vhdx.h"

#define MAX_ITEMS   2047
#define MAX_REGIONS 2047

/* 64 KiB and 4 KiB blocks with a sum at byte 4. */
static bool is_sealed(const uint8_t *data, size_t size, const char *mark)
{
    return memcmp(data, mark, 4) == 0 && load_le32(data + 4) == crc32c_around(data, size, 4);
}

/* What the file holds, or would hold once the log is replayed. */
int vhdx_read(Vhdx *v, uint64_t offset, void *data, size_t size)
{
    int result = host_file_read(v->map.file, offset, data, size);
    for (guint i = 0; !result && i < v->patches->len; i++) {
        const VhdxPatch *p = &g_array_index(v->patches, VhdxPatch, i);
        uint64_t from = MAX(offset, p->offset), to = MIN(offset + size, p->offset + p->size);
        if (from >= to)
            continue;
        uint8_t *at = (uint8_t *)data + (from - offset);
        if (p->data)
            memcpy(at, p->data + (from - p->offset), to - from);
        else
            memset(at, 0, to - from);
    }
    return result;
}

/* ---- header ---------------------------------------------------------------------------------- */

static uint64_t header_place(unsigned slot)
{
    return KIB(64) * (slot + 1);
}

int vhdx_write_header(Vhdx *v)
{
    unsigned slot = 1 - v->slot;
    store_le64(v->header + VHDX_H_SEQUENCE, load_le64(v->header + VHDX_H_SEQUENCE) + 1);
    store_le32(v->header + VHDX_H_SUM, crc32c_around(v->header, VHDX_HEADER_SIZE, VHDX_H_SUM));
    int result = host_file_write(v->map.file, header_place(slot), v->header, VHDX_HEADER_SIZE);
    if (!result)
        result = host_file_sync(v->map.file);
    if (!result)
        v->slot = slot;
    return result;
}

/* Of two good headers the later one counts. */
static bool read_header(Vhdx *v, GError **error)
{
    uint8_t h[VHDX_HEADER_SIZE], mark[8];
    const char *path = v->map.file->path;
    bool found = false;
    int result = host_file_read(v->map.file, 0, mark, sizeof(mark));
    for (unsigned slot = 0; slot < 2 && !result; slot++) {
        result = host_file_read(v->map.file, header_place(slot), h, sizeof(h));
        if (result || !is_sealed(h, sizeof(h), "head") ||
            (found && load_le64(h + VHDX_H_SEQUENCE) <= load_le64(v->header + VHDX_H_SEQUENCE)))
            continue;
        memcpy(v->header, h, sizeof(h));
        v->slot = slot;
        found = true;
    }
    if (result)
        return format_fail_io(error, path, "read", result);
    if (memcmp(mark, "vhdxfile", 8))
        return format_fail(error, path, "it is no VHDX image");
    if (!found)
        return format_fail(error, path, "both of its headers are damaged");
    const FormatLimit limits[] = {{"version", load_le16(v->header + VHDX_H_VERSION), 1, 1}};
    return format_check_limits(path, limits, G_N_ELEMENTS(limits), error);
}

/* ---- regions --------------------------------------------------------------------------------- */

static bool refuse_guid(const char *path, const uint8_t *at, GError **error)
{
    g_autofree char *guid = uuid_text_le(uuid_load(at));
    return format_fail(
        error, path,
        "it uses the feature {%s}, which this version does not know; convert it with "
        "the program that made it",
        guid);
}

static bool take_region(Vhdx *v, const uint8_t *e, GError **error)
{
    const char *path = v->map.file->path;
    uint64_t offset = load_le64(e + 16), length = load_le32(e + 24);
    bool is_bat = vhdx_is_guid(e, VHDX_BAT_GUID), is_meta = vhdx_is_guid(e, VHDX_METADATA_GUID);
    const FormatLimit limits[] = {
        {"region", offset, MIB(1), FORMAT_SIZE_MAX, MIB(1)},
        {"region size", length, MIB(1), UINT32_MAX, MIB(1)},
    };
    if (!is_bat && !is_meta)
        return !(load_le32(e + 28) & 1) || refuse_guid(path, e, error);
    if (!format_check_limits(path, limits, G_N_ELEMENTS(limits), error))
        return false;
    if (is_bat ? v->bat_offset : v->metadata_offset)
        return format_fail(error, path, "it has one region twice");
    if (is_bat) {
        v->bat_offset = offset;
        v->bat_room = (uint32_t)length;
    } else {
        v->metadata_offset = offset;
        v->metadata_room = (uint32_t)length;
    }
    return true;
}

static bool read_regions(Vhdx *v, GError **error)
{
    const char *path = v->map.file->path;
    g_autofree uint8_t *tables = g_malloc(2 * VHDX_TABLE_SIZE);
    uint8_t *t = tables;
    int result = vhdx_read(v, VHDX_REGIONS, tables, 2 * VHDX_TABLE_SIZE);
    if (result)
        return format_fail_io(error, path, "read", result);
    v->one_table_bad = memcmp(t, t + VHDX_TABLE_SIZE, VHDX_TABLE_SIZE) != 0;
    const uint8_t *table = is_sealed(t, VHDX_TABLE_SIZE, "regi") ? t : t + VHDX_TABLE_SIZE;
    if (table != t && !is_sealed(table, VHDX_TABLE_SIZE, "regi"))
        return format_fail(error, path, "both of its region tables are damaged");
    uint32_t count = load_le32(table + VHDX_R_COUNT);
    const FormatLimit limit = {"number of regions", count, 2, MAX_REGIONS, 0};
    if (!format_check_limits(path, &limit, 1, error))
        return false;
    for (uint32_t i = 0; i < count; i++) {
        if (!take_region(v, table + VHDX_R_ENTRIES + i * 32, error))
            return false;
    }
    return (v->bat_offset && v->metadata_offset) ||
           format_fail(error, path, "it lacks its BAT or its metadata");
}

int vhdx_write_regions(Vhdx *v)
{
    g_autofree uint8_t *tables = g_malloc(2 * VHDX_TABLE_SIZE);
    uint8_t *t = tables;
    int result = host_file_read(v->map.file, VHDX_REGIONS, tables, 2 * VHDX_TABLE_SIZE);
    if (result)
        return result;
    if (!is_sealed(t, VHDX_TABLE_SIZE, "regi"))
        t += VHDX_TABLE_SIZE;
    for (uint32_t i = 0; i < load_le32(t + VHDX_R_COUNT); i++) {
        uint8_t *e = t + VHDX_R_ENTRIES + i * 32;
        if (!vhdx_is_guid(e, VHDX_BAT_GUID))
            continue;
        store_le64(e + 16, v->bat_offset);
        store_le32(e + 24, v->bat_room);
    }
    store_le32(t + VHDX_R_SUM, crc32c_around(t, VHDX_TABLE_SIZE, VHDX_R_SUM));
    for (int i = 0; i < 2 && !result; i++) {
        result =
            host_file_write(v->map.file, VHDX_REGIONS + i * VHDX_TABLE_SIZE, t, VHDX_TABLE_SIZE);
        if (!result)
            result = host_file_sync(v->map.file);
    }
    v->one_table_bad = result != 0;
    return result;
}

/* ---- parent locator: | type 16 | 0 | count 2 | entries: key 4, value 4, sizes 2+2 | ---------- */

static char *locator_text(const uint8_t *data, uint32_t size, uint32_t offset, uint16_t length)
{
    if (offset > size || length > size - offset || length % 2)
        return NULL;
    g_autofree gunichar2 *text = g_malloc0(length + 2);
    memcpy(text, data + offset, length);
    return g_utf16_to_utf8(text, length / 2, NULL, NULL, NULL);
}

static char *locator_value(const uint8_t *data, uint32_t size, const char *key)
{
    uint16_t count = load_le16(data + 18);
    for (uint32_t i = 0; i < count && 20 + (i + 1) * 12 <= size; i++) {
        const uint8_t *e = data + 20 + i * 12;
        g_autofree char *name = locator_text(data, size, load_le32(e), load_le16(e + 8));
        if (!g_strcmp0(name, key))
            return locator_text(data, size, load_le32(e + 4), load_le16(e + 10));
    }
    return NULL;
}

/* The first that leads to a file; else the first that is there, for the message. */
static char *locator_path(const char *path, const uint8_t *data, uint32_t size)
{
    static const char *const keys[] = {"relative_path", "absolute_win32_path", "volume_path"};
    g_autofree char *first = NULL;
    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
        g_autofree char *value = locator_value(data, size, keys[i]);
        g_autofree char *name = value ? format_name_here(path, value) : NULL;
        if (name && format_is_beside(path, name))
            return g_steal_pointer(&name);
        if (name && !first)
            first = g_steal_pointer(&name);
    }
    return g_steal_pointer(&first);
}

static bool read_locator(Vhdx *v, uint64_t at, uint32_t size, GError **error)
{
    const char *path = v->map.file->path;
    if (size < 20 || size > VHDX_MAX_LOCATOR)
        return format_fail(error, path, "its parent locator is damaged");
    g_autofree uint8_t *data = g_malloc(size);
    int result = vhdx_read(v, at, data, size);
    if (result)
        return format_fail_io(error, path, "read", result);
    if (!vhdx_is_guid(data, VHDX_PARENT_GUID))
        return format_fail(error, path, "it names its parent in a way that is not known");
    v->map.parent_name = locator_path(path, data, size);
    v->map.parent_format = locator_value(data, size, "ospite_parent_format");
    if (!v->map.parent_format)
        v->map.parent_format = g_strdup("vhdx"); /* no other can be meant */
    v->linkage[0] = locator_value(data, size, "parent_linkage");
    v->linkage[1] = locator_value(data, size, "parent_linkage2");
    return v->map.parent_name ||
           format_fail(error, path,
                       "it does not name its parent; name it with 'ospite disk rebase -u'");
}

/* ---- metadata -------------------------------------------------------------------------------- */

typedef struct Item {
    const char *guid;
    uint32_t size; /* 0: any */
    uint8_t data[16];
    uint64_t at; /* in the file; 0: it is not there */
    uint32_t found_size;
} Item;

enum { ITEM_PARAMETERS, ITEM_SIZE, ITEM_ID, ITEM_LOGICAL, ITEM_PHYSICAL, ITEM_LOCATOR, ITEMS };

/* One that is changed must not change another. */
static bool overlaps(const Item *items, uint64_t at, uint32_t size)
{
    for (int i = 0; i < ITEMS; i++) {
        if (items[i].at && at < items[i].at + items[i].found_size && items[i].at < at + size)
            return true;
    }
    return false;
}

static bool take_item(Vhdx *v, const uint8_t *e, Item *items, GError **error)
{
    const char *path = v->map.file->path;
    uint32_t offset = load_le32(e + 16), size = load_le32(e + 20), flags = load_le32(e + 24);
    Item *item = NULL;
    for (int i = 0; i < ITEMS; i++) {
        if (vhdx_is_guid(e, items[i].guid))
            item = &items[i];
    }
    if (!item)
        return !(flags & VHDX_ITEM_REQUIRED) || refuse_guid(path, e, error);
    if (offset < VHDX_TABLE_SIZE || (uint64_t)offset + size > v->metadata_room || item->at ||
        (item->size && item->size != size) || overlaps(items, v->metadata_offset + offset, size))
        return format_fail(error, path, "its metadata are damaged");
    item->at = v->metadata_offset + offset;
    item->found_size = size;
    int result = item->size ? vhdx_read(v, item->at, item->data, item->size) : 0;
    return result ? format_fail_io(error, path, "read", result) : true;
}

static bool use_items(Vhdx *v, const Item *items, GError **error)
{
    const char *path = v->map.file->path;
    uint32_t logical = load_le32(items[ITEM_LOGICAL].data);
    v->block_size = load_le32(items[ITEM_PARAMETERS].data);
    v->flags = load_le32(items[ITEM_PARAMETERS].data + 4);
    v->map.size = load_le64(items[ITEM_SIZE].data);
    v->size_at = items[ITEM_SIZE].at;
    const FormatLimit limits[] = {
        {"block size", v->block_size, MIB(1), MIB(256), MIB(1)},
        {"sector size", logical, 512, 4096, 512},
        {"size", v->map.size, 0, VHDX_MAX_SIZE, 512},
    };
    if (!format_check_limits(path, limits, G_N_ELEMENTS(limits), error))
        return false;
    if (!is_power_of_two(v->block_size) || (logical != 512 && logical != 4096) ||
        v->map.size % logical)
        return format_fail(error, path, "its block size or sector size is not possible");
    v->map.sector_size = logical;
    v->map.unit_size = v->block_size;
    v->sectors_per_block = v->block_size / logical;
    v->ratio = (VHDX_BITMAP * 8) / v->sectors_per_block;
    v->blocks = (v->map.size + v->block_size - 1) / v->block_size;
    if (!(v->flags & VHDX_HAS_PARENT))
        return true;
    const Item *locator = &items[ITEM_LOCATOR];
    return locator->at ? read_locator(v, locator->at, locator->found_size, error)
                       : format_fail(error, path, "it does not name its parent");
}

static bool read_metadata(Vhdx *v, GError **error)
{
    const char *path = v->map.file->path;
    Item items[ITEMS] = {{VHDX_PARAMETERS_GUID, 8}, {VHDX_SIZE_GUID, 8},     {VHDX_ID_GUID, 16},
                         {VHDX_LOGICAL_GUID, 4},    {VHDX_PHYSICAL_GUID, 4}, {VHDX_LOCATOR_GUID}};
    g_autofree uint8_t *table = g_malloc(VHDX_TABLE_SIZE);
    int result = vhdx_read(v, v->metadata_offset, table, VHDX_TABLE_SIZE);
    if (result)
        return format_fail_io(error, path, "read", result);
    uint32_t count = load_le16(table + VHDX_M_COUNT);
    if (memcmp(table, "metadata", 8) || count > MAX_ITEMS)
        return format_fail(error, path, "its metadata are damaged");
    for (uint32_t i = 0; i < count; i++) {
        if (!take_item(v, table + VHDX_M_ENTRIES + i * 32, items, error))
            return false;
    }
    for (int i = 0; i < ITEM_LOCATOR; i++) {
        if (!items[i].at)
            return format_fail(error, path, "its metadata lack {%s}", items[i].guid);
    }
    return use_items(v, items, error);
}

/* ---- BAT ------------------------------------------------------------------------------------- */

uint64_t vhdx_bat_entries(const Vhdx *v, uint64_t blocks)
{
    if (v->flags & VHDX_HAS_PARENT)
        return (blocks + v->ratio - 1) / v->ratio * (v->ratio + 1);
    return blocks ? blocks + (blocks - 1) / v->ratio : 0;
}

static bool read_bat(Vhdx *v, GError **error)
{
    const char *path = v->map.file->path;
    uint64_t size = vhdx_bat_entries(v, v->blocks) * 8;
    const FormatLimit limits[] = {{"BAT", size, 0, MIN(v->bat_room, VHDX_MAX_BAT)}};
    if (!format_check_limits(path, limits, 1, error))
        return false;
    int result = flat_table_load(&v->bat, v->map.file, v->bat_offset, size);
    if (!result && v->patches->len)
        result = vhdx_read(v, v->bat_offset, v->bat.data, size);
    return result ? format_fail_io(error, path, "read", result) : true;
}

/* ---- what is used ---------------------------------------------------------------------------- */

/* A range in MiB, so that an array of them can be sorted as numbers: | start 44 | length 20 |. */
static void add_range(GArray *ranges, uint64_t offset, uint64_t size)
{
    uint64_t range = offset >> 20 << 20 | ((size + MIB(1) - 1) >> 20);
    g_array_append_val(ranges, range);
}

static int compare_ranges(gconstpointer a, gconstpointer b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static GArray *collect_ranges(const Vhdx *v)
{
    uint64_t entries = v->bat.size / 8;
    GArray *ranges = g_array_new(FALSE, FALSE, 8);
    add_range(ranges, 0, MIB(1));
    add_range(ranges, v->bat_offset, v->bat_room);
    add_range(ranges, v->metadata_offset, v->metadata_room);
    if (load_le32(v->header + VHDX_H_LOG_SIZE))
        add_range(ranges, load_le64(v->header + VHDX_H_LOG),
                  load_le32(v->header + VHDX_H_LOG_SIZE));
    for (uint64_t i = 0; i < entries; i++) {
        uint64_t place = vhdx_place(vhdx_entry(v, i));
        if (place)
            add_range(ranges, place, i % (v->ratio + 1) == v->ratio ? VHDX_BITMAP : v->block_size);
    }
    g_array_sort(ranges, compare_ranges);
    return ranges;
}

bool vhdx_survey(Vhdx *v, GError **error)
{
    g_autoptr(GArray) ranges = collect_ranges(v);
    v->end = 0;
    g_array_set_size(v->free, 0);
    for (guint i = 0; i < ranges->len; i++) {
        uint64_t range = g_array_index(ranges, uint64_t, i);
        uint64_t start = range >> 20 << 20, size = (range & 0xfffff) << 20;
        if (start > FORMAT_SIZE_MAX)
            return format_fail(error, v->map.file->path, "it is damaged");
        if (start < v->end)
            return format_fail(error, v->map.file->path,
                               "two of its blocks share a place; open it "
                               "read-only and copy it");
        for (; v->end + v->block_size <= start; v->end += v->block_size) {
            if (v->free->len < VHDX_MAX_BAT / 8)
                g_array_append_val(v->free, v->end);
            else
                break;
        }
        v->end = start + size;
    }
    return v->end < FORMAT_SIZE_MAX || format_fail(error, v->map.file->path, "it is damaged");
}

/* ---- the whole ------------------------------------------------------------------------------- */

static void clear_patch(gpointer data)
{
    g_free(((VhdxPatch *)data)->data);
}

void vhdx_close(ImageMap *map)
{
    Vhdx *v = (Vhdx *)map;
    flat_table_clear(&v->bat);
    table_cache_free(v->bitmaps);
    g_array_unref(v->patches);
    g_array_unref(v->free);
    g_array_unref(v->pending);
    g_free(v->linkage[0]);
    g_free(v->linkage[1]);
    image_map_clear(map);
    g_free(v);
}

ImageMap *vhdx_open(HostFile *file, const OpenParameters *p, GError **error)
{
    Vhdx *v = g_new0(Vhdx, 1);
    v->map.file = file;
    v->free = g_array_new(FALSE, FALSE, 8);
    v->pending = g_array_new(FALSE, FALSE, 8);
    v->patches = g_array_new(FALSE, FALSE, sizeof(VhdxPatch));
    g_array_set_clear_func(v->patches, clear_patch);
    v->bitmaps = table_cache_new(file, VHDX_PIECE, MIB(4), (int (*)(void *))vhdx_commit, v);
    if (read_header(v, error) && vhdx_replay(v, p->read_only, error) && read_regions(v, error) &&
        read_metadata(v, error) && read_bat(v, error) && (p->read_only || vhdx_survey(v, error)))
        return &v->map;
    vhdx_close(&v->map);
    return NULL;
}
