/* SPDX-License-Identifier: GPL-3.0-or-later */
/* VMDK: the driver; a disk is its extents, one after the other. */
#include "block/formats/vmdk.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/i18n.h"
#include "block/compress.h"
#include "block/formats/vbox_parent.h"
#include "block/image.h"

#define UUID_KEY "ddb.uuid.image"

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

VmdkExtent *vmdk_add_extent(Vmdk *v, HostFile *file, bool sparse, uint64_t size)
{
    VmdkExtent *e = g_new0(VmdkExtent, 1);
    *e = (VmdkExtent){
        .file = file, .is_sparse = sparse, .size = size, .start = v->map.size, .vmdk = v};
    g_ptr_array_add(v->extents, e);
    return e;
}

typedef struct LineKind {
    const char *name;
    bool sparse, zero;
    const char *refusal;
} LineKind;

#define HOST_DISK                                                                             \
    "its extent of the kind '%s' is a disk of its ESX host, not a file; copy it there, with " \
    "'vmkfstools -i'"

static const LineKind line_kinds[] = {
    {"FLAT"},
    {"VMFS"},
    {"SPARSE", .sparse = true},
    {"VMFSSPARSE", .sparse = true},
    {"SESPARSE", .sparse = true},
    {"ZERO", .zero = true},
    {"VMFSRDM", .refusal = HOST_DISK},
    {"VMFSRAW", .refusal = HOST_DISK},
};

static const LineKind *find_kind(const Vmdk *v, const VmdkLine *l, GError **error)
{
    const char *path = v->map.file->path;
    for (size_t i = 0; i < G_N_ELEMENTS(line_kinds); i++) {
        const LineKind *kind = &line_kinds[i];
        if (g_ascii_strcasecmp(kind->name, l->kind))
            continue;
        if (kind->refusal)
            format_fail(error, path, kind->refusal, l->kind);
        return kind->refusal ? NULL : kind;
    }
    format_fail(error, path, "its extent of the kind '%s' is not supported", l->kind);
    return NULL;
}

/* Extents that may not be written, or that are no files, are refused before anything is done. */
static bool check_line(const Vmdk *v, const VmdkLine *l, const OpenParameters *p, GError **error)
{
    const char *path = v->map.file->path;
    if (l->sectors > FORMAT_SIZE_MAX / 512 / VMDK_MAX_EXTENTS ||
        l->offset > FORMAT_SIZE_MAX / 512 || v->extents->len >= VMDK_MAX_EXTENTS)
        return format_fail(error, path, "its descriptor has an extent that is not possible");
    if (p->only_look || !g_ascii_strcasecmp(l->kind, "ZERO"))
        return true;
    if (g_str_has_prefix(l->name, "\\\\.\\"))
        return format_fail(error, path,
                           "its extent '%s' is a disk of a Windows host, not a file; make an image "
                           "of that disk there",
                           l->name);
    if (!g_ascii_strcasecmp(l->access, "NOACCESS"))
        return format_fail(error, path,
                           "its extent '%s' is marked NOACCESS; say RDONLY in its descriptor if it "
                           "shall be read",
                           l->name);
    return p->read_only || g_ascii_strcasecmp(l->access, "RDONLY") ||
           format_fail(error, path,
                       "its extent '%s' is marked RDONLY; open it read-only, or make a disk over "
                       "it to write to",
                       l->name);
}

/* Several flat extents may be parts of one file. */
static HostFile *find_open(const Vmdk *v, const char *path)
{
    for (guint i = 0; i < v->extents->len; i++) {
        const VmdkExtent *e = v->extents->pdata[i];
        if (e->own_file && e->file && !strcmp(e->file->path, path))
            return e->file;
    }
    return NULL;
}

static bool open_file(Vmdk *v, VmdkExtent *e, const OpenParameters *p, GError **error)
{
    const char *path = v->map.file->path;
    g_autofree char *name = vmdk_name_here(v, e->name);
    g_autofree char *part = image_resolve_name(path, name, p->trust_names, error);
    e->file = part && !e->is_sparse ? find_open(v, part) : NULL;
    if (part && !e->file) {
        e->file = host_file_open(part, p->read_only, p->io_hook, error);
        e->own_file = e->file != NULL;
    }
    if (!e->file) {
        g_prefix_error(error, _("an extent of '%s': "), path);
        return false;
    }
    e->file->no_sync = p->no_sync;
    if (e->is_sparse || e->flat_offset + e->size <= e->file->size)
        return true;
    return format_fail(error, path,
                       "its extent '%s' has %" PRIu64 " bytes, not the %" PRIu64
                       " that its descriptor says: was it cut off when it was copied?",
                       e->name, e->file->size, e->flat_offset + e->size);
}

