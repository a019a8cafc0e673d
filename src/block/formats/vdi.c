/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * VDI, VirtualBox's images: fixed, dynamic and differencing.
 *
 *   | header 512 | block map: a number for each block | … | data blocks, by their numbers |
 *
 * Invariants: the header's count of blocks is a hint; what is free follows from the map. Blocks
 * beyond the highest in the map are free, and cut off before the first write. A block's data are
 * durable before its entry in the map is written (SAFETY §5.4). Other products put the next block
 * where the count is: it is never less than what follows the highest, and closing leaves no gaps.
 *
 * VDI names a parent by its UUID alone. Ours add its file name to the comment; for others' the
 * image's folder is searched.
 */
#include "block/formats/vdi.h"

#include <errno.h>

#include "base/i18n.h"
#include "block/flat_table.h"
#include "block/formats/vbox_parent.h"
#include "block/image.h"

#define SIGNATURE  0xbeda107fu
#define ABSENT     0xffffffffu
#define ZERO       0xfffffffeu
#define MAX_BLOCKS (8u << 20)
#define PREFIX     "ospite parent: "

enum { TYPE_DYNAMIC = 1, TYPE_FIXED = 2, TYPE_UNDO = 3, TYPE_DIFFERENCING = 4 };

/* Offsets in the header; numbers are little-endian */
enum {
    H_SIGNATURE = 64,
    H_VERSION = 68,
    H_SIZE = 72,
    H_TYPE = 76,
    H_COMMENT = 84,
    H_MAP = 340,
    H_DATA = 344,
    H_SECTOR = 360,
    H_DISK = 368,
    H_BLOCK = 376,
    H_EXTRA = 380,
    H_BLOCKS = 384,
    H_USED = 388,
    H_UUID = 392,
    H_CHANGE = 408,
    H_PARENT = 424,
    H_PARENT_CHANGE = 440,
};

static const char banner[64] = "<<< Oracle VM VirtualBox Disk Image >>>\n";

typedef struct Vdi {
    ImageMap map;
    uint8_t header[512];
    uint32_t type, block_size, blocks, extra;
    uint64_t data_offset;
    FlatTable table;
    bool written;    /* gaps are closed at the end */
    uint32_t end;    /* the first block number that nothing uses */
    GArray *free;    /* uint32_t: numbers below `end` that nothing uses … */
    GArray *pending; /* … and those that the map in the file still uses */
} Vdi;

static bool vdi_probe(const ProbeData *data)
{
    return load_le32(data->head + H_SIGNATURE) == SIGNATURE;
}

static uint32_t entry(const Vdi *v, uint64_t block)
{
    return load_le32(v->table.data + block * 4);
}

static void set_entry(Vdi *v, uint64_t block, uint32_t number)
{
    store_le32(v->table.data + block * 4, number);
    flat_table_mark(&v->table, block * 4, 4);
    v->map.dirty = true;
}

static uint64_t place(const Vdi *v, uint64_t number)
{
    return v->data_offset + number * (v->block_size + (uint64_t)v->extra) + v->extra;
}

/* ---- opening --------------------------------------------------------------------------------- */

static bool check_header(Vdi *v, const char *path, GError **error)
{
    const uint8_t *h = v->header;
    if (load_le32(h + H_SIGNATURE) != SIGNATURE)
        return format_fail(error, path, "it is no VDI image");
    v->type = load_le32(h + H_TYPE);
    v->block_size = load_le32(h + H_BLOCK);
    v->extra = load_le32(h + H_EXTRA);
    v->blocks = load_le32(h + H_BLOCKS);
    v->data_offset = load_le32(h + H_DATA);
    v->map.size = load_le64(h + H_DISK);
    if (load_le32(h + H_VERSION) >> 16 == 0)
        return format_fail(
            error, path,
            "it is a VDI of version 0.%u, from before VirtualBox 1.0; let VirtualBox "
            "clone it",
            load_le32(h + H_VERSION) & 0xffff);
    uint64_t map_offset = load_le32(h + H_MAP), map_size = v->blocks * UINT64_C(4);
    const FormatLimit limits[] = {
        {"version", load_le32(h + H_VERSION) >> 16, 1, 1},
        {"type", v->type, TYPE_DYNAMIC, TYPE_DIFFERENCING},
        {"sector size", load_le32(h + H_SECTOR), 512, 512},
        {"block size", v->block_size, 4096, 64 << 20, 512},
        {"space before blocks", v->extra, 0, 1 << 20, 512},
        {"size", v->map.size, 0, v->blocks * (uint64_t)v->block_size},
        {"number of blocks", v->blocks, 0, MAX_BLOCKS},
        {"block map", map_offset, 400, UINT32_MAX, 4},
        {"end of the block map", map_offset + map_size, 0, v->data_offset},
        {"data", v->data_offset, 512, UINT32_MAX, 512},
    };
    return format_check_limits(path, limits, G_N_ELEMENTS(limits), error);
}

