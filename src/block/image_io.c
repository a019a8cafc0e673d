/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The engine: turns reads, writes, zeroing and flushes of a disk's bytes into lookups in the
 * format's map and host calls at the places it names. See image.h.
 *
 * Invariant: the map learns of a new place only after its data were written (`link`), and the file
 * learns of the map only after the data are durable (`commit`).
 */
#include <errno.h>

#include "base/bits.h"
#include "block/image.h"

#define STEP_IOVS   64
#define ZERO_CHUNK  65536
#define CIPHER_ROOM 65536
#define FORGET_PART (UINT64_C(1) << 30)

static const uint8_t zeros[ZERO_CHUNK];

/* ---- reading --------------------------------------------------------------------------------- */

/* Encrypted data go through a room of ours, for the guest's vectors may cut sectors. */
static uint8_t *cipher_room(Image *image)
{
    if (!image->sectors)
        image->sectors = g_malloc(CIPHER_ROOM);
    return image->sectors;
}

static uint64_t cipher_sector(const Image *image, uint64_t offset, uint64_t host_offset)
{
    return (image->map->cipher_by_place ? host_offset : offset) / CIPHER_SECTOR;
}

static int read_encrypted(Image *image, uint64_t offset, const Extent *extent, uint64_t size,
                          IovCursor *to)
{
    uint8_t *room = cipher_room(image);
    if (!image->map->cipher)
        return -ENOKEY;
    for (uint64_t done = 0; done < size;) {
        uint64_t part = MIN(size - done, CIPHER_ROOM), place = extent->host_offset + done;
        int result = host_file_read(extent->file, place, room, part);
        if (!result)
            result = cipher_decrypt(image->map->cipher, cipher_sector(image, offset + done, place),
                                    room, part);
        if (result)
            return result;
        iov_cursor_fill(to, room, part);
        done += part;
    }
    return 0;
}

static int read_data(Image *image, uint64_t offset, const Extent *extent, uint64_t size,
                     IovCursor *to)
{
    if (image->map->encrypted)
        return read_encrypted(image, offset, extent, size, to);
    for (uint64_t done = 0; done < size;) {
        struct iovec iov[STEP_IOVS];
        int count;
        uint64_t part = iov_cursor_slice(to, iov, STEP_IOVS, size - done, &count);
        int result = host_file_readv(extent->file, extent->host_offset + done, iov, count);
        if (result)
            return result;
        iov_cursor_advance(to, part);
        done += part;
    }
    return 0;
}

/* `packed` has room for 2 units. */
static int read_unit(const Image *image, const Extent *extent, uint8_t *packed, uint8_t *unit)
{
    if (extent->stored_size > 2 * (uint64_t)image->map->unit_size)
        return -EIO;
    int result = host_file_read(extent->file, extent->host_offset, packed, extent->stored_size);
    return result ? result : image->driver->decompress(image->map, extent, packed, unit);
}

int image_read_extent(Image *owner, uint64_t offset, uint64_t size, const Extent *extent,
                      uint8_t *packed, void *data)
{
    uint32_t unit_size = owner->map->unit_size;
    offset -= owner->start;
    if (extent->kind == EXTENT_DATA) {
        struct iovec iov = {data, size};
        IovCursor cursor;
        iov_cursor_init(&cursor, &iov, 1);
        return read_data(owner, offset, extent, size, &cursor);
    }
    if (size == unit_size && offset % unit_size == 0)
        return read_unit(owner, extent, packed, data);
    uint8_t *unit = packed + 2 * (size_t)unit_size;
    int result = read_unit(owner, extent, packed, unit);
    if (!result)
        memcpy(data, unit + offset % unit_size, size);
    return result;
}

/* Unpacks the unit that holds the extent, unless it is the one that was unpacked last. */
static int load_unit(Image *image, const Extent *extent)
{
    uint32_t unit_size = image->map->unit_size;
    if (image->unit_file == extent->file && image->unit_offset == extent->host_offset)
        return 0;
    if (!image->unit)
        image->unit = g_malloc(unit_size);
    image->unit_file = NULL;
    g_autofree uint8_t *packed = g_malloc(2 * (size_t)unit_size);
    int result = read_unit(image, extent, packed, image->unit);
    if (result)
        return result;
    image->unit_file = extent->file;
    image->unit_offset = extent->host_offset;
    return 0;
}

