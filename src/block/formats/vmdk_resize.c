/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * VMDK: another size, in place.
 *
 * The truth is the header of an image that is one sparse file, else the descriptor: it is switched
 * at once when all that a larger disk needs is durable, and before what a smaller one lacks goes.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/formats/vmdk.h"

/* ---- sparse ---------------------------------------------------------------------------------- */

/* At `at`, a directory of `count` tables, then the tables that `old` has not, which are zeros. */
static int write_directory(VmdkExtent *e, const FlatTable *old, uint64_t at, uint64_t count)
{
    uint64_t size = align_up(count * 4, 512), known = old->size / 4;
    uint64_t step = align_up(e->entries * UINT64_C(4), 512);
    g_autofree uint8_t *directory = g_malloc0(size);
    memcpy(directory, old->data, old->size);
    for (uint64_t i = known; i < count; i++)
        store_le32(directory + i * 4, (uint32_t)((at + size + (i - known) * step) / 512));
    return host_file_write(e->file, at, directory, size);
}

static int write_header(VmdkExtent *e, uint64_t size, uint64_t redundant, uint64_t directory)
{
    uint8_t h[512];
    int result = host_file_read(e->file, 0, h, sizeof(h));
    store_le64(h + VMDK_H_CAPACITY, size / 512);
    store_le64(h + VMDK_H_DIRECTORY, directory / 512);
    if (redundant)
        store_le64(h + VMDK_H_REDUNDANT, redundant / 512);
    if (!result)
        result = host_file_write(e->file, 0, h, sizeof(h));
    return result ? result : host_file_sync(e->file);
}

static int reload(VmdkExtent *e, FlatTable *table, uint64_t at, uint64_t count)
{
    flat_table_clear(table);
    return flat_table_load(table, e->file, at, count * 4);
}

/* Longer directories and their new tables go to the end; other readers want every table there. */
static int grow_directories(VmdkExtent *e, uint64_t size, uint64_t count)
{
    bool twice = e->redundant.data != NULL;
    uint64_t fresh = (count - e->directory.size / 4) * align_up(e->entries * UINT64_C(4), 512);
    uint64_t room = align_up(count * 4, 512) + fresh;
    uint64_t redundant = twice ? e->end : 0, directory = e->end + (twice ? room : 0);
    uint64_t end = align_up(directory + room, e->grain);
    if (end / 512 > UINT32_MAX)
        return -EFBIG;
    int result = host_file_truncate(e->file, e->end);
    if (!result)
        result = host_file_truncate(e->file, end);
    if (!result && twice)
        result = write_directory(e, &e->redundant, redundant, count);
    if (!result)
        result = write_directory(e, &e->directory, directory, count);
    if (!result)
        result = host_file_sync(e->file);
    if (result)
        return result;
    e->end = end;
    result = write_header(e, size, redundant, directory);
    if (!result && twice)
        result = reload(e, &e->redundant, redundant, count);
    return result ? result : reload(e, &e->directory, directory, count);
}

/* Grains behind a smaller end must not come back. */
static int forget_behind(VmdkExtent *e, uint64_t size)
{
    uint64_t first = align_up(size, e->grain), at = first, done = 0;
    int result = 0;
    for (; at < e->size && !result; at += done) {
        image_map_tell_progress(&e->vmdk->map, 0, 1, at - first, e->size - first);
        result = vmdk_extent_forget(e, at, e->size - at, &done);
    }
    return result ? result : vmdk_extent_commit(e);
}

static int resize_sparse(VmdkExtent *e, uint64_t size)
{
    uint64_t span = e->entries * (uint64_t)e->grain, count = size / span + (size % span != 0);
    if (count * 4 > VMDK_MAX_DIRECTORY || size / 512 > VMDK_MAX_CAPACITY)
        return -EFBIG;
    int result = forget_behind(e, size);
    if (result)
        return result;
    if (count * 4 > e->directory.size)
        return grow_directories(e, size, count);
    return write_header(e, size, e->redundant.offset, e->directory.offset);
}

static bool resize_single(Vmdk *v, uint64_t size, GError **error)
{
    VmdkExtent *e = v->extents->pdata[0];
    g_autofree char *text = vmdk_text_resize(v->text, 1, size, NULL);
    if (v->text_room && strlen(text) > v->text_room)
        return format_fail(error, v->map.file->path, "its descriptor has no room for that");
    int result = resize_sparse(e, size);
    if (result)
        return format_fail_io(error, e->file->path, "resize", result);
    v->map.size = e->size = size;
    return !v->text_room || vmdk_write_text(v, text, error);
}

/* ---- a descriptor and its extents ------------------------------------------------------------ */

