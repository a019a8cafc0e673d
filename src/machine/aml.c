/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The AML builder. See aml.h. Invariant: bytes[open[i]] is where the PkgLength of term i goes. */
#include "machine/aml.h"

#include <string.h>

#include "base/bits.h"

enum {
    AML_ZERO = 0x00,
    AML_ONE = 0x01,
    AML_NAME = 0x08,
    AML_BYTE_PREFIX = 0x0a,
    AML_WORD_PREFIX = 0x0b,
    AML_DWORD_PREFIX = 0x0c,
    AML_STRING_PREFIX = 0x0d,
    AML_QWORD_PREFIX = 0x0e,
    AML_SCOPE = 0x10,
    AML_BUFFER = 0x11,
    AML_PACKAGE = 0x12,
    AML_METHOD = 0x14,
    AML_DUAL_NAME = 0x2e,
    AML_MULTI_NAME = 0x2f,
    AML_EXT = 0x5b,
    AML_STORE = 0x70,
    AML_RETURN = 0xa4,
    AML_EXT_REGION = 0x80,
    AML_EXT_FIELD = 0x81,
    AML_EXT_DEVICE = 0x82,
    AML_EXT_PROCESSOR = 0x83,
    AML_IF = 0xa0,
};
#define AML_MAX_SEGMENTS 8

void aml_init(Aml *aml)
{
    *aml = (Aml){.bytes = g_byte_array_new()};
}

void aml_clear(Aml *aml)
{
    g_clear_pointer(&aml->bytes, g_byte_array_unref);
}

void aml_raw(Aml *aml, const void *data, size_t size)
{
    g_byte_array_append(aml->bytes, data, size);
}

void aml_byte(Aml *aml, uint8_t byte)
{
    aml_raw(aml, &byte, 1);
}

static void aml_number(Aml *aml, uint64_t value, unsigned size)
{
    uint8_t bytes[8];

    store_le64(bytes, value);
    aml_raw(aml, bytes, size);
}

/* ---- lengths --------------------------------------------------------------------------------- */

/* PkgLength (§20.2.4) of a term with `body` bytes after it: it counts itself. */
static unsigned aml_package_length(uint8_t ret_bytes[4], size_t body)
{
    if (body + 1 < 0x40) {
        ret_bytes[0] = body + 1;
        return 1;
    }
    unsigned count = body + 2 < 0x1000 ? 2 : body + 3 < 0x100000 ? 3 : 4;
    size_t length = body + count;
    ret_bytes[0] = (count - 1) << 6 | (length & 0xf);
    for (unsigned i = 1; i < count; i++)
        ret_bytes[i] = length >> (4 + 8 * (i - 1));
    return count;
}

static void aml_open(Aml *aml)
{
    g_assert(aml->depth < AML_MAX_DEPTH);
    aml->open[aml->depth++] = aml->bytes->len;
}

static void aml_insert(Aml *aml, guint at, const uint8_t *data, unsigned size)
{
    guint tail = aml->bytes->len - at;

    g_byte_array_set_size(aml->bytes, aml->bytes->len + size);
    memmove(aml->bytes->data + at + size, aml->bytes->data + at, tail);
    memcpy(aml->bytes->data + at, data, size);
}

void aml_close(Aml *aml)
{
    uint8_t length[4];

    g_assert(aml->depth > 0);
    guint at = aml->open[--aml->depth];
    aml_insert(aml, at, length, aml_package_length(length, aml->bytes->len - at));
}

/* ---- names and data -------------------------------------------------------------------------- */

void aml_name_string(Aml *aml, const char *name)
{
    while (*name == '\\' || *name == '^')
        aml_byte(aml, *name++);
    g_auto(GStrv) segments = g_strsplit(name, ".", AML_MAX_SEGMENTS);
    guint count = g_strv_length(segments);

    if (count == 0)
        aml_byte(aml, AML_ZERO);
    else if (count == 2)
        aml_byte(aml, AML_DUAL_NAME);
    else if (count > 2) {
        aml_byte(aml, AML_MULTI_NAME);
        aml_byte(aml, count);
    }
    for (guint i = 0; i < count; i++) {
        char padded[4] = {'_', '_', '_', '_'};
        g_assert(*segments[i] && strlen(segments[i]) <= sizeof(padded));
        memcpy(padded, segments[i], strlen(segments[i]));
        aml_raw(aml, padded, sizeof(padded));
    }
}

