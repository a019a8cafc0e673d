/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * VHDX: making images, changing their size and their parent.
 *
 * A new image is | 1 MiB of headers | log 1 MiB | metadata 1 MiB | BAT | blocks |.
 */
#include <errno.h>

#include "block/crc32c.h"
#include "block/formats/vhdx.h"
#include "block/image.h"

#define LOG_AT      MIB(1)
#define ITEMS_AT    KIB(64)
#define LOCATOR_AT  KIB(68)
#define MAX_ENTRIES 15 /* of metadata, so that one sector holds them */

const FormatOption vhdx_options[] = {
    {"subformat", "dynamic", "dynamic or fixed"},
    {"block_size", "0", "1M to 256M; 0: what suits the size"},
    {"log_size", "1M", "for the log, which only other programs use"},
    {"block_state_zero", "on", "blocks without data read as zeros: always so"},
    {NULL},
};

/* ---- parent locator -------------------------------------------------------------------------- */

/* What a child says of its parent: pairs of keys and values in UTF-16. NULL with an error. */
static GByteArray *build_locator(const char *name, const char *format, const char *path,
                                 GError **error)
{
    Uuid linkage = {{0}};
    if (!strcmp(format, "vhdx")) {
        ImageOptions o = {.format = "vhdx", .read_only = true, .no_parents = true};
        g_autoptr(Image) parent = image_open(path, &o, error);
        if (!parent)
            return NULL;
        linkage = uuid_load(((Vhdx *)parent->map)->header + VHDX_H_DATA_GUID);
    }
    g_autofree char *guid = uuid_text_le(linkage);
    g_autofree char *braced = g_strdup_printf("{%s}", guid);
    g_autofree char *windows =
        g_path_is_absolute(name) ? g_strdup(name) : g_strdup_printf("./%s", name);
    g_strdelimit(windows, "/", '\\');
    const char *pairs[][2] = {
        {"parent_linkage", braced},
        {g_path_is_absolute(name) ? "absolute_win32_path" : "relative_path", windows},
        {"ospite_parent_format", format},
    };
    uint32_t count = strcmp(format, "vhdx") ? 3 : 2, head = 20 + count * 12;
    g_autoptr(GByteArray) locator = g_byte_array_new();
    g_byte_array_set_size(locator, head);
    memset(locator->data, 0, head);
    vhdx_store_guid(locator->data, VHDX_PARENT_GUID);
    store_le16(locator->data + 18, (uint16_t)count);
    for (uint32_t i = 0; i < 2 * count; i++) {
        glong units = 0;
        g_autofree gunichar2 *text = g_utf8_to_utf16(pairs[i / 2][i % 2], -1, NULL, &units, error);
        if (!text || units > 8192) {
            if (text)
                format_fail(error, path, "its name is too long");
            return NULL;
        }
        uint8_t *e = locator->data + 20 + i / 2 * 12;
        store_le32(e + i % 2 * 4, locator->len);
        store_le16(e + 8 + i % 2 * 2, (uint16_t)(units * 2));
        g_byte_array_append(locator, (const uint8_t *)text, (guint)units * 2);
    }
    return g_steal_pointer(&locator);
}

/* ---- making ---------------------------------------------------------------------------------- */

typedef struct Plan {
    uint64_t size;
    uint32_t block_size, log_size, bat_size;
    bool fixed;
    GByteArray *locator; /* NULL: no parent */
} Plan;

static uint32_t choose_block_size(uint64_t size, bool has_parent)
{
    if (has_parent && size <= UINT64_C(1) << 40)
        return (uint32_t)MIB(2);
    return (uint32_t)(size > UINT64_C(32) << 40 ? MIB(64)
                      : size > GIB(100)         ? MIB(32)
                      : size > GIB(1)           ? MIB(16)
                                                : MIB(8));
}

