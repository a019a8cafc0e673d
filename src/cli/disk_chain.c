/* SPDX-License-Identifier: GPL-3.0-or-later */
/* disk snapshot, rebase and commit: an image and its past. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/disk.h"
#include "cli/progress.h"

#define CHUNK (1u << 20)

/* ---- snapshot -------------------------------------------------------------------------------- */

void disk_print_snapshots(const Image *image)
{
    g_autoptr(GPtrArray) list =
        image->driver->snapshots ? image->driver->snapshots->list(image->map) : NULL;
    if (!list || !list->len)
        return;
    printf("Snapshot list:\n%-10s%-17s%8s%20s%13s%11s\n", "ID", "TAG", "VM SIZE", "DATE",
           "VM CLOCK", "ICOUNT");
    for (guint i = 0; i < list->len; i++) {
        const SnapshotInfo *s = list->pdata[i];
        g_autoptr(GDateTime) date = g_date_time_new_from_unix_local(s->date_s);
        g_autofree char *day = g_date_time_format(date, "%Y-%m-%d %H:%M:%S");
        g_autofree char *size = disk_size_text(s->vm_state_size);
        uint64_t ms = s->vm_clock_ns / 1000000;
        g_autofree char *count = s->icount == UINT64_MAX
                                     ? g_strdup("")
                                     : g_strdup_printf("%" G_GUINT64_FORMAT, s->icount);
        printf("%-9s %-16s %8s %19s %02u:%02u:%02u.%03u %10s\n", s->id, s->name, size, day,
               (unsigned)(ms / 3600000), (unsigned)(ms / 60000 % 60), (unsigned)(ms / 1000 % 60),
               (unsigned)(ms % 1000), count);
    }
}

static int print_snapshots_json(const Image *image)
{
    g_auto(JsonText) json;
    JsonText *b = &json;
    json_text_init(b);
    g_autoptr(GPtrArray) list = image->driver->snapshots->list(image->map);
    json_begin(b, '[');
    for (guint i = 0; i < list->len; i++) {
        const SnapshotInfo *s = list->pdata[i];
        json_begin(b, '{');
        json_name(b, "id");
        json_string(b, s->id);
        json_name(b, "name");
        json_string(b, s->name);
        json_name(b, "date-sec");
        json_int(b, s->date_s);
        json_name(b, "vm-state-size");
        json_int(b, (gint64)s->vm_state_size);
        json_end(b, '}');
    }
    json_end(b, ']');
    disk_print_json(b);
    return 0;
}

char *disk_snapshot_tag(const DiskArgs *a, const char *path, const char *text, GError **error)
{
    const char *id = NULL, *name = NULL;
    g_auto(GStrv) words = g_strsplit(text, ",", -1);
    for (char **w = words; *w && g_str_has_prefix(text, "snapshot."); w++) {
        if (g_str_has_prefix(*w, "snapshot.id="))
            id = strchr(*w, '=') + 1;
        else if (g_str_has_prefix(*w, "snapshot.name="))
            name = strchr(*w, '=') + 1;
    }
    if (!id && !name)
        return g_strdup(text);
    ImageOptions options = {
        .format = a->letter['f'], .read_only = true, .no_parents = true, .keeps_locked = true};
    g_autoptr(Image) image = image_open(path, &options, error);
    if (!image)
        return NULL;
    g_autoptr(GPtrArray) list =
        image->driver->snapshots ? image->driver->snapshots->list(image->map) : NULL;
    for (guint i = 0; list && i < list->len; i++) {
        const SnapshotInfo *s = list->pdata[i];
        if ((!id || !strcmp(id, s->id)) && (!name || !strcmp(name, s->name)))
            return g_strdup(s->id);
    }
    disk_refuse(error, "%s has no snapshot '%s'; 'ospite disk snapshot -l' lists them", path, text);
    return NULL;
}

/* As qemu-img has it: no image but qcow2's has any, and to ask for nothing is no error. */
static bool has_nothing_to_do(const DiskArgs *a, const Image *image, bool changes)
{
    return disk_as_qemu_img(a) && !changes && (!a->letter['l'] || !image->driver->snapshots);
}