void aml_integer(Aml *aml, uint64_t value)
{
    if (value <= 1) {
        aml_byte(aml, value ? AML_ONE : AML_ZERO);
    } else if (value <= UINT8_MAX) {
        aml_byte(aml, AML_BYTE_PREFIX);
        aml_number(aml, value, 1);
    } else if (value <= UINT16_MAX) {
        aml_byte(aml, AML_WORD_PREFIX);
        aml_number(aml, value, 2);
    } else if (value <= UINT32_MAX) {
        aml_byte(aml, AML_DWORD_PREFIX);
        aml_number(aml, value, 4);
    } else {
        aml_byte(aml, AML_QWORD_PREFIX);
        aml_number(aml, value, 8);
    }
}

void aml_string(Aml *aml, const char *text)
{
    aml_byte(aml, AML_STRING_PREFIX);
    aml_raw(aml, text, strlen(text) + 1);
}

/* Three letters of five bits and four hexadecimal digits, stored big-endian (§19.6.37). */
void aml_eisa_id(Aml *aml, const char *id)
{
    uint8_t bytes[4];

    g_assert(strlen(id) == 7);
    uint32_t value = (uint32_t)(id[0] - 0x40) << 26 | (uint32_t)(id[1] - 0x40) << 21 |
                     (uint32_t)(id[2] - 0x40) << 16 | (uint32_t)g_ascii_strtoull(id + 3, NULL, 16);
    store_be32(bytes, value);
    aml_byte(aml, AML_DWORD_PREFIX);
    aml_raw(aml, bytes, sizeof(bytes));
}

/* ---- terms ----------------------------------------------------------------------------------- */

void aml_open_scope(Aml *aml, const char *name)
{
    aml_byte(aml, AML_SCOPE);
    aml_open(aml);
    aml_name_string(aml, name);
}

void aml_open_device(Aml *aml, const char *name)
{
    aml_byte(aml, AML_EXT);
    aml_byte(aml, AML_EXT_DEVICE);
    aml_open(aml);
    aml_name_string(aml, name);
}

/* Serialized: every method here is short and none calls itself. */
void aml_open_method(Aml *aml, const char *name, unsigned arg_count)
{
    aml_byte(aml, AML_METHOD);
    aml_open(aml);
    aml_name_string(aml, name);
    aml_byte(aml, arg_count | 0x08);
}

void aml_open_processor(Aml *aml, const char *name, uint8_t id)
{
    aml_byte(aml, AML_EXT);
    aml_byte(aml, AML_EXT_PROCESSOR);
    aml_open(aml);
    aml_name_string(aml, name);
    aml_byte(aml, id);
    aml_number(aml, 0, 4); /* P_BLK address and length: none */
    aml_byte(aml, 0);
}

void aml_open_if(Aml *aml)
{
    aml_byte(aml, AML_IF);
    aml_open(aml);
}

void aml_open_package(Aml *aml, unsigned count)
{
    aml_byte(aml, AML_PACKAGE);
    aml_open(aml);
    aml_byte(aml, count);
}

void aml_open_resources(Aml *aml)
{
    aml_byte(aml, AML_BUFFER);
    aml_open(aml);
    aml_open(aml); /* where BufferSize goes */
}

void aml_close_resources(Aml *aml)
{
    static const uint8_t end_tag[] = {0x79, 0x00};
    uint8_t size[3] = {AML_WORD_PREFIX};

    aml_raw(aml, end_tag, sizeof(end_tag));
    g_assert(aml->depth >= 2);
    guint at = aml->open[--aml->depth];
    store_le16(size + 1, aml->bytes->len - at);
    aml_insert(aml, at, size, sizeof(size));
    aml_close(aml);
}

void aml_name(Aml *aml, const char *name)
{
    aml_byte(aml, AML_NAME);
    aml_name_string(aml, name);
}

