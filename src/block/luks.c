/* SPDX-License-Identifier: GPL-3.0-or-later */
/* LUKS version 1; see luks.h. */
#include "block/luks.h"

#include <errno.h>

#include "base/bits.h"
#include "base/i18n.h"
#include "block/crypto.h"

#define STRIPES        4000
#define HEADER_SIZE    592
#define SLOT_ACTIVE    0x00ac71f3u
#define SLOT_DISABLED  0x0000deadu
#define MAX_ITERATIONS 20000000u /* some 10 s for each slot; 2 s are usual */

/* Offsets in the header; numbers are big-endian */
enum {
    H_VERSION = 6,
    H_CIPHER = 8,
    H_MODE = 40,
    H_HASH = 72,
    H_PAYLOAD = 104,
    H_KEY_SIZE = 108,
    H_DIGEST = 112,
    H_SALT = 132,
    H_ITERATIONS = 164,
    H_UUID = 168,
    H_SLOTS = 208,
    S_ITERATIONS = 4,
    S_SALT = 8,
    S_OFFSET = 40,
    S_STRIPES = 44,
    S_SIZE = 48,
};

static const char *path_of(const Luks *luks)
{
    return luks->file->path;
}

static uint64_t material_size(const Luks *luks)
{
    return align_up((uint64_t)luks->key_size * STRIPES, CIPHER_SECTOR);
}

/* ---- reading --------------------------------------------------------------------------------- */

static void parse_slot(LuksSlot *slot, const uint8_t *s)
{
    *slot = (LuksSlot){.active = load_be32(s) == SLOT_ACTIVE,
                       .iterations = load_be32(s + S_ITERATIONS),
                       .offset = load_be32(s + S_OFFSET),
                       .stripes = load_be32(s + S_STRIPES)};
    memcpy(slot->salt, s + S_SALT, sizeof(slot->salt));
}

static bool check_slot(const Luks *luks, const LuksSlot *slot, GError **error)
{
    uint64_t end = slot->offset * UINT64_C(512) + material_size(luks);
    const FormatLimit limits[] = {
        {"key slot's stripes", slot->stripes, STRIPES, STRIPES},
        {"key slot's iterations", slot->active ? slot->iterations : 1, 1, MAX_ITERATIONS},
        {"key slot's offset", slot->offset, 2, UINT32_MAX},
        {"key slot's end", end, 0, luks->room},
    };
    return format_check_limits(path_of(luks), limits, G_N_ELEMENTS(limits), error);
}

static bool parse_header(Luks *luks, const uint8_t *h, GError **error)
{
    const char *path = path_of(luks);
    if (memcmp(h, LUKS_MARK, 6))
        return format_fail(error, path, "it has no LUKS header");
    if (load_be16(h + H_VERSION) != 1)
        return format_fail(error, path,
                           "it is encrypted by LUKS version %u, which is not known; "
                           "'cryptsetup convert --type luks1' may take it back",
                           load_be16(h + H_VERSION));
    memcpy(luks->mode, h + H_MODE, 32);
    memcpy(luks->hash, h + H_HASH, 32);
    memcpy(luks->uuid, h + H_UUID, 40);
    memcpy(luks->digest, h + H_DIGEST, 20);
    memcpy(luks->digest_salt, h + H_SALT, 32);
    luks->payload = load_be32(h + H_PAYLOAD);
    luks->key_size = load_be32(h + H_KEY_SIZE);
    luks->digest_iterations = load_be32(h + H_ITERATIONS);
    const FormatLimit limits[] = {
        {"key size", luks->key_size, 16, LUKS_KEY_MAX, 8},
        {"digest iterations", luks->digest_iterations, 1, MAX_ITERATIONS},
    };
    if (!format_check_limits(path, limits, G_N_ELEMENTS(limits), error))
        return false;
    if (strncmp((const char *)h + H_CIPHER, "aes", 32) || !crypto_hash_size(luks->hash)) {
        g_autofree char *cipher = g_strndup((const char *)h + H_CIPHER, 32);
        return format_fail(error, path, "it is encrypted by '%s' with '%s', which is not known",
                           cipher, luks->hash);
    }
    for (int i = 0; i < LUKS_SLOTS; i++) {
        parse_slot(&luks->slots[i], h + H_SLOTS + i * S_SIZE);
        if (!check_slot(luks, &luks->slots[i], error))
            return false;
    }
    return true;
}

