/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Opening and making images; see image.h. */
#include "block/image.h"
#include "base/address.h"
#include "base/i18n.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* A chain that is longer is taken for a loop. */
#define CHAIN_MAX 200

/* ---- names ----------------------------------------------------------------------------------- */

static bool is_beneath(const char *name)
{
    g_auto(GStrv) parts = g_strsplit(name, "/", -1);
    if (g_path_is_absolute(name))
        return false;
    for (char **p = parts; *p; p++) {
        if (!strcmp(*p, ".."))
            return false;
    }
    return true;
}

/* Follows links: what the name leads to must lie in the folder. */
static bool leads_beneath(const char *folder, const char *path)
{
    g_autofree char *real_folder = realpath(folder, NULL);
    g_autofree char *real = realpath(path, NULL);
    if (!real_folder || !real)
        return real_folder != NULL; /* opening will say that it is missing */
    size_t length = strlen(real_folder);
    return !strncmp(real, real_folder, length) &&
           (real[length] == '/' || !strcmp(real_folder, "/"));
}

char *image_resolve_name(const char *path, const char *name, bool trust, GError **error)
{
    g_autofree char *folder = g_path_get_dirname(path);
    if (is_address(name)) {
        if (trust)
            return g_strdup(name);
        format_fail(error, path,
                    "it names '%s', which is on another machine; if you trust whoever made it, say "
                    "--trust-backing, or trust-backing=true of a machine's disk",
                    name);
        return NULL;
    }
    if (g_str_has_prefix(name, "file:"))
        name += 5;
    g_autofree char *scheme = g_uri_parse_scheme(name);
    if (scheme || g_str_has_prefix(name, "json:") || !*name) {
        format_fail(error, path, "it names '%s' as a part of it, which is no plain file", name);
        return NULL;
    }
    g_autofree char *found =
        g_path_is_absolute(name) ? g_strdup(name) : g_build_filename(folder, name, NULL);
    bool inside = (g_path_is_absolute(name) || is_beneath(name)) && leads_beneath(folder, found);
    if (!trust && !inside) {
        format_fail(error, path,
                    "it names '%s', which is outside of its folder; if you trust whoever made it, "
                    "say --trust-backing, or trust-backing=true of a machine's disk",
                    name);
        return NULL;
    }
    return g_steal_pointer(&found);
}

/* ---- opening --------------------------------------------------------------------------------- */

static const FormatDriver *choose_driver(HostFile *file, const ImageOptions *options,
                                         GError **error)
{
    if (options->format)
        return format_find(options->format, error);
    g_autofree ProbeData *data = g_new0(ProbeData, 1);
    data->file_size = file->size;
    uint64_t tail = file->size > sizeof(data->tail) ? file->size - sizeof(data->tail) : 0;
    int result = host_file_read(file, 0, data->head, sizeof(data->head));
    if (!result)
        result = host_file_read(file, tail, data->tail, sizeof(data->tail));
    if (result) {
        format_fail_io(error, file->path, "read disk", result);
        return NULL;
    }
    return format_probe(data, file->path, error);
}

static Image *open_chain(const char *path, const ImageOptions *options, int depth, GError **error);

/* The parents' files stay locked for reading while the child is open. */
static bool open_parent(Image *image, const ImageOptions *options, int depth, GError **error)
{
    const ImageMap *map = image->map;
    if (!map->parent_name || options->no_parents || options->only_look)
        return true;
    if (depth >= CHAIN_MAX)
        return format_fail(error, image->path,
                           "its chain of parents is longer than %d; is it a "
                           "loop?",
                           CHAIN_MAX);
    g_autofree char *path = image_resolve_name(image->path, map->parent_name,
                                               options->trust_names || map->parent_found, error);
    ImageOptions parent = {.format = map->parent_format,
                           .read_only = true,
                           .trust_names = options->trust_names,
                           .keeps_locked = options->keeps_locked,
                           .key = options->key,
                           .io_hook = options->io_hook};
    image->parent = path ? open_chain(path, &parent, depth + 1, error) : NULL;
    if (!image->parent) {
        if (!depth) /* the parent that it is about names itself */
            g_prefix_error(error, _("cannot open the parent of '%s': "), image->path);
        return false;
    }
    if (!image->driver->doubt_parent)
        return true;
    g_autofree char *doubt =
        image->driver->doubt_parent(image->map, image->parent->map, image->parent->driver);
    return doubt ? format_fail(error, image->path, "%s", doubt) : true;
}

