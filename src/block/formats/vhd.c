/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * VHD (Virtual PC): fixed, dynamic and differencing. Numbers are big-endian.
 *
 *   fixed:   | data | footer 512 |
 *   dynamic: | footer | header 1024 | BAT: sector of each block | blocks … | footer |
 *   block:   | bitmap: a bit for each sector, set: here, clear: the parent | data |
 *
 * Invariants: a new block goes where the last footer is, which is written behind it again; the
 * footer at 0 makes the image whole without it. A sector's data are durable before its bit, a
 * block before its BAT entry.
 *
 * Source: "Virtual Hard Disk Image Format Specification" 1.0.
 */
#include <errno.h>

#include "block/flat_table.h"
#include "block/formats/uuid.h"
#include "block/image.h"
#include "block/table_cache.h"

#define ABSENT      0xffffffffu
#define MAX_ENTRIES (4u << 20)
#define MAX_SIZE    (UINT64_C(2040) << 30)
#define EPOCH_2000  INT64_C(946684800)
#define LOCATORS    576

enum { TYPE_FIXED = 2, TYPE_DYNAMIC = 3, TYPE_DIFFERENCING = 4 };

/* Offsets in the footer … */
enum {
    F_FEATURES = 8,
    F_VERSION = 12,
    F_DATA = 16,
    F_TIME = 24,
    F_APP = 28,
    F_APP_VERSION = 32,
    F_HOST = 36,
    F_ORIGINAL = 40,
    F_SIZE = 48,
    F_GEOMETRY = 56,
    F_TYPE = 60,
    F_SUM = 64,
    F_UUID = 68,
};
/* … and in the header of dynamic images */
enum {
    D_DATA = 8,
    D_TABLE = 16,
    D_VERSION = 24,
    D_ENTRIES = 28,
    D_BLOCK = 32,
    D_SUM = 36,
    D_PARENT_UUID = 40,
    D_PARENT_TIME = 56,
    D_PARENT_NAME = 64,
};

typedef struct Vhd {
    ImageMap map;
    uint8_t footer[512], header[1024];
    uint32_t type, block_size, bitmap_size, entries;
    FlatTable bat;
    TableCache *bitmaps;
    uint64_t end; /* of the last block or table: where the next block and the footer go */
    bool footer_moved;
    bool shrinks; /* `end` is too far, once the table in the file is as in memory */
} Vhd;

static bool vhd_probe(const ProbeData *data)
{
    /* Old Virtual PC wrote footers of 511 bytes. */
    bool is_short = data->file_size % 512 == 511 && !memcmp(data->tail + 1, "conectix", 8);
    return memcmp(data->head, "conectix", 8) == 0 || memcmp(data->tail, "conectix", 8) == 0 ||
           is_short;
}

static uint32_t checksum(const uint8_t *data, size_t size, size_t at)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < size; i++)
        sum += i >= at && i < at + 4 ? 0 : data[i];
    return ~sum;
}

static void seal(uint8_t *footer, uint8_t *header)
{
    store_be32(footer + F_SUM, checksum(footer, 512, F_SUM));
    store_be32(header + D_SUM, checksum(header, 1024, D_SUM));
}

static uint64_t block_place(const Vhd *v, uint64_t block)
{
    uint32_t sector = load_be32(v->bat.data + block * 4);
    return sector == ABSENT ? 0 : sector * UINT64_C(512);
}

/* ---- names ----------------------------------------------------------------------------------- */

/* Parent locators: | code 4 | space 4 | length 4 | 0 | offset 8 |; NULL: none has the code. */
static char *read_locator(Vhd *v, const char *code, uint32_t *ret_length)
{
    for (int i = 0; i < 8; i++) {
        const uint8_t *l = v->header + LOCATORS + i * 24;
        uint32_t length = load_be32(l + 8);
        if (memcmp(l, code, 4) || length < 2 || length > 2048)
            continue;
        g_autofree char *data = g_malloc0(length + 2);
        *ret_length = length;
        if (!host_file_read(v->map.file, load_be64(l + 16), data, length))
            return g_steal_pointer(&data);
    }
    return NULL;
}

/* Names of Windows are in UTF-16LE. */
static char *windows_name(Vhd *v, const char *code)
{
    uint32_t length;
    g_autofree char *data = read_locator(v, code, &length);
    return data ? g_utf16_to_utf8((gunichar2 *)data, length / 2, NULL, NULL, NULL) : NULL;
}

