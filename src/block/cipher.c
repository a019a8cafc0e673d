/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The calls of cipher.h and crypto.h, for the module that answers them. */
#include "block/cipher.h"

#include "base/module.h"
#include "block/crypto.h"

static const CryptoApi *api;

bool crypto_load(GError **error)
{
    if (!api)
        api = module_load("crypto", error);
    return api != NULL;
}

Cipher *cipher_new(const char *mode, const uint8_t *key, size_t key_size)
{
    return crypto_load(NULL) ? api->cipher_new(mode, key, key_size) : NULL;
}

void cipher_free(Cipher *cipher)
{
    if (cipher)
        api->cipher_free(cipher);
}

int cipher_encrypt(Cipher *cipher, uint64_t sector, uint8_t *data, size_t size)
{
    return api->encrypt(cipher, sector, data, size);
}

int cipher_decrypt(Cipher *cipher, uint64_t sector, uint8_t *data, size_t size)
{
    return api->decrypt(cipher, sector, data, size);
}

uint32_t crypto_hash_size(const char *name)
{
    return api->hash_size(name);
}

bool crypto_hash(const char *name, const void *data, size_t size, uint8_t *ret)
{
    return api->hash(name, data, size, ret);
}

bool crypto_derive(const char *name, const CryptoSecret *secret, uint32_t iterations, uint8_t *key,
                   size_t size)
{
    return api->derive(name, secret, iterations, key, size);
}

bool crypto_fill_randomly(void *data, size_t size)
{
    return api->fill_randomly(data, size);
}
