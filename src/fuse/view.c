/* SPDX-License-Identifier: GPL-3.0-or-later */
/* From bytes of files to whole sectors of an image; see view.h. */
#include "fuse/view.h"

#include <errno.h>
#include <string.h>

#include "base/bits.h"

#define SECTOR_MAX 4096u
#define CHUNK      65536u

static uint64_t start_of(const View *view, unsigned file)
{
    return g_array_index(view->starts, uint64_t, file);
}

static uint32_t sector_of(const View *view)
{
    return view->image->map->sector_size;
}

/* ---- calls ----------------------------------------------------------------------------------- */

/* The sectors around the bytes go through our room, a chunk at a time. */
static uint64_t next_part(const View *view, uint64_t at, uint64_t size, uint64_t *ret_first,
                          uint64_t *ret_sectors)
{
    *ret_first = align_down(at, sector_of(view));
    uint64_t end = MIN(at + size, *ret_first + CHUNK);
    *ret_sectors = align_up(end, sector_of(view)) - *ret_first;
    return end - at;
}

static int view_read(void *obj, unsigned file, uint64_t offset, void *data, size_t size)
{
    View *view = obj;
    uint64_t at = start_of(view, file) + offset, first, sectors;
    if ((at | size) % sector_of(view) == 0)
        return image_read(view->image, at, data, size);
    for (uint8_t *to = data; size;) {
        uint64_t part = next_part(view, at, size, &first, &sectors);
        int result = image_read(view->image, first, view->sectors, sectors);
        if (result)
            return result;
        memcpy(to, view->sectors + (at - first), part);
        to += part;
        at += part;
        size -= part;
    }
    return 0;
}

static int view_write(void *obj, unsigned file, uint64_t offset, const void *data, size_t size)
{
    View *view = obj;
    uint64_t at = start_of(view, file) + offset, first, sectors;
    if ((at | size) % sector_of(view) == 0)
        return image_write(view->image, at, data, size);
    for (const uint8_t *from = data; size;) {
        uint64_t part = next_part(view, at, size, &first, &sectors);
        int result = image_read(view->image, first, view->sectors, sectors);
        memcpy(view->sectors + (at - first), from, part);
        if (!result)
            result = image_write(view->image, first, view->sectors, sectors);
        if (result)
            return result;
        from += part;
        at += part;
        size -= part;
    }
    return 0;
}

/* Bytes of one sector, or whole ones. */
static int zero_part(View *view, unsigned file, uint64_t offset, uint64_t size)
{
    static const uint8_t zeros[SECTOR_MAX];
    uint64_t at = start_of(view, file) + offset;
    return (at | size) % sector_of(view) ? view_write(view, file, offset, zeros, size)
                                         : image_write_zeros(view->image, at, size);
}

static int view_zero(void *obj, unsigned file, uint64_t offset, uint64_t size)
{
    const View *view = obj;
    uint64_t at = start_of(view, file) + offset;
    uint64_t head = MIN(size, align_up(at, sector_of(view)) - at);
    uint64_t whole = align_down(size - head, sector_of(view)), tail = size - head - whole;
    int result = head ? zero_part(obj, file, offset, head) : 0;
    if (!result && whole)
        result = zero_part(obj, file, offset + head, whole);
    if (!result && tail)
        result = zero_part(obj, file, offset + head + whole, tail);
    return result;
}

static int view_flush(void *obj)
{
    return image_flush(((View *)obj)->image);
}

static int view_seek(void *obj, unsigned file, uint64_t offset, bool hole, uint64_t *ret)
{
    View *view = obj;
    uint64_t start = start_of(view, file);
    uint64_t size = g_array_index(view->files, FuseFile, file).size;
    while (offset < size) {
        ImageStatus status;
        int result = image_status(view->image, start + offset, size - offset, true, &status);
        *ret = offset;
        if (result || status.zero == hole)
            return result;
        offset += MIN(status.length, size - offset);
    }
    /* The end of a file is a hole. */
    *ret = size;
    return hole ? 0 : -ENXIO;
}

/* ---- files ----------------------------------------------------------------------------------- */

static void clear_file(gpointer data)
{
    FuseFile *file = data;
    g_free((char *)file->name);
    g_free((char *)file->target);
}

void view_init(View *view, Image *image)
{
    view->image = image;
    view->files = g_array_new(FALSE, FALSE, sizeof(FuseFile));
    g_array_set_clear_func(view->files, clear_file);
    view->starts = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    view->sectors = g_malloc(CHUNK);
}

void view_clear(View *view)
{
    g_array_unref(view->files);
    g_array_unref(view->starts);
    g_free(view->sectors);
}

void view_add(View *view, FuseFileKind kind, const char *name, const char *target, uint64_t start,
              uint64_t size)
{
    FuseFile file = {kind, g_strdup(name), g_strdup(target), size};
    g_array_append_val(view->files, file);
    g_array_append_val(view->starts, start);
}

void view_describe(View *view, FuseSpec *spec)
{
    spec->files = (const FuseFile *)view->files->data;
    spec->count = view->files->len;
    spec->read = view_read;
    spec->write = view_write;
    spec->zero = view_zero;
    spec->flush = view_flush;
    spec->seek = view_seek;
    spec->obj = view;
}
