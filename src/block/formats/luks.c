/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * LUKS containers: | header and key material | the disk, encrypted |. Sectors are numbered by the
 * disk. See luks.h.
 */
#include "block/luks.h"

#include "base/bits.h"

#define ROOM_MAX MIB(16)

typedef struct LuksMap {
    ImageMap map;
    Luks luks;
    uint64_t data; /* where the disk begins */
} LuksMap;

static const FormatOption luks_options[] = {
    {"cipher-alg", NULL, "aes-128, aes-192 or aes-256"},
    {"cipher-mode", NULL, "xts or cbc"},
    {"ivgen-alg", NULL, "plain64, plain or essiv"},
    {"ivgen-hash-alg", NULL, "for essiv"},
    {"hash-alg", NULL, "sha1, sha256 or sha512"},
    {"iter-time", NULL, "milliseconds that trying a passphrase takes"},
    {NULL},
};

static bool luks_probe(const ProbeData *data)
{
    return memcmp(data->head, LUKS_MARK, 6) == 0;
}

static bool luks_map_create(HostFile *file, const CreateOptions *o, GError **error)
{
    Luks luks;
    LuksPlan plan = {.algorithm = format_option(o, "cipher-alg"),
                     .mode = format_option(o, "cipher-mode"),
                     .vector = format_option(o, "ivgen-alg"),
                     .vector_hash = format_option(o, "ivgen-hash-alg"),
                     .hash = format_option(o, "hash-alg"),
                     .iteration_ms = format_option(o, "iter-time")};
    if (!o->key)
        return format_fail(error, file->path,
                           "encryption needs a key; say key-secret=ID with "
                           "--object secret,id=ID,file=FILE");
    if (!luks_plan(&luks, &plan, file->path, error))
        return false;
    int result = host_file_truncate(file, luks_size(&luks) + o->size);
    bool good = result ? format_fail_io(error, file->path, "create", result)
                       : luks_write(&luks, file, 0, &plan, o->key, error);
    luks_clear(&luks);
    return good;
}

static void luks_map_close(ImageMap *map)
{
    luks_clear(&((LuksMap *)map)->luks);
    image_map_clear(map);
    g_free(map);
}

static bool fill(LuksMap *m, const OpenParameters *p, GError **error)
{
    HostFile *file = m->map.file;
    if (!luks_open(&m->luks, file, 0, MIN(file->size, ROOM_MAX), error))
        return false;
    m->data = m->luks.payload * UINT64_C(512);
    const FormatLimit limits[] = {{"payload offset", m->data, 1024, file->size}};
    if (!format_check_limits(file->path, limits, G_N_ELEMENTS(limits), error))
        return false;
    m->map.size = align_down(file->size - m->data, CIPHER_SECTOR);
    m->map.sector_size = 512;
    m->map.encrypted = m->map.begins_as_noise = true;
    if (!p->key)
        return p->only_look || p->keeps_locked || format_fail_locked(error, file->path);
    if (!luks_unlock(&m->luks, p->key, error))
        return false;
    m->map.cipher = luks_cipher(&m->luks, error);
    return m->map.cipher != NULL;
}

static ImageMap *luks_map_open(HostFile *file, const OpenParameters *p, GError **error)
{
    LuksMap *m = g_new0(LuksMap, 1);
    m->map.file = file;
    if (fill(m, p, error))
        return &m->map;
    luks_map_close(&m->map);
    return NULL;
}

static int luks_map_lookup(ImageMap *map, uint64_t offset, uint64_t length, bool cached,
                           Extent *extent)
{
    *extent = (Extent){.kind = EXTENT_DATA,
                       .writable = true,
                       .file = map->file,
                       .host_offset = ((LuksMap *)map)->data + offset,
                       .length = map->size - offset};
    return 0;
}

static bool luks_map_resize(ImageMap *map, uint64_t size, GError **error)
{
    int result = host_file_truncate(map->file, ((LuksMap *)map)->data + size);
    if (result)
        return format_fail_io(error, map->file->path, "resize", result);
    map->size = size;
    return true;
}

static bool luks_map_add_key(ImageMap *map, GBytes *key, const char *iteration_ms, GError **error)
{
    return luks_add_key(&((LuksMap *)map)->luks, key, iteration_ms, error);
}

static bool luks_map_erase_key(ImageMap *map, unsigned slot, GError **error)
{
    return luks_erase_key(&((LuksMap *)map)->luks, slot, error);
}

static const FormatKeys luks_keys = {.add = luks_map_add_key, .erase = luks_map_erase_key};

static void luks_map_describe(const ImageMap *map, GVariantDict *d)
{
    g_autoptr(GVariant) all = g_variant_ref_sink(luks_describe(&((const LuksMap *)map)->luks));
    GVariantIter iter;
    const char *name;
    GVariant *value;
    g_variant_iter_init(&iter, all);
    while (g_variant_iter_loop(&iter, "{&sv}", &name, &value))
        g_variant_dict_insert_value(d, name, value);
}

const FormatDriver luks_format = {
    .name = "luks",
    .probe = luks_probe,
    .options = luks_options,
    .create = luks_map_create,
    .open = luks_map_open,
    .close = luks_map_close,
    .lookup = luks_map_lookup,
    .resize = luks_map_resize,
    .keys = &luks_keys,
    .describe = luks_map_describe,
};