void aml_name_integer(Aml *aml, const char *name, uint64_t value)
{
    aml_name(aml, name);
    aml_integer(aml, value);
}

void aml_name_string_value(Aml *aml, const char *name, const char *text)
{
    aml_name(aml, name);
    aml_string(aml, text);
}

void aml_name_eisa_id(Aml *aml, const char *name, const char *id)
{
    aml_name(aml, name);
    aml_eisa_id(aml, id);
}

void aml_return(Aml *aml)
{
    aml_byte(aml, AML_RETURN);
}

void aml_store(Aml *aml)
{
    aml_byte(aml, AML_STORE);
}

void aml_operation_region(Aml *aml, const char *name, uint8_t space, uint32_t offset,
                          uint32_t length)
{
    aml_byte(aml, AML_EXT);
    aml_byte(aml, AML_EXT_REGION);
    aml_name_string(aml, name);
    aml_byte(aml, space);
    aml_integer(aml, offset);
    aml_integer(aml, length);
}

void aml_field(Aml *aml, const char *region, const AmlField *fields, size_t count)
{
    aml_byte(aml, AML_EXT);
    aml_byte(aml, AML_EXT_FIELD);
    aml_open(aml);
    aml_name_string(aml, region);
    aml_byte(aml, 1); /* ByteAcc, NoLock, Preserve */
    for (size_t i = 0; i < count; i++) {
        g_assert(fields[i].bits <
                 0x40); /* one byte of PkgLength, which here does not count itself */
        aml_name_string(aml, fields[i].name);
        aml_byte(aml, fields[i].bits);
    }
    aml_close(aml);
}

/* ---- resources ------------------------------------------------------------------------------- */

void aml_io(Aml *aml, uint16_t base, uint8_t length)
{
    aml_byte(aml, 0x47);
    aml_byte(aml, 1); /* decodes 16 bits */
    aml_number(aml, base, 2);
    aml_number(aml, base, 2);
    aml_byte(aml, 1); /* alignment */
    aml_byte(aml, length);
}

void aml_irq_no_flags(Aml *aml, unsigned irq)
{
    aml_byte(aml, 0x22);
    aml_number(aml, 1u << irq, 2);
}

void aml_dma(Aml *aml, unsigned channel)
{
    aml_byte(aml, 0x2a);
    aml_byte(aml, 1u << channel);
    aml_byte(aml, 0); /* compatibility timing, 8 bits */
}

void aml_memory32_fixed(Aml *aml, bool writable, uint32_t base, uint32_t length)
{
    aml_byte(aml, 0x86);
    aml_number(aml, 9, 2);
    aml_byte(aml, writable);
    aml_number(aml, base, 4);
    aml_number(aml, length, 4);
}

void aml_interrupts(Aml *aml, const uint32_t *numbers, uint8_t count)
{
    aml_byte(aml, 0x89);
    aml_number(aml, 2 + 4 * count, 2);
    aml_byte(aml, 0x09); /* consumer, level, active high, shared */
    aml_byte(aml, count);
    for (unsigned i = 0; i < count; i++)
        aml_number(aml, numbers[i], 4);
}

void aml_window(Aml *aml, AmlWindow kind, unsigned bits, uint64_t first, uint64_t last)
{
    unsigned size = bits / 8;
    /* I/O: entire range; memory: writable, cacheability as the kind of BAR. */
    uint8_t specific = kind == AML_WINDOW_IO ? 0x03 : kind == AML_WINDOW_MEMORY ? 0x01 : 0x00;

    aml_byte(aml, bits == 16 ? 0x88 : bits == 32 ? 0x87 : 0x8a);
    aml_number(aml, 3 + 5 * size, 2);
    aml_byte(aml, kind);
    aml_byte(aml, 0x0c); /* producer, positive decode, fixed minimum and maximum */
    aml_byte(aml, specific);
    aml_number(aml, 0, size); /* granularity */
    aml_number(aml, first, size);
    aml_number(aml, last, size);
    aml_number(aml, 0, size); /* translation */
    aml_number(aml, last - first + 1, size);
}