/* Flat: what lies in the file behind the extent must not become part of the disk. */
static int expect_zeros(VmdkExtent *e, uint64_t end)
{
    uint64_t at = e->flat_offset + e->size;
    g_autofree uint8_t *data = g_malloc(MIB(1));
    int result = 0;
    end = MIN(end, e->file->size);
    for (at = host_file_next_data(e->file, at); at < end && !result; at += MIB(1)) {
        uint64_t part = MIN(MIB(1), end - at);
        result = host_file_read(e->file, at, data, part);
        if (!result && (data[0] || memcmp(data, data + 1, part - 1)))
            return -ENOTEMPTY;
    }
    return result;
}

static int grow_flat(VmdkExtent *e, uint64_t size)
{
    int result = expect_zeros(e, e->flat_offset + size);
    if (!result && e->flat_offset + size > e->file->size)
        result = host_file_truncate(e->file, e->flat_offset + size);
    return result ? result : host_file_sync(e->file);
}

static bool grow_last(VmdkExtent *e, uint64_t size, GError **error)
{
    int result = e->is_zero ? 0 : e->is_sparse ? resize_sparse(e, size) : grow_flat(e, size);
    if (result == -ENOTEMPTY)
        return format_fail(error, e->file->path,
                           "it has data behind what the descriptor says, which a larger disk would "
                           "show; make a copy with 'ospite disk convert' and resize that");
    return result ? format_fail_io(error, e->file->path, "resize", result) : true;
}

/* VMware's split images have parts of less than 2 GiB. */
static bool is_split(const Vmdk *v)
{
    return v->kind && !g_ascii_strncasecmp(v->kind, "twoGb", 5);
}

/* The files of new parts, by their names and lines. */
typedef struct Parts {
    GPtrArray *names, *lines;
    GArray *sizes;
} Parts;

static void parts_remove(const Vmdk *v, const Parts *parts)
{
    g_autofree char *folder = g_path_get_dirname(v->map.file->path);
    for (guint i = 0; i < parts->names->len; i++) {
        g_autofree char *path = g_build_filename(folder, parts->names->pdata[i], NULL);
        unlink(path);
    }
}

static void parts_clear(Parts *parts)
{
    g_ptr_array_unref(parts->names);
    g_ptr_array_unref(parts->lines);
    g_array_unref(parts->sizes);
}

/* By a name that no file has: what is there may be anyone's. */
static bool create_part(const Vmdk *v, const VmdkExtent *like, uint64_t size, unsigned *n,
                        Parts *parts, GError **error)
{
    const char *image = v->map.file->path;
    g_autofree char *folder = g_path_get_dirname(image);
    g_autofree char *real = realpath(image, NULL);
    CreateOptions o = {.io_hook = v->map.file->hook, .no_sync = v->map.file->no_sync};
    uint32_t flags = like->has_zero ? VMDK_F_ZERO : 0;
    for (struct stat st;; ++*n) {
        g_autofree char *name = vmdk_part_name(real ? real : image, like->is_sparse, *n);
        g_autofree char *path = g_build_filename(folder, name, NULL);
        if (lstat(path, &st) == 0)
            continue;
        bool good = vmdk_create_part(path, like->is_sparse, size, flags, &o, error);
        g_ptr_array_add(parts->lines, vmdk_part_line(name, like->is_sparse, size));
        g_ptr_array_add(parts->names, g_steal_pointer(&name));
        g_array_append_val(parts->sizes, size);
        return good;
    }
}

static bool create_parts(const Vmdk *v, uint64_t size, Parts *parts, GError **error)
{
    const VmdkExtent *last = v->extents->pdata[v->extents->len - 1];
    unsigned n = v->extents->len;
    if (last->is_zero || (last->is_sparse && last->grain != VMDK_GRAIN))
        return format_fail(error, v->map.file->path,
                           "parts like its last one can't be added; convert it");
    if (size / VMDK_PART_SIZE + v->extents->len >= VMDK_MAX_EXTENTS)
        return format_fail(error, v->map.file->path, "it would have too many parts");
    for (uint64_t part; size; size -= part) {
        part = MIN(size, VMDK_PART_SIZE);
        n++;
        if (!create_part(v, last, part, &n, parts, error))
            return false;
    }
    return true;
}

