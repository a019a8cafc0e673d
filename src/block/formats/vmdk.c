/* SPDX-License-Identifier: GPL-3.0-or-later */
/* VMDK: the driver; a disk is its extents, one after the other. */
#include "block/formats/vmdk.h"

#include <errno.h>
#include <stdio.h>

#include "base/i18n.h"
#include "block/compress.h"
#include "block/image.h"

#define MAX_EXTENTS 4096

static bool vmdk_probe(const ProbeData *data)
{
    uint32_t magic = load_le32(data->head);
    return magic == VMDK_MAGIC || magic == VMDK_COWD ||
           vmdk_is_descriptor(data->head, sizeof(data->head));
}

static VmdkExtent *find_extent(Vmdk *v, uint64_t offset)
{
    guint low = 0, high = v->extents->len;
    while (low + 1 < high) {
        guint middle = (low + high) / 2;
        VmdkExtent *e = v->extents->pdata[middle];
        if (offset < e->start)
            high = middle;
        else
            low = middle;
    }
    return v->extents->pdata[low];
}

/* ---- opening --------------------------------------------------------------------------------- */

static VmdkExtent *add_extent(Vmdk *v, HostFile *file, bool own, bool sparse, uint64_t size)
{
    VmdkExtent *e = g_new0(VmdkExtent, 1);
    *e = (VmdkExtent){.file = file,
                      .own_file = own,
                      .is_sparse = sparse,
                      .size = size,
                      .start = v->map.size,
                      .vmdk = v};
    g_ptr_array_add(v->extents, e);
    return e;
}

typedef struct ExtentLine {
    char access[16], kind[16], name[512];
    uint64_t sectors, offset;
} ExtentLine;

/* RW 4192256 SPARSE "name" [offset] */
static bool parse_line(const char *line, ExtentLine *l)
{
    *l = (ExtentLine){0};
    int n = sscanf(line, "%15s %" G_GINT64_MODIFIER "u %15s \"%511[^\"]\" %" G_GINT64_MODIFIER "u",
                   l->access, &l->sectors, l->kind, l->name, &l->offset);
    return n >= 4 || (n == 3 && !strcmp(l->kind, "ZERO"));
}

static bool open_line(Vmdk *v, const ExtentLine *l, const OpenParameters *p, GError **error)
{
    const char *path = v->map.file->path;
    bool flat = !strcmp(l->kind, "FLAT") || !strcmp(l->kind, "VMFS");
    bool sparse = !strcmp(l->kind, "SPARSE") || !strcmp(l->kind, "VMFSSPARSE") ||
                  !strcmp(l->kind, "SESPARSE");
    bool zero = !strcmp(l->kind, "ZERO");
    if ((!flat && !sparse && !zero) || l->sectors > FORMAT_SIZE_MAX / 512 / MAX_EXTENTS ||
        l->offset > FORMAT_SIZE_MAX / 512 || v->extents->len >= MAX_EXTENTS)
        return format_fail(error, path, "its extent of the kind '%s' is not supported", l->kind);
    HostFile *file = NULL;
    if (!zero && !p->only_look) {
        g_autofree char *part = image_resolve_name(path, l->name, p->trust_names, error);
        file = part ? host_file_open(part, p->read_only, p->io_hook, error) : NULL;
        if (!file) {
            g_prefix_error(error, _("an extent of '%s': "), path);
            return false;
        }
        file->no_sync = p->no_sync;
    }
    VmdkExtent *e = add_extent(v, file, true, sparse, l->sectors * 512);
    e->is_zero = zero;
    e->kind = g_strdup(l->kind);
    e->name = g_strdup(l->name);
    e->flat_offset = l->offset * 512;
    v->map.size += e->size;
    v->map.many_files = true;
    return !sparse || p->only_look || vmdk_extent_open(e, error);
}

static bool open_lines(Vmdk *v, const OpenParameters *p, GError **error)
{
    g_auto(GStrv) lines = g_strsplit(v->text, "\n", -1);
    for (char **l = lines; *l; l++) {
        ExtentLine line;
        if (!g_str_has_prefix(*l, "RW ") && !g_str_has_prefix(*l, "RDONLY "))
            continue;
        if (!parse_line(*l, &line))
            return format_fail(error, v->map.file->path, "its descriptor has the line '%s'", *l);
        if (!open_line(v, &line, p, error))
            return false;
    }
    return true;
}

/* One file that is its own extent. */
static bool open_single(Vmdk *v, GError **error)
{
    VmdkExtent *e = add_extent(v, v->map.file, false, true, 0);
    if (!vmdk_extent_open(e, error))
        return false;
    v->map.size = e->size;
    return true;
}

