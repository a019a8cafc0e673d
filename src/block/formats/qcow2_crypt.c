/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * qcow2: encryption. Clusters are encrypted by a LUKS header that lies in the file, named by a
 * header extension: | offset 8 | length 8 |; their sectors are numbered by their place in the file.
 *
 * The old way, AES-CBC with the passphrase itself as the key and numbers by the disk, is read only:
 * it hides nothing from who can try passphrases or compare two states of the disk. Packed clusters
 * are never encrypted.
 */
#include "block/formats/qcow2.h"
#include "block/luks.h"

#define MAX_LUKS MIB(16)

enum { CRYPT_NONE = 0, CRYPT_AES = 1, CRYPT_LUKS = 2 };

static const char old_aes[] =
    "it has the old AES encryption, which is easily broken; convert it with encrypt.format=luks";

bool format_open_old_aes(ImageMap *map, const OpenParameters *p, GError **error)
{
    uint8_t key[16] = {0};
    gsize size = 0;
    map->encrypted = true;
    map->warning = old_aes;
    if (!p->read_only)
        return format_fail(error, map->file->path,
                           "its old AES encryption is easily broken and only read; "
                           "convert it with -O qcow2 -o encrypt.format=luks");
    if (!p->key)
        return p->only_look || p->keeps_locked || format_fail_locked(error, map->file->path);
    const void *text = g_bytes_get_data(p->key, &size);
    memcpy(key, text, MIN(size, sizeof(key)));
    map->cipher = cipher_new("cbc-plain64", key, sizeof(key));
    explicit_bzero(key, sizeof(key));
    return map->cipher || format_fail(error, map->file->path, "libcrypto has no AES");
}

static bool open_luks(Qcow2 *q, const OpenParameters *p, GError **error)
{
    const char *path = q->map.file->path;
    gsize size = 0;
    GBytes *extension = qcow2_find_extension(q, QCOW2_EXT_CRYPT);
    const uint8_t *e = extension ? g_bytes_get_data(extension, &size) : NULL;
    if (size < 16)
        return format_fail(error, path, "it does not say where its encryption header is");
    q->luks_offset = load_be64(e);
    q->luks_size = load_be64(e + 8);
    const FormatLimit limits[] = {
        {"encryption header", q->luks_offset, q->cluster_size, q->map.file->size, q->cluster_size},
        {"encryption header's size", q->luks_size, 592, MAX_LUKS},
    };
    if (!format_check_limits(path, limits, G_N_ELEMENTS(limits), error))
        return false;
    q->luks = g_new0(Luks, 1);
    if (!luks_open(q->luks, q->map.file, q->luks_offset, q->luks_size, error))
        return false;
    if (!p->key)
        return p->only_look || p->keeps_locked || format_fail_locked(error, path);
    if (!luks_unlock(q->luks, p->key, error))
        return false;
    q->map.cipher = luks_cipher(q->luks, error);
    return q->map.cipher != NULL;
}

bool qcow2_open_crypt(Qcow2 *q, const OpenParameters *p, GError **error)
{
    q->map.encrypted = q->crypt != CRYPT_NONE;
    q->map.cipher_by_place = q->crypt == CRYPT_LUKS;
    if (q->crypt == CRYPT_AES)
        return format_open_old_aes(&q->map, p, error);
    return q->crypt == CRYPT_LUKS ? open_luks(q, p, error) : true;
}

void qcow2_close_crypt(Qcow2 *q)
{
    if (q->luks)
        luks_clear(q->luks);
    g_free(q->luks);
}

/* ---- making ---------------------------------------------------------------------------------- */

static void plan_from_options(LuksPlan *plan, const CreateOptions *o)
{
    *plan = (LuksPlan){.algorithm = format_option(o, "encrypt.cipher-alg"),
                       .mode = format_option(o, "encrypt.cipher-mode"),
                       .vector = format_option(o, "encrypt.ivgen-alg"),
                       .vector_hash = format_option(o, "encrypt.ivgen-hash-alg"),
                       .hash = format_option(o, "encrypt.hash-alg"),
                       .iteration_ms = format_option(o, "encrypt.iter-time")};
}

bool qcow2_check_crypt_options(const CreateOptions *o, const char *path, GError **error)
{
    const char *format = format_option(o, "encrypt.format");
    if (!format && o->key)
        return format_fail(error, path, "a key is given; say encrypt.format=luks, too");
    if (!format)
        return true;
    if (strcmp(format, "luks"))
        return format_fail(error, path, "encrypt.format is luks, not '%s'", format);
    if (!o->key)
        return format_fail(error, path,
                           "encryption needs a key; say encrypt.key-secret=ID with "
                           "--object secret,id=ID,file=FILE");
    if (format_option(o, "data_file"))
        return format_fail(error, path, "a data file is never encrypted");
    return !strcmp(format_option(o, "preallocation"), "off") ||
           format_fail(error, path, "an encrypted image can't be preallocated");
}

bool qcow2_create_crypt(Qcow2 *q, const CreateOptions *o, GError **error)
{
    Luks luks;
    LuksPlan plan;
    uint64_t offset;
    uint8_t fields[16], method[4];
    const char *path = q->map.file->path;
    plan_from_options(&plan, o);
    if (!format_option(o, "encrypt.format"))
        return true;
    if (!luks_plan(&luks, &plan, path, error))
        return false;
    int result = qcow2_alloc_all(q, qcow2_clusters(q, luks_size(&luks)), &offset);
    if (!result)
        result = qcow2_commit_all(q);
    if (result)
        return format_fail_io(error, path, "create", result);
    bool good = luks_write(&luks, q->map.file, offset, &plan, o->key, error);
    luks_clear(&luks);
    if (!good)
        return false;
    store_be64(fields, offset);
    store_be64(fields + 8, luks_size(&luks));
    Qcow2Extension e = {QCOW2_EXT_CRYPT, g_bytes_new(fields, sizeof(fields))};
    g_array_append_val(q->extensions, e);
    store_be32(method, CRYPT_LUKS);
    q->crypt = CRYPT_LUKS;
    result = qcow2_write_header_field(q, QCOW2_H_CRYPT, method, sizeof(method));
    return result ? format_fail_io(error, path, "create", result)
                  : qcow2_rewrite_header(q, NULL, NULL, error);
}

/* ---- keys and words -------------------------------------------------------------------------- */

static bool has_keys(const Qcow2 *q, GError **error)
{
    return (q->luks && q->luks->unlocked) ||
           format_fail(error, q->map.file->path, "it is not encrypted by LUKS");
}

static bool qcow2_add_key(ImageMap *map, GBytes *key, const char *iteration_ms, GError **error)
{
    Qcow2 *q = (Qcow2 *)map;
    return has_keys(q, error) && luks_add_key(q->luks, key, iteration_ms, error);
}

static bool qcow2_erase_key(ImageMap *map, unsigned slot, GError **error)
{
    Qcow2 *q = (Qcow2 *)map;
    return has_keys(q, error) && luks_erase_key(q->luks, slot, error);
}

const FormatKeys qcow2_keys = {.add = qcow2_add_key, .erase = qcow2_erase_key};

GVariant *qcow2_describe_crypt(const Qcow2 *q)
{
    GVariantDict d;
    g_autoptr(GVariant) luks = q->luks ? g_variant_ref_sink(luks_describe(q->luks)) : NULL;
    g_variant_dict_init(&d, luks);
    g_variant_dict_insert(&d, "format", "s", q->luks ? "luks" : "aes");
    return g_variant_dict_end(&d);
}