static bool plan_image(Plan *p, const CreateOptions *o, const char *path, GError **error)
{
    uint64_t block, log;
    const char *kind = format_option(o, "subformat");
    *p = (Plan){.size = o->size, .fixed = !strcmp(kind, "fixed")};
    if (!p->fixed && strcmp(kind, "dynamic"))
        return format_fail(error, path, "subformat is dynamic or fixed, not '%s'", kind);
    if (p->fixed && o->parent)
        return format_fail(error, path, "a fixed VHDX can't have a parent");
    if (o->size > VHDX_MAX_SIZE)
        return format_fail(error, path, "a VHDX holds at most 64 TiB");
    if (!format_parse_size(format_option(o, "block_size"), &block) ||
        !format_parse_size(format_option(o, "log_size"), &log))
        return format_fail(error, path, "block_size and log_size are sizes, as 2M");
    block = block ? block : choose_block_size(o->size, o->parent != NULL);
    if (!is_power_of_two(block) || block < MIB(1) || block > MIB(256))
        return format_fail(error, path, "block_size is a power of two between 1M and 256M");
    if (log < MIB(1) || log > VHDX_MAX_LOG || log % MIB(1))
        return format_fail(error, path, "log_size is between 1M and 32M, in whole M");
    p->block_size = (uint32_t)block;
    p->log_size = (uint32_t)log;
    Vhdx v = {.ratio = MIB(8) * 512 / block, .flags = o->parent ? VHDX_HAS_PARENT : 0};
    uint64_t bat = vhdx_bat_entries(&v, (o->size + block - 1) / block) * 8;
    if (bat > VHDX_MAX_BAT)
        return format_fail(error, path, "its block_size is too small for that size");
    p->bat_size = (uint32_t)align_up(MAX(bat, 1), MIB(1));
    return true;
}

static void store_item(uint8_t *e, const char *guid, uint64_t offset, uint32_t size, uint32_t flags)
{
    memset(e, 0, 32);
    vhdx_store_guid(e, guid);
    store_le32(e + 16, (uint32_t)offset);
    store_le32(e + 20, size);
    store_le32(e + 24, flags);
}

static void fill_header(uint8_t *h, const Plan *p)
{
    Uuid file = uuid_random(), data = uuid_random();
    memcpy(h, "head", 4);
    store_le64(h + VHDX_H_SEQUENCE, 1);
    memcpy(h + VHDX_H_FILE_GUID, file.bytes, 16);
    memcpy(h + VHDX_H_DATA_GUID, data.bytes, 16);
    store_le16(h + VHDX_H_VERSION, 1);
    store_le32(h + VHDX_H_LOG_SIZE, p->log_size);
    store_le64(h + VHDX_H_LOG, LOG_AT);
    store_le32(h + VHDX_H_SUM, crc32c_around(h, VHDX_HEADER_SIZE, VHDX_H_SUM));
}

static void fill_regions(uint8_t *t, const Plan *p)
{
    uint8_t *e = t + VHDX_R_ENTRIES;
    uint64_t metadata = LOG_AT + p->log_size;
    memcpy(t, "regi", 4);
    store_le32(t + VHDX_R_COUNT, 2);
    vhdx_store_guid(e, VHDX_BAT_GUID);
    store_le64(e + 16, metadata + MIB(1));
    store_le32(e + 24, p->bat_size);
    store_le32(e + 28, 1);
    vhdx_store_guid(e + 32, VHDX_METADATA_GUID);
    store_le64(e + 32 + 16, metadata);
    store_le32(e + 32 + 24, (uint32_t)MIB(1));
    store_le32(e + 32 + 28, 1);
    store_le32(t + VHDX_R_SUM, crc32c_around(t, VHDX_TABLE_SIZE, VHDX_R_SUM));
}

static void fill_metadata(uint8_t *m, const Plan *p)
{
    uint8_t *e = m + VHDX_M_ENTRIES, *items = m + ITEMS_AT;
    Uuid id = uuid_random();
    const uint32_t disk = VHDX_ITEM_DISK | VHDX_ITEM_REQUIRED;
    memcpy(m, "metadata", 8);
    store_le16(m + VHDX_M_COUNT, p->locator ? 6 : 5);
    store_item(e, VHDX_PARAMETERS_GUID, ITEMS_AT, 8, VHDX_ITEM_REQUIRED);
    store_item(e + 32, VHDX_SIZE_GUID, ITEMS_AT + 8, 8, disk);
    store_item(e + 64, VHDX_ID_GUID, ITEMS_AT + 16, 16, disk);
    store_item(e + 96, VHDX_LOGICAL_GUID, ITEMS_AT + 32, 4, disk);
    store_item(e + 128, VHDX_PHYSICAL_GUID, ITEMS_AT + 36, 4, disk);
    store_le32(items, p->block_size);
    store_le32(items + 4, (p->fixed ? VHDX_KEEP_BLOCKS : 0) | (p->locator ? VHDX_HAS_PARENT : 0));
    store_le64(items + 8, p->size);
    memcpy(items + 16, id.bytes, 16);
    store_le32(items + 32, 512);
    store_le32(items + 36, 4096);
    if (!p->locator)
        return;
    store_item(e + 160, VHDX_LOCATOR_GUID, LOCATOR_AT, p->locator->len, VHDX_ITEM_REQUIRED);
    memcpy(m + LOCATOR_AT, p->locator->data, p->locator->len);
}

