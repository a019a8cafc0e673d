/* SPDX-License-Identifier: GPL-3.0-or-later */
/* VHDX: the driver; where bytes are, how they get a place, checking. See vhdx.h. */
#include "block/formats/vhdx.h"

#include <errno.h>

static bool vhdx_probe(const ProbeData *data)
{
    return memcmp(data->head, "vhdxfile", 8) == 0;
}

void vhdx_set_entry(Vhdx *v, uint64_t index, uint64_t place, unsigned state)
{
    store_le64(v->bat.data + index * 8, place | state);
    flat_table_mark(&v->bat, index * 8, 8);
    v->map.dirty = true;
}

static uint64_t block_entry(const Vhdx *v, uint64_t block)
{
    return vhdx_entry(v, vhdx_entry_index(v, block));
}

/* ---- bitmaps --------------------------------------------------------------------------------- */

/* The piece of a bitmap with the bit of a sector of the disk, and the bit's number in it. */
static int get_piece(Vhdx *v, uint64_t sector, bool cached, uint8_t **ret_piece, uint32_t *ret_bit)
{
    uint64_t in_chunk = sector % (VHDX_BITMAP * 8);
    uint64_t entry = vhdx_entry(v, vhdx_bitmap_index(v, sector / (VHDX_BITMAP * 8)));
    uint64_t place = vhdx_place(entry) + in_chunk / 8 / VHDX_PIECE * VHDX_PIECE;
    *ret_bit = (uint32_t)(in_chunk % (VHDX_PIECE * 8));
    if (!vhdx_place(entry))
        return -EIO;
    int result = table_cache_get(v->bitmaps, place, cached, ret_piece);
    for (guint i = 0; !result && i < v->patches->len; i++) {
        const VhdxPatch *p = &g_array_index(v->patches, VhdxPatch, i);
        if (p->offset > place || p->offset + p->size < place + VHDX_PIECE)
            continue; /* both are whole sectors of the log */
        if (p->data)
            memcpy(*ret_piece, p->data + (place - p->offset), VHDX_PIECE);
        else
            memset(*ret_piece, 0, VHDX_PIECE);
    }
    return result;
}

static bool bit_get(const uint8_t *piece, uint32_t bit)
{
    return piece[bit / 8] >> (bit % 8) & 1;
}

int vhdx_count_bits(Vhdx *v, uint64_t sector, uint64_t max, bool cached, bool *ret_set,
                    uint64_t *ret_count)
{
    uint8_t *piece;
    uint32_t bit;
    int result = get_piece(v, sector, cached, &piece, &bit);
    if (result)
        return result;
    uint32_t first = bit;
    uint64_t end = MIN(max + bit, VHDX_PIECE * 8);
    *ret_set = bit_get(piece, bit);
    while (++bit < end && bit_get(piece, bit) == *ret_set)
        ;
    *ret_count = bit - first;
    return 0;
}

static int set_bits(Vhdx *v, uint64_t sector, uint64_t count, bool value)
{
    uint8_t *piece;
    uint32_t bit;
    for (uint64_t done = 0; done < count;) {
        int result = get_piece(v, sector + done, false, &piece, &bit);
        if (result)
            return result;
        for (; bit < VHDX_PIECE * 8 && done < count; bit++, done++) {
            uint8_t mask = (uint8_t)(1 << (bit % 8));
            piece[bit / 8] = (uint8_t)(value ? piece[bit / 8] | mask : piece[bit / 8] & ~mask);
        }
        table_cache_mark(v->bitmaps, piece);
        v->map.dirty = true;
    }
    return 0;
}

/* ---- lookup ---------------------------------------------------------------------------------- */

static int lookup_partial(Vhdx *v, uint64_t offset, uint64_t length, bool cached, Extent *extent)
{
    bool here;
    uint64_t count, sector_size = v->map.sector_size;
    uint64_t inside = offset % v->block_size;
    uint64_t wanted = MIN(length, v->block_size) / sector_size + 1;
    uint64_t left = MIN(v->sectors_per_block - inside / sector_size, wanted);
    if (!(v->flags & VHDX_HAS_PARENT))
        return -EIO; /* there are no bitmaps */
    int result = vhdx_count_bits(v, offset / sector_size, left, cached, &here, &count);
    if (result)
        return result;
    extent->kind = here ? EXTENT_DATA : EXTENT_ABSENT;
    extent->length = MIN(extent->length, count * sector_size - offset % sector_size);
    return 0;
}

