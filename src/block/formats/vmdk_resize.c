/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * VMDK: another size, in place, of images that are one sparse file or one flat extent.
 *
 * The truth is the sparse header, or the descriptor of a flat extent; one write switches it when
 * all that a larger disk needs is durable, or before what a smaller one lacks goes.
 */
#include <errno.h>

#include "block/formats/vmdk.h"

/* ---- the descriptor -------------------------------------------------------------------------- */

/* The text with another size in the line of its one extent. Free it. */
static char *text_with_size(const char *text, uint64_t size)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (char **l = lines; *l; l++) {
        VmdkLine line;
        g_autofree char *old = *l;
        bool is_it = vmdk_parse_line(old, &line) && *line.kind;
        *l = is_it ? g_strdup_printf("%.*s%" G_GUINT64_FORMAT "%s", line.size_from, old, size / 512,
                                     old + line.size_to)
                   : g_steal_pointer(&old);
        if (is_it)
            break;
    }
    return g_strjoinv("\n", lines);
}

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

/* ---- the driver's call ----------------------------------------------------------------------- */

static bool is_resizable(const Vmdk *v)
{
    const VmdkExtent *e = v->extents->pdata[0];
    bool split = v->kind && g_str_has_prefix(v->kind, "twoGb");
    bool sparse = e->is_sparse && !e->own_file && !e->compressed && !e->is_old;
    return v->extents->len == 1 && !split && !e->is_zero && (sparse || !e->is_sparse);
}

static bool resize_extent(VmdkExtent *e, uint64_t size, GError **error)
{
    bool later = !e->is_sparse && size < e->size; /* a flat file is cut behind the descriptor */
    int result = e->is_sparse ? resize_sparse(e, size)
                 : later      ? 0
                              : host_file_truncate(e->file, e->flat_offset + size);
    if (!result && !e->is_sparse)
        result = host_file_sync(e->file);
    return result ? format_fail_io(error, e->file->path, "resize", result) : true;
}

bool vmdk_resize(ImageMap *map, uint64_t size, GError **error)
{
    Vmdk *v = (Vmdk *)map;
    VmdkExtent *e = v->extents->pdata[0];
    uint64_t old = map->size;
    if (!is_resizable(v))
        return format_fail(error, map->file->path,
                           "a VMDK of the kind %s has a fixed size; convert it",
                           v->kind ? v->kind : "?");
    g_autofree char *text = text_with_size(v->text, size);
    if (v->text_room && strlen(text) > v->text_room)
        return format_fail(error, map->file->path, "its descriptor has no room for that");
    if (!resize_extent(e, size, error))
        return false;
    if (e->is_sparse)
        map->size = e->size = size;
    if ((v->text_room || !e->is_sparse) && !vmdk_write_text(v, text, error))
        return false;
    map->size = e->size = size;
    int result =
        !e->is_sparse && size < old ? host_file_truncate(e->file, e->flat_offset + size) : 0;
    return result ? format_fail_io(error, e->file->path, "shorten", result) : true;
}