static bool must_not_be_empty(HostFile *file, GError **error)
{
    if (file->size)
        return true;
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                _("cannot open disk '%s': the file is empty; make a disk with 'ospite disk create "
                  "-f raw %s 10G'"),
                file->path, file->path);
    return false;
}

static bool mend_or_refuse(Image *image, const ImageOptions *options, GError **error)
{
    CheckResult result = {0};
    if (!image->map->needs_repair || image->read_only || options->ignore_damage)
        return true;
    bool good = image->driver->check && image->driver->check(image->map, true, &result, error);
    g_clear_pointer(&result.messages, g_ptr_array_unref);
    if (good && (result.corruptions || result.errors))
        return format_fail(error, image->path,
                           "it is damaged; 'ospite disk check --repair' may "
                           "mend it");
    return good;
}

static bool load_snapshot(Image *image, const char *tag, GError **error)
{
    g_assert(image->read_only);
    if (!image->driver->snapshots || !image->driver->snapshots->load)
        return format_fail(error, image->path, "the format %s has no snapshots inside images",
                           image->driver->name);
    return image->driver->snapshots->load(image->map, tag, error);
}

static Image *open_chain(const char *path, const ImageOptions *options, int depth, GError **error)
{
    g_autoptr(Image) image = g_new0(Image, 1);
    image->path = g_strdup(path);
    image->read_only = options->read_only;
    if (options->opened && depth == 0)
        image->file =
            host_file_open_fd(path, *options->opened, options->read_only, options->io_hook, error);
    else
        image->file = options->shared
                          ? host_file_open_shared(path, options->io_hook, error)
                          : host_file_open(path, options->read_only, options->io_hook, error);
    if (image->file)
        image->file->no_sync = options->no_sync;
    if (!image->file || (!options->format && !must_not_be_empty(image->file, error)))
        return NULL;
    const FormatDriver *driver = choose_driver(image->file, options, error);
    if (!driver)
        return NULL;
    OpenParameters parameters = {.read_only = options->read_only,
                                 .trust_names = options->trust_names,
                                 .ignore_damage = options->ignore_damage,
                                 .only_look = options->only_look,
                                 .no_sync = options->no_sync,
                                 .keeps_locked = options->keeps_locked,
                                 .key = options->key,
                                 .io_hook = options->io_hook};
    image->map = driver->open(image->file, &parameters, error);
    if (!image->map)
        return NULL;
    image->driver = driver;
    image->guard_marks = !options->format && driver == &raw_format;
    if (options->snapshot && !load_snapshot(image, options->snapshot, error))
        return NULL;
    if (!mend_or_refuse(image, options, error) || !open_parent(image, options, depth, error))
        return NULL;
    return g_steal_pointer(&image);
}

/* What two write at once must have a place for every byte already: nobody may change the map. */
static bool begin_sharing(Image *image, GError **error)
{
    Extent extent = {.length = 0};
    bool fixed = !image->parent && !image->map->encrypted && !image->map->tracks_changes;
    for (uint64_t at = 0; at < image->map->size && fixed; at += extent.length) {
        fixed = image->driver->lookup(image->map, at, image->map->size - at, false, &extent) == 0 &&
                extent.kind == EXTENT_DATA && extent.writable && extent.file == image->file;
    }
    if (!fixed)
        return format_fail(error, image->path,
                           "it can't be shareable: it has no fixed size; convert it to raw, to a "
                           "VDI with -o static or to a VHD with -o subformat=fixed");
    image->shared = image->write_begun = true; /* nothing is noted in its header */
    return true;
}

Image *image_open(const char *path, const ImageOptions *options, GError **error)
{
    g_autoptr(Image) image = open_chain(path, options, 0, error);
    if (!image || (options->shared && !begin_sharing(image, error)))
        return NULL;
    return g_steal_pointer(&image);
}

Image *image_join(GPtrArray *images)
{
    Image *joined = g_new0(Image, 1);
    GString *names = g_string_new(NULL);
    joined->parts = images;
    joined->read_only = true;
    joined->map = g_new0(ImageMap, 1);
    for (guint i = 0; i < images->len; i++) {
        Image *part = images->pdata[i];
        g_string_append_printf(names, "%s%s", i ? ", " : "", part->path);
        for (Image *image = part; image; image = image->parent) {
            image->start = joined->map->size;
            joined->map->encrypted |= image->map->encrypted;
        }
        joined->map->size += part->map->size;
    }
    joined->path = g_string_free(names, FALSE);
    joined->file = ((Image *)images->pdata[0])->file;
    joined->driver = &raw_format;
    return joined;
}

