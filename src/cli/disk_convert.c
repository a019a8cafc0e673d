/* SPDX-License-Identifier: GPL-3.0-or-later */
/* disk convert and clone: from any format to any. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/address.h"
#include "base/i18n.h"
#include "cli/disk.h"
#include "cli/progress.h"

/* ---- copying --------------------------------------------------------------------------------- */

static bool show_progress(void *obj, uint64_t done)
{
    progress_update(obj, done);
    return true;
}

static void tell_lost(void *obj, uint64_t offset, uint64_t size, int error)
{
    g_printerr(_("warning: cannot read %" PRIu64 " bytes at %" PRIu64 ": %s; they become zeros\n"),
               size, offset, g_strerror(-error));
}

/* Which side it was: what is to be done differs. */
static bool fail_copy(const Image *failed, const Image *to, int result, GError **error)
{
    if (!failed || failed == to)
        return format_fail_io(error, to->path, "write", result);
    if (image_blames_server(failed, result))
        return format_fail_io(error, failed->path, "read", result);
    g_set_error(error, G_IO_ERROR, g_io_error_from_errno(-result),
                _("cannot read '%s': %s; 'ospite disk check' says more of an image, and --salvage "
                  "copies what can be read"),
                failed->path, g_strerror(-result));
    return false;
}

static bool fill(Image *from, Image *to, const DiskCopy *copy, GError **error)
{
    Progress progress;
    const Image *failed = NULL;
    ImageCopy how = copy->how;
    how.from = from;
    how.to = to;
    how.target_is_new = !copy->into_existing;
    how.skip_parents = copy->parent != NULL;
    how.progress = show_progress;
    how.lost = tell_lost;
    how.obj = &progress;
    how.failed = &failed;
    if (how.compress && !to->driver->compress)
        return format_fail(error, to->path, "the format %s has no compression", to->driver->name);
    progress_begin(&progress, copy->progress, from->map->size);
    int result = image_copy(&how);
    if (!result)
        result = image_flush(to);
    progress_end(&progress);
    return result ? fail_copy(failed, to, result, error) : true;
}

static bool copy_bitmaps(const Image *from, Image *to, const DiskCopy *copy, GError **error)
{
    if (!copy->bitmaps)
        return true;
    if (!from->driver->copy_bitmaps || from->driver != to->driver)
        return format_fail(error, to->path,
                           "it can't have the bitmaps of '%s': both must be qcow2 images",
                           from->path);
    return to->driver->copy_bitmaps(to->map, from->map, copy->skip_broken_bitmaps, error);
}

static Image *open_target(Image *from, const char *path, const DiskCopy *copy, GError **error)
{
    ImageOptions open = {
        .format = copy->format, .trust_names = true, .no_sync = !copy->durable, .key = copy->key};
    Image *to = image_open(path, &open, error);
    if (to && to->map->size < from->map->size) {
        format_fail(error, path, "it is smaller than the source");
        g_clear_pointer(&to, image_close);
    }
    return to;
}

bool disk_copy(Image *from, const char *path, const DiskCopy *copy, GError **error)
{
    DiskTarget target = {NULL};
    ImageCreate create = {.format = copy->format,
                          .size = from->map->size,
                          .parent = copy->parent,
                          .parent_format = copy->parent_format,
                          .options = copy->options,
                          .key = copy->key,
                          .no_sync = !copy->durable};
    if (!copy->into_existing && !disk_target_create(&target, path, &create, error))
        return false;
    Image *to = open_target(from, path, copy, error);
    bool good = to && fill(from, to, copy, error) && copy_bitmaps(from, to, copy, error);
    image_close(to);
    if (good)
        disk_target_forget(&target);
    else
        disk_target_remove(&target);
    return good;
}

/* ---- commands -------------------------------------------------------------------------------- */

static bool same_file(const char *a, const char *b)
{
    if (is_address(a) || is_address(b))
        return !strcmp(a, b);
    g_autofree char *x = g_canonicalize_filename(a, NULL);
    g_autofree char *y = g_canonicalize_filename(b, NULL);
    return !strcmp(x, y);
}

static int number_option(const DiskArgs *a, char letter, uint64_t max, uint64_t *ret,
                         GError **error)
{
    const char *text = a->letter[(int)letter];
    if (!text || (format_parse_size(text, ret) && *ret <= max))
        return 0;
    return disk_usage(error, "-%c cannot be '%s'", letter, text);
}

/* -S SIZE, -m THREADS, -r RATE and the flags. */
static int copy_options(const DiskArgs *a, ImageCopy *how, GError **error)
{
    uint64_t grain = 4096, threads = 8, rate = 0;
    if (number_option(a, 'S', 1 << 20, &grain, error) ||
        number_option(a, 'm', 16, &threads, error) ||
        number_option(a, 'r', INT64_MAX, &rate, error))
        return -1;
    if (grain % 512)
        return disk_usage(error, "-S cannot be '%s'; it is a multiple of 512", a->letter['S']);
    if (!threads)
        return disk_usage(error, "-m is from 1 to 16");
    if (a->target_is_zero && !a->letter['n'])
        return disk_usage(error, "--target-is-zero is about a target that is there: say -n, too");
    if (a->letter['C'] && (a->letter['S'] || a->salvage))
        return disk_usage(error, "-C lets the host copy, which looks at no data: -S and --salvage "
                                 "can't go with it");
    *how = (ImageCopy){.compress = a->letter['c'] != NULL,
                       .any_order = a->letter['W'] != NULL,
                       .offload = a->letter['C'] != NULL,
                       .salvage = a->salvage,
                       .dense = grain == 0,
                       .target_is_zero = a->target_is_zero,
                       .threads = a->letter['m'] ? (unsigned)threads : 0,
                       .zero_grain = (uint32_t)grain,
                       .bytes_a_second = rate};
    return 0;
}

