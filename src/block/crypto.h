/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What encrypted images need of cryptography: the module `crypto` (base/module.h), which stands on
 * libcrypto. Of the calls here only crypto_load() works before it has succeeded.
 *
 * Threads: any; a cipher's as cipher.h says.
 */
#pragma once

#include <gio/gio.h>

#include "block/cipher.h"

#define CRYPTO_HASH_MAX 64 /* bytes */

typedef struct CryptoSecret {
    const void *data;
    size_t size;
    const uint8_t *salt;
    size_t salt_size;
} CryptoSecret;

typedef struct CryptoApi {
    Cipher *(*cipher_new)(const char *mode, const uint8_t *key, size_t key_size);
    void (*cipher_free)(Cipher *cipher);
    int (*encrypt)(Cipher *cipher, uint64_t sector, uint8_t *data, size_t size);
    int (*decrypt)(Cipher *cipher, uint64_t sector, uint8_t *data, size_t size);
    uint32_t (*hash_size)(const char *name);
    bool (*hash)(const char *name, const void *data, size_t size, uint8_t *ret);
    bool (*derive)(const char *name, const CryptoSecret *secret, uint32_t iterations, uint8_t *key,
                   size_t size);
    bool (*fill_randomly)(void *data, size_t size);
} CryptoApi;

bool crypto_load(GError **error);
/* "sha256", …; 0: unknown. */
uint32_t crypto_hash_size(const char *name);
bool crypto_hash(const char *name, const void *data, size_t size, uint8_t *ret);
/* PBKDF2 with the HMAC of a hash. */
bool crypto_derive(const char *name, const CryptoSecret *secret, uint32_t iterations, uint8_t *key,
                   size_t size);
bool crypto_fill_randomly(void *data, size_t size);