static int vhdx_lookup(ImageMap *map, uint64_t offset, uint64_t length, bool cached, Extent *extent)
{
    Vhdx *v = (Vhdx *)map;
    uint64_t inside = offset % v->block_size, entry = block_entry(v, offset / v->block_size);
    unsigned state = entry & 7;
    *extent = (Extent){.kind = EXTENT_ZERO,
                       .writable = true,
                       .file = map->file,
                       .host_offset = vhdx_place(entry) + inside,
                       .length = MIN(v->block_size - inside, map->size - offset)};
    if (state >= VHDX_FULL && (!vhdx_place(entry) || vhdx_place(entry) > FORMAT_SIZE_MAX))
        return -EIO;
    if (state == VHDX_PARTIAL)
        return lookup_partial(v, offset, length, cached, extent);
    if (state == VHDX_FULL)
        extent->kind = EXTENT_DATA;
    else if (state == VHDX_ABSENT)
        extent->kind = EXTENT_ABSENT;
    return 0;
}

/* ---- change ---------------------------------------------------------------------------------- */

/* The log is not used, so the file is ours from this write on; children learn that it changed. */
static int vhdx_begin_write(ImageMap *map)
{
    Vhdx *v = (Vhdx *)map;
    Uuid file = uuid_random(), data = uuid_random();
    int result = v->one_table_bad ? vhdx_write_regions(v) : 0;
    if (result)
        return result;
    memcpy(v->header + VHDX_H_FILE_GUID, file.bytes, 16);
    if (!map->keeps_contents)
        memcpy(v->header + VHDX_H_DATA_GUID, data.bytes, 16);
    return vhdx_write_header(v);
}

int vhdx_extend(Vhdx *v, uint64_t size, uint64_t *ret_place)
{
    HostFile *file = v->map.file;
    int result = file->size > v->end ? host_file_truncate(file, v->end) : 0;
    if (v->end + size > FORMAT_SIZE_MAX)
        return -EFBIG;
    if (!result)
        result = host_file_truncate(file, v->end + size);
    if (result)
        return result;
    *ret_place = v->end;
    v->end += size;
    return 0;
}

static int take_place(Vhdx *v, uint64_t *ret_place)
{
    if (!v->free->len)
        return vhdx_extend(v, v->block_size, ret_place);
    *ret_place = g_array_index(v->free, uint64_t, v->free->len - 1);
    int result = host_file_zero(v->map.file, *ret_place, v->block_size);
    if (!result)
        g_array_set_size(v->free, v->free->len - 1);
    return result;
}

/* A chunk's bitmap is in the file's BAT before any block that needs it. */
static int ensure_bitmap(Vhdx *v, uint64_t block)
{
    uint64_t index = vhdx_bitmap_index(v, block / v->ratio), place;
    if (vhdx_place(vhdx_entry(v, index)))
        return 0;
    int result = vhdx_commit(&v->map);
    if (!result)
        result = vhdx_extend(v, VHDX_BITMAP, &place);
    if (result)
        return result;
    vhdx_set_entry(v, index, place, VHDX_FULL);
    return vhdx_commit(&v->map);
}

/* An allocation's cookie: is the block new, and what are its other sectors? */
enum { OLD_BLOCK, NEW_OVER_PARENT, NEW_OVER_ZEROS };

static uint64_t cookie_for(const Vhdx *v, uint64_t entry)
{
    bool over_parent = (v->flags & VHDX_HAS_PARENT) && (entry & 7) == VHDX_ABSENT;
    return vhdx_place(entry) ? OLD_BLOCK : over_parent ? NEW_OVER_PARENT : NEW_OVER_ZEROS;
}