static char *relative_name(Vhd *v)
{
    return windows_name(v, "W2ru");
}

static char *absolute_name(Vhd *v)
{
    return windows_name(v, "W2ku");
}

/* An address: file://host/folder/name, some of whose bytes may be %20 and the like. */
static char *macintosh_name(Vhd *v)
{
    uint32_t length;
    g_autofree char *data = read_locator(v, "MacX", &length);
    const char *path = data && g_str_has_prefix(data, "file://") ? strchr(data + 7, '/') : NULL;
    g_autofree char *plain = path ? g_uri_unescape_string(path, NULL) : NULL;
    return plain && g_utf8_validate(plain, -1, NULL) ? g_steal_pointer(&plain) : NULL;
}

static char *header_name(Vhd *v)
{
    uint16_t name[257] = {0};
    for (int i = 0; i < 256; i++)
        name[i] = load_be16(v->header + D_PARENT_NAME + i * 2);
    return g_utf16_to_utf8(name, -1, NULL, NULL, NULL);
}

/* The first that leads to a file; else the first that is there, for the message. */
static char *read_parent_name(Vhd *v)
{
    static char *(*const ways[])(Vhd *) = {relative_name, absolute_name, macintosh_name,
                                           header_name};
    const char *path = v->map.file->path;
    g_autofree char *first = NULL;
    for (size_t i = 0; i < G_N_ELEMENTS(ways); i++) {
        g_autofree char *text = ways[i](v);
        g_autofree char *name = text && *text ? format_name_here(path, text) : NULL;
        if (name && format_is_beside(path, name))
            return g_steal_pointer(&name);
        if (name && !first)
            first = g_steal_pointer(&name);
    }
    return g_steal_pointer(&first);
}

/* ---- opening --------------------------------------------------------------------------------- */

static bool is_footer(const uint8_t *f)
{
    return memcmp(f, "conectix", 8) == 0 && load_be32(f + F_SUM) == checksum(f, 512, F_SUM);
}

/* The one at the end counts; after a crash the copy at the beginning. */
static bool read_footer(Vhd *v, GError **error)
{
    HostFile *file = v->map.file;
    const uint64_t places[] = {file->size >= 512 ? file->size - 512 : 0,
                               file->size >= 511 ? file->size - 511 : 0, 0};
    for (size_t i = 0; i < G_N_ELEMENTS(places); i++) {
        size_t size = i == 1 ? 511 : 512; /* old Virtual PC wrote a byte less */
        memset(v->footer, 0, sizeof(v->footer));
        int result = host_file_read(file, places[i], v->footer, size);
        if (result)
            return format_fail_io(error, file->path, "read", result);
        if (is_footer(v->footer))
            return true;
    }
    return format_fail(error, file->path, "it is no VHD image, or its footer is damaged");
}

static bool read_header(Vhd *v, GError **error)
{
    HostFile *file = v->map.file;
    uint64_t at = load_be64(v->footer + F_DATA);
    const FormatLimit place = {"header", at, 512, file->size, 0};
    if (!format_check_limits(file->path, &place, 1, error))
        return false;
    int result = host_file_read(file, at, v->header, sizeof(v->header));
    if (result)
        return format_fail_io(error, file->path, "read", result);
    if (memcmp(v->header, "cxsparse", 8) ||
        load_be32(v->header + D_SUM) != checksum(v->header, 1024, D_SUM))
        return format_fail(error, file->path, "its header is damaged");
    v->block_size = load_be32(v->header + D_BLOCK);
    v->entries = load_be32(v->header + D_ENTRIES);
    const FormatLimit limits[] = {
        {"header version", load_be32(v->header + D_VERSION) >> 16, 1, 1},
        {"block size", v->block_size, 4096, 256 << 20, 4096},
        {"number of blocks", v->entries, 0, MAX_ENTRIES},
        {"size", v->map.size, 0, v->entries * (uint64_t)v->block_size},
        {"block table", load_be64(v->header + D_TABLE), 512, file->size, 512},
    };
    if (!format_check_limits(file->path, limits, G_N_ELEMENTS(limits), error))
        return false;
    v->bitmap_size = (uint32_t)align_up(v->block_size / 512 / 8, 512);
    return true;
}

