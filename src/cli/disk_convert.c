/* SPDX-License-Identifier: GPL-3.0-or-later */
/* disk convert and clone: from any format to any, leaving out zeros, packing on all processors. */
#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>

#include "cli/disk.h"

#define CHUNK      (2u << 20)
#define ZERO_GRAIN 4096

static bool is_zero(const uint8_t *data, size_t size)
{
    return !data[0] && !memcmp(data, data + 1, size - 1);
}

/* ---- plain ----------------------------------------------------------------------------------- */

/* Writes runs that are not zero. */
static int write_sparse(Image *to, uint64_t offset, const uint8_t *data, size_t size)
{
    for (size_t at = 0; at < size;) {
        size_t grain = MIN(ZERO_GRAIN, size - at), end = at + grain;
        if (is_zero(data + at, grain)) {
            at = end;
            continue;
        }
        while (end < size && !is_zero(data + end, MIN(ZERO_GRAIN, size - end)))
            end += MIN(ZERO_GRAIN, size - end);
        int result = image_write(to, offset + at, data + at, end - at);
        if (result)
            return result;
        at = end;
    }
    return 0;
}

typedef struct Copying {
    Image *from, *to;
    uint8_t *data;
    bool reads_zero; /* the target reads as zeros where nothing was written */
    bool has_parent; /* what the source's parents have stays there */
    DiskProgress progress;
} Copying;

static int copy_part(Copying *c, uint64_t at, uint64_t *size)
{
    ImageStatus status;
    int result = image_status(c->from, at, *size, true, &status);
    if (result)
        return result;
    *size = MIN(*size, status.length);
    if (c->has_parent && status.depth > 0)
        return 0;
    if (status.zero)
        return c->reads_zero ? 0 : image_write_zeros(c->to, at, *size);
    *size = MIN(*size, CHUNK);
    result = image_read(c->from, at, c->data, *size);
    if (result)
        return result;
    return c->reads_zero ? write_sparse(c->to, at, c->data, *size)
                         : image_write(c->to, at, c->data, *size);
}

static int copy_plain(Copying *c)
{
    uint64_t size = MIN(c->from->map->size, c->to->map->size);
    int result = 0;
    c->data = g_malloc(CHUNK);
    for (uint64_t at = 0; at < size && !result;) {
        uint64_t part = size - at;
        result = disk_was_interrupted() ? -EINTR : copy_part(c, at, &part);
        at += part;
        disk_progress_update(&c->progress, at);
    }
    g_free(c->data);
    return result;
}

/* ---- packed ---------------------------------------------------------------------------------- */

typedef struct Unit {
    uint64_t offset;
    size_t stored_size;
    bool zero;
    uint8_t *data, *stored;
} Unit;

static void pack_unit(gpointer data, gpointer obj)
{
    Unit *unit = data;
    Image *to = obj;
    unit->zero = is_zero(unit->data, to->map->unit_size);
    unit->stored_size = unit->zero ? 0 : to->driver->compress(to->map, unit->data, unit->stored);
}

static int write_unit(Copying *c, Unit *unit)
{
    uint64_t left = MIN(c->to->map->unit_size, c->to->map->size - unit->offset);
    if (unit->zero)
        return 0;
    if (unit->stored_size)
        return image_write_compressed(c->to, unit->offset, unit->stored,
                                      (uint32_t)unit->stored_size);
    return image_write(c->to, unit->offset, unit->data, left);
}

/* Reads the next units that are not known to be zero; how many there are. */
static int read_units(Copying *c, Unit *units, guint max, uint64_t *at, guint *ret_count)
{
    uint64_t unit_size = c->to->map->unit_size, size = MIN(c->from->map->size, c->to->map->size);
    guint n = 0;
    int result = 0;
    while (n < max && *at < size && !result) {
        ImageStatus status;
        uint64_t part = MIN(unit_size, size - *at);
        result = image_status(c->from, *at, size - *at, true, &status);
        if (!result && status.zero && status.length >= part) {
            *at += MAX(status.length / unit_size, 1) * unit_size;
            continue;
        }
        memset(units[n].data + part, 0, unit_size - part);
        if (!result)
            result = image_read(c->from, *at, units[n].data, part);
        units[n++].offset = *at;
        *at += unit_size;
    }
    *ret_count = n;
    return result;
}