/* Learns what is free, and refuses to write where two blocks are one. */
static bool survey(Vdi *v, bool read_only, GError **error)
{
    g_autofree uint8_t *used = g_malloc0(v->blocks / 8 + 1);
    bool twice = false;
    v->end = 0;
    g_array_set_size(v->free, 0);
    for (uint32_t i = 0; i < v->blocks; i++) {
        uint32_t n = entry(v, i);
        if (n >= ZERO)
            continue;
        if (n >= MAX_BLOCKS)
            return format_fail(error, v->map.file->path, "its block map leads to block %u", n);
        v->end = MAX(v->end, n + 1);
        if (n < v->blocks) {
            twice = twice || (used[n / 8] >> (n % 8) & 1);
            used[n / 8] |= (uint8_t)(1 << (n % 8));
        }
    }
    for (uint32_t n = 0; n < MIN(v->end, v->blocks); n++) {
        if (!(used[n / 8] >> (n % 8) & 1))
            g_array_append_val(v->free, n);
    }
    if (twice && !read_only)
        return format_fail(error, v->map.file->path,
                           "two of its blocks share one place; open it "
                           "read-only and copy it");
    return true;
}

bool vdi_header_uuid(const uint8_t *header, Uuid *ret_uuid)
{
    *ret_uuid = uuid_load(header + H_UUID);
    return load_le32(header + H_SIGNATURE) == SIGNATURE;
}

static bool find_parent(Vdi *v, const OpenParameters *p, GError **error)
{
    Uuid link = uuid_load(v->header + H_PARENT);
    g_autofree char *comment = g_strndup((const char *)v->header + H_COMMENT, 256);
    if (uuid_is_null(link))
        return true;
    if (g_str_has_prefix(comment, PREFIX)) {
        const char *format = comment + strlen(PREFIX), *name = strchr(format, ' ');
        v->map.parent_format = name ? g_strndup(format, name - format) : NULL;
        v->map.parent_name = g_strdup(name ? name + 1 : format);
        v->map.parent_found = vbox_is_parent(v->map.file->path, v->map.parent_name, link);
        return true;
    }
    return vbox_find_parent(&v->map, link, p, error);
}

static void close_gaps(Vdi *v);

static void vdi_close(ImageMap *map)
{
    Vdi *v = (Vdi *)map;
    /* A smaller disk's blocks may have been the last ones. */
    bool has_gaps = v->free->len || v->end != load_le32(v->header + H_USED);
    if (v->written && !map->dirty && has_gaps)
        close_gaps(v);
    flat_table_clear(&v->table);
    g_array_unref(v->free);
    g_array_unref(v->pending);
    image_map_clear(map);
    g_free(v);
}

static bool fill(Vdi *v, const OpenParameters *p, GError **error)
{
    HostFile *file = v->map.file;
    int result = host_file_read(file, 0, v->header, sizeof(v->header));
    if (result)
        return format_fail_io(error, file->path, "read", result);
    if (!check_header(v, file->path, error))
        return false;
    result = flat_table_load(&v->table, file, load_le32(v->header + H_MAP), v->blocks * (size_t)4);
    if (result)
        return format_fail_io(error, file->path, "read", result);
    v->map.size = align_up(v->map.size, 512);
    v->map.sector_size = 512;
    v->map.unit_size = v->block_size;
    return survey(v, p->read_only, error) && find_parent(v, p, error);
}

