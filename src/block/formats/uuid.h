/* SPDX-License-Identifier: GPL-3.0-or-later */
/* UUIDs as images keep them: 16 bytes, of which the first three numbers are in some byte order. */
#pragma once

#include "base/bits.h"

typedef struct Uuid {
    uint8_t bytes[16];
} Uuid;

static inline Uuid uuid_random(void)
{
    Uuid u;
    for (int i = 0; i < 16; i += 4)
        store_le32(u.bytes + i, g_random_int());
    u.bytes[7] = (uint8_t)((u.bytes[7] & 0x0f) | 0x40); /* version 4, as VDI and Windows order */
    u.bytes[8] = (uint8_t)((u.bytes[8] & 0x3f) | 0x80);
    return u;
}

static inline Uuid uuid_load(const uint8_t *from)
{
    Uuid u;
    memcpy(u.bytes, from, sizeof(u.bytes));
    return u;
}

static inline bool uuid_equal(Uuid a, Uuid b)
{
    return memcmp(a.bytes, b.bytes, sizeof(a.bytes)) == 0;
}

static inline bool uuid_is_null(Uuid u)
{
    return uuid_equal(u, (Uuid){{0}});
}

/* The text of one whose first three numbers are little-endian. */
static inline char *uuid_text_le(Uuid u)
{
    const uint8_t *b = u.bytes;
    return g_strdup_printf("%08x-%04x-%04x-%02x%02x-%02x%02x%02x%02x%02x%02x", load_le32(b),
                           load_le16(b + 4), load_le16(b + 6), b[8], b[9], b[10], b[11], b[12],
                           b[13], b[14], b[15]);
}

/* The reverse; false: it is no UUID. */
static inline bool uuid_parse_le(const char *text, Uuid *ret_uuid)
{
    if (!g_uuid_string_is_valid(text))
        return false;
    uint8_t *b = ret_uuid->bytes;
    int n = 0;
    for (const char *at = text; n < 16; at += 2) {
        at += *at == '-';
        b[n++] = (uint8_t)(g_ascii_xdigit_value(at[0]) << 4 | g_ascii_xdigit_value(at[1]));
    }
    store_le32(b, load_be32(b));
    store_le16(b + 4, load_be16(b + 4));
    store_le16(b + 6, load_be16(b + 6));
    return true;
}