bool luks_open(Luks *luks, HostFile *file, uint64_t at, uint64_t room, GError **error)
{
    uint8_t h[HEADER_SIZE];
    *luks = (Luks){.file = file, .at = at, .room = room};
    if (!crypto_load(error))
        return false;
    int result = host_file_read(file, at, h, sizeof(h));
    return result ? format_fail_io(error, file->path, "read", result)
                  : parse_header(luks, h, error);
}

void luks_clear(Luks *luks)
{
    explicit_bzero(luks->key, sizeof(luks->key));
    luks->unlocked = false;
}

/* ---- keys ------------------------------------------------------------------------------------ */

static bool derive(const Luks *luks, const void *secret, size_t size, const uint8_t *salt,
                   uint32_t iterations, uint8_t *key, size_t key_size)
{
    const CryptoSecret salted = {secret, size, salt, 32};
    return crypto_derive(luks->hash, &salted, iterations, key, key_size);
}

/* Every byte of a block comes to depend on all: pieces of the hash's size are hashed in place. */
static void diffuse(const Luks *luks, uint8_t *block)
{
    uint32_t piece = crypto_hash_size(luks->hash);
    for (uint32_t at = 0, i = 0; at < luks->key_size; at += piece, i++) {
        uint8_t in[4 + CRYPTO_HASH_MAX], out[CRYPTO_HASH_MAX];
        uint32_t size = MIN(piece, luks->key_size - at);
        store_be32(in, i);
        memcpy(in + 4, block + at, size);
        crypto_hash(luks->hash, in, 4 + size, out);
        memcpy(block + at, out, size);
    }
}

static void add_stripe(uint8_t *block, const uint8_t *stripe, size_t size)
{
    for (size_t i = 0; i < size; i++)
        block[i] ^= stripe[i];
}

static void merge_stripes(const Luks *luks, const uint8_t *material, uint8_t *key)
{
    uint8_t block[LUKS_KEY_MAX] = {0};
    for (uint32_t i = 0; i < STRIPES; i++) {
        if (i)
            diffuse(luks, block);
        add_stripe(block, material + (size_t)i * luks->key_size, luks->key_size);
    }
    memcpy(key, block, luks->key_size);
    explicit_bzero(block, sizeof(block));
}

/* Random stripes, the last one such that merging gives the key. */
static bool split_stripes(const Luks *luks, uint8_t *material)
{
    uint8_t block[LUKS_KEY_MAX] = {0};
    uint8_t *last = material + (size_t)(STRIPES - 1) * luks->key_size;
    if (!crypto_fill_randomly(material, (STRIPES - 1) * luks->key_size))
        return false;
    for (uint32_t i = 0; i < STRIPES - 1; i++) {
        add_stripe(block, material + (size_t)i * luks->key_size, luks->key_size);
        diffuse(luks, block);
    }
    memcpy(last, luks->key, luks->key_size);
    add_stripe(last, block, luks->key_size);
    return true;
}

static bool is_key(const Luks *luks, const uint8_t *key)
{
    uint8_t digest[20];
    return derive(luks, key, luks->key_size, luks->digest_salt, luks->digest_iterations, digest,
                  sizeof(digest)) &&
           memcmp(digest, luks->digest, sizeof(digest)) == 0;
}

static Cipher *slot_cipher(const Luks *luks, const LuksSlot *slot, GBytes *passphrase)
{
    uint8_t key[LUKS_KEY_MAX];
    gsize size;
    const void *secret = g_bytes_get_data(passphrase, &size);
    Cipher *cipher = NULL;
    if (derive(luks, secret, size, slot->salt, slot->iterations, key, luks->key_size))
        cipher = cipher_new(luks->mode, key, luks->key_size);
    explicit_bzero(key, sizeof(key));
    return cipher;
}

/* 1: the passphrase is that slot's; 0: it is not; or a negative errno. */
static int try_slot(Luks *luks, const LuksSlot *slot, GBytes *passphrase)
{
    size_t size = material_size(luks);
    g_autofree uint8_t *material = g_malloc(size);
    Cipher *cipher = slot_cipher(luks, slot, passphrase);
    int result = cipher ? 0 : -ENOTSUP;
    if (!result)
        result =
            host_file_read(luks->file, luks->at + slot->offset * UINT64_C(512), material, size);
    if (!result)
        result = cipher_decrypt(cipher, 0, material, size);
    cipher_free(cipher);
    if (!result) {
        merge_stripes(luks, material, luks->key);
        result = is_key(luks, luks->key);
    }
    explicit_bzero(material, size);
    return result;
}

