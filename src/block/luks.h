/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * LUKS version 1: a header in a file that keeps the key of the data, encrypted by passphrases.
 *
 *   | header 592 | key material of slot 0 | … | of slot 7 |      (of a container: | data |)
 *
 * A slot's key material is the key, spread over 4000 stripes of which all are needed, encrypted
 * with what PBKDF2 makes of the passphrase.
 *
 * Source: "LUKS On-Disk Format Specification" 1.2.3.
 */
#pragma once

#include "block/cipher.h"
#include "block/format.h"

#define LUKS_MARK     "LUKS\xba\xbe"
#define LUKS_SLOTS    8
#define LUKS_KEY_MAX  64
#define LUKS_MATERIAL 4096 /* where the first slot's material is in headers made here */

typedef struct LuksSlot {
    bool active;
    uint32_t iterations, offset, stripes; /* offset: sectors from the header's start */
    uint8_t salt[32];
} LuksSlot;

typedef struct Luks {
    HostFile *file;
    uint64_t at, room; /* of the header in the file, and how much it may take with its material */
    char mode[33], hash[33], uuid[41];
    uint32_t payload; /* sectors */
    uint32_t key_size, digest_iterations;
    uint8_t digest[20], digest_salt[32];
    LuksSlot slots[LUKS_SLOTS];
    uint8_t key[LUKS_KEY_MAX]; /* of the data, once it is unlocked */
    bool unlocked;
} Luks;

/* How a new header is to be; names as qemu-img has them, NULL: the usual. */
typedef struct LuksPlan {
    const char *algorithm, *mode, *vector, *vector_hash, *hash;
    const char *iteration_ms;
} LuksPlan;

/* Reads and checks a header. */
bool luks_open(Luks *luks, HostFile *file, uint64_t at, uint64_t room, GError **error);
/* Finds the key of the data by a passphrase. */
bool luks_unlock(Luks *luks, GBytes *passphrase, GError **error);
void luks_clear(Luks *luks);
/* Once it is unlocked. NULL with an error. */
Cipher *luks_cipher(const Luks *luks, GError **error);

/* Fills `luks` for a plan with a new key and no slots; writes nothing. */
bool luks_plan(Luks *luks, const LuksPlan *plan, const char *path, GError **error);
/* The bytes of header and key material. */
uint64_t luks_size(const Luks *luks);
/* Writes a header that was planned, with one slot. Durable on return. */
bool luks_write(Luks *luks, HostFile *file, uint64_t at, const LuksPlan *plan, GBytes *passphrase,
                GError **error);
/* An unlocked header gets another passphrase, or loses one; durable, a crash leaves old or new. */
bool luks_add_key(Luks *luks, GBytes *passphrase, const char *iteration_ms, GError **error);
bool luks_erase_key(Luks *luks, unsigned slot, GError **error);
/* What `info` tells: a{sv} */
GVariant *luks_describe(const Luks *luks);
