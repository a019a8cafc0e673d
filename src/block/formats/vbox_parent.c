/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "block/formats/vbox_parent.h"

#include <stdio.h>

#include "block/formats/vdi.h"
#include "block/formats/vmdk.h"

#define MAX_NAMES 2000
#define MAX_TEXT  KIB(64)

/* What a file in the folder begins with, ended by a zero; its size, 0: it is no plain file. */
static size_t read_start(const char *path, uint8_t *start)
{
    if (!g_file_test(path, G_FILE_TEST_IS_REGULAR))
        return 0;
    FILE *f = fopen(path, "re");
    size_t size = f ? fread(start, 1, MAX_TEXT, f) : 0;
    if (f)
        fclose(f);
    memset(start + size, 0, MAX_TEXT + 1 - size);
    return size;
}

static bool has_uuid(const uint8_t *start, Uuid uuid, const char *format)
{
    Uuid found = {{0}};
    if (!strcmp(format, "vdi"))
        return vdi_header_uuid(start, &found) && uuid_equal(found, uuid);
    /* The descriptor is in a file of its own, or in the second sector. */
    const char *text = (const char *)start + (load_le32(start) == VMDK_MAGIC ? 512 : 0);
    g_autofree char *value = vmdk_text_value(text, "ddb.uuid.image");
    return value && uuid_parse_le(value, &found) && uuid_equal(found, uuid);
}

/* The name of an image in a folder that has the UUID, and its format; or NULL. */
static char *search(const char *folder, Uuid uuid, const char **ret_format)
{
    static const char *const formats[] = {"vdi", "vmdk"};
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    g_autofree uint8_t *start = g_malloc(MAX_TEXT + 1);
    const char *name;
    for (int i = 0; dir && i < MAX_NAMES && (name = g_dir_read_name(dir)); i++) {
        const char *dot = strrchr(name, '.');
        g_autofree char *path = g_build_filename(folder, name, NULL);
        for (size_t j = 0; dot && j < G_N_ELEMENTS(formats); j++) {
            *ret_format = formats[j];
            if (!g_ascii_strcasecmp(dot + 1, formats[j]) && read_start(path, start) &&
                has_uuid(start, uuid, formats[j]))
                return g_strdup(name);
        }
    }
    return NULL;
}

/* Beside the image; above it if it may be there, or in the folder that VirtualBox keeps snapshots
 * in: the UUID is no name that an image could make up for a file it is not to see. */
static char *search_around(const char *path, Uuid uuid, bool above, const char **ret_format)
{
    g_autofree char *given = g_path_get_dirname(path);
    g_autofree char *folder = g_canonicalize_filename(given, NULL);
    g_autofree char *last = g_path_get_basename(folder);
    g_autofree char *parent = g_path_get_dirname(folder);
    char *name = search(folder, uuid, ret_format);
    if (name || (!above && strcmp(last, "Snapshots") != 0))
        return name;
    g_autofree char *found = search(parent, uuid, ret_format);
    return found ? g_build_filename("..", found, NULL) : NULL;
}

bool vbox_is_parent(const char *path, const char *name, Uuid uuid)
{
    const char *format;
    g_autofree char *found =
        g_str_has_prefix(name, "../") ? search_around(path, uuid, false, &format) : NULL;
    return found && !strcmp(found, name);
}

bool vbox_find_parent(ImageMap *map, Uuid uuid, const OpenParameters *p, GError **error)
{
    const char *format;
    g_autofree char *text = uuid_text_le(uuid);
    map->parent_name = search_around(map->file->path, uuid, p->trust_names, &format);
    map->parent_found = map->parent_name != NULL;
    if (map->parent_found)
        map->parent_format = g_strdup(format);
    return map->parent_found || p->only_look ||
           format_fail(error, map->file->path,
                       "its parent, with the UUID {%s}, is not in its folder; put it there, name "
                       "it with 'ospite disk rebase -u', or say --trust-backing to have the folder "
                       "above searched, too",
                       text);
}