static int vhdx_allocate(ImageMap *map, uint64_t offset, uint64_t length, Allocation *a)
{
    Vhdx *v = (Vhdx *)map;
    uint64_t block = offset / v->block_size, inside = offset % v->block_size;
    uint64_t place = vhdx_place(block_entry(v, block));
    uint64_t end = align_up(offset + MIN(length, v->block_size - inside), map->sector_size);
    int result = 0;
    inside = align_down(inside, map->sector_size);
    offset = align_down(offset, map->sector_size);
    *a = (Allocation){.offset = offset,
                      .length = end - offset,
                      .file = map->file,
                      .cookie = cookie_for(v, block_entry(v, block))};
    /* Bits of a block that the file still shows must not be cleared for its successor. */
    if (!place && (v->flags & VHDX_HAS_PARENT) && v->pending->len)
        result = vhdx_commit(map);
    if (!result && (v->flags & VHDX_HAS_PARENT))
        result = ensure_bitmap(v, block);
    if (!result && !place)
        result = take_place(v, &place);
    a->host_offset = place + inside;
    return result;
}

static int vhdx_link(ImageMap *map, const Allocation *a)
{
    Vhdx *v = (Vhdx *)map;
    uint64_t block = a->offset / v->block_size, first = a->offset / map->sector_size;
    uint64_t place = a->host_offset - a->offset % v->block_size;
    bool partial = (v->flags & VHDX_HAS_PARENT) && a->cookie != NEW_OVER_ZEROS;
    int result = 0;
    if (partial && a->cookie)
        result = set_bits(v, block * v->sectors_per_block, v->sectors_per_block, false);
    if (partial && !result)
        result = set_bits(v, first, a->length / map->sector_size, true);
    if (!result && a->cookie)
        vhdx_set_entry(v, vhdx_entry_index(v, block), place, partial ? VHDX_PARTIAL : VHDX_FULL);
    return result;
}

static void vhdx_release(ImageMap *map, const Allocation *a)
{
    Vhdx *v = (Vhdx *)map;
    uint64_t place = a->host_offset - a->offset % v->block_size;
    if (a->cookie)
        g_array_append_val(v->free, place);
}

int vhdx_zero(ImageMap *map, uint64_t offset, uint64_t length, bool discard, uint64_t *ret_done)
{
    Vhdx *v = (Vhdx *)map;
    uint64_t end = offset + length;
    if (end < map->size)
        end -= end % v->block_size;
    if ((v->flags & VHDX_KEEP_BLOCKS) || offset % v->block_size || end <= offset)
        return -ENOTSUP;
    for (uint64_t block = offset / v->block_size; block * v->block_size < end; block++) {
        uint64_t place = vhdx_place(block_entry(v, block));
        if (place)
            g_array_append_val(v->pending, place);
        vhdx_set_entry(v, vhdx_entry_index(v, block), 0, VHDX_ZERO);
    }
    *ret_done = end - offset;
    return 0;
}

static int vhdx_forget(ImageMap *map, uint64_t offset, uint64_t length, uint64_t *ret_done)
{
    Vhdx *v = (Vhdx *)map;
    uint64_t block = offset / v->block_size;
    if (v->flags & VHDX_KEEP_BLOCKS)
        return -ENOTSUP;
    for (; block * v->block_size < offset + length; block++) {
        uint64_t place = vhdx_place(block_entry(v, block));
        if (place)
            g_array_append_val(v->pending, place);
        vhdx_set_entry(v, vhdx_entry_index(v, block), 0, VHDX_ABSENT);
    }
    *ret_done = length;
    return 0;
}

static void free_pending(Vhdx *v)
{
    for (guint i = 0; i < v->pending->len; i++) {
        uint64_t place = g_array_index(v->pending, uint64_t, i);
        host_file_discard(v->map.file, place, v->block_size);
        g_array_append_val(v->free, place);
    }
    g_array_set_size(v->pending, 0);
}

int vhdx_commit(ImageMap *map)
{
    Vhdx *v = (Vhdx *)map;
    int result = host_file_sync(map->file);
    if (!result && table_cache_is_dirty(v->bitmaps)) {
        result = table_cache_write(v->bitmaps);
        if (!result)
            result = host_file_sync(map->file);
    }
    if (!result && v->bat.dirty) {
        result = flat_table_write(&v->bat);
        if (!result)
            result = host_file_sync(map->file);
    }
    if (result)
        return result;
    map->dirty = false;
    free_pending(v);
    return 0;
}