static int read_compressed(Image *image, uint64_t offset, uint64_t size, const Extent *extent,
                           IovCursor *to)
{
    int result = load_unit(image, extent);
    if (!result)
        iov_cursor_fill(to, image->unit + offset % image->map->unit_size, size);
    return result;
}

static int read_absent(Image *image, uint64_t offset, uint64_t size, IovCursor *to)
{
    Image *parent = image->parent;
    uint64_t there = parent && offset < parent->map->size ? parent->map->size - offset : 0;
    there = MIN(there, size);
    int result = there ? image_readv(parent, offset, there, to) : 0;
    if (!result && there < size)
        iov_cursor_fill(to, NULL, size - there);
    return result;
}

static int read_extent(Image *image, uint64_t offset, uint64_t size, const Extent *extent,
                       IovCursor *to)
{
    switch (extent->kind) {
    case EXTENT_DATA:
        return read_data(image, offset, extent, size, to);
    case EXTENT_COMPRESSED:
        return read_compressed(image, offset, size, extent, to);
    case EXTENT_ABSENT:
        return read_absent(image, offset, size, to);
    case EXTENT_ZERO:
        iov_cursor_fill(to, NULL, size);
    }
    return 0;
}

int image_readv(Image *image, uint64_t offset, uint64_t size, IovCursor *to)
{
    while (size) {
        Extent extent;
        int result = image->driver->lookup(image->map, offset, size, false, &extent);
        if (result)
            return result;
        uint64_t part = MIN(extent.length, size);
        result = read_extent(image, offset, part, &extent, to);
        if (result)
            return result;
        offset += part;
        size -= part;
    }
    return 0;
}

int image_read(Image *image, uint64_t offset, void *data, size_t size)
{
    struct iovec iov = {data, size};
    IovCursor cursor;
    iov_cursor_init(&cursor, &iov, 1);
    return image_readv(image, offset, size, &cursor);
}

/* ---- writing --------------------------------------------------------------------------------- */

static int begin_write(Image *image)
{
    if (image->read_only)
        return -EROFS;
    int result = 0;
    if (!image->write_begun && image->driver->begin_write)
        result = image->driver->begin_write(image->map);
    image->write_begun = result == 0;
    return result;
}

static int write_encrypted(Image *image, uint64_t offset, HostFile *file, uint64_t host_offset,
                           uint64_t size, IovCursor *from)
{
    uint8_t *room = cipher_room(image);
    if (!image->map->cipher)
        return -ENOKEY;
    for (uint64_t done = 0; done < size;) {
        uint64_t part = MIN(size - done, CIPHER_ROOM), place = host_offset + done;
        iov_cursor_copy(from, room, part);
        int result = cipher_encrypt(image->map->cipher, cipher_sector(image, offset + done, place),
                                    room, part);
        if (!result)
            result = host_file_write(file, place, room, part);
        if (result)
            return result;
        done += part;
    }
    return 0;
}

static void note_change(Image *image, uint64_t offset, uint64_t size)
{
    if (image->map->tracks_changes)
        image->driver->note_change(image->map, offset, size);
}

static int write_data(Image *image, uint64_t offset, HostFile *file, uint64_t host_offset,
                      uint64_t size, IovCursor *from)
{
    if (image->map->encrypted)
        return write_encrypted(image, offset, file, host_offset, size, from);
    for (uint64_t done = 0; done < size;) {
        struct iovec iov[STEP_IOVS];
        int count;
        uint64_t part = iov_cursor_slice(from, iov, STEP_IOVS, size - done, &count);
        int result = host_file_writev(file, host_offset + done, iov, count);
        if (result)
            return result;
        iov_cursor_advance(from, part);
        done += part;
    }
    return 0;
}

static bool is_zero(const uint8_t *data, size_t size)
{
    return !size || (!data[0] && !memcmp(data, data + 1, size - 1));
}