static bool read_text(Vmdk *v, bool *ret_single, GError **error)
{
    uint8_t h[512];
    HostFile *file = v->map.file;
    uint64_t offset = 0, room = 0, size = MIN(file->size, VMDK_DESCRIPTOR);
    int result = host_file_read(file, 0, h, sizeof(h));
    bool is_se = load_le64(h) == VMDK_SE_MAGIC;
    *ret_single = !result && (load_le32(h) == VMDK_MAGIC || load_le32(h) == VMDK_COWD || is_se);
    if (*ret_single) {
        offset = load_le64(h + VMDK_H_TEXT) * 512;
        room = size = load_le64(h + VMDK_H_TEXT_SIZE) * 512;
        /* Some extents have no descriptor. */
        if (load_le32(h) == VMDK_COWD || is_se)
            offset = room = size = 0;
        if (size > VMDK_DESCRIPTOR || offset > file->size)
            return format_fail(error, file->path, "its descriptor is too large");
    }
    v->text = g_malloc0(size + 1);
    v->text_offset = offset;
    v->text_room = room;
    if (!result)
        result = host_file_read(file, offset, v->text, size);
    return result ? format_fail_io(error, file->path, "read", result) : true;
}

static uint32_t read_cid(const Vmdk *v, const char *key)
{
    g_autofree char *text = vmdk_text_value(v->text, key);
    return text ? (uint32_t)g_ascii_strtoull(text, NULL, 16) : VMDK_NO_CID;
}

static void read_parent(Vmdk *v)
{
    v->cid = read_cid(v, "CID");
    v->parent_cid = read_cid(v, "parentCID");
    v->kind = vmdk_text_value(v->text, "createType");
    if (v->parent_cid != VMDK_NO_CID)
        v->map.parent_name = vmdk_text_value(v->text, "parentFileNameHint");
}

/* Grains of all extents are alike, or there are only flat ones. */
static bool find_unit(Vmdk *v, GError **error)
{
    for (guint i = 0; i < v->extents->len; i++) {
        VmdkExtent *e = v->extents->pdata[i];
        if (!e->is_sparse || !e->grain)
            continue;
        if (v->map.unit_size && (v->map.unit_size != e->grain || e->start % e->grain))
            return format_fail(error, v->map.file->path,
                               "its extents have grains of several sizes");
        v->map.unit_size = e->grain;
        v->map.packs_only = v->map.packs_only || e->compressed;
    }
    return v->extents->len > 0 || format_fail(error, v->map.file->path, "it has no extents");
}

static void vmdk_close(ImageMap *map)
{
    Vmdk *v = (Vmdk *)map;
    if (!map->file->read_only && !map->dirty) {
        for (guint i = 0; i < v->extents->len; i++)
            vmdk_extent_set_unclean(v->extents->pdata[i], false);
    }
    g_ptr_array_unref(v->extents);
    g_free(v->text);
    g_free(v->kind);
    image_map_clear(map);
    g_free(v);
}

static ImageMap *vmdk_open(HostFile *file, const OpenParameters *p, GError **error)
{
    Vmdk *v = g_new0(Vmdk, 1);
    bool single;
    v->map.file = file;
    v->map.sector_size = 512;
    v->map.dirty = true; /* until it is known to be good: closing leaves the marks alone */
    v->extents = g_ptr_array_new_with_free_func(vmdk_extent_free);
    if (read_text(v, &single, error) &&
        (single ? open_single(v, error) : open_lines(v, p, error)) && find_unit(v, error)) {
        read_parent(v);
        v->map.dirty = false;
        return &v->map;
    }
    vmdk_close(&v->map);
    return NULL;
}

/* ---- the map --------------------------------------------------------------------------------- */

static int vmdk_lookup(ImageMap *map, uint64_t offset, uint64_t length, bool cached, Extent *extent)
{
    VmdkExtent *e = find_extent((Vmdk *)map, offset);
    return vmdk_extent_lookup(e, offset - e->start, length, cached, extent);
}

/* Children learn from another CID that we changed. */
static int vmdk_begin_write(ImageMap *map)
{
    Vmdk *v = (Vmdk *)map;
    int result = 0;
    for (guint i = 0; i < v->extents->len && !result; i++)
        result = vmdk_extent_set_unclean(v->extents->pdata[i], true);
    if (v->cid == VMDK_NO_CID || map->keeps_contents || result)
        return result;
    g_autofree char *cid = g_strdup_printf("%08x", g_random_int() & 0x7fffffff);
    g_autofree char *text = vmdk_text_replace(v->text, "CID", cid);
    v->cid = (uint32_t)g_ascii_strtoull(cid, NULL, 16);
    return vmdk_write_text(v, text, NULL) ? 0 : -EIO;
}