/* Xen's: | mark 8 | offset 8 | sectors 4 | …, behind the table. Its size; 0: there is none. */
static uint64_t batmap_size(Vhd *v, uint64_t at)
{
    uint8_t h[512];
    if (host_file_read(v->map.file, at, h, sizeof(h)) || memcmp(h, "tdbatmap", 8))
        return 0;
    uint64_t offset = load_be64(h + 8), size = load_be32(h + 16) * UINT64_C(512);
    bool is_near = offset >= at && offset - at <= MIB(1) && size <= MIB(1);
    return is_near ? offset - at + size : 0;
}

static void find_end(Vhd *v)
{
    v->end = align_up(v->bat.offset + v->bat.size, 512);
    v->end += batmap_size(v, v->end);
    v->end = MAX(v->end, load_be64(v->footer + F_DATA) + 1024);
    for (uint32_t i = 0; i < v->entries; i++) {
        uint64_t at = block_place(v, i);
        if (at)
            v->end = MAX(v->end, at + v->bitmap_size + v->block_size);
    }
    for (int i = 0; i < 8; i++) {
        const uint8_t *l = v->header + LOCATORS + i * 24;
        if (load_be32(l) && load_be32(l + 8) <= 65536 && load_be64(l + 16) < v->map.file->size)
            v->end = MAX(v->end, align_up(load_be64(l + 16) + load_be32(l + 8), 512));
    }
}

static int vhd_commit(ImageMap *map);

static bool open_dynamic(Vhd *v, const OpenParameters *p, GError **error)
{
    if (!read_header(v, error))
        return false;
    int result = flat_table_load(&v->bat, v->map.file, load_be64(v->header + D_TABLE),
                                 v->entries * (size_t)4);
    if (result)
        return format_fail_io(error, v->map.file->path, "read", result);
    v->bitmaps =
        table_cache_new(v->map.file, v->bitmap_size, MIB(4), (int (*)(void *))vhd_commit, v);
    v->map.unit_size = v->block_size;
    find_end(v);
    if (v->end >= FORMAT_SIZE_MAX)
        return format_fail(error, v->map.file->path, "it is damaged");
    if (v->type != TYPE_DIFFERENCING)
        return true;
    v->map.parent_name = read_parent_name(v);
    return v->map.parent_name || p->only_look ||
           format_fail(error, v->map.file->path,
                       "it does not name its parent; name it with 'ospite disk rebase -u'");
}

static void vhd_close(ImageMap *map)
{
    Vhd *v = (Vhd *)map;
    flat_table_clear(&v->bat);
    table_cache_free(v->bitmaps);
    image_map_clear(map);
    g_free(v);
}

static bool fill(Vhd *v, const OpenParameters *p, GError **error)
{
    const char *path = v->map.file->path;
    if (!read_footer(v, error))
        return false;
    v->type = load_be32(v->footer + F_TYPE);
    v->map.size = load_be64(v->footer + F_SIZE);
    v->map.sector_size = 512;
    const FormatLimit limits[] = {
        {"version", load_be32(v->footer + F_VERSION) >> 16, 1, 1},
        {"type", v->type, TYPE_FIXED, TYPE_DIFFERENCING},
        {"size", v->map.size, 0, UINT64_C(1) << 46, 512},
        {"size of fixed data", v->type == TYPE_FIXED ? v->map.size : 0, 0, v->map.file->size},
    };
    return format_check_limits(path, limits, G_N_ELEMENTS(limits), error) &&
           (v->type == TYPE_FIXED || open_dynamic(v, p, error));
}

static ImageMap *vhd_open(HostFile *file, const OpenParameters *p, GError **error)
{
    Vhd *v = g_new0(Vhd, 1);
    v->map.file = file;
    if (fill(v, p, error))
        return &v->map;
    vhd_close(&v->map);
    return NULL;
}

/* ---- the map --------------------------------------------------------------------------------- */

static bool bit_get(const uint8_t *bitmap, uint64_t sector)
{
    return bitmap[sector / 8] >> (7 - sector % 8) & 1;
}

