/* SPDX-License-Identifier: GPL-3.0-or-later */
/* How MBR and GPT lie on the disk, for the two files that read and change them. */
#pragma once

#include <zlib.h>

#include "block/partition.h"

#define SECTOR 512

/* The MBR: | code 446 | 4 entries | 55 aa |. An entry: */
#define M_TABLE 446
#define M_ENTRY 16
enum { M_TYPE = 4, M_LAST_CHS = 5, M_START = 8, M_COUNT = 12 };

/* GPT's header, and an entry of its table. */
enum {
    G_LENGTH = 12,
    G_CRC = 16,
    G_SELF = 24,
    G_OTHER = 32,
    G_LAST_USABLE = 48,
    G_ENTRIES = 72,
    G_COUNT = 80,
    G_ENTRY_SIZE = 84,
    G_ENTRIES_CRC = 88,
};
enum { E_FIRST = 32, E_LAST = 40, E_NAME = 56 };

typedef struct GptHeader {
    uint8_t sector[SECTOR]; /* with a CRC of 0 */
    uint64_t entries_at;    /* sectors */
    uint64_t bytes;         /* of all entries, whole sectors */
    uint32_t count, entry_size;
} GptHeader;

static inline uint32_t crc32_ieee(const uint8_t *data, size_t size)
{
    return (uint32_t)crc32(0, data, (uInt)size);
}

bool partition_is_extended(uint8_t type);
/* A header that is whole and its entries (free them); -ENOENT when there is none at `at`. */
int gpt_read(Image *image, uint64_t at, GptHeader *header, uint8_t **ret_entries);
