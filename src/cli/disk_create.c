/* SPDX-License-Identifier: GPL-3.0-or-later */
/* disk create, resize, compact. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/disk.h"
#include "cli/progress.h"

#define CHUNK (1u << 20)

const char *disk_take_option(DiskArgs *a, const char *name)
{
    size_t length = strlen(name);
    for (guint i = 0; i + 1 < a->options->len; i++) {
        char *text = a->options->pdata[i];
        if (strncmp(text, name, length) || text[length] != '=')
            continue;
        const char *value = g_intern_string(text + length + 1);
        g_ptr_array_remove_index(a->options, i);
        return value;
    }
    return NULL;
}

int disk_command_create(DiskArgs *a, GError **error)
{
    uint64_t size = UINT64_MAX;
    DiskTarget target = {NULL};
    const char *parent = a->letter['b'] ? a->letter['b'] : disk_take_option(a, "backing_file");
    const char *parent_format =
        a->letter['F'] ? a->letter['F'] : disk_take_option(a, "backing_fmt");
    const char *size_text = a->count > 1 ? a->rest[1] : disk_take_option(a, "size");
    if (a->options_help)
        return disk_print_options(a->letter['f'] ? a->letter['f'] : "raw", error);
    if (a->count < 1 || a->count > 2)
        return disk_usage(error, "create takes a file and a size");
    if (size_text && !format_parse_size(size_text, &size))
        return disk_usage(error, "'%s' is no size; write 10G or 512M", size_text);
    ImageCreate create = {.format = a->letter['f'] ? a->letter['f'] : "raw",
                          .size = size,
                          .parent = parent,
                          .parent_format = parent_format,
                          .options = (const char *const *)a->options->pdata,
                          .key = a->new_key,
                          .unchecked_parent = a->letter['u'] != NULL};
    if (!disk_target_create(&target, a->rest[0], &create, error))
        return -1;
    disk_target_forget(&target);
    if (a->quiet)
        return 0;
    if (a->json)
        return disk_info_print(a, a->rest[0], create.format, error) ? 0 : -1;
    printf("Formatting '%s', fmt=%s", a->rest[0], create.format);
    if (size != UINT64_MAX)
        printf(" size=%" PRIu64, size);
    if (parent)
        printf(" backing_file=%s", parent);
    printf("\n");
    return 0;
}

/* ---- resize ---------------------------------------------------------------------------------- */

static int parse_new_size(const char *text, uint64_t old, uint64_t *ret_size, GError **error)
{
    uint64_t size;
    char sign = *text;
    if (!format_parse_size(text + (sign == '+' || sign == '-'), &size))
        return disk_usage(error, "'%s' is no size; write 20G, +5G or -1G", text);
    if (sign == '-' && size > old)
        return disk_usage(error, "the disk is smaller than %s", text + 1);
    *ret_size = sign == '+' ? old + size : sign == '-' ? old - size : size;
    return *ret_size > FORMAT_SIZE_MAX ? disk_usage(error, "'%s' is too large", text) : 0;
}

static bool resize_with_bar(const DiskArgs *a, Image *image, uint64_t size, GError **error)
{
    uint64_t old = image->map->size;
    Progress bar;
    progress_begin(&bar, a->progress, MAX(size, old) - MIN(size, old));
    image->map->progress = progress_part;
    image->map->progress_obj = &bar;
    bool good = image_resize(image, size, error);
    image->map->progress = NULL;
    progress_end(&bar);
    return good;
}

/* Writes zeros, or gives the bytes a place that reads as zeros; `ret_done`: how far it came. */
static int preallocate_part(Image *image, const char *how, uint64_t at, uint64_t size,
                            uint64_t *ret_done)
{
    g_autofree uint8_t *zeros = g_malloc0(CHUNK);
    Extent e;
    *ret_done = MIN(size, CHUNK - at % CHUNK);
    if (!strcmp(how, "full"))
        return image_write(image, at, zeros, *ret_done);
    int result = image_place(image, at, size, &e);
    *ret_done = MIN(size, e.length);
    if (!result)
        result = host_file_zero(e.file, e.host_offset, *ret_done);
    if (!result && !strcmp(how, "falloc") &&
        fallocate(e.file->fd, 0, (off_t)e.host_offset, (off_t)*ret_done) < 0)
        result = -errno;
    /* Readers of other products want what has a place to be in the file. */
    if (!result && e.file->size < e.host_offset + *ret_done)
        result = host_file_truncate(e.file, e.host_offset + *ret_done);
    return result;
}