int disk_command_snapshot(DiskArgs *a, GError **error)
{
    int actions = (a->letter['l'] != NULL) + (a->letter['c'] != NULL) + (a->letter['a'] != NULL) +
                  (a->letter['d'] != NULL);
    bool changes = actions && !a->letter['l'];
    if (a->count != 1)
        return disk_usage(error, "snapshot takes a file");
    if (actions > 1)
        return disk_usage(error, "snapshot takes one of -l, -c, -a and -d");
    ImageOptions options = {
        .format = a->letter['f'], .read_only = !changes, .no_parents = true, .keeps_locked = true};
    g_autoptr(Image) image = image_open(a->rest[0], &options, error);
    if (!image)
        return -1;
    const FormatSnapshots *s = image->driver->snapshots;
    if (has_nothing_to_do(a, image, changes))
        return 0;
    if (!s)
        return disk_refuse(error, "the format %s has no snapshots inside images; use 'create -b'",
                           image->driver->name);
    bool good = true;
    if (a->letter['c'])
        good = s->create(image->map, a->letter['c'], error);
    else if (a->letter['a'])
        good = s->apply(image->map, a->letter['a'], error);
    else if (a->letter['d'])
        good = s->remove(image->map, a->letter['d'], error);
    else if (a->json)
        return print_snapshots_json(image);
    else
        disk_print_snapshots(image);
    return !good ? -1 : changes && a->json ? print_snapshots_json(image) : 0;
}

/* ---- rebase ---------------------------------------------------------------------------------- */

static int read_clipped(Image *image, uint64_t at, uint8_t *data, uint64_t size)
{
    uint64_t inside = image && at < image->map->size ? MIN(size, image->map->size - at) : 0;
    memset(data + inside, 0, size - inside);
    return inside ? image_read(image, at, data, inside) : 0;
}

/* How far from `at` on, up to `size`, the image or what follows its end is known to be zeros. */
static uint64_t known_zeros(Image *image, uint64_t at, uint64_t size)
{
    ImageStatus s;
    if (!image || at >= image->map->size)
        return size;
    uint64_t inside = MIN(size, image->map->size - at);
    return image_status(image, at, inside, true, &s) == 0 && s.zero ? MIN(s.length, inside) : 0;
}

/* Where old and new parent differ, sector by sector, the image gets what the old one has. */
static int keep_chunk(Image *image, Image *parent, uint64_t at, uint64_t size, uint8_t *buffers)
{
    uint8_t *old = buffers, *new = buffers + CHUNK;
    int result = read_clipped(image, at, old, size);
    if (!result)
        result = read_clipped(parent, at, new, size);
    for (uint64_t i = 0; !result && i < size; i += 512) {
        if (memcmp(old + i, new + i, MIN(512, size - i)))
            result = image_write(image, at + i, old + i, MIN(512, size - i));
    }
    return result;
}

/* What came from the old parent and is not in the new one goes into the image. */
static int keep_differences(Image *image, Image *parent, bool progress)
{
    Progress bar;
    g_autofree uint8_t *buffers = g_malloc(2 * CHUNK);
    uint64_t end = image->map->size, part = 0;
    int result = 0;
    progress_begin(&bar, progress, end);
    for (uint64_t at = 0; at < end && !result; at += part) {
        ImageStatus s;
        progress_update(&bar, at);
        result = image_status(image, at, end - at, true, &s);
        part = MIN(end - at, s.length);
        if (result || (s.depth == 0 && s.present))
            continue;
        uint64_t same = s.zero ? known_zeros(parent, at, part) : 0;
        part = same ? same : MIN(part, CHUNK);
        if (!same)
            result = keep_chunk(image, parent, at, part, buffers);
    }
    progress_end(&bar);
    return result ? result : image_flush(image);
}

int disk_command_rebase(DiskArgs *a, GError **error)
{
    const char *name = a->letter['b'], *format = a->letter['F'];
    bool unsafe = a->letter['u'] != NULL;
    if (a->count != 1 || !name)
        return disk_usage(error, "rebase takes -b PARENT and a file");
    name = *name ? name : NULL;
    ImageOptions options = {
        .format = a->letter['f'], .no_parents = unsafe, .trust_names = a->trust, .key = a->key};
    g_autoptr(Image) image = image_open(a->rest[0], &options, error);
    if (!image)
        return -1;
    if (!image->driver->set_parent)
        return disk_refuse(error, "images of the format %s have no parents", image->driver->name);
    g_autofree char *path = name ? image_resolve_name(a->rest[0], name, true, error) : NULL;
    g_autoptr(Image) parent =
        path && !unsafe ? disk_open_image(a, path, format, true, error) : NULL;
    if (name && (!path || (!unsafe && !parent)))
        return -1;
    int result = unsafe ? 0 : keep_differences(image, parent, a->progress);
    if (result)
        return disk_fail(error, "rebase", a->rest[0], result);
    if (parent && !format)
        format = parent->driver->name;
    g_clear_pointer(&parent, image_close); /* its tables may be large, and it is opened again */
    if (name && !format)
        return disk_usage(error, "say the new parent's format with -F");
    if (!image->driver->set_parent(image->map, name, format, path, error))
        return -1;
    g_clear_pointer(&image, image_close);
    return disk_print_changed(a, a->rest[0], a->letter['f'], error);
}