static int copy_packed(Copying *c)
{
    uint32_t unit_size = c->to->map->unit_size;
    guint threads = g_get_num_processors(), max = CLAMP((8u << 20) / unit_size, 2, 8 * threads);
    g_autofree Unit *units = g_new0(Unit, max);
    uint8_t *buffers = g_malloc(3 * (size_t)unit_size * max);
    int result = 0;
    for (guint i = 0; i < max; i++) {
        units[i].data = buffers + 3 * (size_t)unit_size * i;
        units[i].stored = units[i].data + unit_size;
    }
    for (uint64_t at = 0; at < c->from->map->size && !result;) {
        guint count;
        result = read_units(c, units, max, &at, &count);
        GThreadPool *pool = g_thread_pool_new(pack_unit, c->to, (int)threads, FALSE, NULL);
        for (guint i = 0; i < count && !result; i++)
            g_thread_pool_push(pool, &units[i], NULL);
        g_thread_pool_free(pool, FALSE, TRUE);
        for (guint i = 0; i < count && !result; i++)
            result = write_unit(c, &units[i]);
        result = result ? result : disk_was_interrupted() ? -EINTR : 0;
        disk_progress_update(&c->progress, MIN(at, c->from->map->size));
    }
    g_free(buffers);
    return result;
}

/* ---- both ------------------------------------------------------------------------------------ */

static bool fill(Image *from, Image *to, const DiskCopy *copy, GError **error)
{
    Copying c = {.from = from,
                 .to = to,
                 .reads_zero = !copy->into_existing && !copy->parent && !to->map->begins_as_noise,
                 .has_parent = copy->parent != NULL};
    bool packed = copy->compress || to->map->packs_only;
    if (packed && !to->driver->compress)
        return format_fail(error, to->path, "the format %s has no compression", to->driver->name);
    disk_progress_begin(&c.progress, copy->progress, from->map->size);
    int result = packed ? copy_packed(&c) : copy_plain(&c);
    if (!result)
        result = image_flush(to);
    disk_progress_end(&c.progress);
    if (result == -EINTR)
        return format_fail(error, to->path, "interrupted; nothing is left of it");
    return result ? format_fail_io(error, to->path, "write", result) : true;
}

static Image *make_target(Image *from, const char *path, const DiskCopy *copy, GError **error)
{
    ImageCreate create = {.format = copy->format,
                          .size = from->map->size,
                          .parent = copy->parent,
                          .parent_format = copy->parent_format,
                          .options = copy->options,
                          .key = copy->key};
    ImageOptions open = {.format = copy->format, .trust_names = true, .key = copy->key};
    if (!copy->into_existing && !image_create(path, &create, error))
        return NULL;
    Image *to = image_open(path, &open, error);
    if (to && to->map->size < from->map->size) {
        format_fail(error, path, "it is smaller than the source");
        g_clear_pointer(&to, image_close);
    }
    return to;
}

bool disk_copy(Image *from, const char *path, const DiskCopy *copy, GError **error)
{
    bool existed = copy->into_existing || g_file_test(path, G_FILE_TEST_EXISTS);
    Image *to = make_target(from, path, copy, error);
    bool good = to && fill(from, to, copy, error);
    image_close(to);
    if (!good && !existed)
        g_unlink(path);
    return good;
}

static bool same_file(const char *a, const char *b)
{
    g_autofree char *x = g_canonicalize_filename(a, NULL);
    g_autofree char *y = g_canonicalize_filename(b, NULL);
    return !strcmp(x, y);
}

int disk_command_convert(DiskArgs *a, GError **error)
{
    if (a->count != 2)
        return disk_usage(error, "convert takes a source and a target");
    if (same_file(a->rest[0], a->rest[1]))
        return disk_usage(error, "the source and the target are one file");
    g_autoptr(Image) from = disk_open_image(a, a->rest[0], a->letter['f'], true, error);
    DiskCopy copy = {.format = a->letter['O'] ? a->letter['O'] : "raw",
                     .options = (const char *const *)a->options->pdata,
                     .parent = a->letter['B'] ? a->letter['B'] : a->letter['b'],
                     .parent_format = a->letter['F'],
                     .key = a->new_key,
                     .compress = a->letter['c'] != NULL,
                     .into_existing = a->letter['n'] != NULL,
                     .progress = a->progress};
    return from && disk_copy(from, a->rest[1], &copy, error) ? 0 : -1;
}

int disk_command_clone(DiskArgs *a, GError **error)
{
    if (a->count != 2)
        return disk_usage(error, "clone takes a source and a target");
    g_autoptr(Image) from = disk_open_image(a, a->rest[0], a->letter['f'], true, error);
    if (!from)
        return -1;
    DiskCopy copy = {.format = a->letter['O'] ? a->letter['O'] : from->driver->name,
                     .progress = a->progress};
    if (!a->linked)
        return disk_copy(from, a->rest[1], &copy, error) ? 0 : -1;
    ImageCreate create = {.format = a->letter['O'] ? a->letter['O'] : "qcow2",
                          .size = UINT64_MAX,
                          .parent = a->rest[0],
                          .parent_format = from->driver->name};
    g_autofree char *full = g_canonicalize_filename(a->rest[0], NULL);
    if (strchr(a->rest[1], '/') || strchr(a->rest[0], '/'))
        create.parent = full;
    g_clear_pointer(&from, image_close);
    return image_create(a->rest[1], &create, error) ? 0 : -1;
}
