/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The list of disk image formats, the marks of those that have no driver, and what all drivers
 * share.
 *
 * A raw disk has no mark of its own, so it is what remains; opening another product's image as raw
 * would show the guest garbage and let it destroy the file, hence the list of foreign marks.
 */
#include "block/format.h"
#include "block/formats/vmdk.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/bits.h"
#include "base/i18n.h"

static const FormatDriver *const drivers[] = {&raw_format,  &qcow_format, &qcow2_format,
                                              &vdi_format,  &vhd_format,  &vhdx_format,
                                              &vmdk_format, &luks_format, NULL};

static const struct {
    const char *alias, *name;
} aliases[] = {{"vpc", "vhd"}, {"img", "raw"}};

typedef struct Mark {
    const char *name;
    bool at_end; /* offset counts in the last 512 bytes of the file */
    uint16_t offset;
    uint8_t length;
    const char *bytes;
} Mark;

/* Longer marks of a family stand before shorter ones. */
static const Mark marks[] = {
    {"qcow", false, 0, 8, "QFI\xfb\0\0\0\1"},
    {"qcow2", false, 0, 4, "QFI\xfb"},
    {"QED", false, 0, 4, "QED\0"},
    {"VDI", false, 64, 4, "\x7f\x10\xda\xbe"},
    {"VMDK", false, 0, 4, "KDMV"},
    {"VMDK", false, 0, 4, "COWD"},
    {"VMware SEsparse", false, 0, 8, "\xbe\xba\xfe\xca\0\0\0\0"},
    {"VHDX", false, 0, 8, "vhdxfile"},
    {"VHD", false, 0, 8, "conectix"},
    {"VHD", true, 0, 8, "conectix"},
    {"Parallels", false, 0, 16, "WithoutFreeSpace"},
    {"Parallels", false, 0, 16, "WithouFreSpacExt"},
    {"Bochs growing", false, 0, 22, "Bochs Virtual HD Image"},
    {"LUKS", false, 0, 6, "LUKS\xba\xbe"},
    {"DMG", true, 0, 4, "koly"},
    {"COW", false, 0, 8, "OOOM\0\0\0\2"},
    {"cloop", false, 0, 24, "#!/bin/sh\n#V2.0 Format\n"},
};

const FormatDriver *const *format_drivers(void)
{
    return drivers;
}

const FormatDriver *format_find(const char *name, GError **error)
{
    g_autoptr(GString) names = g_string_new(NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(aliases); i++) {
        if (g_ascii_strcasecmp(aliases[i].alias, name) == 0)
            name = aliases[i].name;
    }
    for (size_t i = 0; drivers[i]; i++) {
        if (g_ascii_strcasecmp(drivers[i]->name, name) == 0)
            return drivers[i];
        g_string_append_printf(names, "%s%s", i ? ", " : "", drivers[i]->name);
    }
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                _("unknown disk format '%s'; this version knows: %s"), name, names->str);
    return NULL;
}

static bool has_mark(const ProbeData *data, const Mark *mark)
{
    const uint8_t *at = mark->at_end ? data->tail : data->head;
    return memcmp(at + mark->offset, mark->bytes, mark->length) == 0;
}

const FormatDriver *format_probe(const ProbeData *data, const char *path, GError **error)
{
    for (size_t i = 0; drivers[i]; i++) {
        if (drivers[i]->probe && drivers[i]->probe(data))
            return drivers[i];
    }
    for (size_t i = 0; i < G_N_ELEMENTS(marks); i++) {
        if (!has_mark(data, &marks[i]))
            continue;
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                    _("'%s' has the mark of a %s image, but is none that this version can open; "
                      "convert it with its own product's tool, or say format=raw if its bytes are "
                      "the disk"),
                    path, marks[i].name);
        return NULL;
    }
    return &raw_format;
}

bool format_is_mark(const void *data, size_t size, uint64_t offset, uint64_t disk_size)
{
    for (size_t i = 0; i < G_N_ELEMENTS(marks); i++) {
        uint64_t base = marks[i].at_end && disk_size >= 512 ? disk_size - 512 : 0;
        uint64_t at = base + marks[i].offset;
        if (at >= offset && at + marks[i].length <= offset + size &&
            memcmp((const uint8_t *)data + (at - offset), marks[i].bytes, marks[i].length) == 0)
            return true;
    }
    return offset == 0 && vmdk_is_descriptor(data, size);
}

/* ---- options --------------------------------------------------------------------------------- */

/* A wish: most file systems have no such thing, and it is too late for a file with data. */
static void stop_copy_on_write(const HostFile *file)
{
    int flags;
    if (ioctl(file->fd, FS_IOC_GETFLAGS, &flags) < 0)
        return;
    flags |= FS_NOCOW_FL;
    if (ioctl(file->fd, FS_IOC_SETFLAGS, &flags) < 0)
        g_debug("no FS_NOCOW_FL for '%s'", file->path);
}

HostFile *format_create_file(const char *path, const CreateOptions *options, GError **error)
{
    if (options->made)
        options->made(options->obj, NULL);
    HostFile *file = host_file_create(path, options->io_hook, error);
    if (!file)
        return NULL;
    file->no_sync = options->no_sync;
    if (format_option_is_on(options, "nocow"))
        stop_copy_on_write(file);
    if (options->made)
        options->made(options->obj, path);
    return file;
}