static int vmdk_allocate(ImageMap *map, uint64_t offset, uint64_t length, Allocation *a)
{
    VmdkExtent *e = find_extent((Vmdk *)map, offset);
    uint64_t inside = offset - e->start;
    int result = vmdk_extent_allocate(e, inside, MIN(length, e->size - inside), a);
    a->offset += e->start;
    return result;
}

static int vmdk_allocate_compressed(ImageMap *map, uint64_t offset, uint32_t size, Allocation *a)
{
    VmdkExtent *e = find_extent((Vmdk *)map, offset);
    int result = vmdk_extent_allocate_packed(e, offset - e->start, size, a);
    a->offset += e->start;
    return result;
}

static int vmdk_link(ImageMap *map, const Allocation *a)
{
    VmdkExtent *e = find_extent((Vmdk *)map, a->offset);
    Allocation here = *a;
    here.offset -= e->start;
    return vmdk_extent_link(e, &here);
}

static int vmdk_zero(ImageMap *map, uint64_t offset, uint64_t length, bool discard,
                     uint64_t *ret_done)
{
    VmdkExtent *e = find_extent((Vmdk *)map, offset);
    uint64_t inside = offset - e->start;
    return vmdk_extent_zero(e, inside, MIN(length, e->size - inside), ret_done);
}

static int vmdk_forget(ImageMap *map, uint64_t offset, uint64_t length, uint64_t *ret_done)
{
    VmdkExtent *e = find_extent((Vmdk *)map, offset);
    uint64_t inside = offset - e->start;
    return vmdk_extent_forget(e, inside, MIN(length, e->size - inside), ret_done);
}

static int vmdk_commit(ImageMap *map)
{
    Vmdk *v = (Vmdk *)map;
    int result = 0;
    for (guint i = 0; i < v->extents->len && !result; i++)
        result = vmdk_extent_commit(v->extents->pdata[i]);
    if (!result)
        result = host_file_sync(map->file);
    if (!result)
        map->dirty = false;
    return result;
}

/* ---- packed grains: | lba 8 | size 4 | zlib stream | ----------------------------------------- */

static int vmdk_decompress(const ImageMap *map, const Extent *extent, const uint8_t *stored,
                           uint8_t *unit)
{
    size_t size = map->unit_size, tail = map->size % size, stored_size = extent->stored_size - 12;
    int result = unpack(PACKING_ZLIB, stored + 12, stored_size, unit, size);
    bool is_last = tail && load_le64(stored) == (map->size - tail) / 512;
    if (!result || !is_last)
        return result;
    /* Some writers end the last grain with the disk. */
    memset(unit + tail, 0, size - tail);
    return unpack(PACKING_ZLIB, stored + 12, stored_size, unit, tail);
}

/* The marker's lba is the engine's to know: see vmdk_mark_packed(). */
static size_t vmdk_compress(const ImageMap *map, const uint8_t *unit, uint8_t *stored)
{
    size_t size = map->packs_only ? pack(PACKING_ZLIB, unit, map->unit_size, stored + 12,
                                         map->unit_size + map->unit_size / 2)
                                  : 0;
    store_le32(stored + 8, (uint32_t)size);
    return size ? size + 12 : 0;
}

static void vmdk_mark_packed(const ImageMap *map, uint64_t offset, uint8_t *stored)
{
    store_le64(stored, offset / 512);
}

/* ---- parent, check, words -------------------------------------------------------------------- */

static bool vmdk_set_parent(ImageMap *map, const char *name, const char *format, const char *path,
                            GError **error)
{
    Vmdk *v = (Vmdk *)map;
    uint32_t cid = name ? 0 : VMDK_NO_CID;
    if (name && !strcmp(format, "vmdk")) {
        ImageOptions how = {.format = "vmdk", .read_only = true, .no_parents = true};
        g_autoptr(Image) parent = image_open(path, &how, error);
        if (!parent)
            return false;
        cid = ((Vmdk *)parent->map)->cid;
    }
    g_autofree char *cid_text = g_strdup_printf("%08x", cid);
    g_autofree char *quoted = name ? g_strdup_printf("\"%s\"", name) : NULL;
    g_autofree char *with_cid = vmdk_text_replace(v->text, "parentCID", cid_text);
    g_autofree char *text = vmdk_text_replace(with_cid, "parentFileNameHint", quoted);
    if (!vmdk_write_text(v, text, error))
        return false;
    v->parent_cid = cid;
    image_map_name_parent(map, name, format);
    return true;
}