bool image_blames_server(const Image *image, int result)
{
    if (result != -ENOLINK && result != -ESTALE && result != -EPROTO)
        return false;
    for (guint i = 0; image->parts && i < image->parts->len; i++) {
        if (image_blames_server(image->parts->pdata[i], result))
            return true;
    }
    while (image && !image->file->remote)
        image = image->parent;
    return image != NULL;
}

void image_close(Image *image)
{
    if (!image)
        return;
    /* What the first commit frees is written by the second. */
    for (int i = 0; i < 3 && image->map && !image->read_only && (i == 0 || image->map->dirty); i++)
        image_flush(image);
    if (image->map)
        image->driver->close(image->map);
    image_close(image->parent);
    if (!image->parts)
        host_file_close(image->file);
    g_clear_pointer(&image->parts, g_ptr_array_unref);
    g_free(image->unit);
    g_free(image->sectors);
    g_free(image->path);
    g_free(image);
}

/* ---- making ---------------------------------------------------------------------------------- */

static const FormatOption *find_option(const FormatDriver *driver, const char *name)
{
    for (const FormatOption *o = driver->options; o && o->name; o++) {
        if (!strcmp(o->name, name))
            return o;
    }
    return NULL;
}

static bool parse_options(const FormatDriver *driver, const char *const *texts, GHashTable *values,
                          GError **error)
{
    for (const FormatOption *o = driver->options; o && o->name; o++) {
        if (o->initial)
            g_hash_table_insert(values, g_strdup(o->name), g_strdup(o->initial));
    }
    for (; texts && *texts; texts++) {
        g_auto(GStrv) pair = g_strsplit(*texts, "=", 2);
        if (!pair[0] || !find_option(driver, pair[0])) {
            g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                        _("the format %s has no option '%s'"), driver->name,
                        pair[0] ? pair[0] : "");
            return false;
        }
        g_hash_table_insert(values, g_strdup(pair[0]), g_strdup(pair[1] ? pair[1] : "on"));
    }
    return true;
}

/* Learns from the parent what was not given. */
static bool look_at_parent(const char *path, const ImageCreate *create, CreateOptions *options,
                           char **ret_path, GError **error)
{
    if (!create->parent)
        return true;
    *ret_path = image_resolve_name(path, create->parent, true, error);
    options->parent_path = *ret_path;
    options->parent_format = create->parent_format;
    if (!*ret_path || (create->unchecked_parent && create->parent_format))
        return *ret_path != NULL;
    ImageOptions look = {.format = create->parent_format,
                         .read_only = true,
                         .trust_names = true,
                         .keeps_locked = true};
    g_autoptr(Image) parent = image_open(*ret_path, &look, error);
    if (!parent)
        return false;
    options->parent_format = parent->driver->name;
    if (options->size == UINT64_MAX)
        options->size = parent->map->size;
    return true;
}

/* Nothing depends on the order in which a new file is written: one sync at the end is enough. */
static bool fill_file(const FormatDriver *driver, HostFile *file, const CreateOptions *options,
                      GError **error)
{
    bool no_sync = file->no_sync;
    file->no_sync = true;
    bool good = driver->create(file, options, error);
    file->no_sync = no_sync;
    int result = good ? host_file_sync(file) : 0;
    return result ? format_fail_io(error, file->path, "write", result) : good;
}

bool image_create(const char *path, const ImageCreate *create, GError **error)
{
    const FormatDriver *driver = format_find(create->format, error);
    if (!driver)
        return false;
    if (!driver->create || (create->parent && !driver->set_parent))
        return format_fail(error, path, "the format %s can't be made%s", driver->name,
                           driver->create ? " with a parent" : "");
    g_autoptr(GHashTable) values = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    g_autofree char *parent_path = NULL;
    CreateOptions options = {.size = create->size,
                             .parent = create->parent,
                             .values = values,
                             .no_sync = create->no_sync,
                             .made = create->made,
                             .obj = create->obj,
                             .key = create->key,
                             .io_hook = create->io_hook};
    if (!parse_options(driver, create->options, values, error) ||
        !look_at_parent(path, create, &options, &parent_path, error))
        return false;
    if (options.size > FORMAT_SIZE_MAX)
        return format_fail(error, path,
                           options.size == UINT64_MAX ? N_("its size is not given")
                                                      : N_("it would be too large"));
    options.size = (options.size + 511) & ~UINT64_C(511);
    g_autoptr(HostFile) file = format_create_file(path, &options, error);
    return file && fill_file(driver, file, &options, error);
}