static int vhd_lookup(ImageMap *map, uint64_t offset, uint64_t length, bool cached, Extent *extent)
{
    Vhd *v = (Vhd *)map;
    *extent = (Extent){.kind = EXTENT_DATA,
                       .writable = true,
                       .file = map->file,
                       .host_offset = offset,
                       .length = map->size - offset};
    if (v->type == TYPE_FIXED)
        return 0;
    uint64_t inside = offset % v->block_size, place = block_place(v, offset / v->block_size);
    extent->length = MIN(extent->length, v->block_size - inside);
    extent->kind = EXTENT_ABSENT;
    if (!place)
        return 0;
    uint8_t *bitmap;
    int result = table_cache_get(v->bitmaps, place, cached, &bitmap);
    if (result)
        return result;
    uint64_t first = inside / 512, last = first;
    uint64_t end = (inside + MIN(length, v->block_size - inside) + 511) / 512;
    bool here = bit_get(bitmap, first);
    while (++last < end && bit_get(bitmap, last) == here)
        ;
    extent->kind = here ? EXTENT_DATA : EXTENT_ABSENT;
    extent->host_offset = place + v->bitmap_size + inside;
    extent->length = MIN(extent->length, last * 512 - inside);
    return 0;
}

/* In a block that is there, the place of the sectors is known; else a new block begins. */
static int vhd_allocate(ImageMap *map, uint64_t offset, uint64_t length, Allocation *a)
{
    Vhd *v = (Vhd *)map;
    uint64_t block = offset / v->block_size, inside = offset % v->block_size;
    uint64_t place = block_place(v, block);
    *a = (Allocation){.offset = offset,
                      .length = MIN(length, v->block_size - inside),
                      .file = map->file,
                      .cookie = place ? 0 : v->end};
    v->shrinks = false; /* this place is in no table yet */
    if (!place) {
        uint64_t after = v->end + v->bitmap_size + v->block_size;
        if (after / 512 >= ABSENT)
            return -EFBIG;
        /* The footer that stood here and what a crash left must not shine through. */
        int result = host_file_truncate(map->file, v->end);
        if (!result)
            result = host_file_truncate(map->file, after);
        if (result)
            return result;
        place = v->end;
        v->end = after;
        v->footer_moved = map->dirty = true;
    }
    a->host_offset = place + v->bitmap_size + inside;
    return 0;
}

/* Without a parent a new block is here as a whole: readers that skip bitmaps agree. */
static int vhd_link(ImageMap *map, const Allocation *a)
{
    Vhd *v = (Vhd *)map;
    uint64_t block = a->offset / v->block_size;
    uint64_t first = a->offset % v->block_size / 512, count = a->length / 512;
    uint8_t *bitmap;
    int result = a->cookie ? table_cache_add(v->bitmaps, a->cookie, &bitmap)
                           : table_cache_get(v->bitmaps, block_place(v, block), false, &bitmap);
    if (result)
        return result;
    if (a->cookie && v->type == TYPE_DYNAMIC)
        memset(bitmap, 0xff, v->bitmap_size);
    for (uint64_t i = first; i < first + count; i++)
        bitmap[i / 8] |= (uint8_t)(0x80 >> (i % 8));
    table_cache_mark(v->bitmaps, bitmap);
    if (a->cookie) {
        store_be32(v->bat.data + block * 4, (uint32_t)(a->cookie / 512));
        flat_table_mark(&v->bat, block * 4, 4);
    }
    map->dirty = true;
    return 0;
}

static void vhd_release(ImageMap *map, const Allocation *a)
{
    Vhd *v = (Vhd *)map;
    if (a->cookie)
        v->end = a->cookie;
}

static int vhd_forget(ImageMap *map, uint64_t offset, uint64_t length, uint64_t *ret_done)
{
    Vhd *v = (Vhd *)map;
    if (v->type != TYPE_DIFFERENCING)
        return -ENOTSUP;
    for (uint64_t i = offset / v->block_size; i * v->block_size < offset + length; i++) {
        store_be32(v->bat.data + i * 4, ABSENT);
        flat_table_mark(&v->bat, i * 4, 4);
    }
    map->dirty = v->shrinks = true;
    *ret_done = length;
    return 0;
}

/* What is behind the last block that is left goes. */
static int shrink(Vhd *v)
{
    v->shrinks = false;
    find_end(v);
    int result = host_file_write(v->map.file, v->end, v->footer, sizeof(v->footer));
    if (!result)
        result = host_file_truncate(v->map.file, v->end + sizeof(v->footer));
    return result ? result : host_file_sync(v->map.file);
}

