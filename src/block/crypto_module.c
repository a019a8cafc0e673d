/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The module `crypto`: ciphers, hashes and random numbers by libcrypto; see crypto.h. */
#include "block/crypto.h"

#include <errno.h>
#include <glib.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <string.h>

#include "base/bits.h"
#include "base/module.h"

/* ---- ciphers --------------------------------------------------------------------------------- */

struct Cipher {
    EVP_CIPHER_CTX *data[2]; /* for decrypting and for encrypting */
    EVP_CIPHER_CTX *essiv;   /* NULL: the number is the vector */
    unsigned number_size;    /* of a sector, bytes */
};

static const EVP_CIPHER *find_algorithm(bool xts, size_t key_size)
{
    switch (key_size) {
    case 16:
        return xts ? NULL : EVP_aes_128_cbc();
    case 24:
        return xts ? NULL : EVP_aes_192_cbc();
    case 32:
        return xts ? EVP_aes_128_xts() : EVP_aes_256_cbc();
    case 64:
        return xts ? EVP_aes_256_xts() : NULL;
    default:
        return NULL;
    }
}

static EVP_CIPHER_CTX *new_context(const EVP_CIPHER *algorithm, const uint8_t *key, bool encrypt)
{
    EVP_CIPHER_CTX *context = algorithm ? EVP_CIPHER_CTX_new() : NULL;
    if (context && EVP_CipherInit_ex(context, algorithm, NULL, key, NULL, encrypt) &&
        EVP_CIPHER_CTX_set_padding(context, 0))
        return context;
    EVP_CIPHER_CTX_free(context);
    return NULL;
}

/* The vector is the number encrypted with the hash of the key. */
static bool set_essiv(Cipher *cipher, const char *hash, const uint8_t *key, size_t key_size)
{
    const EVP_MD *md = EVP_get_digestbyname(hash);
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    if (!md || !EVP_Digest(key, key_size, digest, &size, md, NULL))
        return false;
    cipher->essiv = new_context(size == 16   ? EVP_aes_128_ecb()
                                : size == 24 ? EVP_aes_192_ecb()
                                : size == 32 ? EVP_aes_256_ecb()
                                             : NULL,
                                digest, true);
    explicit_bzero(digest, sizeof(digest));
    return cipher->essiv != NULL;
}

static void crypto_free(Cipher *cipher)
{
    if (!cipher)
        return;
    EVP_CIPHER_CTX_free(cipher->data[0]);
    EVP_CIPHER_CTX_free(cipher->data[1]);
    EVP_CIPHER_CTX_free(cipher->essiv);
    g_free(cipher);
}

static Cipher *crypto_new(const char *mode, const uint8_t *key, size_t key_size)
{
    Cipher *cipher = g_new0(Cipher, 1);
    bool xts = g_str_has_prefix(mode, "xts-");
    const char *vector = xts || g_str_has_prefix(mode, "cbc-") ? mode + 4 : "";
    bool known = !strcmp(vector, "plain") || !strcmp(vector, "plain64") ||
                 (g_str_has_prefix(vector, "essiv:") &&
                  set_essiv(cipher, vector + strlen("essiv:"), key, key_size));
    cipher->number_size = strcmp(vector, "plain") ? 8 : 4;
    for (int encrypt = 0; known && encrypt < 2; encrypt++) {
        cipher->data[encrypt] = new_context(find_algorithm(xts, key_size), key, encrypt);
        known = cipher->data[encrypt] != NULL;
    }
    if (known)
        return cipher;
    crypto_free(cipher);
    return NULL;
}

static int run(Cipher *cipher, bool encrypt, uint64_t sector, uint8_t *data, size_t size)
{
    EVP_CIPHER_CTX *context = cipher->data[encrypt];
    int length;
    for (size_t at = 0; at < size; at += CIPHER_SECTOR, sector++) {
        uint8_t vector[16] = {0};
        store_le64(vector, cipher->number_size == 4 ? (uint32_t)sector : sector);
        if (cipher->essiv && !EVP_CipherUpdate(cipher->essiv, vector, &length, vector, 16))
            return -EIO;
        if (!EVP_CipherInit_ex(context, NULL, NULL, NULL, vector, encrypt) ||
            !EVP_CipherUpdate(context, data + at, &length, data + at, CIPHER_SECTOR))
            return -EIO;
    }
    return 0;
}

static int crypto_encrypt(Cipher *cipher, uint64_t sector, uint8_t *data, size_t size)
{
    return run(cipher, true, sector, data, size);
}

static int crypto_decrypt(Cipher *cipher, uint64_t sector, uint8_t *data, size_t size)
{
    return run(cipher, false, sector, data, size);
}

/* ---- hashes ---------------------------------------------------------------------------------- */

G_STATIC_ASSERT(CRYPTO_HASH_MAX >= EVP_MAX_MD_SIZE);

static uint32_t hash_size(const char *name)
{
    const EVP_MD *md = EVP_get_digestbyname(name);
    return md ? (uint32_t)EVP_MD_get_size(md) : 0;
}

static bool hash(const char *name, const void *data, size_t size, uint8_t *ret)
{
    return EVP_Digest(data, size, ret, NULL, EVP_get_digestbyname(name), NULL) == 1;
}

static bool derive(const char *name, const CryptoSecret *secret, uint32_t iterations, uint8_t *key,
                   size_t size)
{
    return PKCS5_PBKDF2_HMAC(secret->data, (int)secret->size, secret->salt, (int)secret->salt_size,
                             (int)iterations, EVP_get_digestbyname(name), (int)size, key) == 1;
}

static bool fill_randomly(void *data, size_t size)
{
    return RAND_bytes(data, (int)size) == 1;
}

static const CryptoApi api = {
    crypto_new, crypto_free, crypto_encrypt, crypto_decrypt, hash_size, hash, derive, fill_randomly,
};
OSPITE_MODULE(&api);