static int write_bytes(Image *image, const Allocation *a, uint64_t offset, void *data, size_t size)
{
    struct iovec iov = {data, size};
    IovCursor cursor;
    iov_cursor_init(&cursor, &iov, 1);
    return write_data(image, offset, a->file, a->host_offset + (offset - a->offset), size, &cursor);
}

/* How many of the bytes at `offset` are known to be zeros without reading them. */
static uint64_t known_zeros(Image *image, uint64_t offset, uint64_t size)
{
    ImageStatus s;
    if (offset >= image->map->size)
        return size;
    uint64_t inside = MIN(size, image->map->size - offset);
    return image_status(image, offset, inside, false, &s) == 0 && s.zero ? s.length : 0;
}

/* What the disk has at [offset, offset + size) now goes to a new place. */
static int copy_old(Image *image, const Allocation *a, uint64_t offset, uint64_t size)
{
    enum { CHUNK = 1 << 20 };
    g_autofree uint8_t *data = NULL;
    while (size) {
        bool can_skip = a->reads_zero && !image->map->encrypted;
        uint64_t skipped = can_skip ? known_zeros(image, offset, size) : 0;
        offset += skipped;
        size -= skipped;
        if (skipped)
            continue;
        if (!data)
            data = g_malloc(CHUNK);
        uint64_t part = MIN(size, CHUNK);
        uint64_t inside = offset < image->map->size ? MIN(part, image->map->size - offset) : 0;
        int result = inside ? image_read(image, offset, data, inside) : 0;
        memset(data + inside, 0, part - inside);
        if (!result && !(a->reads_zero && !image->map->encrypted && is_zero(data, part)))
            result = write_bytes(image, a, offset, data, part);
        if (result)
            return result;
        offset += part;
        size -= part;
    }
    return 0;
}

static int fill_allocation(Image *image, const Allocation *a, uint64_t offset, uint64_t size,
                           IovCursor *from)
{
    uint64_t end = offset + size;
    int result = copy_old(image, a, a->offset, offset - a->offset);
    if (!result)
        result =
            write_data(image, offset, a->file, a->host_offset + (offset - a->offset), size, from);
    if (!result)
        result = copy_old(image, a, end, a->offset + a->length - end);
    return result;
}

/* Where all is packed, a unit is read, changed and packed anew. */
static int write_packed(Image *image, uint64_t offset, uint64_t size, IovCursor *from,
                        uint64_t *ret_done)
{
    uint32_t unit_size = image->map->unit_size;
    uint64_t start = offset - offset % unit_size;
    uint64_t inside = MIN(unit_size, image->map->size - start);
    g_autofree uint8_t *unit = g_malloc0(unit_size);
    g_autofree uint8_t *stored = g_malloc(2 * (size_t)unit_size);
    size = MIN(size, start + unit_size - offset);
    int result = size < inside ? image_read(image, start, unit, inside) : 0;
    if (result)
        return result;
    iov_cursor_copy(from, unit + (offset - start), size);
    *ret_done = size;
    size_t packed = image->driver->compress(image->map, unit, stored);
    return packed ? image_write_compressed(image, start, stored, (uint32_t)packed) : -EIO;
}

static int write_new(Image *image, uint64_t offset, uint64_t size, IovCursor *from,
                     uint64_t *ret_done)
{
    Allocation a = {0};
    if (image->map->packs_only)
        return write_packed(image, offset, size, from, ret_done);
    if (!image->driver->allocate)
        return -EIO;
    int result = image->driver->allocate(image->map, offset, size, &a);
    if (result)
        return result;
    uint64_t part = MIN(size, a.offset + a.length - offset);
    result = fill_allocation(image, &a, offset, part, from);
    if (!result)
        result = image->driver->link(image->map, &a);
    if (result && image->driver->release)
        image->driver->release(image->map, &a);
    *ret_done = part;
    return result;
}