static int vhd_commit(ImageMap *map)
{
    Vhd *v = (Vhd *)map;
    int result = 0;
    if (v->footer_moved)
        result = host_file_write(map->file, v->end, v->footer, sizeof(v->footer));
    if (!result)
        result = host_file_sync(map->file);
    if (!result && v->bitmaps && table_cache_is_dirty(v->bitmaps)) {
        result = table_cache_write(v->bitmaps);
        if (!result)
            result = host_file_sync(map->file);
    }
    if (!result && v->bat.dirty) {
        result = flat_table_write(&v->bat);
        if (!result)
            result = host_file_sync(map->file);
    }
    if (!result && v->shrinks)
        result = shrink(v);
    if (!result)
        map->dirty = v->footer_moved = false;
    return result;
}

/* ---- making ---------------------------------------------------------------------------------- */

static const FormatOption vhd_options[] = {
    {"subformat", "dynamic", "dynamic or fixed"},
    {"force_size", "on", "the size as it is asked for, and not that of a geometry: always so"},
    {NULL},
};

/* VHD specification, appendix "CHS calculation". */
static void fill_geometry(uint8_t *to, uint64_t sectors)
{
    uint32_t total = (uint32_t)MIN(sectors, 65535u * 16 * 255), spt = 17, heads, cth;
    if (total >= 65535u * 16 * 63) {
        spt = 255;
        heads = 16;
        cth = total / spt;
    } else {
        cth = total / spt;
        heads = MAX((cth + 1023) / 1024, 4);
        if (cth >= heads * 1024 || heads > 16) {
            spt = 31;
            heads = 16;
            cth = total / spt;
        }
        if (cth >= heads * 1024) {
            spt = 63;
            heads = 16;
            cth = total / spt;
        }
    }
    store_be16(to, (uint16_t)(cth / heads));
    to[2] = (uint8_t)heads;
    to[3] = (uint8_t)spt;
}

static void set_size(uint8_t *footer, uint64_t size)
{
    store_be64(footer + F_SIZE, size);
    fill_geometry(footer + F_GEOMETRY, size / 512);
}

/* The application's mark is one of those after which readers take the size, not the geometry. */
static void fill_footer(uint8_t *f, uint64_t size, uint32_t type)
{
    Uuid id = uuid_random();
    memcpy(f, "conectix", 8);
    store_be32(f + F_FEATURES, 2);
    store_be32(f + F_VERSION, 0x00010000);
    store_be64(f + F_DATA, type == TYPE_FIXED ? UINT64_MAX : 512);
    store_be32(f + F_TIME, (uint32_t)(g_get_real_time() / G_USEC_PER_SEC - EPOCH_2000));
    memcpy(f + F_APP, "win ", 4);
    store_be32(f + F_APP_VERSION, 0x00060001);
    memcpy(f + F_HOST, "Wi2k", 4);
    store_be64(f + F_ORIGINAL, size);
    set_size(f, size);
    store_be32(f + F_TYPE, type);
    memcpy(f + F_UUID, id.bytes, 16);
}

static void store_locator(uint8_t *l, const char *code, uint32_t length, uint64_t offset)
{
    memcpy(l, code, 4);
    store_be32(l + 4, (uint32_t)align_up(length, 512));
    store_be32(l + 8, length);
    store_be64(l + 16, offset);
}

/* Names the parent in the header and, at `locators`, in two sectors and more of UTF-16. */
static bool fill_parent(uint8_t *header, const char *name, const char *path, const char *format,
                        uint64_t place, uint8_t *locators, GError **error)
{
    g_autofree char *base = g_path_get_basename(name);
    glong length = 0, base_length = 0;
    g_autofree gunichar2 *text = g_utf8_to_utf16(name, -1, NULL, &length, error);
    g_autofree gunichar2 *short_text = g_utf8_to_utf16(base, -1, NULL, &base_length, error);
    if (!text || !short_text || length > 500)
        return (error && *error) || !format_fail(error, path, "its name is too long") ? false
                                                                                      : true;
    for (glong i = 0; i < MIN(base_length, 255); i++)
        store_be16(header + D_PARENT_NAME + i * 2, short_text[i]);
    memcpy(locators, text, (size_t)length * 2);
    store_locator(header + LOCATORS, g_path_is_absolute(name) ? "W2ku" : "W2ru",
                  (uint32_t)length * 2, place);
    if (strcmp(format, "vhd"))
        return true;
    ImageOptions o = {.format = "vhd", .read_only = true, .no_parents = true};
    g_autoptr(Image) parent = image_open(path, &o, error);
    if (!parent)
        return false;
    memcpy(header + D_PARENT_UUID, ((Vhd *)parent->map)->footer + F_UUID, 16);
    memcpy(header + D_PARENT_TIME, ((Vhd *)parent->map)->footer + F_TIME, 4);
    return true;
}