static bool open_parts(Vmdk *v, const Parts *parts, GError **error)
{
    g_autofree char *folder = g_path_get_dirname(v->map.file->path);
    bool sparse = ((VmdkExtent *)v->extents->pdata[0])->is_sparse;
    for (guint i = 0; i < parts->names->len; i++) {
        g_autofree char *path = g_build_filename(folder, parts->names->pdata[i], NULL);
        HostFile *file = host_file_open(path, false, v->map.file->hook, error);
        if (!file)
            return false;
        VmdkExtent *e = vmdk_add_extent(v, file, sparse, g_array_index(parts->sizes, uint64_t, i));
        e->own_file = true;
        e->kind = g_strdup(sparse ? "SPARSE" : "FLAT");
        e->name = g_strdup(parts->names->pdata[i]);
        file->no_sync = v->map.file->no_sync;
        v->map.size += e->size;
        if (sparse && (!vmdk_extent_open(e, error) ||
                       vmdk_extent_set_unclean(e, true))) /* as begin_write did the others */
            return false;
    }
    return true;
}

static bool replace_text(Vmdk *v, guint count, uint64_t last, const GPtrArray *more, GError **error)
{
    char *text = vmdk_text_resize(v->text, count, last, more);
    int result = host_file_replace(v->map.file, text, strlen(text));
    g_free(v->text);
    v->text = text;
    return result ? format_fail_io(error, v->map.file->path, "write the descriptor of", result)
                  : true;
}

static bool grow_parts(Vmdk *v, uint64_t size, GError **error)
{
    guint count = v->extents->len;
    VmdkExtent *last = v->extents->pdata[count - 1];
    uint64_t full = align_up(MAX(VMDK_PART_SIZE, last->size), VMDK_GRAIN);
    uint64_t most = is_split(v) ? full : FORMAT_SIZE_MAX;
    uint64_t here = MIN(size - last->start, most), rest = size - last->start - here;
    Parts parts = {g_ptr_array_new_with_free_func(g_free), g_ptr_array_new_with_free_func(g_free),
                   g_array_new(FALSE, FALSE, sizeof(uint64_t))};
    bool good = (!rest || create_parts(v, rest, &parts, error)) && grow_last(last, here, error);
    if (!good)
        parts_remove(v, &parts);
    good = good && replace_text(v, count, here, parts.lines, error);
    if (good) {
        last->size = here;
        v->map.size = last->start + here;
        good = open_parts(v, &parts, error);
    }
    parts_clear(&parts);
    return good;
}

/* Only split images have files of their own for sure; other descriptors may name anyone's. */
static void drop_part(Vmdk *v, guint i)
{
    const VmdkExtent *e = v->extents->pdata[i];
    g_autofree char *path = is_split(v) && e->own_file ? g_strdup(e->file->path) : NULL;
    g_ptr_array_remove_index(v->extents, i);
    if (path)
        unlink(path);
}

static bool shrink_parts(Vmdk *v, uint64_t size, GError **error)
{
    guint count = 1;
    while (count < v->extents->len && ((VmdkExtent *)v->extents->pdata[count])->start < size)
        count++;
    VmdkExtent *last = v->extents->pdata[count - 1];
    uint64_t here = size - last->start;
    int result = last->is_sparse ? forget_behind(last, here) : 0;
    if (result)
        return format_fail_io(error, last->file->path, "resize", result);
    if (!replace_text(v, count, here, NULL, error))
        return false;
    if (last->is_sparse)
        result = write_header(last, here, last->redundant.offset, last->directory.offset);
    else if (!last->is_zero && last->size != here)
        result = host_file_truncate(last->file, last->flat_offset + here);
    last->size = here;
    v->map.size = size;
    while (v->extents->len > count)
        drop_part(v, v->extents->len - 1);
    return result ? format_fail_io(error, last->file->path, "shorten", result) : true;
}

/* ---- the driver's call ----------------------------------------------------------------------- */

static bool is_shared(const Vmdk *v, const VmdkExtent *e)
{
    for (guint i = 0; i < v->extents->len; i++) {
        const VmdkExtent *other = v->extents->pdata[i];
        if (other != e && other->file && other->file == e->file)
            return true;
    }
    return false;
}

static bool check_extents(const Vmdk *v, GError **error)
{
    for (guint i = 0; i < v->extents->len; i++) {
        const VmdkExtent *e = v->extents->pdata[i];
        if (e->is_old || e->is_se)
            return format_fail(error, v->map.file->path,
                               "its ESX extents are for reading only; convert it");
        if (is_shared(v, e))
            return format_fail(error, v->map.file->path,
                               "several of its extents are in the file '%s'; convert it",
                               e->file->path);
    }
    return true;
}

bool vmdk_resize(ImageMap *map, uint64_t size, GError **error)
{
    Vmdk *v = (Vmdk *)map;
    const VmdkExtent *first = v->extents->pdata[0];
    if (!check_extents(v, error))
        return false;
    if (first->file == map->file)
        return resize_single(v, size, error);
    return size < map->size   ? shrink_parts(v, size, error)
           : size > map->size ? grow_parts(v, size, error)
                              : true;
}