static ImageMap *vdi_open(HostFile *file, const OpenParameters *p, GError **error)
{
    Vdi *v = g_new0(Vdi, 1);
    v->map.file = file;
    v->free = g_array_new(FALSE, FALSE, 4);
    v->pending = g_array_new(FALSE, FALSE, 4);
    if (fill(v, p, error))
        return &v->map;
    vdi_close(&v->map);
    return NULL;
}

/* ---- the map --------------------------------------------------------------------------------- */

static int vdi_lookup(ImageMap *map, uint64_t offset, uint64_t length, bool cached, Extent *extent)
{
    Vdi *v = (Vdi *)map;
    uint64_t block = offset / v->block_size, inside = offset % v->block_size;
    uint32_t n = entry(v, block);
    *extent = (Extent){.kind = n == ABSENT ? EXTENT_ABSENT
                               : n == ZERO ? EXTENT_ZERO
                                           : EXTENT_DATA,
                       .length = v->block_size - inside};
    if (extent->kind == EXTENT_DATA) {
        extent->writable = true;
        extent->file = map->file;
        extent->host_offset = place(v, n) + inside;
    }
    length = MIN(length, map->size - offset);
    while (++block < v->blocks && extent->length < length) {
        uint32_t next = entry(v, block);
        if (n < ZERO ? v->extra || next != ++n : next != n)
            break;
        extent->length += v->block_size;
    }
    extent->length = MIN(extent->length, map->size - offset);
    return 0;
}

static int write_header(Vdi *v)
{
    int result = host_file_write(v->map.file, 0, v->header, sizeof(v->header));
    return result ? result : host_file_sync(v->map.file);
}

/* What a crash left behind the last block goes, and children learn that we changed. */
static int vdi_begin_write(ImageMap *map)
{
    Vdi *v = (Vdi *)map;
    uint64_t end = place(v, v->end) - v->extra;
    int result = 0;
    if (v->type != TYPE_FIXED && map->file->size > end)
        result = host_file_truncate(map->file, end);
    Uuid change = uuid_random();
    v->written = true;
    if (!map->keeps_contents)
        memcpy(v->header + H_CHANGE, change.bytes, 16);
    return result ? result : write_header(v);
}

static int take_number(Vdi *v, uint32_t *ret_number)
{
    if (v->free->len) {
        uint32_t n = g_array_index(v->free, uint32_t, v->free->len - 1);
        int result = host_file_zero(v->map.file, place(v, n), v->block_size);
        if (!result)
            g_array_set_size(v->free, v->free->len - 1);
        *ret_number = n;
        return result;
    }
    if (v->end >= MAX_BLOCKS)
        return -EFBIG;
    *ret_number = v->end++;
    return 0;
}

static int vdi_allocate(ImageMap *map, uint64_t offset, uint64_t length, Allocation *a)
{
    Vdi *v = (Vdi *)map;
    uint32_t n;
    int result = take_number(v, &n);
    if (result)
        return result;
    *a = (Allocation){.offset = offset - offset % v->block_size,
                      .length = v->block_size,
                      .file = map->file,
                      .host_offset = place(v, n),
                      .reads_zero = true,
                      .cookie = n};
    return 0;
}

static int vdi_link(ImageMap *map, const Allocation *a)
{
    Vdi *v = (Vdi *)map;
    set_entry(v, a->offset / v->block_size, (uint32_t)a->cookie);
    return 0;
}

static void vdi_release(ImageMap *map, const Allocation *a)
{
    uint32_t n = (uint32_t)a->cookie;
    g_array_append_val(((Vdi *)map)->free, n);
}

static int vdi_zero(ImageMap *map, uint64_t offset, uint64_t length, bool discard,
                    uint64_t *ret_done)
{
    Vdi *v = (Vdi *)map;
    uint64_t end = offset + length;
    if (end < map->size)
        end -= end % v->block_size;
    if (v->type == TYPE_FIXED || offset % v->block_size || end <= offset)
        return -ENOTSUP;
    for (uint64_t i = offset / v->block_size; i * v->block_size < end; i++) {
        uint32_t n = entry(v, i);
        if (n < ZERO)
            g_array_append_val(v->pending, n);
        set_entry(v, i, ZERO);
    }
    *ret_done = end - offset;
    return 0;
}