/* Zeroes a part of a new place whose old contents are unknown. */
static int clear_place(const Allocation *a, uint64_t offset, uint64_t size)
{
    static const uint8_t none[4096];
    uint64_t at = a->host_offset + (offset - a->offset), end = at + size;
    int result = 0;
    for (; at < end && !result; at += sizeof(none))
        result = host_file_write(a->file, at, none, MIN(sizeof(none), end - at));
    return result;
}

int image_place(Image *image, uint64_t offset, uint64_t size, Extent *ret_extent)
{
    Allocation a = {0};
    g_assert(!image->parent && !image->map->encrypted);
    int result = begin_write(image);
    if (!result)
        result = image->driver->lookup(image->map, offset, size, false, ret_extent);
    if (result || (ret_extent->kind == EXTENT_DATA && ret_extent->writable))
        return result;
    if (image->map->packs_only || !image->driver->allocate)
        return -ENOTSUP;
    result = image->driver->allocate(image->map, offset, size, &a);
    if (result)
        return result;
    uint64_t part = MIN(size, a.offset + a.length - offset), end = offset + part;
    if (!a.reads_zero)
        result = clear_place(&a, a.offset, offset - a.offset);
    if (!a.reads_zero && !result)
        result = clear_place(&a, end, a.offset + a.length - end);
    if (!result)
        result = image->driver->link(image->map, &a);
    *ret_extent = (Extent){.kind = EXTENT_DATA,
                           .writable = true,
                           .file = a.file,
                           .host_offset = a.host_offset + (offset - a.offset),
                           .length = part};
    return result;
}

int image_write_extent(Image *image, uint64_t offset, uint64_t size, const Extent *extent,
                       const void *data)
{
    struct iovec iov = {(void *)data, size};
    IovCursor cursor;
    iov_cursor_init(&cursor, &iov, 1);
    return write_data(image, offset, extent->file, extent->host_offset, size, &cursor);
}

bool image_forges_mark(const Image *image, uint64_t offset, uint64_t size, const IovCursor *from)
{
    uint64_t end = image->map->size;
    if (!image->guard_marks || (offset >= PROBE_HEAD_SIZE && offset + size + 512 <= end))
        return false;
    IovCursor c = *from;
    uint64_t left = size;
    while (left) {
        uint8_t data[4096];
        size_t part = MIN(left, sizeof(data));
        iov_cursor_copy(&c, data, part);
        if (format_is_mark(data, part, offset + (size - left), end))
            return true;
        left -= part;
    }
    return false;
}

int image_writev(Image *image, uint64_t offset, uint64_t size, IovCursor *from)
{
    int result = begin_write(image);
    if (!result && image_forges_mark(image, offset, size, from))
        result = -EPERM;
    note_change(image, offset, size);
    while (size && !result) {
        Extent extent;
        result = image->driver->lookup(image->map, offset, size, false, &extent);
        if (result)
            break;
        uint64_t part = MIN(extent.length, size);
        if (extent.kind == EXTENT_DATA && extent.writable)
            result = write_data(image, offset, extent.file, extent.host_offset, part, from);
        else
            result = write_new(image, offset, size, from, &part);
        offset += part;
        size -= part;
    }
    return result;
}

int image_write(Image *image, uint64_t offset, const void *data, size_t size)
{
    struct iovec iov = {(void *)data, size};
    IovCursor cursor;
    iov_cursor_init(&cursor, &iov, 1);
    return image_writev(image, offset, size, &cursor);
}

int image_write_compressed(Image *image, uint64_t offset, uint8_t *stored, uint32_t size)
{
    Allocation a = {0};
    if (!image->driver->allocate_compressed || image->map->encrypted)
        return -ENOTSUP;
    int result = begin_write(image);
    note_change(image, offset, MIN(image->map->unit_size, image->map->size - offset));
    if (!result)
        result = image->driver->allocate_compressed(image->map, offset, size, &a);
    if (result)
        return result;
    image->unit_file = NULL;
    if (image->driver->mark_packed)
        image->driver->mark_packed(image->map, offset, stored);
    result = host_file_write(a.file, a.host_offset, stored, size);
    if (!result)
        result = image->driver->link(image->map, &a);
    if (result && image->driver->release)
        image->driver->release(image->map, &a);
    return result;
}