static int preallocate(Image *image, const char *how, uint64_t at)
{
    int result = 0;
    for (uint64_t done; at < image->map->size && !result; at += done)
        result = preallocate_part(image, how, at, image->map->size - at, &done);
    return result ? result : image_flush(image);
}

static int check_preallocation(const DiskArgs *a, const Image *image, uint64_t size, GError **error)
{
    static const char *const known[] = {"off", "metadata", "falloc", "full", NULL};
    const char *how = a->preallocation;
    if (!how || !strcmp(how, "off"))
        return 0;
    if (!g_strv_contains(known, how))
        return disk_usage(error, "--preallocation is off, metadata, falloc or full, not '%s'", how);
    if (size < image->map->size)
        return disk_refuse(error, "preallocation can only be used for growing images");
    if (strcmp(how, "full") && (image->parent || image->map->encrypted))
        return disk_refuse(error, "an image with a parent or with encryption can be preallocated "
                                  "with 'full' only");
    if (!image->map->unit_size && !strcmp(how, "metadata"))
        return disk_refuse(error, "the format %s has no metadata to preallocate",
                           image->driver->name);
    return image->map->packs_only ? disk_refuse(error, "a packed image can't be preallocated") : 0;
}

int disk_command_resize(DiskArgs *a, GError **error)
{
    uint64_t size = 0;
    if (a->count != 2)
        return disk_usage(error, "resize takes a file and a size");
    g_autoptr(Image) image = disk_open_image(a, a->rest[0], a->letter['f'], false, error);
    if (!image || parse_new_size(a->rest[1], image->map->size, &size, error))
        return -1;
    if (size < image->map->size && !a->shrink)
        return disk_refuse(
            error, "%s would lose what is behind %" PRIu64 " bytes; say --shrink if that is meant",
            a->rest[0], size);
    uint64_t old = image->map->size;
    unsigned grown;
    if (check_preallocation(a, image, size, error) || !resize_with_bar(a, image, size, error))
        return -1;
    bool preallocates = a->preallocation && strcmp(a->preallocation, "off");
    int result = preallocates ? preallocate(image, a->preallocation, old) : 0;
    if (result)
        return disk_fail(error, "preallocate", a->rest[0], result);
    if (a->grow_partition && size > old && !partition_grow_last(image, old, &grown, error))
        return -1;
    if (!a->quiet && !a->json)
        printf("Image resized.\n");
    g_clear_pointer(&image, image_close);
    return a->json && !disk_info_print(a, a->rest[0], a->letter['f'], error) ? -1 : 0;
}

/* ---- compact --------------------------------------------------------------------------------- */

static bool is_zero(const uint8_t *data, size_t size)
{
    return !data[0] && !memcmp(data, data + 1, size - 1);
}

/* Reads as far as there are zeros; units can be larger than what is good to have in memory. */
static int is_zero_part(Image *image, uint64_t at, uint64_t size, uint8_t *data, bool *ret_zero)
{
    int result = 0;
    *ret_zero = true;
    for (uint64_t done = 0; done < size && !result && *ret_zero; done += CHUNK) {
        uint64_t part = MIN(CHUNK, size - done);
        result = image_read(image, at + done, data, part);
        *ret_zero = !result && is_zero(data, part);
    }
    return result;
}

bool disk_compact_image(Image *image, bool progress, GError **error)
{
    Progress bar;
    uint64_t unit = MAX(image->map->unit_size, 65536);
    g_autofree uint8_t *data = g_malloc(CHUNK);
    int result = 0;
    progress_begin(&bar, progress, image->map->size);
    for (uint64_t at = 0, part; at < image->map->size && !result;) {
        ImageStatus status;
        bool zero = false;
        result = image_status(image, at, image->map->size - at, true, &status);
        part = MIN(status.length, image->map->size - at);
        if (!result && status.data && status.depth == 0) {
            part = MIN(unit - at % unit, image->map->size - at);
            result = is_zero_part(image, at, part, data, &zero);
            if (zero)
                result = image_write_zeros(image, at, part);
        }
        at += part;
        progress_update(&bar, at);
    }
    progress_end(&bar);
    if (!result)
        result = image_flush(image);
    if (!result)
        result = image_flush(image);
    return result ? format_fail_io(error, image->path, "compact", result) : true;
}

int disk_command_compact(DiskArgs *a, GError **error)
{
    if (a->count != 1)
        return disk_usage(error, "compact takes a file");
    g_autoptr(Image) image = disk_open_image(a, a->rest[0], a->letter['f'], false, error);
    if (!image || !disk_compact_image(image, a->progress, error))
        return -1;
    g_clear_pointer(&image, image_close);
    return disk_print_changed(a, a->rest[0], a->letter['f'], error);
}