/* All blocks of a fixed image lie together behind the BAT. */
static int write_fixed_bat(HostFile *file, const Plan *p, uint64_t at)
{
    g_assert(p->block_size);
    Vhdx v = {.ratio = MIB(8) * 512 / p->block_size};
    uint64_t blocks = (p->size + p->block_size - 1) / p->block_size, data = at + p->bat_size;
    g_autofree uint8_t *bat = g_malloc0(p->bat_size);
    for (uint64_t i = 0; i < blocks; i++)
        store_le64(bat + vhdx_entry_index(&v, i) * 8, (data + i * p->block_size) | VHDX_FULL);
    int result = host_file_truncate(file, data + blocks * p->block_size);
    return result ? result : host_file_write(file, at, bat, p->bat_size);
}

static int write_image(HostFile *file, const Plan *p)
{
    static const uint8_t mark[] = "vhdxfileo\0s\0p\0i\0t\0e\0";
    uint64_t metadata_at = LOG_AT + p->log_size, bat_at = metadata_at + MIB(1);
    g_autofree uint8_t *head = g_malloc0(VHDX_REGIONS + 2 * VHDX_TABLE_SIZE);
    g_autofree uint8_t *metadata = g_malloc0(LOCATOR_AT + VHDX_MAX_LOCATOR);
    uint8_t *second = head + KIB(128);
    memcpy(head, mark, sizeof(mark));
    fill_header(head + KIB(64), p);
    memcpy(second, head + KIB(64), VHDX_HEADER_SIZE);
    store_le64(second + VHDX_H_SEQUENCE, 2);
    store_le32(second + VHDX_H_SUM, crc32c_around(second, VHDX_HEADER_SIZE, VHDX_H_SUM));
    fill_regions(head + VHDX_REGIONS, p);
    memcpy(head + VHDX_REGIONS + VHDX_TABLE_SIZE, head + VHDX_REGIONS, VHDX_TABLE_SIZE);
    fill_metadata(metadata, p);
    int result = host_file_truncate(file, bat_at + p->bat_size);
    if (!result)
        result = host_file_write(file, metadata_at, metadata, LOCATOR_AT + VHDX_MAX_LOCATOR);
    if (!result && p->fixed)
        result = write_fixed_bat(file, p, bat_at);
    if (!result)
        result = host_file_write(file, 0, head, VHDX_REGIONS + 2 * VHDX_TABLE_SIZE);
    return result ? result : host_file_sync(file);
}

bool vhdx_create(HostFile *file, const CreateOptions *o, GError **error)
{
    Plan p;
    if (!plan_image(&p, o, file->path, error))
        return false;
    g_autoptr(GByteArray) locator =
        o->parent ? build_locator(o->parent, o->parent_format, o->parent_path, error) : NULL;
    if (o->parent && !locator)
        return false;
    p.locator = locator;
    int result = write_image(file, &p);
    return result ? format_fail_io(error, file->path, "create", result) : true;
}

/* ---- BAT ------------------------------------------------------------------------------------- */

/*
 * The table in the file holds `entries`, new ones being zero; if need be it moves behind all that
 * is used, and the region tables follow. What is in memory was committed.
 */