/* ---- zeroing --------------------------------------------------------------------------------- */

static int write_zero_bytes(Image *image, uint64_t offset, uint64_t size)
{
    while (size) {
        size_t part = MIN(size, ZERO_CHUNK);
        int result = image_write(image, offset, zeros, part);
        if (result)
            return result;
        offset += part;
        size -= part;
    }
    return 0;
}

static bool parent_reaches(const Image *image, uint64_t offset)
{
    return image->parent && offset < image->parent->map->size;
}

/* The rest of the unit that `offset` is in, where there are units. */
static uint64_t rest_of_unit(const Image *image, uint64_t offset, uint64_t size)
{
    uint32_t unit = image->map->unit_size;
    return unit ? MIN(size, unit - offset % unit) : size;
}

bool image_map_can_zero(const Image *image)
{
    return image->driver->zero && !image->shared;
}

/* Zeroes what one lookup answers for; whole units by the map, else by the host, else by writing. */
static int zero_part(Image *image, uint64_t offset, uint64_t *size)
{
    Extent extent;
    int result = image->driver->lookup(image->map, offset, *size, false, &extent);
    if (result)
        return result;
    uint64_t part = MIN(extent.length, *size);
    bool is_absent = extent.kind == EXTENT_ABSENT && !parent_reaches(image, offset);
    if (extent.kind == EXTENT_ZERO || is_absent) {
        *size = part;
        return 0;
    }
    result = -ENOTSUP;
    if (image_map_can_zero(image)) {
        uint64_t done = *size;
        result = image->driver->zero(image->map, offset, *size, false, &done);
        if (!result)
            part = done;
    }
    if (result == -ENOTSUP)
        part = rest_of_unit(image, offset, part);
    *size = part;
    if (result != -ENOTSUP)
        return result;
    if (extent.kind == EXTENT_DATA && extent.writable && !image->map->encrypted)
        return host_file_zero(extent.file, extent.host_offset, part);
    return write_zero_bytes(image, offset, part);
}

int image_write_zeros(Image *image, uint64_t offset, uint64_t size)
{
    int result = begin_write(image);
    note_change(image, offset, size);
    while (size && !result) {
        uint64_t part = size;
        result = zero_part(image, offset, &part);
        offset += part;
        size -= part;
    }
    return result;
}

static int discard_part(Image *image, uint64_t offset, uint64_t *size)
{
    Extent extent;
    int result = image->driver->lookup(image->map, offset, *size, false, &extent);
    uint64_t part = MIN(extent.length, *size), done = *size;
    if (result)
        return result;
    if (extent.kind != EXTENT_DATA && extent.kind != EXTENT_COMPRESSED) {
        *size = part;
        return 0;
    }
    result = -ENOTSUP;
    if (image_map_can_zero(image))
        result = image->driver->zero(image->map, offset, *size, true, &done);
    if (result != -ENOTSUP) {
        *size = done;
        return result;
    }
    *size = image_map_can_zero(image) ? rest_of_unit(image, offset, part) : part;
    bool ours = extent.kind == EXTENT_DATA && extent.writable;
    return ours ? host_file_discard(extent.file, extent.host_offset, *size) : 0;
}

int image_discard(Image *image, uint64_t offset, uint64_t size)
{
    int result = begin_write(image);
    note_change(image, offset, size);
    while (size && !result) {
        uint64_t part = size;
        result = discard_part(image, offset, &part);
        offset += part;
        size -= part;
    }
    return result;
}

int image_flush(Image *image)
{
    if (image->read_only)
        return 0;
    if (image->driver->commit)
        return image->driver->commit(image->map);
    return host_file_sync(image->file);
}

/* Where data of a part of the disk are that only the map of this image names. */
static int find_places(Image *image, uint64_t offset, uint64_t length, GArray *places)
{
    Extent extent;
    for (uint64_t end = offset + length; offset < end; offset += extent.length) {
        int result = image->driver->lookup(image->map, offset, end - offset, false, &extent);
        if (result)
            return result;
        extent.length = MIN(extent.length, end - offset);
        if (extent.kind == EXTENT_DATA)
            g_array_append_val(places, extent);
    }
    return 0;
}