static char *vmdk_doubt_parent(ImageMap *map, const ImageMap *parent, const FormatDriver *driver)
{
    const Vmdk *v = (Vmdk *)map;
    if (driver == &vmdk_format && v->parent_cid != ((const Vmdk *)parent)->cid)
        return g_strdup("its parent was changed since it was made over it (the CIDs differ)");
    return NULL;
}

static bool vmdk_check(ImageMap *map, bool repair, CheckResult *r, GError **error)
{
    Vmdk *v = (Vmdk *)map;
    int result = map->dirty ? vmdk_commit(map) : 0;
    uint64_t unit = map->unit_size ? map->unit_size : 512; /* flat ones have none */
    r->total_units = map->unit_size ? (map->size + unit - 1) / unit : 0;
    for (uint64_t at = 0; at < map->size && !result;) {
        Extent e;
        image_map_tell_progress(map, 0, 1, at, map->size);
        result = vmdk_lookup(map, at, map->size - at, false, &e);
        if (result == -EIO) {
            r->corruptions++;
            check_result_add(r, "ERROR the grain of byte %" G_GUINT64_FORMAT " is damaged", at);
            result = 0;
            e.length = unit - at % unit;
        } else if (!result && e.kind == EXTENT_DATA && find_extent(v, at)->is_sparse) {
            r->allocated_units += (e.length + unit - 1) / unit;
            if (e.host_offset > e.file->size) {
                r->corruptions++;
                check_result_add(r, "ERROR byte %" G_GUINT64_FORMAT " is outside of the file", at);
            }
        }
        at += e.length;
    }
    r->end_offset = map->file->size;
    return result ? format_fail_io(error, map->file->path, "check", result) : true;
}

/* Of other files only what the descriptor says: to look opens none. */
static GVariant *describe_extent(const Vmdk *v, const VmdkExtent *e)
{
    g_autofree char *folder = g_path_get_dirname(v->map.file->path);
    bool is_here = !strcmp(folder, ".") || (e->name && g_path_is_absolute(e->name));
    g_autofree char *path = !e->name  ? g_strdup(v->map.file->path)
                            : is_here ? g_strdup(e->name)
                                      : g_build_filename(folder, e->name, NULL);
    GVariantDict dict;
    g_variant_dict_init(&dict, NULL);
    g_variant_dict_insert(&dict, "filename", "s", path);
    g_variant_dict_insert(&dict, "format", "s", e->kind ? e->kind : "");
    g_variant_dict_insert(&dict, "virtual-size", "x", (gint64)e->size);
    if (e->grain)
        g_variant_dict_insert(&dict, "cluster-size", "x", (gint64)e->grain);
    if (e->compressed)
        g_variant_dict_insert(&dict, "compressed", "b", TRUE);
    return g_variant_dict_end(&dict);
}

static void vmdk_describe(const ImageMap *map, GVariantDict *d)
{
    GVariantBuilder extents;
    const Vmdk *v = (const Vmdk *)map;
    g_variant_dict_insert(d, "cid", "x", (gint64)v->cid);
    g_variant_dict_insert(d, "parent-cid", "x", (gint64)v->parent_cid);
    g_variant_dict_insert(d, "create-type", "s", v->kind ? v->kind : "?");
    g_variant_builder_init(&extents, G_VARIANT_TYPE("aa{sv}"));
    for (guint i = 0; i < v->extents->len; i++)
        g_variant_builder_add_value(&extents, describe_extent(v, v->extents->pdata[i]));
    g_variant_dict_insert_value(d, "extents", g_variant_builder_end(&extents));
}

const FormatDriver vmdk_format = {
    .name = "vmdk",
    .probe = vmdk_probe,
    .options = vmdk_options,
    .create = vmdk_create,
    .open = vmdk_open,
    .close = vmdk_close,
    .lookup = vmdk_lookup,
    .begin_write = vmdk_begin_write,
    .allocate = vmdk_allocate,
    .allocate_compressed = vmdk_allocate_compressed,
    .link = vmdk_link,
    .zero = vmdk_zero,
    .forget = vmdk_forget,
    .leaves_space = true,
    .commit = vmdk_commit,
    .decompress = vmdk_decompress,
    .compress = vmdk_compress,
    .mark_packed = vmdk_mark_packed,
    .resize = vmdk_resize,
    .check = vmdk_check,
    .set_parent = vmdk_set_parent,
    .doubt_parent = vmdk_doubt_parent,
    .describe = vmdk_describe,
};