const char *format_option(const CreateOptions *options, const char *name)
{
    return options->values ? g_hash_table_lookup(options->values, name) : NULL;
}

bool format_option_is_on(const CreateOptions *options, const char *name)
{
    const char *text = format_option(options, name);
    return text && (!strcmp(text, "on") || !strcmp(text, "true") || !strcmp(text, "yes"));
}

bool format_parse_size(const char *text, uint64_t *ret_size)
{
    static const char suffixes[] = "bKMGTPE";
    char *end;
    if (!g_ascii_isdigit(*text))
        return false;
    double fraction = g_ascii_strtod(text, &end);
    guint64 whole = g_ascii_strtoull(text, NULL, 10);
    const char *suffix = *end ? strchr(suffixes, *end == 'b' ? 'b' : g_ascii_toupper(*end)) : NULL;
    if (*end && (!suffix || end[1]))
        return false;
    unsigned shift = suffix ? 10 * (unsigned)(suffix - suffixes) : 0;
    if (fraction * (double)(UINT64_C(1) << shift) > (double)INT64_MAX)
        return false;
    *ret_size = fraction == (double)whole ? whole << shift
                                          : (uint64_t)(fraction * (double)(UINT64_C(1) << shift));
    return true;
}

/* ---- errors ---------------------------------------------------------------------------------- */

bool format_check_limits(const char *path, const FormatLimit *limits, size_t count, GError **error)
{
    for (size_t i = 0; i < count; i++) {
        const FormatLimit *l = &limits[i];
        if (l->value < l->min || l->value > l->max)
            return format_fail(error, path,
                               "its %s is %" PRIu64 ", not between %" PRIu64 " and %" PRIu64,
                               l->name, l->value, l->min, l->max);
        if (l->alignment && l->value % l->alignment)
            return format_fail(error, path, "its %s is %" PRIu64 ", no multiple of %" PRIu64,
                               l->name, l->value, l->alignment);
    }
    return true;
}

bool format_fail(GError **error, const char *path, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(_(format), args);
    va_end(args);
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA, _("cannot use disk '%s': %s"), path,
                text);
    return false;
}

bool format_fail_io(GError **error, const char *path, const char *doing, int result)
{
    const char *why = result == -ENOLINK ? _("the connection to its server has broken")
                      : result == -ESTALE
                          ? _("the server has another file there than when it was opened")
                          : g_strerror(-result);
    g_set_error(error, G_IO_ERROR, g_io_error_from_errno(-result), _("cannot %s '%s': %s"),
                _(doing), path, why);
    return false;
}

bool format_fail_locked(GError **error, const char *path)
{
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_PERMISSION_DENIED,
                _("cannot use disk '%s': it is encrypted; say with --key-file what opens it"),
                path);
    return false;
}

/* ---- names ----------------------------------------------------------------------------------- */

static bool is_windows_absolute(const char *name)
{
    return g_str_has_prefix(name, "\\\\") ||
           (g_ascii_isalpha(name[0]) && name[1] == ':' && (name[2] == '\\' || name[2] == '/'));
}

bool format_is_beside(const char *path, const char *name)
{
    g_autofree char *folder = g_path_get_dirname(path);
    g_autofree char *full = g_build_filename(folder, name, NULL);
    return g_file_test(full, G_FILE_TEST_EXISTS);
}

static const char *last_part(const char *name)
{
    const char *slash = strrchr(name, '/'), *backslash = strrchr(name, '\\');
    return MAX(slash, backslash) ? MAX(slash, backslash) + 1 : name;
}

char *format_name_here(const char *path, const char *name)
{
    bool is_lost = g_path_is_absolute(name) && !g_file_test(name, G_FILE_TEST_EXISTS) &&
                   format_is_beside(path, last_part(name));
    if (is_windows_absolute(name) || is_lost)
        return g_strdup(last_part(name));
    if (!strchr(name, '\\') || format_is_beside(path, name))
        return g_strdup(name);
    char *text = g_strdelimit(g_strdup(name), "\\", '/');
    if (g_str_has_prefix(text, "./"))
        memmove(text, text + 2, strlen(text) - 1);
    return text;
}

/* ---- records --------------------------------------------------------------------------------- */

void check_result_add(CheckResult *result, const char *format, ...)
{
    va_list args;
    if (!result->messages)
        result->messages = g_ptr_array_new_with_free_func(g_free);
    if (result->messages->len >= 100)
        return;
    va_start(args, format);
    g_ptr_array_add(result->messages, g_strdup_vprintf(format, args));
    va_end(args);
}

void snapshot_info_free(SnapshotInfo *info)
{
    g_free(info->id);
    g_free(info->name);
    g_free(info);
}

void image_map_tell_progress(const ImageMap *map, unsigned phase, unsigned phases, uint64_t done,
                             uint64_t all)
{
    if (map->progress)
        map->progress(map->progress_obj,
                      (phase + (double)done / (double)MAX(all, 1)) / (double)phases);
}

void image_map_clear(ImageMap *map)
{
    g_free(map->parent_name);
    g_free(map->parent_format);
    cipher_free(map->cipher);
}

void image_map_name_parent(ImageMap *map, const char *name, const char *format)
{
    g_free(map->parent_name);
    g_free(map->parent_format);
    map->parent_name = g_strdup(name);
    map->parent_format = g_strdup(name ? format : NULL);
}