static int compare_places(gconstpointer a, gconstpointer b)
{
    const Extent *one = a, *two = b;
    if (one->file != two->file)
        return one->file < two->file ? -1 : 1;
    return (one->host_offset > two->host_offset) - (one->host_offset < two->host_offset);
}

/* Neighbours together: units may be smaller than the host's blocks. */
static int give_back(GArray *places)
{
    int result = 0;
    g_array_sort(places, compare_places);
    for (guint i = 0; i < places->len && !result;) {
        Extent e = g_array_index(places, Extent, i);
        for (i++; i < places->len; i++) {
            const Extent *next = &g_array_index(places, Extent, i);
            if (next->file != e.file || next->host_offset != e.host_offset + e.length)
                break;
            e.length += next->length;
        }
        result = host_file_discard(e.file, e.host_offset, e.length);
    }
    return result;
}

static int forget_part(Image *image, uint64_t offset, uint64_t length)
{
    uint64_t done = 0;
    int result = 0;
    for (uint64_t end = offset + length; offset < end && !result; offset += done)
        result = image->driver->forget(image->map, offset, end - offset, &done);
    return result;
}

/* The host has its space back once nothing in the file leads there. */
static int forget_and_give_back(Image *image)
{
    g_autoptr(GArray) places = g_array_new(FALSE, FALSE, sizeof(Extent));
    int result = 0;
    for (uint64_t at = 0, part; at < image->map->size && !result; at += part) {
        part = MIN(image->map->size - at, FORGET_PART);
        g_array_set_size(places, 0);
        result = find_places(image, at, part, places);
        if (!result && places->len)
            result = forget_part(image, at, part);
        if (!result && places->len)
            result = image_flush(image);
        if (!result)
            result = give_back(places);
    }
    return result;
}

int image_forget(Image *image)
{
    int result = image->read_only ? -EROFS : image->driver->forget ? 0 : -ENOTSUP;
    image->map->keeps_contents = true;
    if (!result && !image->write_begun && image->driver->begin_write)
        result = image->driver->begin_write(image->map);
    image->map->keeps_contents = false;
    image->unit_file = NULL;
    if (!result && image->driver->leaves_space)
        result = forget_and_give_back(image);
    if (!result)
        result = forget_part(image, 0, image->map->size);
    return result ? result : image_flush(image);
}

/* The unit that the end is in stays: what it holds behind the end must not come back. */
static int clear_tail(Image *image, uint64_t size)
{
    uint64_t old = image->map->size;
    uint64_t tail = size < old ? rest_of_unit(image, size, old - size) : 0;
    bool whole = !image->map->unit_size || size % image->map->unit_size == 0;
    int result = tail && !whole ? image_write_zeros(image, size, tail) : 0;
    return result ? result : image_flush(image);
}

/* A packed unit may have been cut with the disk's end; others read it only as long as it was. */
static int fill_last_unit(Image *image, uint64_t size)
{
    uint64_t old = image->map->size, tail = old % MAX(image->map->unit_size, 1);
    ImageStatus s;
    if (!image->map->packs_only || size <= old || !tail)
        return 0;
    int result = image_status(image, old - tail, tail, false, &s);
    if (result || s.depth || !s.data)
        return result;
    g_autofree uint8_t *data = g_malloc(tail);
    result = image_read(image, old - tail, data, tail);
    return result ? result : image_write(image, old - tail, data, tail);
}

/* Where a grown disk would show more of its parent there are zeros. */
static int hide_parent(Image *image, uint64_t old, uint64_t end)
{
    int result = 0;
    for (uint64_t at = old; at < end && !result; at += FORGET_PART) {
        image_map_tell_progress(image->map, 0, 1, at - old, end - old);
        result = image_write_zeros(image, at, MIN(end - at, FORGET_PART));
    }
    return result;
}