static Image *open_sources(DiskArgs *a, GError **error)
{
    g_autoptr(GPtrArray) images = g_ptr_array_new_with_free_func((GDestroyNotify)image_close);
    uint64_t size = 0;
    for (int i = 0; i < a->count - 1; i++) {
        Image *image = disk_open_nth(a, i, a->letter['f'], error);
        if (!image)
            return NULL;
        g_ptr_array_add(images, image);
        size += image->map->size;
        if (size > FORMAT_SIZE_MAX) {
            disk_refuse(error, "together the sources are too large");
            return NULL;
        }
    }
    return image_join(g_steal_pointer(&images));
}

static Image *open_source(DiskArgs *a, GError **error)
{
    const char *tag = a->letter['l'];
    if (!tag && a->count > 2)
        return open_sources(a, error);
    if (!tag)
        return disk_open_image(a, a->rest[0], a->letter['f'], true, error);
    g_autofree char *found = disk_snapshot_tag(a, a->rest[0], tag, error);
    ImageOptions options = {.format = a->letter['f'],
                            .read_only = true,
                            .trust_names = a->trust,
                            .key = a->key,
                            .snapshot = found};
    return found ? image_open(a->rest[0], &options, error) : NULL;
}

static int print_result(const DiskArgs *a, const char *format, GError **error)
{
    return a->json && !disk_info_print(a, a->rest[a->count - 1], format, error) ? -1 : 0;
}

static int check_files(const DiskArgs *a, const char *parent, GError **error)
{
    if (a->count < 2)
        return disk_usage(error, "convert takes a source, or several, and a target");
    for (int i = 0; i < a->count - 1; i++) {
        if (same_file(a->rest[i], a->rest[a->count - 1]))
            return disk_usage(error, "the source and the target are one file");
    }
    if (a->count > 2 && parent)
        return disk_usage(error, "a target that several sources make has no parent: -B can't go "
                                 "with them");
    if (a->bitmaps && (a->count > 2 || a->letter['l']))
        return disk_usage(error,
                          "--bitmaps copies those of one source as it is now, not of several "
                          "or of a snapshot");
    if (a->skip_broken_bitmaps && !a->bitmaps)
        return disk_usage(error, "--skip-broken-bitmaps is about --bitmaps: say that, too");
    if (a->count > 2 && a->letter['l'])
        return disk_usage(error, "-l takes a snapshot of one source, not of several");
    return 0;
}

int disk_command_convert(DiskArgs *a, GError **error)
{
    const char *cache = a->letter['t'];
    const char *parent = disk_take_option(a, "backing_file");
    const char *parent_format = disk_take_option(a, "backing_fmt");
    if (a->letter['n'] && a->options->len > 1)
        return disk_usage(error, "-n keeps the target's format: -o can't go with it");
    DiskCopy copy = {.format = a->letter['O'] ? a->letter['O'] : "raw",
                     .options = (const char *const *)a->options->pdata,
                     .parent = a->letter['B']   ? a->letter['B']
                               : a->letter['b'] ? a->letter['b']
                                                : parent,
                     .parent_format = a->letter['F'] ? a->letter['F'] : parent_format,
                     .key = a->new_key,
                     .into_existing = a->letter['n'] != NULL,
                     .bitmaps = a->bitmaps,
                     .skip_broken_bitmaps = a->skip_broken_bitmaps,
                     .durable = cache && strcmp(cache, "unsafe") != 0,
                     .progress = a->progress};
    if (a->options_help)
        return disk_print_options(copy.format, error);
    if (disk_key_use_target(a, &copy, error) || check_files(a, copy.parent, error) ||
        copy_options(a, &copy.how, error))
        return -1;
    g_autoptr(Image) from = open_source(a, error);
    if (!from || !disk_copy(from, a->rest[a->count - 1], &copy, error))
        return -1;
    return print_result(a, copy.format, error);
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
        return disk_copy(from, a->rest[1], &copy, error) ? print_result(a, copy.format, error) : -1;
    ImageCreate create = {.format = a->letter['O'] ? a->letter['O'] : "qcow2",
                          .size = UINT64_MAX,
                          .parent = a->rest[0],
                          .parent_format = from->driver->name};
    g_autofree char *full = g_canonicalize_filename(a->rest[0], NULL);
    if (strchr(a->rest[1], '/') || strchr(a->rest[0], '/'))
        create.parent = full;
    g_clear_pointer(&from, image_close);
    DiskTarget target = {NULL};
    if (!disk_target_create(&target, a->rest[1], &create, error))
        return -1;
    disk_target_forget(&target);
    return print_result(a, create.format, error);
}
