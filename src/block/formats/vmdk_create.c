/* SPDX-License-Identifier: GPL-3.0-or-later */
/* VMDK: making images of one file or many. */
#include <errno.h>

#include "block/formats/vmdk.h"
#include "block/image.h"

const FormatOption vmdk_options[] = {
    {"subformat", "monolithicSparse",
     "monolithicSparse, monolithicFlat, twoGbMaxExtentSparse, twoGbMaxExtentFlat, streamOptimized"},
    {"zeroed_grain", "off", "let zeroed grains take no space"},
    {"adapter_type", "ide", "ide, lsilogic, buslogic or legacyESX"},
    {"compat6", "off", "of the virtual hardware version 6"},
    {"hwversion", NULL, "the virtual hardware version"},
    {"toolsversion", "2147483647", "of VMware's guest tools"},
    {NULL},
};

typedef struct Kind {
    const char *name;
    bool sparse, split, packed;
} Kind;

static const Kind kinds[] = {
    {"monolithicSparse", true, false, false},    {"monolithicFlat", false, false, false},
    {"twoGbMaxExtentSparse", true, true, false}, {"twoGbMaxExtentFlat", false, true, false},
    {"streamOptimized", true, false, true},
};

static const Kind *find_kind(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        if (!g_ascii_strcasecmp(kinds[i].name, name))
            return &kinds[i];
    }
    return NULL;
}

/* "disk.vmdk" → "disk-s001.vmdk", "disk-f001.vmdk" or "disk-flat.vmdk" */
char *vmdk_part_name(const char *path, bool sparse, unsigned n)
{
    g_autofree char *base = g_path_get_basename(path);
    char *dot = strrchr(base, '.');
    g_autofree char *end = g_strdup(dot ? dot : "");
    if (dot)
        *dot = 0;
    if (!n)
        return g_strdup_printf("%s-flat%s", base, end);
    return g_strdup_printf("%s-%c%03u%s", base, sparse ? 's' : 'f', n, end);
}

char *vmdk_part_line(const char *name, bool sparse, uint64_t size)
{
    return g_strdup_printf("RW %" G_GUINT64_FORMAT " %s \"%s\"%s", size / 512,
                           sparse ? "SPARSE" : "FLAT", name, sparse ? "" : " 0");
}

bool vmdk_create_part(const char *path, bool sparse, uint64_t size, uint32_t flags,
                      const CreateOptions *o, GError **error)
{
    g_autoptr(HostFile) file = format_create_file(path, o, error);
    if (!file)
        return false;
    int result =
        sparse ? vmdk_extent_create(file, size, flags, NULL) : host_file_truncate(file, size);
    if (!result)
        result = host_file_sync(file);
    return result ? format_fail_io(error, path, "create", result) : true;
}

static bool create_parts(const char *path, const Kind *kind, const CreateOptions *o, uint32_t flags,
                         GString *extents, GError **error)
{
    g_autofree char *folder = g_path_get_dirname(path);
    unsigned n = 1;
    for (uint64_t at = 0; at < o->size || n == 1; n++) {
        uint64_t size = kind->split ? MIN(o->size - at, VMDK_PART_SIZE) : o->size;
        g_autofree char *name = vmdk_part_name(path, kind->sparse, kind->split ? n : 0);
        g_autofree char *part = g_build_filename(folder, name, NULL);
        g_autofree char *line = vmdk_part_line(name, kind->sparse, size);
        if (!vmdk_create_part(part, kind->sparse, size, flags, o, error))
            return false;
        g_string_append_printf(extents, "%s\n", line);
        at += size;
        if (!kind->split)
            break;
    }
    return true;
}

/* What a parent says of itself; 0 for those of other formats. */
static bool read_parent_cid(const CreateOptions *o, uint32_t *ret_cid, GError **error)
{
    *ret_cid = o->parent ? 0 : VMDK_NO_CID;
    if (!o->parent || strcmp(o->parent_format, "vmdk"))
        return true;
    ImageOptions how = {.format = "vmdk", .read_only = true, .no_parents = true};
    g_autoptr(Image) parent = image_open(o->parent_path, &how, error);
    if (parent)
        *ret_cid = ((Vmdk *)parent->map)->cid;
    return parent != NULL;
}

static bool is_number(const char *text)
{
    return *text && strlen(text) <= 10 && strspn(text, "0123456789") == strlen(text);
}

/* What goes into the descriptor as it is. */
static bool check_words(const CreateOptions *o, const char *path, GError **error)
{
    static const char *const adapters[] = {"ide", "lsilogic", "buslogic", "legacyESX", NULL};
    const char *hardware = format_option(o, "hwversion");
    if (!g_strv_contains(adapters, format_option(o, "adapter_type")))
        return format_fail(error, path,
                           "adapter_type is ide, lsilogic, buslogic or legacyESX, not '%s'",
                           format_option(o, "adapter_type"));
    if (hardware && format_option_is_on(o, "compat6"))
        return format_fail(error, path, "compat6 is a hwversion: they can't go together");
    if ((hardware && !is_number(hardware)) || !is_number(format_option(o, "toolsversion")))
        return format_fail(error, path, "hwversion and toolsversion are numbers");
    return true;
}

bool vmdk_create(HostFile *file, const CreateOptions *o, GError **error)
{
    const Kind *kind = find_kind(format_option(o, "subformat"));
    g_autoptr(GString) extents = g_string_new(NULL);
    g_autoptr(GString) text = g_string_new(NULL);
    g_autofree char *name = g_path_get_basename(file->path);
    uint32_t cid, flags = format_option_is_on(o, "zeroed_grain") ? VMDK_F_ZERO : 0;
    if (!kind)
        return format_fail(error, file->path, "there is no subformat '%s'",
                           format_option(o, "subformat"));
    if (o->parent && !kind->sparse)
        return format_fail(error, file->path, "a flat VMDK can't have a parent");
    if (!check_words(o, file->path, error) || !read_parent_cid(o, &cid, error))
        return false;
    bool single = kind->sparse && !kind->split;
    if (single)
        g_string_append_printf(extents, "RW %" G_GUINT64_FORMAT " SPARSE \"%s\"\n", o->size / 512,
                               name);
    else if (!create_parts(file->path, kind, o, flags, extents, error))
        return false;
    vmdk_new_text(text, kind->name, extents->str, cid, o);
    flags |= kind->packed ? VMDK_F_COMPRESSED | VMDK_F_MARKERS : 0;
    int result = single ? vmdk_extent_create(file, o->size, flags, text->str)
                        : host_file_write(file, 0, text->str, text->len);
    if (!result)
        result = host_file_sync(file);
    return result ? format_fail_io(error, file->path, "create", result) : true;
}