static int fit_bat(Vhdx *v, uint64_t entries)
{
    HostFile *file = v->map.file;
    uint64_t old = v->bat.size, size = entries * 8, place = v->bat_offset;
    bool moves = size > v->bat_room;
    int result = moves ? vhdx_extend(v, align_up(size, MIB(1)), &place) : 0;
    if (size > VHDX_MAX_BAT)
        return -EFBIG;
    g_autofree uint8_t *bat = g_malloc0(MAX(size, old));
    memcpy(bat, v->bat.data, old);
    if (!result && size > old)
        result = moves ? host_file_write(file, place, bat, size)
                       : host_file_write(file, place + old, bat + old, size - old);
    if (!result)
        result = host_file_sync(file);
    if (!result && moves) {
        v->bat_offset = place;
        v->bat_room = (uint32_t)align_up(size, MIB(1));
        result = vhdx_write_regions(v);
    }
    if (result)
        return result;
    flat_table_clear(&v->bat);
    return flat_table_load(&v->bat, file, place, size);
}

/* ---- size ------------------------------------------------------------------------------------ */

static void drop_blocks(Vhdx *v, uint64_t first)
{
    for (uint64_t block = first; block < v->blocks; block++) {
        uint64_t index = vhdx_entry_index(v, block), place = vhdx_place(vhdx_entry(v, index));
        if (place)
            g_array_append_val(v->pending, place);
        vhdx_set_entry(v, index, 0, VHDX_ABSENT);
    }
}

/* A fixed image has all its blocks. */
static int add_fixed_blocks(Vhdx *v, uint64_t end)
{
    int result = 0;
    for (uint64_t block = v->blocks; block < end && !result; block++) {
        uint64_t place;
        result = vhdx_extend(v, v->block_size, &place);
        if (!result)
            vhdx_set_entry(v, vhdx_entry_index(v, block), place, VHDX_FULL);
    }
    return result ? result : vhdx_commit(&v->map);
}

static int write_size(Vhdx *v, uint64_t size)
{
    uint8_t field[8];
    store_le64(field, size);
    int result = host_file_write(v->map.file, v->size_at, field, sizeof(field));
    return result ? result : host_file_sync(v->map.file);
}

bool vhdx_resize(ImageMap *map, uint64_t size, GError **error)
{
    Vhdx *v = (Vhdx *)map;
    uint64_t blocks = (size + v->block_size - 1) / v->block_size;
    size = align_up(size, map->sector_size);
    if (size > VHDX_MAX_SIZE)
        return format_fail(error, map->file->path, "a VHDX holds at most 64 TiB");
    drop_blocks(v, blocks);
    int result = vhdx_commit(map);
    if (!result && blocks > v->blocks)
        result = fit_bat(v, vhdx_bat_entries(v, blocks));
    if (!result && (v->flags & VHDX_KEEP_BLOCKS))
        result = add_fixed_blocks(v, blocks);
    if (!result)
        result = write_size(v, size);
    if (result == -EFBIG)
        return format_fail(error, map->file->path, "its blocks are too small for that size");
    if (result)
        return format_fail_io(error, map->file->path, "resize", result);
    map->size = size;
    v->blocks = blocks;
    return vhdx_survey(v, error);
}

/* ---- parent ---------------------------------------------------------------------------------- */

/* Without a parent every block is whole: what was not in it reads as zeros. */
static int complete_blocks(Vhdx *v)
{
    uint64_t sector_size = v->map.sector_size, per_block = v->sectors_per_block;
    for (uint64_t block = 0; block < v->blocks; block++) {
        uint64_t index = vhdx_entry_index(v, block), entry = vhdx_entry(v, index), count;
        if ((entry & 7) != VHDX_PARTIAL)
            continue;
        for (uint64_t s = 0; s < per_block; s += count) {
            bool here;
            int result =
                vhdx_count_bits(v, block * per_block + s, per_block - s, false, &here, &count);
            if (!result && !here)
                result = host_file_zero(v->map.file, vhdx_place(entry) + s * sector_size,
                                        count * sector_size);
            if (result)
                return result;
        }
        vhdx_set_entry(v, index, vhdx_place(entry), VHDX_FULL);
    }
    return vhdx_commit(&v->map);
}

static bool overlaps_item(const uint8_t *table, uint64_t at, uint64_t size)
{
    for (uint32_t i = 0; i < load_le16(table + VHDX_M_COUNT); i++) {
        const uint8_t *e = table + VHDX_M_ENTRIES + i * 32;
        uint64_t start = load_le32(e + 16);
        if (at < start + load_le32(e + 20) && start < at + size)
            return true;
    }
    return false;
}