/* | footer | header | locator 1024 | BAT | footer | */
static bool create_dynamic(HostFile *file, const CreateOptions *o, GError **error)
{
    uint64_t entries = (o->size + MIB(2) - 1) / MIB(2), table = 2560;
    uint64_t end = align_up(table + entries * 4, 512);
    g_autofree uint8_t *image = g_malloc0(end + 512);
    uint8_t *header = image + 512;
    fill_footer(image, o->size, o->parent ? TYPE_DIFFERENCING : TYPE_DYNAMIC);
    memcpy(header, "cxsparse", 8);
    store_be64(header + D_DATA, UINT64_MAX);
    store_be64(header + D_TABLE, table);
    store_be32(header + D_VERSION, 0x00010000);
    store_be32(header + D_ENTRIES, (uint32_t)entries);
    store_be32(header + D_BLOCK, (uint32_t)MIB(2));
    if (o->parent && !fill_parent(header, o->parent, o->parent_path, o->parent_format, 1536,
                                  image + 1536, error))
        return false;
    seal(image, header);
    memset(image + table, 0xff, end - table);
    memcpy(image + end, image, 512);
    int result = host_file_write(file, 0, image, end + 512);
    if (!result)
        result = host_file_sync(file);
    return result ? format_fail_io(error, file->path, "create", result) : true;
}

static bool create_fixed(HostFile *file, const CreateOptions *o, GError **error)
{
    uint8_t footer[512] = {0}, unused[1024] = {0};
    fill_footer(footer, o->size, TYPE_FIXED);
    seal(footer, unused);
    int result = host_file_truncate(file, o->size);
    if (!result)
        result = host_file_write(file, o->size, footer, sizeof(footer));
    if (!result)
        result = host_file_sync(file);
    return result ? format_fail_io(error, file->path, "create", result) : true;
}

static bool vhd_create(HostFile *file, const CreateOptions *o, GError **error)
{
    const char *kind = format_option(o, "subformat");
    bool fixed = !strcmp(kind, "fixed");
    if (!fixed && strcmp(kind, "dynamic"))
        return format_fail(error, file->path, "subformat is dynamic or fixed, not '%s'", kind);
    if (o->size > MAX_SIZE)
        return format_fail(error, file->path, "a VHD holds at most 2040 GiB; make a VHDX");
    if (fixed && o->parent)
        return format_fail(error, file->path, "a fixed VHD can't have a parent");
    return fixed ? create_fixed(file, o, error) : create_dynamic(file, o, error);
}

/* ---- size, parent, check --------------------------------------------------------------------- */

static int write_footers(Vhd *v)
{
    uint64_t last = v->type == TYPE_FIXED ? v->map.size : v->end;
    seal(v->footer, v->header);
    int result = v->type == TYPE_FIXED ? 0 : host_file_write(v->map.file, 0, v->footer, 512);
    if (!result)
        result = host_file_write(v->map.file, last, v->footer, 512);
    return result ? result : host_file_sync(v->map.file);
}

/* A longer table is written behind the blocks, then the header names it. */
static int move_bat(Vhd *v, uint32_t entries)
{
    uint64_t offset = v->end, size = align_up(entries * UINT64_C(4), 512);
    g_autofree uint8_t *table = g_malloc(size);
    memset(table, 0xff, size);
    memcpy(table, v->bat.data, MIN(v->bat.size, size));
    int result = host_file_write(v->map.file, offset, table, size);
    if (!result)
        result = host_file_write(v->map.file, offset + size, v->footer, 512);
    if (!result)
        result = host_file_sync(v->map.file);
    if (result)
        return result;
    store_be64(v->header + D_TABLE, offset);
    store_be32(v->header + D_ENTRIES, entries);
    seal(v->footer, v->header);
    result = host_file_write(v->map.file, load_be64(v->footer + F_DATA), v->header, 1024);
    if (!result)
        result = host_file_sync(v->map.file);
    if (result)
        return result;
    v->end = offset + size;
    v->entries = entries;
    flat_table_clear(&v->bat);
    return flat_table_load(&v->bat, v->map.file, offset, entries * (size_t)4);
}

