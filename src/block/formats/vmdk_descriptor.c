/* SPDX-License-Identifier: GPL-3.0-or-later */
/* VMDK: the text that describes an image. */
#include "block/formats/vmdk.h"

#include <stdio.h>

#define FIRST_WORDS "# Disk DescriptorFile"
#define BOM         "\xef\xbb\xbf" /* Windows editors begin texts with it */

static bool is_key(const char *line, const char *key, const char **ret_value)
{
    size_t length = strlen(key);
    if (g_ascii_strncasecmp(line, key, length))
        return false;
    line += length;
    while (*line == ' ' || *line == '\t')
        line++;
    *ret_value = line + 1;
    return *line == '=';
}

static bool is_version(const char *line)
{
    const char *value;
    if (!is_key(line, "version", &value))
        return false;
    value += strspn(value, " \t");
    return *value >= '1' && *value <= '3' && !value[1 + strspn(value + 1, " \t\r")];
}

bool vmdk_is_descriptor(const void *text, size_t size)
{
    g_autofree char *copy = g_strndup(text, MIN(size, 512));
    const char *start = copy + (g_str_has_prefix(copy, BOM) ? strlen(BOM) : 0);
    g_auto(GStrv) lines = g_strsplit(start, "\n", -1);
    if (!g_ascii_strncasecmp(start, FIRST_WORDS, strlen(FIRST_WORDS)))
        return true;
    for (char **l = lines; *l && l[1]; l++) {
        const char *line = *l + strspn(*l, " \t\r");
        if (*line && *line != '#')
            return is_version(line);
    }
    return false;
}

bool vmdk_parse_line(const char *line, VmdkLine *l)
{
    static const char *const words[] = {"RW", "RDONLY", "NOACCESS"};
    bool is_extent = false;
    *l = (VmdkLine){0};
    sscanf(line, " %15s", l->access);
    for (size_t i = 0; i < G_N_ELEMENTS(words); i++)
        is_extent = is_extent || !g_ascii_strcasecmp(l->access, words[i]);
    if (!is_extent)
        return false;
    int n =
        sscanf(line, " %*s %n%" G_GINT64_MODIFIER "u%n %15s \"%511[^\"]\" %" G_GINT64_MODIFIER "u",
               &l->size_from, &l->sectors, &l->size_to, l->kind, l->name, &l->offset);
    bool is_short = n < 3 && (n != 2 || g_ascii_strcasecmp(l->kind, "ZERO"));
    if (is_short || strlen(l->name) == sizeof(l->name) - 1)
        *l->kind = 0;
    return true;
}

char *vmdk_name_here(const Vmdk *v, const char *name)
{
    g_autofree char *encoding = vmdk_text_value(v->text, "encoding");
    g_autofree char *folder = g_path_get_dirname(v->map.file->path);
    g_autofree char *as_it_is = g_build_filename(folder, name, NULL);
    g_autofree char *text = NULL;
    if (encoding && g_ascii_strcasecmp(encoding, "UTF-8") &&
        !g_file_test(as_it_is, G_FILE_TEST_EXISTS))
        text = g_convert(name, -1, "UTF-8", encoding, NULL, NULL, NULL);
    return format_name_here(v->map.file->path, text ? text : name);
}

char *vmdk_text_value(const char *text, const char *key)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (char **l = lines; *l; l++) {
        const char *value;
        g_strstrip(*l);
        if (!is_key(*l, key, &value))
            continue;
        char *found = g_strstrip(g_strdup(value));
        size_t length = strlen(found);
        if (length >= 2 && found[0] == '"' && found[length - 1] == '"') {
            found[length - 1] = 0;
            memmove(found, found + 1, length - 1);
        }
        return found;
    }
    return NULL;
}

char *vmdk_text_replace(const char *text, const char *key, const char *value)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    g_autofree char *before = vmdk_text_value(text, key);
    GString *out = g_string_new(NULL);
    const char *end = strstr(text, "\r\n") ? "\r" : "";
    bool is_missing = value && !before;
    for (char **l = lines; *l; l++) {
        const char *line = *l, *old;
        while (g_ascii_isspace(*line))
            line++;
        bool is_it = is_key(line, key, &old);
        if (is_it && value)
            g_string_append_printf(out, "%s=%s%s", key, value, end);
        else if (!is_it)
            g_string_append(out, *l);
        if (l[1] && (!is_it || value))
            g_string_append_c(out, '\n');
        /* A new key goes behind the kind. */
        if (is_missing && l[1] && is_key(line, "createType", &old)) {
            g_string_append_printf(out, "%s=%s%s\n", key, value, end);
            is_missing = false;
        }
    }
    if (is_missing && !g_str_has_suffix(out->str, "\n"))
        g_string_append_printf(out, "%s\n", end);
    if (is_missing)
        g_string_append_printf(out, "%s=%s%s\n", key, value, end);
    return g_string_free(out, FALSE);
}

char *vmdk_text_resize(const char *text, guint count, uint64_t size, const GPtrArray *more)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    GString *out = g_string_new(NULL);
    guint n = 0;
    for (char **l = lines; *l; l++) {
        VmdkLine line;
        bool is_extent = vmdk_parse_line(*l, &line) && *line.kind;
        const char *end = g_str_has_suffix(*l, "\r") ? "\r" : "";
        n += is_extent;
        if (is_extent && n > count)
            continue;
        if (l != lines)
            g_string_append_c(out, '\n');
        if (!is_extent || n < count) {
            g_string_append(out, *l);
            continue;
        }
        g_string_append_printf(out, "%.*s%" G_GUINT64_FORMAT "%s", line.size_from, *l, size / 512,
                               *l + line.size_to);
        for (guint i = 0; more && i < more->len; i++)
            g_string_append_printf(out, "\n%s%s", (const char *)more->pdata[i], end);
    }
    return g_string_free(out, FALSE);
}