bool luks_unlock(Luks *luks, GBytes *passphrase, GError **error)
{
    for (int i = 0; i < LUKS_SLOTS; i++) {
        int result = luks->slots[i].active ? try_slot(luks, &luks->slots[i], passphrase) : 0;
        luks->unlocked = result > 0;
        if (luks->unlocked)
            return true;
        luks_clear(luks);
        if (result == -ENOTSUP)
            return format_fail(error, path_of(luks), "its cipher mode '%s' is not known",
                               luks->mode);
        if (result < 0)
            return format_fail_io(error, path_of(luks), "read the keys of", result);
    }
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_PERMISSION_DENIED,
                _("cannot use disk '%s': the passphrase opens none of its key slots"),
                path_of(luks));
    return false;
}

Cipher *luks_cipher(const Luks *luks, GError **error)
{
    Cipher *cipher = cipher_new(luks->mode, luks->key, luks->key_size);
    if (!cipher)
        format_fail(error, path_of(luks), "its cipher mode '%s' is not known", luks->mode);
    return cipher;
}

/* ---- making ---------------------------------------------------------------------------------- */

static bool plan_cipher(Luks *luks, const LuksPlan *plan, const char *path, GError **error)
{
    const char *algorithm = plan->algorithm ? plan->algorithm : "aes-256";
    const char *mode = plan->mode ? plan->mode : "xts";
    const char *vector = plan->vector ? plan->vector : "plain64";
    bool essiv = !strcmp(vector, "essiv");
    uint64_t bits =
        g_str_has_prefix(algorithm, "aes-") ? g_ascii_strtoull(algorithm + 4, NULL, 10) : 0;
    luks->key_size = (uint32_t)bits / 8 * (strcmp(mode, "xts") ? 1 : 2);
    g_snprintf(luks->mode, sizeof(luks->mode), "%s-%s%s%s", mode, vector, essiv ? ":" : "",
               !essiv              ? ""
               : plan->vector_hash ? plan->vector_hash
                                   : "sha256");
    g_strlcpy(luks->hash, plan->hash ? plan->hash : "sha256", sizeof(luks->hash));
    Cipher *cipher = luks->key_size <= LUKS_KEY_MAX && crypto_fill_randomly(luks->key, LUKS_KEY_MAX)
                         ? cipher_new(luks->mode, luks->key, luks->key_size)
                         : NULL;
    bool good = cipher && crypto_hash_size(luks->hash);
    cipher_free(cipher);
    return good || format_fail(error, path, "it can't be encrypted by %s in the mode %s with %s",
                               algorithm, luks->mode, luks->hash);
}

bool luks_plan(Luks *luks, const LuksPlan *plan, const char *path, GError **error)
{
    *luks = (Luks){.unlocked = true};
    if (!crypto_load(error) || !plan_cipher(luks, plan, path, error))
        return false;
    uint64_t step = align_up(material_size(luks), 4096);
    for (int i = 0; i < LUKS_SLOTS; i++) {
        luks->slots[i].offset = (uint32_t)((LUKS_MATERIAL + i * step) / 512);
        luks->slots[i].stripes = STRIPES;
    }
    luks->room = LUKS_MATERIAL + LUKS_SLOTS * step;
    luks->payload = (uint32_t)(luks->room / 512);
    g_autofree char *uuid = g_uuid_string_random();
    g_strlcpy(luks->uuid, uuid, sizeof(luks->uuid));
    return true;
}

uint64_t luks_size(const Luks *luks)
{
    return luks->payload * UINT64_C(512);
}