/*
 * The end of the file is a whole footer at every moment, the old one or the new one, and what the
 * other one covers is data of neither size, or zeros.
 */
static int resize_fixed(Vhd *v, uint64_t size)
{
    HostFile *file = v->map.file;
    uint64_t old = v->map.size;
    v->map.size = size;
    set_size(v->footer, size);
    int result = size == old ? 0 : write_footers(v);
    if (!result && size > old)
        result = host_file_zero(file, old, 512);
    else if (!result && size < old)
        result = host_file_truncate(file, size + 512);
    return result ? result : host_file_sync(file);
}

static bool vhd_resize(ImageMap *map, uint64_t size, GError **error)
{
    Vhd *v = (Vhd *)map;
    if (size > MAX_SIZE)
        return format_fail(error, map->file->path, "a VHD holds at most 2040 GiB");
    int result = vhd_commit(map);
    if (!result && v->type == TYPE_FIXED) {
        result = resize_fixed(v, size);
        return result ? format_fail_io(error, map->file->path, "resize", result) : true;
    }
    uint32_t entries = (uint32_t)((size + v->block_size - 1) / v->block_size);
    if (!result && entries > v->entries)
        result = move_bat(v, entries);
    /* Blocks behind a smaller end go, lest they come back. */
    for (uint32_t i = entries; i < v->entries && !result; i++) {
        store_be32(v->bat.data + i * 4, ABSENT);
        flat_table_mark(&v->bat, i * 4, 4);
        map->dirty = true;
    }
    if (!result)
        result = vhd_commit(map);
    if (!result) {
        map->size = size;
        set_size(v->footer, size);
        result = write_footers(v);
    }
    return result ? format_fail_io(error, map->file->path, "resize", result) : true;
}

static bool vhd_set_parent(ImageMap *map, const char *name, const char *format, const char *path,
                           GError **error)
{
    Vhd *v = (Vhd *)map;
    uint8_t locator[1024] = {0};
    if (v->type == TYPE_FIXED)
        return format_fail(error, map->file->path, "a fixed VHD can't have a parent");
    memset(v->header + D_PARENT_UUID, 0, 1024 - 256 - D_PARENT_UUID);
    if (name && !fill_parent(v->header, name, path, format, v->end, locator, error))
        return false;
    int result = vhd_commit(map);
    if (!result && name) {
        result = host_file_write(map->file, v->end, locator, sizeof(locator));
        find_end(v);
    }
    v->type = name ? TYPE_DIFFERENCING : TYPE_DYNAMIC;
    store_be32(v->footer + F_TYPE, v->type);
    if (!result)
        result = write_footers(v);
    if (!result)
        result = host_file_write(map->file, load_be64(v->footer + F_DATA), v->header, 1024);
    if (!result)
        result = host_file_sync(map->file);
    if (result)
        return format_fail_io(error, map->file->path, "write the header of", result);
    image_map_name_parent(map, name, format);
    return true;
}

static char *vhd_doubt_parent(ImageMap *map, const ImageMap *parent, const FormatDriver *driver)
{
    const Vhd *v = (Vhd *)map, *p = (const Vhd *)parent;
    if (driver == &vhd_format &&
        !uuid_equal(uuid_load(v->header + D_PARENT_UUID), uuid_load(p->footer + F_UUID)))
        return g_strdup("its parent has another UUID than the one it was made over");
    return NULL;
}

/* A part of the file. */
typedef struct Place {
    uint64_t at, size;
    bool is_block;
} Place;

static int compare_places(gconstpointer a, gconstpointer b)
{
    const Place *x = a, *y = b;
    return x->at < y->at ? -1 : x->at > y->at;
}

static void add_place(GArray *places, uint64_t at, uint64_t size, bool is_block)
{
    Place place = {at, size, is_block};
    if (size)
        g_array_append_val(places, place);
}

