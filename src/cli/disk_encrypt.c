/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * disk encrypt: an encrypted copy, in place of the image or beside it, and the keys of one.
 *
 * In place, the copy is made beside the image and takes its name when it is complete and durable:
 * a crash leaves the one or the other.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "cli/disk.h"

static int sync_path(const char *path, int flags)
{
    auto_fd fd = open(path, flags | O_RDONLY | O_CLOEXEC);
    return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

static int copy_encrypted(DiskArgs *a, Image *from, const char *path, GError **error)
{
    const char *format = a->letter['O'] ? a->letter['O'] : "qcow2";
    if (!strcmp(format, "qcow2"))
        g_ptr_array_insert(a->options, 0, g_strdup("encrypt.format=luks"));
    DiskCopy copy = {.format = format,
                     .options = (const char *const *)a->options->pdata,
                     .parent = from->map->parent_name,
                     .parent_format = from->parent ? from->parent->driver->name : NULL,
                     .key = a->new_key,
                     .progress = a->progress};
    if (!disk_copy(from, path, &copy, error))
        return -1;
    int result = sync_path(path, 0);
    return result ? disk_fail(error, "sync", path, result) : 0;
}

static int replace(const char *old, const char *new, GError **error)
{
    g_autofree char *folder = g_path_get_dirname(old);
    int result = g_rename(new, old) < 0 ? -errno : sync_path(folder, O_DIRECTORY);
    return result ? disk_fail(error, "replace", old, result) : 0;
}

/* What a copy would lose stands against taking the image's place. */
static int check_replaceable(const DiskArgs *a, Image *image, GError **error)
{
    g_autoptr(GPtrArray) list =
        image->driver->snapshots ? image->driver->snapshots->list(image->map) : NULL;
    const char *format = a->letter['O'] ? a->letter['O'] : "qcow2";
    if (strcmp(image->driver->name, format))
        return disk_refuse(error, "%s is no %s image; name a new file for the encrypted one",
                           image->path, format);
    if (list && list->len)
        return disk_refuse(error,
                           "%s has snapshots, which would be lost; name a new file for the "
                           "encrypted one",
                           image->path);
    return 0;
}

static int encrypt(DiskArgs *a, GError **error)
{
    const char *path = a->rest[0];
    bool in_place = a->count == 1;
    /* For writing, so that nobody else has it meanwhile. */
    g_autoptr(Image) image = disk_open_image(a, path, a->letter['f'], !in_place, error);
    if (!image || (in_place && check_replaceable(a, image, error)))
        return -1;
    if (!in_place)
        return copy_encrypted(a, image, a->rest[1], error);
    g_autofree char *copy = g_strdup_printf("%s.encrypting", path);
    if (g_file_test(copy, G_FILE_TEST_EXISTS))
        return disk_refuse(error, "%s is there already; remove it if it is from a run that ended",
                           copy);
    if (copy_encrypted(a, image, copy, error))
        return -1;
    return replace(path, copy, error);
}

static int change_keys(DiskArgs *a, GError **error)
{
    ImageOptions options = {.format = a->letter['f'], .no_parents = true, .key = a->key};
    g_autoptr(Image) image = image_open(a->rest[0], &options, error);
    if (!image)
        return -1;
    const FormatKeys *keys = image->driver->keys;
    if (!keys)
        return disk_refuse(error, "images of the format %s have no keys", image->driver->name);
    guint64 slot = 0;
    if (a->erase_key && !g_ascii_string_to_unsigned(a->erase_key, 10, 0, 31, &slot, NULL))
        return disk_usage(error, "--erase-key takes the number of a slot, as 'info' shows them");
    bool good = a->erase_key ? keys->erase(image->map, (unsigned)slot, error)
                             : keys->add(image->map, a->new_key, NULL, error);
    return good ? 0 : -1;
}

int disk_command_encrypt(DiskArgs *a, GError **error)
{
    if (a->count < 1 || a->count > 2 || ((a->add_key || a->erase_key) && a->count > 1))
        return disk_usage(error, "encrypt takes a file, and perhaps a new one");
    if (!a->new_key && !a->erase_key)
        return disk_usage(error, "say with --new-key-file what shall open the image");
    if ((a->add_key || a->erase_key ? change_keys(a, error) : encrypt(a, error)) < 0)
        return -1;
    return disk_print_changed(a, a->rest[a->count - 1], NULL, error);
}