/* ---- checking and words ---------------------------------------------------------------------- */

static void check_block(Vhdx *v, uint64_t block, CheckResult *r, uint64_t *last_place)
{
    uint64_t entry = block_entry(v, block), place = vhdx_place(entry);
    uint64_t end = align_up(v->map.file->size, MIB(1));
    bool outside = place && (place > end || v->block_size > end - place);
    bool lacks_bitmap = (entry & 7) == VHDX_PARTIAL &&
                        !vhdx_place(vhdx_entry(v, vhdx_bitmap_index(v, block / v->ratio)));
    if ((entry & 7) >= VHDX_FULL ? !place || outside || lacks_bitmap
                                 : (entry & 7) > VHDX_UNMAPPED) {
        r->corruptions++;
        check_result_add(r, "ERROR block %" G_GUINT64_FORMAT " is %s", block,
                         outside        ? "outside of the file"
                         : lacks_bitmap ? "without its bitmap"
                                        : "in no possible state");
    }
    if (!place)
        return;
    r->allocated_units++;
    r->fragmented_units += *last_place && place != *last_place + v->block_size;
    *last_place = place;
}

static bool vhdx_check(ImageMap *map, bool repair, CheckResult *r, GError **error)
{
    Vhdx *v = (Vhdx *)map;
    g_autoptr(GError) shared = NULL;
    uint64_t last_place = 0;
    int result = map->dirty ? vhdx_commit(map) : 0;
    if (result)
        return format_fail_io(error, map->file->path, "check", result);
    for (uint64_t block = 0; block < v->blocks; block++) {
        /* A dynamic image has no bitmaps, and no entry for that of its last chunk. */
        if ((block_entry(v, block) & 7) == VHDX_PARTIAL && !(v->flags & VHDX_HAS_PARENT)) {
            r->corruptions++;
            check_result_add(r, "ERROR block %" G_GUINT64_FORMAT " needs a parent", block);
        } else {
            check_block(v, block, r, &last_place);
        }
    }
    if (!vhdx_survey(v, &shared)) {
        r->corruptions++;
        check_result_add(r, "ERROR two things share a place");
    }
    r->total_units = v->blocks;
    r->end_offset = v->end;
    return true;
}

static char *vhdx_doubt_parent(ImageMap *map, const ImageMap *parent, const FormatDriver *driver)
{
    const Vhdx *v = (Vhdx *)map, *p = (const Vhdx *)parent;
    if (driver != &vhdx_format)
        return NULL;
    for (int i = 0; i < 2; i++) {
        const char *text = v->linkage[i] ? v->linkage[i] : "";
        g_autofree char *guid = g_strndup(text + (*text == '{'), 36);
        if (vhdx_is_guid(p->header + VHDX_H_DATA_GUID, guid))
            return NULL;
    }
    return g_strdup("its parent was changed since it was made over it (DataWriteGuid)");
}

static void vhdx_describe(const ImageMap *map, GVariantDict *d)
{
    const Vhdx *v = (const Vhdx *)map;
    g_variant_dict_insert(d, "variant", "s",
                          v->flags & VHDX_HAS_PARENT    ? "differencing"
                          : v->flags & VHDX_KEEP_BLOCKS ? "fixed"
                                                        : "dynamic");
    g_variant_dict_insert(d, "sector-size", "x", (gint64)map->sector_size);
}

const FormatDriver vhdx_format = {
    .name = "vhdx",
    .probe = vhdx_probe,
    .options = vhdx_options,
    .create = vhdx_create,
    .open = vhdx_open,
    .close = vhdx_close,
    .lookup = vhdx_lookup,
    .begin_write = vhdx_begin_write,
    .allocate = vhdx_allocate,
    .link = vhdx_link,
    .release = vhdx_release,
    .zero = vhdx_zero,
    .forget = vhdx_forget,
    .commit = vhdx_commit,
    .resize = vhdx_resize,
    .check = vhdx_check,
    .set_parent = vhdx_set_parent,
    .doubt_parent = vhdx_doubt_parent,
    .describe = vhdx_describe,
};