bool image_resize(Image *image, uint64_t size, GError **error)
{
    uint64_t old = image->map->size, parent = image->parent ? image->parent->map->size : 0;
    size = align_up(size, 512);
    if (!image->driver->resize)
        return format_fail(error, image->path, "the format %s has a fixed size; convert it",
                           image->driver->name);
    int result = begin_write(image);
    if (!result)
        result = fill_last_unit(image, size);
    if (!result)
        result = clear_tail(image, size);
    if (result)
        return format_fail_io(error, image->path, "resize", result);
    if (!image->driver->resize(image->map, size, error))
        return false;
    image->unit_file = NULL;
    if (parent > old && size > old)
        result = hide_parent(image, old, MIN(parent, size));
    if (!result)
        result = image_flush(image);
    return result ? format_fail_io(error, image->path, "resize", result) : true;
}

/* ---- questions ------------------------------------------------------------------------------- */

int image_find(Image *image, uint64_t offset, uint64_t size, bool for_write, Extent *ret_extent)
{
    uint64_t limit = size;
    if (for_write &&
        ((!image->write_begun && image->driver->begin_write) || image->map->tracks_changes))
        return -EAGAIN;
    for (;; image = image->parent) {
        int result = image->driver->lookup(image->map, offset, limit, true, ret_extent);
        if (result)
            return result;
        ret_extent->length = MIN(ret_extent->length, limit);
        limit = ret_extent->length;
        if (ret_extent->kind == EXTENT_COMPRESSED ||
            (ret_extent->kind == EXTENT_DATA && image->map->encrypted))
            return -EAGAIN;
        if (for_write)
            return ret_extent->kind == EXTENT_DATA && ret_extent->writable ? 0 : -EAGAIN;
        if (ret_extent->kind != EXTENT_ABSENT)
            return 0;
        if (!parent_reaches(image, offset))
            break;
        limit = MIN(limit, image->parent->map->size - offset);
    }
    ret_extent->kind = EXTENT_ZERO;
    return 0;
}

static void status_of_data(const Extent *extent, bool is_flat, bool look_in_files, ImageStatus *s)
{
    s->data = s->present = true;
    s->file = extent->file;
    s->host_offset = extent->host_offset;
    if (!look_in_files)
        return;
    uint64_t next = host_file_next_data(extent->file, extent->host_offset);
    if (next > extent->host_offset) {
        s->zero = true;
        s->data = !is_flat; /* in a map's unit it is allocated all the same */
        s->length = MIN(s->length, next - extent->host_offset);
    } else {
        next = host_file_next_hole(extent->file, extent->host_offset);
        s->length = MIN(s->length, MAX(next, extent->host_offset + 1) - extent->host_offset);
        s->length = align_up(s->length, 512);
    }
}

static Image *find_part(const Image *image, uint64_t offset)
{
    guint i = 0;
    while (i + 1 < image->parts->len && ((Image *)image->parts->pdata[i + 1])->start <= offset)
        i++;
    return image->parts->pdata[i];
}

int image_status(Image *image, uint64_t offset, uint64_t size, bool look_in_files,
                 ImageStatus *ret_status)
{
    if (image->parts) {
        image = find_part(image, offset);
        offset -= image->start;
        size = MIN(size, image->map->size - offset);
    }
    ImageStatus s = {.length = size};
    for (;; image = image->parent, s.depth++) {
        Extent extent;
        int result = image->driver->lookup(image->map, offset, s.length, false, &extent);
        if (result)
            return result;
        s.length = MIN(s.length, extent.length);
        s.owner = image;
        s.extent = extent;
        if (extent.kind == EXTENT_DATA && image->map->encrypted)
            s.data = s.present = true;
        else if (extent.kind == EXTENT_DATA)
            status_of_data(&extent, !image->map->unit_size, look_in_files, &s);
        else if (extent.kind == EXTENT_COMPRESSED)
            s.data = s.present = s.compressed = true;
        else if (extent.kind == EXTENT_ZERO)
            s.zero = s.present = true;
        if (extent.kind != EXTENT_ABSENT)
            break;
        s.zero = !parent_reaches(image, offset);
        if (s.zero)
            break;
        s.length = MIN(s.length, image->parent->map->size - offset);
    }
    *ret_status = s;
    return 0;
}