/* As many iterations as take this long here, for an attacker needs as many for each guess. */
static uint32_t measure_iterations(const Luks *luks, const char *text)
{
    uint64_t wanted_ms = text ? g_ascii_strtoull(text, NULL, 10) : 2000;
    uint8_t key[LUKS_KEY_MAX], salt[32] = {0};
    uint32_t n = 1000;
    int64_t took_us = 0;
    for (; took_us < 20000 && n < MAX_ITERATIONS / 2; n *= 2) {
        int64_t begin = g_get_monotonic_time();
        derive(luks, "measure", 7, salt, n, key, luks->key_size);
        took_us = g_get_monotonic_time() - begin;
    }
    uint64_t good = n / 2 * MIN(wanted_ms, 60000) * 1000 / (uint64_t)MAX(took_us, 1);
    return (uint32_t)CLAMP(good, 1000, MAX_ITERATIONS);
}

static void store_slot(uint8_t *s, const LuksSlot *slot)
{
    store_be32(s, slot->active ? SLOT_ACTIVE : SLOT_DISABLED);
    store_be32(s + S_ITERATIONS, slot->iterations);
    memcpy(s + S_SALT, slot->salt, sizeof(slot->salt));
    store_be32(s + S_OFFSET, slot->offset);
    store_be32(s + S_STRIPES, slot->stripes);
}

static int write_header(Luks *luks)
{
    uint8_t h[HEADER_SIZE] = {0};
    memcpy(h, LUKS_MARK, 6);
    store_be16(h + H_VERSION, 1);
    memcpy(h + H_CIPHER, "aes", 3);
    memcpy(h + H_MODE, luks->mode, 32);
    memcpy(h + H_HASH, luks->hash, 32);
    memcpy(h + H_UUID, luks->uuid, 40);
    store_be32(h + H_PAYLOAD, luks->payload);
    store_be32(h + H_KEY_SIZE, luks->key_size);
    memcpy(h + H_DIGEST, luks->digest, 20);
    memcpy(h + H_SALT, luks->digest_salt, 32);
    store_be32(h + H_ITERATIONS, luks->digest_iterations);
    for (int i = 0; i < LUKS_SLOTS; i++)
        store_slot(h + H_SLOTS + i * S_SIZE, &luks->slots[i]);
    int result = host_file_write(luks->file, luks->at, h, sizeof(h));
    return result ? result : host_file_sync(luks->file);
}

bool luks_write(Luks *luks, HostFile *file, uint64_t at, const LuksPlan *plan, GBytes *passphrase,
                GError **error)
{
    luks->file = file;
    luks->at = at;
    luks->digest_iterations = MAX(measure_iterations(luks, plan->iteration_ms) / 8, 1000);
    if (!crypto_fill_randomly(luks->digest_salt, 32) ||
        !derive(luks, luks->key, luks->key_size, luks->digest_salt, luks->digest_iterations,
                luks->digest, 20))
        return format_fail(error, path_of(luks), "libcrypto has no random numbers");
    int result = host_file_zero(file, at, luks_size(luks));
    if (!result && file->size < at + luks_size(luks))
        result = host_file_truncate(file, at + luks_size(luks));
    if (!result)
        result = write_header(luks);
    if (result)
        return format_fail_io(error, path_of(luks), "create", result);
    return luks_add_key(luks, passphrase, plan->iteration_ms, error);
}

/* ---- slots ----------------------------------------------------------------------------------- */

static int write_material(Luks *luks, const LuksSlot *slot, GBytes *passphrase)
{
    size_t size = material_size(luks);
    g_autofree uint8_t *material = g_malloc0(size);
    Cipher *cipher = slot_cipher(luks, slot, passphrase);
    int result = cipher && split_stripes(luks, material) ? 0 : -EIO;
    if (!result)
        result = cipher_encrypt(cipher, 0, material, size);
    if (!result)
        result =
            host_file_write(luks->file, luks->at + slot->offset * UINT64_C(512), material, size);
    cipher_free(cipher);
    return result ? result : host_file_sync(luks->file);
}

/* All of a slot but its state, then the state: one of them crosses the end of a sector. */
static int write_slot(Luks *luks, unsigned i)
{
    uint8_t s[S_SIZE];
    uint64_t at = luks->at + H_SLOTS + i * S_SIZE;
    store_slot(s, &luks->slots[i]);
    int result = host_file_write(luks->file, at + 4, s + 4, S_SIZE - 4);
    if (!result)
        result = host_file_sync(luks->file);
    if (!result)
        result = host_file_write(luks->file, at, s, 4);
    return result ? result : host_file_sync(luks->file);
}