static bool open_line(Vmdk *v, const VmdkLine *l, const OpenParameters *p, GError **error)
{
    const LineKind *kind = find_kind(v, l, error);
    if (!kind || !check_line(v, l, p, error))
        return false;
    VmdkExtent *e = vmdk_add_extent(v, NULL, kind->sparse, l->sectors * 512);
    e->is_zero = kind->zero;
    e->kind = g_strdup(l->kind);
    e->name = kind->zero ? NULL : g_strdup(l->name);
    e->flat_offset = l->offset * 512;
    v->map.size += e->size;
    v->map.many_files = true;
    if (kind->zero || p->only_look)
        return true;
    return open_file(v, e, p, error) && (!kind->sparse || vmdk_extent_open(e, error));
}

static bool open_lines(Vmdk *v, const OpenParameters *p, GError **error)
{
    g_auto(GStrv) lines = g_strsplit(v->text, "\n", -1);
    for (char **l = lines; *l; l++) {
        VmdkLine line;
        if (!vmdk_parse_line(*l, &line))
            continue;
        if (!*line.kind)
            return format_fail(error, v->map.file->path, "its descriptor has the line '%s'", *l);
        if (!open_line(v, &line, p, error))
            return false;
    }
    return true;
}

/* One file that is its own extent. */
static bool open_single(Vmdk *v, GError **error)
{
    VmdkExtent *e = vmdk_add_extent(v, v->map.file, true, 0);
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

static Uuid read_uuid(const Vmdk *v, const char *key)
{
    Uuid uuid = {{0}};
    g_autofree char *text = vmdk_text_value(v->text, key);
    if (text)
        uuid_parse_le(text, &uuid);
    return uuid;
}

/* VMware names a parent by its file, VirtualBox by its UUID. */
static bool find_parent(Vmdk *v, const OpenParameters *p, GError **error)
{
    Uuid uuid = read_uuid(v, "ddb.uuid.parent");
    g_autofree char *hint = vmdk_text_value(v->text, "parentFileNameHint");
    v->cid = read_cid(v, "CID");
    v->parent_cid = read_cid(v, "parentCID");
    v->kind = vmdk_text_value(v->text, "createType");
    if (v->parent_cid != VMDK_NO_CID && hint) {
        v->map.parent_name = vmdk_name_here(v, hint);
        return true;
    }
    v->parent_by_uuid = !uuid_is_null(uuid);
    if (v->parent_by_uuid)
        return vbox_find_parent(&v->map, uuid, p, error);
    return v->parent_cid == VMDK_NO_CID || p->only_look ||
           format_fail(error, v->map.file->path,
                       "it has a parent (parentCID %08x) and does not name it; name it with "
                       "'ospite disk rebase -u'",
                       v->parent_cid);
}

static bool refuse_encrypted(const Vmdk *v, GError **error)
{
    g_autofree char *keys = vmdk_text_value(v->text, "encryptionKeys");
    g_autofree char *filters = vmdk_text_value(v->text, "ddb.iofilters");
    if (!keys && !(filters && strstr(filters, "crypt")))
        return true;
    return format_fail(error, v->map.file->path,
                       "it is encrypted by VMware; take the encryption away there, in the virtual "
                       "machine's settings");
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
    if (read_text(v, &single, error) && refuse_encrypted(v, error) &&
        (single ? open_single(v, error) : open_lines(v, p, error)) && find_unit(v, error) &&
        find_parent(v, p, error)) {
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
    for (guint i = 0; i < v->extents->len && !result; i++) {
        result = vmdk_extent_find_end(v->extents->pdata[i]);
        if (!result)
            result = vmdk_extent_set_unclean(v->extents->pdata[i], true);
    }
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
    v->parent_by_uuid = false;
    image_map_name_parent(map, name, format);
    return true;
}

/* VirtualBox's; VMware takes no notice of it. */
static bool vmdk_set_uuid(ImageMap *map, Uuid uuid, GError **error)
{
    Vmdk *v = (Vmdk *)map;
    g_autofree char *id = uuid_text_le(uuid);
    g_autofree char *quoted = g_strdup_printf("\"%s\"", id);
    g_autofree char *text = vmdk_text_replace(v->text, UUID_KEY, quoted);
    return vmdk_write_text(v, text, error);
}

static char *vmdk_doubt_parent(ImageMap *map, const ImageMap *parent, const FormatDriver *driver)
{
    const Vmdk *v = (Vmdk *)map;
    if (driver == &vmdk_format && !v->parent_by_uuid &&
        v->parent_cid != ((const Vmdk *)parent)->cid)
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
            bool is_old = find_extent(v, at)->is_old; /* vmdk_extent_check() does not look there */
            r->allocated_units += (e.length + unit - 1) / unit;
            if (is_old && e.host_offset > e.file->size) {
                r->corruptions++;
                check_result_add(r, "ERROR byte %" G_GUINT64_FORMAT " is outside of the file", at);
            }
        }
        at += e.length;
    }
    for (guint i = 0; i < v->extents->len && !result; i++)
        result = vmdk_extent_check(v->extents->pdata[i], r);
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
    g_autofree char *id = vmdk_text_value(v->text, UUID_KEY);
    if (id)
        g_variant_dict_insert(d, "uuid", "s", id);
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
    .set_uuid = vmdk_set_uuid,
};