static int vdi_forget(ImageMap *map, uint64_t offset, uint64_t length, uint64_t *ret_done)
{
    Vdi *v = (Vdi *)map;
    if (v->type == TYPE_FIXED)
        return -ENOTSUP;
    for (uint64_t i = offset / v->block_size; i * v->block_size < offset + length; i++) {
        uint32_t n = entry(v, i);
        if (n < ZERO)
            g_array_append_val(v->pending, n);
        set_entry(v, i, ABSENT);
    }
    *ret_done = length;
    return 0;
}

static void free_pending(Vdi *v)
{
    for (guint i = 0; i < v->pending->len; i++) {
        uint32_t n = g_array_index(v->pending, uint32_t, i);
        host_file_discard(v->map.file, place(v, n), v->block_size);
        g_array_append_val(v->free, n);
    }
    g_array_set_size(v->pending, 0);
}

/* Readers of other products want whole blocks in the file. */
static int complete_last_block(Vdi *v)
{
    uint64_t end = place(v, v->end) - v->extra;
    return v->map.file->size < end ? host_file_truncate(v->map.file, end) : 0;
}

static int vdi_commit(ImageMap *map)
{
    Vdi *v = (Vdi *)map;
    if (!map->dirty)
        return host_file_sync(map->file);
    int result = complete_last_block(v);
    if (!result)
        result = host_file_sync(map->file);
    if (!result)
        result = flat_table_write(&v->table);
    store_le32(v->header + H_USED, v->end);
    if (!result)
        result = write_header(v);
    if (result)
        return result;
    map->dirty = false;
    free_pending(v);
    return 0;
}

static int move_block(Vdi *v, uint32_t from, uint32_t to)
{
    g_autofree uint8_t *data = g_malloc(MIB(1));
    int result = 0;
    for (uint32_t at = 0; at < v->block_size && !result; at += MIB(1)) {
        uint32_t part = MIN(v->block_size - at, MIB(1));
        result = host_file_read(v->map.file, place(v, from) + at, data, part);
        if (!result)
            result = host_file_write(v->map.file, place(v, to) + at, data, part);
    }
    return result;
}