/* ---- commit ---------------------------------------------------------------------------------- */

/* Where the parent of an image that was opened without it is; NULL with an error. */
static char *find_parent(const DiskArgs *a, const Image *image, GError **error)
{
    if (!image->map->parent_name) {
        disk_refuse(error, "%s has no parent to commit to", image->path);
        return NULL;
    }
    g_autofree char *path =
        image_resolve_name(image->path, image->map->parent_name, a->trust, error);
    if (!path || !a->letter['b'])
        return g_steal_pointer(&path);
    g_autofree char *asked = image_resolve_name(image->path, a->letter['b'], true, error);
    g_autofree char *wanted = asked ? g_canonicalize_filename(asked, NULL) : NULL;
    g_autofree char *found = g_canonicalize_filename(path, NULL);
    if (wanted && !strcmp(wanted, found))
        return g_steal_pointer(&path);
    if (wanted)
        disk_refuse(error,
                    "'%s' is not the parent of %s: commit the images one by one, topmost "
                    "first",
                    a->letter['b'], image->path);
    return NULL;
}

/* The parent is another one after it was written to, as formats see it. */
static bool name_parent_anew(Image *image, const char *format, const char *path, GError **error)
{
    g_autofree char *name = g_strdup(image->map->parent_name);
    return image->driver->set_parent(image->map, name, format, path, error);
}

/* Empties the image, which its parent can stand for now. */
static int forget_committed(Image *image, GError **error)
{
    int result = image_forget(image);
    return result && result != -ENOTSUP ? disk_fail(error, "empty", image->path, result) : 0;
}

typedef struct CommitPace {
    Progress bar;
    uint64_t bytes_a_second; /* 0: as fast as it goes */
    int64_t begin_us;
} CommitPace;

/* Shows how far it is, and waits when that is too far. */
static void show_commit(void *obj, uint64_t done)
{
    CommitPace *pace = obj;
    uint64_t rate = pace->bytes_a_second;
    int64_t due = rate ? pace->begin_us + (int64_t)((double)done / (double)rate * 1e6) : 0;
    int64_t now = g_get_monotonic_time();
    progress_update(&pace->bar, done);
    if (due > now)
        g_usleep((gulong)(due - now));
}

static bool commit_into(DiskArgs *a, Image *image, const char *path, GError **error)
{
    g_autoptr(Image) parent = disk_open_image(a, path, image->map->parent_format, false, error);
    if (!parent ||
        (parent->map->size < image->map->size && !image_resize(parent, image->map->size, error)))
        return false;
    CommitPace pace = {.begin_us = g_get_monotonic_time()};
    if (a->letter['r'] && !format_parse_size(a->letter['r'], &pace.bytes_a_second))
        return disk_usage(error, "-r cannot be '%s'", a->letter['r']) == 0;
    progress_begin(&pace.bar, a->progress, image->map->size);
    int result = image_commit(image, parent, show_commit, &pace);
    progress_end(&pace.bar);
    if (result)
        return disk_fail(error, "commit", image->path, result) == 0;
    g_autofree char *doubt =
        image->driver->doubt_parent
            ? image->driver->doubt_parent(image->map, parent->map, parent->driver)
            : NULL;
    const char *format = parent->driver->name;
    g_clear_pointer(&parent, image_close);
    return !doubt || name_parent_anew(image, format, path, error);
}

int disk_command_commit(DiskArgs *a, GError **error)
{
    bool keep = a->letter['d'] || a->letter['b'];
    if (a->count != 1)
        return disk_usage(error, "commit takes a file");
    ImageOptions options = {.format = a->letter['f'], .no_parents = true, .key = a->key};
    g_autoptr(Image) image = image_open(a->rest[0], &options, error);
    g_autofree char *path = image ? find_parent(a, image, error) : NULL;
    if (!path || !commit_into(a, image, path, error) || (!keep && forget_committed(image, error)))
        return -1;
    if (!a->quiet && !a->json)
        printf("Image committed.\n");
    g_clear_pointer(&image, image_close);
    return disk_print_changed(a, a->rest[0], a->letter['f'], error);
}
