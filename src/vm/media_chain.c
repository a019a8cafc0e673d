/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Images whose names are inside others: what must be written where when one of a chain moves; see
 * media_move(). Machines look for parents in an image's folder and below it only
 * (block/image.h, trust_names), so that a move must not lead out of there.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/address.h"
#include "base/i18n.h"
#include "block/image.h"
#include "vm/media_internal.h"
#include "vm/text.h"

void media_link_free(gpointer data)
{
    MediaLink *link = data;

    g_free(link->path);
    g_free(link->format);
    g_free(link->base);
    g_free(link->base_format);
    g_free(link);
}

static void add_link(GPtrArray *links, const char *path, const char *format, const char *base,
                     const char *base_format)
{
    MediaLink *link = g_new0(MediaLink, 1);

    *link = (MediaLink){g_strdup(path), g_strdup(format), g_strdup(base), g_strdup(base_format)};
    g_ptr_array_add(links, link);
}

/* The real place of a file that is, or will be, in a folder that is there (new). */
static char *real_place(const char *path)
{
    g_autofree char *folder = g_path_get_dirname(path), *name = g_path_get_basename(path);
    g_autofree char *real = realpath(folder, NULL);

    return g_build_filename(real ? real : folder, name, NULL);
}

/* In the image's folder, or below it. */
static bool is_in_reach(const char *image, const char *base)
{
    g_autofree char *real = real_place(image), *real_base = real_place(base);
    g_autofree char *folder = g_path_get_dirname(real);
    size_t length = strlen(folder);

    return !strncmp(real_base, folder, length) && (real_base[length] == '/' || length == 1);
}

/* With its parents: one that is doubted must not be trusted because its name was written anew. */
static Image *open_chain(const char *path, const char *format, GError **error)
{
    ImageOptions options = {
        .format = format, .read_only = true, .trust_names = true, .keeps_locked = true};

    return image_open(path, &options, error);
}

/* Whether what the link leads to is where a machine finds it, if it is now. */
static bool stays_in_reach(const Image *image, const char *path, const char *base, GError **error)
{
    bool is_now = image->map->parent_found || is_in_reach(image->path, image->parent->path);
    g_autofree char *quoted = text_quote(path), *quoted_base = text_quote(base);

    return !is_now || is_in_reach(path, base) ||
           vm_error(error, G_IO_ERROR_BUSY,
                    _("cannot move it: machines look for %s, on which %s builds, in its folder and "
                      "below it only; move the machine's whole folder instead"),
                    quoted_base, quoted);
}

static bool is_over(const Image *image, const Medium *base)
{
    g_autofree char *own = image->parent ? realpath(image->parent->path, NULL) : NULL;
    g_autofree char *wanted = realpath(base->path, NULL);

    return own && !g_strcmp0(own, wanted);
}

static bool link_child(const Medium *child, const Medium *medium, const char *to, GPtrArray *links,
                       GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(Image) image = open_chain(child->path, child->format, &why);
    g_autofree char *quoted = text_quote(medium->path), *quoted_child = text_quote(child->path);

    if (!image)
        return vm_error(error, G_IO_ERROR_BUSY, _("cannot move %s, on which %s builds: %s"), quoted,
                        quoted_child, why->message);
    if (!is_over(image, medium))
        return true;
    add_link(links, child->path, child->format, to, medium->format);
    return stays_in_reach(image, child->path, to, error);
}

/* One that cannot be read, and of which no parent is known, moves as the file that it is. */
static bool link_parent(const Medium *medium, const char *to, GPtrArray *links, GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(Image) image = open_chain(medium->path, medium->format, &why);
    g_autofree char *quoted = text_quote(medium->path), *base = NULL;

    if (!image)
        return !medium->parent ||
               vm_error(error, G_IO_ERROR_BUSY, _("cannot move %s: %s"), quoted, why->message);
    if (image->map->many_files)
        return vm_error(error, G_IO_ERROR_NOT_SUPPORTED,
                        _("cannot move %s: its data are in other files, too; move the machine's "
                          "whole folder instead"),
                        quoted);
    if (!image->parent)
        return true;
    base = absolute_name(image->parent->path, NULL);
    add_link(links, to, medium->format, base, image->parent->driver->name);
    return stays_in_reach(image, to, base, error);
}

bool media_links(GPtrArray *all, const Medium *medium, const char *to, GPtrArray *links,
                 GError **error)
{
    for (guint i = 0; i < all->len; i++) {
        const Medium *child = all->pdata[i];
        if (!g_strcmp0(child->parent, medium->uuid) && !link_child(child, medium, to, links, error))
            return false;
    }
    return medium->kind != MEDIUM_DISK || link_parent(medium, to, links, error);
}

bool media_journal_links(Journal *journal, const GPtrArray *links, GError **error)
{
    for (guint i = 0; i < links->len; i++) {
        const MediaLink *link = links->pdata[i];
        if (!journal_rebase(journal, link->path, link->format, link->base, link->base_format,
                            error))
            return false;
    }
    return true;
}

bool media_links_write(const GPtrArray *links, const char *path)
{
    for (guint i = 0; i < links->len; i++) {
        const MediaLink *link = links->pdata[i];
        if (!strcmp(link->path, path))
            return true;
    }
    return false;
}

/* Its children get its parent. */
static bool take_out(Media *media, const char *path, GError **error)
{
    g_autoptr(GPtrArray) all = media_read(media);
    const Medium *medium = media_pick(all, path, NULL);

    for (guint i = 0; medium && i < all->len; i++) {
        const Medium *child = all->pdata[i];
        if (!g_strcmp0(child->parent, medium->uuid) &&
            !media_put(media, child->uuid, "parent", medium->parent, error))
            return false;
    }
    return !medium || media_drop(media, medium->uuid, error);
}

bool media_commit_without(Media *media, const GPtrArray *gone, Journal *journal, GError **error)
{
    Media *locked __attribute__((cleanup(media_auto_end))) =
        media_begin(media, error) ? media : NULL;

    for (guint i = 0; locked && i < gone->len; i++) {
        if (!take_out(media, gone->pdata[i], error))
            return false;
    }
    return locked && media_store_with(media, journal, error);
}