/* True when a write in place changes no more than one sector, which is then old or new. */
static bool is_in_a_sector(const char *old, const char *text, size_t length)
{
    size_t old_length = strlen(old), first = 0, end = length;
    while (first < length && old[first] == text[first])
        first++;
    while (end > first && length == old_length && old[end - 1] == text[end - 1])
        end--;
    /* With its terminator; behind that may be anything. */
    end = length == old_length ? end : MAX(length, old_length) + 1;
    return first >= end || first / 512 == (end - 1) / 512;
}

static int write_padded(const Vmdk *v, const char *text, uint64_t at, uint64_t room)
{
    size_t length = strlen(text);
    uint64_t size = MIN(align_up(MAX(length, strlen(v->text)) + 1, 512), room);
    g_autofree char *padded = g_malloc0(size);
    memcpy(padded, text, length);
    int result = host_file_write(v->map.file, at, padded, size);
    return result ? result : host_file_sync(v->map.file);
}

static int name_place(const Vmdk *v, uint64_t at, uint64_t room)
{
    uint8_t h[512];
    int result = host_file_read(v->map.file, 0, h, sizeof(h));
    store_le64(h + VMDK_H_TEXT, at / 512);
    store_le64(h + VMDK_H_TEXT_SIZE, room / 512);
    if (!result)
        result = host_file_write(v->map.file, 0, h, sizeof(h));
    return result ? result : host_file_sync(v->map.file);
}

/*
 * In an extent: the header names a copy behind everything else while the place of the text is
 * written, so that one of the two is whole at any time.
 */
static int switch_text(const Vmdk *v, const char *text)
{
    VmdkExtent *e = v->extents->pdata[0];
    HostFile *file = v->map.file;
    int result = vmdk_extent_find_end(e);
    uint64_t size = file->size, at = e->end;
    if (!result)
        result = host_file_truncate(file, at + v->text_room);
    if (!result)
        result = write_padded(v, text, at, v->text_room);
    if (!result)
        result = name_place(v, at, v->text_room);
    if (!result)
        result = write_padded(v, text, v->text_offset, v->text_room);
    if (!result)
        result = name_place(v, v->text_offset, v->text_room);
    return result ? result : host_file_truncate(file, size);
}

/* Is the text a file of its own, and no part of an extent? */
static bool is_alone(const Vmdk *v)
{
    return ((VmdkExtent *)v->extents->pdata[0])->file != v->map.file;
}

static int store_text(const Vmdk *v, const char *text)
{
    size_t length = strlen(text);
    bool in_place = is_in_a_sector(v->text, text, length);
    if (!is_alone(v))
        return in_place ? write_padded(v, text, v->text_offset, v->text_room)
                        : switch_text(v, text);
    if (!in_place || length != strlen(v->text))
        return host_file_replace(v->map.file, text, length);
    int result = host_file_write(v->map.file, 0, text, length);
    return result ? result : host_file_sync(v->map.file);
}

bool vmdk_write_text(Vmdk *v, const char *text, GError **error)
{
    HostFile *file = v->map.file;
    if (!is_alone(v) && strlen(text) > v->text_room)
        return format_fail(error, file->path, "its descriptor has no room for that");
    int result = store_text(v, text);
    if (result)
        return format_fail_io(error, file->path, "write the descriptor of", result);
    g_free(v->text);
    v->text = g_strdup(text);
    return true;
}

/* Disks of SCSI adapters have other geometries than those of IDE. */
const char *vmdk_new_text(GString *text, const char *kind, const char *extents, uint32_t parent_cid,
                          const CreateOptions *o)
{
    const char *adapter = format_option(o, "adapter_type"),
               *hardware = format_option(o, "hwversion");
    bool is_ide = !strcmp(adapter, "ide");
    unsigned heads = is_ide ? 16 : 255;
    uint64_t cylinders = o->size / 512 / (heads * 63);
    hardware = hardware ? hardware : format_option_is_on(o, "compat6") ? "6" : "4";
    g_string_printf(text,
                    "# Disk DescriptorFile\nversion=1\nCID=%08x\nparentCID=%08x\n"
                    "createType=\"%s\"\n",
                    g_random_int() & 0x7fffffff, parent_cid, kind);
    if (o->parent)
        g_string_append_printf(text, "parentFileNameHint=\"%s\"\n", o->parent);
    g_string_append_printf(
        text,
        "\n# Extent description\n%s\n# The Disk Data Base\n#DDB\n\n"
        "ddb.virtualHWVersion = \"%s\"\nddb.geometry.cylinders = \"%" G_GUINT64_FORMAT
        "\"\nddb.geometry.heads = \"%u\"\n"
        "ddb.geometry.sectors = \"63\"\nddb.adapterType = \"%s\"\nddb.toolsVersion = \"%s\"\n",
        extents, hardware, is_ide ? MIN(cylinders, 16383) : cylinders, heads, adapter,
        format_option(o, "toolsversion"));
    return text->str;
}