static int compare_numbers(gconstpointer a, gconstpointer b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/*
 * The last blocks move to the first numbers that nothing uses. Their old places go when the map is
 * durable. What can't be moved stays: it does no harm.
 */
static void close_gaps(Vdi *v)
{
    uint32_t count = v->end - v->free->len, gap = 0;
    int result = 0;
    g_array_sort(v->free, compare_numbers);
    for (uint32_t i = 0; i < v->blocks && !result; i++) {
        uint32_t n = entry(v, i);
        if (n >= ZERO || n < count)
            continue;
        uint32_t to = g_array_index(v->free, uint32_t, gap++);
        result = move_block(v, n, to);
        if (!result)
            set_entry(v, i, to);
    }
    if (result)
        return;
    g_array_set_size(v->free, 0);
    v->end = count;
    v->map.dirty = true; /* the count changes in any case */
    if (vdi_commit(&v->map) == 0 && v->type != TYPE_FIXED)
        host_file_truncate(v->map.file, place(v, v->end) - v->extra);
}

/* ---- size and parent ------------------------------------------------------------------------- */

/* Moves the blocks in the way of a longer map behind the others; their old places are unused. */
static int clear_way(Vdi *v, uint32_t numbers)
{
    g_autofree uint8_t *data = g_malloc(v->block_size);
    for (uint32_t i = 0; i < v->blocks; i++) {
        uint32_t n = entry(v, i);
        if (n >= ZERO || n >= numbers)
            continue;
        v->end = MAX(v->end, numbers);
        int result = host_file_read(v->map.file, place(v, n), data, v->block_size);
        if (!result)
            result = host_file_write(v->map.file, place(v, v->end), data, v->block_size);
        if (result)
            return result;
        set_entry(v, i, v->end++);
    }
    v->end = MAX(v->end, numbers);
    return vdi_commit(&v->map);
}

/*
 * A longer map is written where the first blocks were, with numbers that count from behind it; one
 * write of the header switches to both.
 */
static int move_map(Vdi *v, uint32_t blocks, uint64_t size)
{
    uint64_t step = v->block_size + (uint64_t)v->extra;
    uint32_t numbers = (uint32_t)((blocks * UINT64_C(4) + step - 1) / step);
    g_array_set_size(v->free, 0);
    int result = clear_way(v, numbers);
    g_autofree uint8_t *table = g_malloc((size_t)blocks * 4);
    for (uint32_t i = 0; i < blocks; i++) {
        uint32_t n = i < v->blocks ? entry(v, i) : ABSENT;
        store_le32(table + i * (size_t)4, n < ZERO ? n - numbers : n);
    }
    uint64_t offset = v->data_offset;
    if (offset + numbers * step > UINT32_MAX)
        return -EFBIG;
    if (!result)
        result = host_file_write(v->map.file, offset, table, (size_t)blocks * 4);
    if (!result)
        result = host_file_sync(v->map.file);
    if (result)
        return result;
    store_le32(v->header + H_MAP, (uint32_t)offset);
    store_le32(v->header + H_DATA, (uint32_t)(offset + numbers * step));
    store_le32(v->header + H_BLOCKS, blocks);
    store_le32(v->header + H_USED, v->end - numbers);
    store_le64(v->header + H_DISK, size);
    return write_header(v);
}

static int reload(Vdi *v, GError **error)
{
    int result = 0;
    flat_table_clear(&v->table);
    if (!check_header(v, v->map.file->path, error))
        return -EINVAL;
    result = flat_table_load(&v->table, v->map.file, load_le32(v->header + H_MAP),
                             v->blocks * (size_t)4);
    return result ? result : survey(v, false, error) ? 0 : -EINVAL;
}

/* The map stays where it is. New entries are written before the header counts them. */
static int resize_in_place(Vdi *v, uint32_t blocks, uint64_t size)
{
    uint32_t more = blocks > v->blocks ? blocks - v->blocks : 0;
    g_autofree uint8_t *absent = g_malloc(more * (size_t)4 + 1);
    memset(absent, 0xff, more * (size_t)4);
    int result = vdi_commit(&v->map);
    if (!result && more)
        result = host_file_write(v->map.file, v->table.offset + v->blocks * UINT64_C(4), absent,
                                 more * (size_t)4);
    if (!result)
        result = host_file_sync(v->map.file);
    store_le32(v->header + H_BLOCKS, blocks);
    store_le64(v->header + H_DISK, size);
    return result ? result : write_header(v);
}

static bool vdi_resize(ImageMap *map, uint64_t size, GError **error)
{
    Vdi *v = (Vdi *)map;
    uint64_t blocks = (size + v->block_size - 1) / v->block_size, done, start;
    int result = 0;
    if (blocks > MAX_BLOCKS)
        return format_fail(error, map->file->path, "a VDI can't be that large");
    start = align_up(size, 512) + v->block_size - 1;
    start -= start % v->block_size;
    if (start < map->size && v->type != TYPE_FIXED)
        result = vdi_zero(map, start, map->size - start, true, &done);
    if (!result && v->table.offset + blocks * 4 > v->data_offset)
        result = move_map(v, (uint32_t)blocks, size);
    else if (!result)
        result = resize_in_place(v, (uint32_t)blocks, size);
    if (!result && v->type == TYPE_FIXED)
        store_le32(v->header + H_TYPE, TYPE_DYNAMIC);
    if (!result)
        result = write_header(v);
    if (!result)
        result = reload(v, error);
    return !result || (error && *error) ? !result
                                        : format_fail_io(error, map->file->path, "resize", result);
}

/* The UUID of a parent of another format: made from its path, so that it stays. */
static void name_parent(uint8_t *h, const char *name, const char *format, const ImageMap *parent)
{
    Uuid link = {{0}}, change = {{0}};
    memset(h + H_COMMENT, 0, 256);
    if (name) {
        link = parent ? uuid_load(((const Vdi *)parent)->header + H_UUID) : uuid_random();
        if (parent)
            change = uuid_load(((const Vdi *)parent)->header + H_CHANGE);
        g_snprintf((char *)h + H_COMMENT, 256, PREFIX "%s %s", format, name);
    }
    memcpy(h + H_PARENT, link.bytes, 16);
    memcpy(h + H_PARENT_CHANGE, change.bytes, 16);
    store_le32(h + H_TYPE, name ? TYPE_DIFFERENCING : TYPE_DYNAMIC);
}

/* Fills the names of a parent that is at `path`. */
static bool link_parent(uint8_t *h, const char *name, const char *format, const char *path,
                        GError **error)
{
    g_autoptr(Image) parent = NULL;
    if (name && strlen(name) + strlen(format) + strlen(PREFIX) > 250)
        return format_fail(error, path, "its name is too long for a VDI to tell");
    if (name && !strcmp(format, "vdi")) {
        ImageOptions o = {.format = "vdi", .read_only = true, .no_parents = true};
        parent = image_open(path, &o, error);
        if (!parent)
            return false;
    }
    name_parent(h, name, format, parent ? parent->map : NULL);
    return true;
}

static bool vdi_set_parent(ImageMap *map, const char *name, const char *format, const char *path,
                           GError **error)
{
    Vdi *v = (Vdi *)map;
    if (v->type == TYPE_FIXED)
        return format_fail(error, map->file->path, "a fixed VDI can't have a parent");
    if (!link_parent(v->header, name, format, path, error))
        return false;
    int result = write_header(v);
    if (result)
        return format_fail_io(error, map->file->path, "write the header of", result);
    image_map_name_parent(map, name, format);
    return true;
}

static char *vdi_doubt_parent(ImageMap *map, const ImageMap *parent, const FormatDriver *driver)
{
    const Vdi *v = (Vdi *)map, *p = (const Vdi *)parent;
    if (driver != &vdi_format)
        return NULL;
    Uuid change = uuid_load(v->header + H_PARENT_CHANGE);
    if (!uuid_equal(uuid_load(v->header + H_PARENT), uuid_load(p->header + H_UUID)))
        return g_strdup("its parent has another UUID than the one it was made over");
    if (!uuid_is_null(change) && !uuid_equal(change, uuid_load(p->header + H_CHANGE)))
        return g_strdup("its parent was changed since it was made over it");
    return NULL;
}

/* ---- making ---------------------------------------------------------------------------------- */

static const FormatOption vdi_options[] = {
    {"static", "off", "fixed size: all space at once"},
    {NULL},
};

static void fill_header(uint8_t *h, const CreateOptions *o, uint32_t blocks, bool fixed)
{
    uint64_t block_size = MIB(1), map_end = 512 + blocks * UINT64_C(4);
    Uuid id = uuid_random(), change = uuid_random();
    memcpy(h, banner, sizeof(banner));
    store_le32(h + H_SIGNATURE, SIGNATURE);
    store_le32(h + H_VERSION, 0x00010001);
    store_le32(h + H_SIZE, 400);
    store_le32(h + H_TYPE, fixed ? TYPE_FIXED : TYPE_DYNAMIC);
    store_le32(h + H_MAP, 512);
    store_le32(h + H_DATA, (uint32_t)align_up(map_end, block_size));
    store_le32(h + H_SECTOR, 512);
    store_le64(h + H_DISK, o->size);
    store_le32(h + H_BLOCK, (uint32_t)block_size);
    store_le32(h + H_BLOCKS, blocks);
    store_le32(h + H_USED, fixed ? blocks : 0);
    memcpy(h + H_UUID, id.bytes, 16);
    memcpy(h + H_CHANGE, change.bytes, 16);
}

static bool vdi_create(HostFile *file, const CreateOptions *o, GError **error)
{
    bool fixed = format_option_is_on(o, "static");
    uint64_t blocks = (o->size + MIB(1) - 1) / MIB(1);
    if (blocks > MAX_BLOCKS || (fixed && o->parent))
        return format_fail(error, file->path, "a VDI can't be %s",
                           fixed && o->parent ? _("fixed and have a parent") : _("that large"));
    g_autofree uint8_t *head = g_malloc0(512 + blocks * 4);
    fill_header(head, o, (uint32_t)blocks, fixed);
    if (o->parent && !link_parent(head, o->parent, o->parent_format, o->parent_path, error))
        return false;
    for (uint64_t i = 0; i < blocks; i++)
        store_le32(head + 512 + i * 4, fixed ? (uint32_t)i : ABSENT);
    int result = host_file_write(file, 0, head, 512 + blocks * 4);
    uint64_t data = load_le32(head + H_DATA);
    if (!result)
        result = host_file_truncate(file, fixed ? data + blocks * MIB(1) : data);
    if (!result)
        result = host_file_sync(file);
    return result ? format_fail_io(error, file->path, "create", result) : true;
}

/* ---- checking -------------------------------------------------------------------------------- */

static bool vdi_check(ImageMap *map, bool repair, CheckResult *r, GError **error)
{
    Vdi *v = (Vdi *)map;
    g_autofree uint8_t *used = g_malloc0(MAX_BLOCKS / 8);
    uint32_t before = UINT32_MAX;
    int result = map->dirty ? vdi_commit(map) : 0;
    for (uint32_t i = 0; i < v->blocks; i++) {
        uint32_t n = entry(v, i);
        if (n >= ZERO)
            continue;
        r->allocated_units++;
        r->fragmented_units += before != UINT32_MAX && n != before + 1;
        before = n;
        bool outside = place(v, n) > map->file->size;
        if (outside || (used[n / 8] >> (n % 8) & 1)) {
            r->corruptions++;
            check_result_add(r, "ERROR block %u is %s", i,
                             outside ? "outside of the file" : "used twice");
        }
        used[n / 8] |= (uint8_t)(1 << (n % 8));
    }
    if (v->end != load_le32(v->header + H_USED)) {
        check_result_add(r, "Leaked: the header counts %u blocks, not %u",
                         load_le32(v->header + H_USED), v->end);
        *(repair ? &r->leaks_fixed : &r->leaks) += 1;
        store_le32(v->header + H_USED, v->end);
        if (repair && !result)
            result = write_header(v);
    }
    v->written = v->written || repair;
    r->total_units = v->blocks;
    r->end_offset = place(v, v->end) - v->extra;
    return result ? format_fail_io(error, map->file->path, "check", result) : true;
}

static void vdi_describe(const ImageMap *map, GVariantDict *d)
{
    static const char *const names[] = {"?", "dynamic", "fixed", "undo", "differencing"};
    const Vdi *v = (const Vdi *)map;
    g_autofree char *id = uuid_text_le(uuid_load(v->header + H_UUID));
    g_autofree char *parent = uuid_text_le(uuid_load(v->header + H_PARENT));
    g_variant_dict_insert(d, "variant", "s", names[v->type]);
    g_variant_dict_insert(d, "uuid", "s", id);
    if (!uuid_is_null(uuid_load(v->header + H_PARENT)))
        g_variant_dict_insert(d, "parent-uuid", "s", parent);
}

static bool vdi_set_uuid(ImageMap *map, Uuid uuid, GError **error)
{
    Vdi *v = (Vdi *)map;
    memcpy(v->header + H_UUID, uuid.bytes, 16);
    int result = write_header(v);
    return result ? format_fail_io(error, map->file->path, "write the UUID of", result) : true;
}

const FormatDriver vdi_format = {
    .name = "vdi",
    .probe = vdi_probe,
    .options = vdi_options,
    .create = vdi_create,
    .open = vdi_open,
    .close = vdi_close,
    .lookup = vdi_lookup,
    .begin_write = vdi_begin_write,
    .allocate = vdi_allocate,
    .link = vdi_link,
    .release = vdi_release,
    .zero = vdi_zero,
    .forget = vdi_forget,
    .commit = vdi_commit,
    .resize = vdi_resize,
    .set_uuid = vdi_set_uuid,
    .check = vdi_check,
    .set_parent = vdi_set_parent,
    .doubt_parent = vdi_doubt_parent,
    .describe = vdi_describe,
};
