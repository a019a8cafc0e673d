/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Disk encryption: AES over sectors of 512 bytes, each with an initialization vector of its number.
 *
 * Threads: one at a time for each cipher.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CIPHER_SECTOR 512

typedef struct Cipher Cipher;

/*
 * `mode` is what LUKS calls cipher-mode: "xts-plain64", "cbc-essiv:sha256", … NULL when it or the
 * size of the key is not known. The key is copied.
 */
Cipher *cipher_new(const char *mode, const uint8_t *key, size_t key_size);
/* NULL is allowed. */
void cipher_free(Cipher *cipher);
/* In place; whole sectors, the first of which has the number `sector`. 0 or -EIO. */
int cipher_encrypt(Cipher *cipher, uint64_t sector, uint8_t *data, size_t size);
int cipher_decrypt(Cipher *cipher, uint64_t sector, uint8_t *data, size_t size);