/* What blocks may not lie on; names of parents may share places with each other. */
static void add_own_places(const Vhd *v, GArray *places, CheckResult *r)
{
    add_place(places, 0, 512, false);
    add_place(places, load_be64(v->footer + F_DATA), 1024, false);
    add_place(places, v->bat.offset, v->bat.size, false);
    for (int i = 0; i < 8 && v->type == TYPE_DIFFERENCING; i++) {
        const uint8_t *l = v->header + LOCATORS + i * 24;
        uint64_t at = load_be64(l + 16), length = load_be32(l) ? load_be32(l + 8) : 0;
        if (length && (at >= v->map.file->size || length > 65536)) {
            r->corruptions++;
            check_result_add(r, "ERROR the parent's name %d is outside of the file", i);
        } else {
            add_place(places, at, length, false);
        }
    }
}

static void find_shared_places(const Vhd *v, GArray *places, CheckResult *r)
{
    uint64_t end = 0, block_end = 0;
    if (v->type != TYPE_FIXED)
        add_own_places(v, places, r);
    g_array_sort(places, compare_places);
    for (guint i = 0; i < places->len; i++) {
        const Place *p = &g_array_index(places, Place, i);
        if (p->at < (p->is_block ? end : block_end)) {
            r->corruptions++;
            check_result_add(r, "ERROR a block shares the place at byte %" G_GUINT64_FORMAT, p->at);
        }
        end = MAX(end, p->at + p->size);
        if (p->is_block)
            block_end = MAX(block_end, p->at + p->size);
    }
}

static bool vhd_check(ImageMap *map, bool repair, CheckResult *r, GError **error)
{
    Vhd *v = (Vhd *)map;
    g_autoptr(GArray) places = g_array_new(FALSE, FALSE, sizeof(Place));
    uint64_t step = v->bitmap_size + (uint64_t)v->block_size;
    int result = map->dirty ? vhd_commit(map) : 0;
    r->total_units = v->entries;
    r->end_offset = v->type == TYPE_FIXED ? map->size + 512 : v->end + 512;
    for (uint32_t i = 0; i < v->entries; i++) {
        uint64_t at = block_place(v, i);
        if (!at)
            continue;
        add_place(places, at, step, true);
        if (at + step > map->file->size + 512) {
            r->corruptions++;
            check_result_add(r, "ERROR block %u is outside of the file", i);
        }
    }
    r->allocated_units = places->len;
    find_shared_places(v, places, r);
    uint8_t last[512] = {0};
    if (!result && v->type != TYPE_FIXED)
        result = host_file_read(map->file, v->end, last, sizeof(last));
    if (!result && v->type != TYPE_FIXED && memcmp(last, v->footer, 512)) {
        check_result_add(r, "Leaked: the footer at the end is missing");
        *(repair ? &r->leaks_fixed : &r->leaks) += 1;
        if (repair)
            result = host_file_truncate(map->file, v->end);
        if (repair && !result)
            result = write_footers(v);
    }
    return result ? format_fail_io(error, map->file->path, "check", result) : true;
}

static void vhd_describe(const ImageMap *map, GVariantDict *d)
{
    static const char *const names[] = {"?", "?", "fixed", "dynamic", "differencing"};
    const Vhd *v = (const Vhd *)map;
    g_autofree char *id = uuid_text_le(uuid_load(v->footer + F_UUID));
    g_variant_dict_insert(d, "variant", "s", names[v->type]);
    g_variant_dict_insert(d, "uuid", "s", id);
}

static bool vhd_set_uuid(ImageMap *map, Uuid uuid, GError **error)
{
    Vhd *v = (Vhd *)map;
    memcpy(v->footer + F_UUID, uuid.bytes, sizeof(uuid.bytes));
    int result = write_footers(v);
    return !result || format_fail_io(error, map->file->path, "write the UUID of", result);
}

const FormatDriver vhd_format = {
    .name = "vhd",
    .probe = vhd_probe,
    .options = vhd_options,
    .create = vhd_create,
    .open = vhd_open,
    .close = vhd_close,
    .lookup = vhd_lookup,
    .allocate = vhd_allocate,
    .link = vhd_link,
    .release = vhd_release,
    .forget = vhd_forget,
    .commit = vhd_commit,
    .resize = vhd_resize,
    .check = vhd_check,
    .set_parent = vhd_set_parent,
    .doubt_parent = vhd_doubt_parent,
    .describe = vhd_describe,
    .set_uuid = vhd_set_uuid,
};
