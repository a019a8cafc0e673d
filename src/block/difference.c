/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Differencing images; see difference.h.
 *
 * A difference is made beside its place and appears there whole, by a rename that replaces nothing:
 * a killed process leaves none, or one that can be used. It is emptied in place, under its lock, so
 * that two who start at once can't take each other's.
 */
#include "block/difference.h"
#include "base/address.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/i18n.h"

#define FORMAT "qcow2"

static bool fail(GError **error, const char *doing, const char *path, int code)
{
    g_set_error(error, G_IO_ERROR, g_io_error_from_errno(code), _("cannot %s '%s': %s"), _(doing),
                path, g_strerror(code));
    return false;
}

/* ---- making ---------------------------------------------------------------------------------- */

/* How a difference in `folder` names its base: so that both can be moved together. */
static char *name_from(const char *folder, const char *base)
{
    g_autofree char *prefix = g_strconcat(folder, "/", NULL);
    return g_strdup(g_str_has_prefix(base, prefix) ? base + strlen(prefix) : base);
}

static bool create(const char *path, const Image *base, GError **error)
{
    g_autofree char *there = g_canonicalize_filename(path, NULL);
    g_autofree char *folder = g_path_get_dirname(there);
    g_autofree char *absolute = absolute_name(base->path, NULL);
    g_autofree char *name = name_from(folder, absolute);
    ImageCreate how = {.format = FORMAT,
                       .size = base->map->size,
                       .parent = name,
                       .parent_format = base->driver->name,
                       .unchecked_parent = true};
    return image_create(path, &how, error);
}

bool difference_create(const char *path, const char *base_path, const char *base_format,
                       bool trust_names, GError **error)
{
    ImageOptions how = {
        .format = base_format, .read_only = true, .trust_names = trust_names, .keeps_locked = true};
    g_autoptr(Image) base = image_open(base_path, &how, error);
    return base && create(path, base, error);
}

static bool sync_folder(const char *path, GError **error)
{
    g_autofree char *folder = g_path_get_dirname(path);
    auto_fd fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd >= 0 && fsync(fd) == 0 ? true : fail(error, "write folder", folder, errno);
}

static bool create_whole(const char *path, const Image *base, GError **error)
{
    g_autofree char *beside = g_strdup_printf("%s.%d.new", path, (int)getpid());
    if (!create(beside, base, error))
        return false;
    if (renameat2(AT_FDCWD, beside, AT_FDCWD, path, RENAME_NOREPLACE) == 0)
        return sync_folder(path, error);
    int code = errno;
    g_unlink(beside);
    return fail(error, N_("make the differencing image"), path, code);
}

/* ---- opening --------------------------------------------------------------------------------- */

static Image *open_alone(const char *path, const ImageOptions *base, bool no_sync, GError **error)
{
    ImageOptions how = {
        .format = FORMAT, .no_parents = true, .no_sync = no_sync, .io_hook = base->io_hook};
    return image_open(path, &how, error);
}

static char *real_name(const char *name)
{
    return is_address(name) ? g_strdup(name) : realpath(name, NULL);
}

static bool names(const Image *difference, const char *base)
{
    const char *name = difference->map->parent_name;
    g_autofree char *path = name ? image_resolve_name(difference->path, name, true, NULL) : NULL;
    g_autofree char *real = path ? real_name(path) : NULL;
    g_autofree char *real_base = real_name(base);
    return real && !g_strcmp0(real, real_base);
}

/* One that was made over another disk would show neither. */
static bool belongs_to(const Image *difference, const Image *base, GError **error)
{
    const char *name = difference->map->parent_name;
    if (!names(difference, base->path))
        return format_fail(error, difference->path,
                           "it is no differencing image over '%s' but over '%s'; name another "
                           "file, or delete this one if its contents are not needed",
                           base->path, name ? name : _("nothing"));
    if (difference->map->size != base->map->size)
        return format_fail(error, difference->path,
                           "'%s' changed its size under it; delete it if its contents are not "
                           "needed",
                           base->path);
    return true;
}

static Image *open_named(const char *path, const Image *base, const ImageOptions *options,
                         bool anew, GError **error)
{
    if (access(path, F_OK) < 0 && !create_whole(path, base, error))
        return NULL;
    g_autoptr(Image) difference = open_alone(path, options, false, error);
    if (!difference || !belongs_to(difference, base, error))
        return NULL;
    int result = anew ? image_forget(difference) : 0;
    if (result) {
        format_fail_io(error, path, "empty the differencing image", result);
        return NULL;
    }
    return g_steal_pointer(&difference);
}

bool difference_is_over(const char *path, const char *base, bool *ret_is_over, GError **error)
{
    g_autoptr(Image) difference = open_alone(path, &(ImageOptions){0}, false, error);
    *ret_is_over = difference && names(difference, base);
    return difference;
}

bool difference_set_base(const char *path, const char *format, const char *base,
                         const char *base_format, GError **error)
{
    ImageOptions how = {.format = format, .no_parents = true, .keeps_locked = true};
    g_autoptr(Image) image = image_open(path, &how, error);
    g_autofree char *folder = g_path_get_dirname(path), *name = name_from(folder, base);
    g_autofree char *parent = g_strdup(base_format);
    if (!image)
        return false;
    if (!parent)
        parent = g_strdup(image->map->parent_format);
    return !g_strcmp0(image->map->parent_name, name) ||
           image->driver->set_parent(image->map, name, parent, base, error);
}

/* Its file has no name any more when this returns. */
static Image *open_nameless(const Image *base, const ImageOptions *options, GError **error)
{
    const char *folder = g_getenv("TMPDIR");
    g_autofree char *path =
        g_build_filename(folder && *folder ? folder : "/var/tmp", "ospite-XXXXXX", NULL);
    auto_fd fd = g_mkstemp_full(path, O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0) {
        fail(error, N_("make the differencing image"), path, errno);
        return NULL;
    }
    Image *difference = create(path, base, error) ? open_alone(path, options, true, error) : NULL;
    g_unlink(path);
    return difference;
}

Image *difference_open(const char *path, const char *base_path, const ImageOptions *options,
                       bool anew, GError **error)
{
    ImageOptions how = *options;
    how.read_only = true;
    g_autoptr(Image) base = image_open(base_path, &how, error);
    if (!base)
        return NULL;
    Image *difference =
        path ? open_named(path, base, options, anew, error) : open_nameless(base, options, error);
    if (difference)
        difference->parent = g_steal_pointer(&base);
    return difference;
}