bool luks_add_key(Luks *luks, GBytes *passphrase, const char *iteration_ms, GError **error)
{
    unsigned i = 0;
    while (i < LUKS_SLOTS && luks->slots[i].active)
        i++;
    if (i == LUKS_SLOTS)
        return format_fail(error, path_of(luks), "all of its key slots are in use; erase one");
    LuksSlot slot = luks->slots[i];
    slot.iterations = measure_iterations(luks, iteration_ms);
    int result = crypto_fill_randomly(slot.salt, sizeof(slot.salt)) ? 0 : -EIO;
    if (!result)
        result = write_material(luks, &slot, passphrase);
    if (!result) {
        luks->slots[i] = slot;
        luks->slots[i].active = true;
        result = write_slot(luks, i);
    }
    luks->slots[i].active = !result;
    return result ? format_fail_io(error, path_of(luks), "write a key slot of", result) : true;
}

bool luks_erase_key(Luks *luks, unsigned slot, GError **error)
{
    unsigned active = 0;
    for (int i = 0; i < LUKS_SLOTS; i++)
        active += luks->slots[i].active;
    if (slot >= LUKS_SLOTS || !luks->slots[slot].active)
        return format_fail(error, path_of(luks), "its key slot %u is not in use", slot);
    if (active == 1)
        return format_fail(error, path_of(luks), "without its last key slot it could not be read");
    size_t size = material_size(luks);
    g_autofree uint8_t *noise = g_malloc(size);
    int result = crypto_fill_randomly(noise, size) ? 0 : -EIO;
    if (!result)
        result = host_file_write(luks->file, luks->at + luks->slots[slot].offset * UINT64_C(512),
                                 noise, size);
    if (!result)
        result = host_file_sync(luks->file);
    if (!result) {
        luks->slots[slot].active = false;
        result = write_slot(luks, slot);
    }
    return result ? format_fail_io(error, path_of(luks), "erase a key slot of", result) : true;
}

/* ---- words ----------------------------------------------------------------------------------- */

static GVariant *describe_slots(const Luks *luks)
{
    GVariantBuilder list;
    g_variant_builder_init(&list, G_VARIANT_TYPE("aa{sv}"));
    for (int i = 0; i < LUKS_SLOTS; i++) {
        const LuksSlot *slot = &luks->slots[i];
        GVariantDict d;
        g_variant_dict_init(&d, NULL);
        g_variant_dict_insert(&d, "active", "b", slot->active);
        g_variant_dict_insert(&d, "key-offset", "x", (gint64)slot->offset * 512);
        if (slot->active) {
            g_variant_dict_insert(&d, "iters", "x", (gint64)slot->iterations);
            g_variant_dict_insert(&d, "stripes", "x", (gint64)slot->stripes);
        }
        g_variant_builder_add_value(&list, g_variant_dict_end(&d));
    }
    return g_variant_builder_end(&list);
}

GVariant *luks_describe(const Luks *luks)
{
    g_autofree char *algorithm = NULL;
    g_auto(GStrv) mode = g_strsplit(luks->mode, "-", 2);
    g_auto(GStrv) vector = g_strsplit(mode[1] ? mode[1] : "", ":", 2);
    GVariantDict d;
    uint32_t bits = luks->key_size * 8 / (strcmp(mode[0], "xts") ? 1 : 2);
    algorithm = g_strdup_printf("aes-%u", bits);
    g_variant_dict_init(&d, NULL);
    g_variant_dict_insert(&d, "ivgen-alg", "s", vector[0] ? vector[0] : "");
    if (vector[0] && vector[1])
        g_variant_dict_insert(&d, "ivgen-hash-alg", "s", vector[1]);
    g_variant_dict_insert(&d, "hash-alg", "s", luks->hash);
    g_variant_dict_insert(&d, "cipher-alg", "s", algorithm);
    g_variant_dict_insert(&d, "uuid", "s", luks->uuid);
    g_variant_dict_insert(&d, "cipher-mode", "s", mode[0]);
    g_variant_dict_insert_value(&d, "slots", describe_slots(luks));
    g_variant_dict_insert(&d, "payload-offset", "x", (gint64)luks->payload * 512);
    g_variant_dict_insert(&d, "master-key-iters", "x", (gint64)luks->digest_iterations);
    return g_variant_dict_end(&d);
}