/* Where in the region of metadata nothing is; 0: nowhere. */
static uint64_t find_room(const Vhdx *v, const uint8_t *table, uint64_t size)
{
    for (uint64_t at = VHDX_TABLE_SIZE; at + size <= v->metadata_room; at += 4096) {
        if (!overlaps_item(table, at, size))
            return at;
    }
    return 0;
}

/* The table's first sector with these two items in the place of the old ones, or of none. */
static void replace_items(uint8_t *table, uint64_t at, const GByteArray *locator)
{
    uint16_t count = load_le16(table + VHDX_M_COUNT), kept = 0;
    uint8_t *e = table + VHDX_M_ENTRIES;
    for (uint16_t i = 0; i < count; i++) {
        if (!vhdx_is_guid(e + i * 32, VHDX_PARAMETERS_GUID) &&
            !vhdx_is_guid(e + i * 32, VHDX_LOCATOR_GUID))
            memmove(e + kept++ * 32, e + i * 32, 32);
    }
    store_item(e + kept++ * 32, VHDX_PARAMETERS_GUID, at, 8, VHDX_ITEM_REQUIRED);
    if (locator)
        store_item(e + kept++ * 32, VHDX_LOCATOR_GUID, at + 8, locator->len, VHDX_ITEM_REQUIRED);
    memset(e + kept * 32, 0, (size_t)MAX(count - kept, 0) * 32);
    store_le16(table + VHDX_M_COUNT, kept);
}

static int switch_metadata(Vhdx *v, const GByteArray *locator)
{
    g_autofree uint8_t *table = g_malloc(VHDX_TABLE_SIZE);
    g_autoptr(GByteArray) items = g_byte_array_new();
    uint8_t parameters[8];
    int result = host_file_read(v->map.file, v->metadata_offset, table, VHDX_TABLE_SIZE);
    uint32_t flags = (v->flags & ~VHDX_HAS_PARENT) | (locator ? VHDX_HAS_PARENT : 0);
    store_le32(parameters, v->block_size);
    store_le32(parameters + 4, flags);
    g_byte_array_append(items, parameters, sizeof(parameters));
    if (locator)
        g_byte_array_append(items, locator->data, locator->len);
    uint64_t at = result ? 0 : find_room(v, table, items->len);
    if (!result && (!at || load_le16(table + VHDX_M_COUNT) >= MAX_ENTRIES))
        result = -ENOSPC;
    if (!result)
        result = host_file_write(v->map.file, v->metadata_offset + at, items->data, items->len);
    if (!result)
        result = host_file_sync(v->map.file);
    if (result)
        return result;
    replace_items(table, at, locator);
    result = host_file_write(v->map.file, v->metadata_offset, table, 512);
    if (!result)
        result = host_file_sync(v->map.file);
    if (!result)
        v->flags = flags;
    return result;
}

/* Room for bitmaps, which a BAT of an image without a parent may lack for the last chunk. */
static int prepare_parent(Vhdx *v)
{
    Vhdx as_child = {.ratio = v->ratio, .flags = VHDX_HAS_PARENT};
    int result = vhdx_commit(&v->map);
    return result ? result : fit_bat(v, vhdx_bat_entries(&as_child, v->blocks));
}

bool vhdx_set_parent(ImageMap *map, const char *name, const char *format, const char *path,
                     GError **error)
{
    Vhdx *v = (Vhdx *)map;
    if (name && (v->flags & VHDX_KEEP_BLOCKS))
        return format_fail(error, map->file->path, "a fixed VHDX can't have a parent");
    g_autoptr(GByteArray) locator = name ? build_locator(name, format, path, error) : NULL;
    if (name && !locator)
        return false;
    int result = name ? prepare_parent(v) : v->flags & VHDX_HAS_PARENT ? complete_blocks(v) : 0;
    if (!result)
        result = switch_metadata(v, locator);
    if (result)
        return format_fail_io(error, map->file->path, "write the metadata of", result);
    image_map_name_parent(map, name, format);
    return vhdx_survey(v, error);
}
