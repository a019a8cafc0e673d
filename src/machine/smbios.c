/* SPDX-License-Identifier: GPL-3.0-or-later */
/* SMBIOS tables. See smbios.h. A structure is: type, length, handle, fields, strings, NUL. */
#include "machine/smbios.h"

#include <string.h>

#include "base/bits.h"

#define SMBIOS_ANCHOR_SIZE 31
#define SMBIOS_DIMM_MAX    GIB(16)
#define SMBIOS_PRODUCT     "Ospite PC"
#define SMBIOS_MAKER       "Ospite"

enum {
    HANDLE_BIOS = 0x000,
    HANDLE_SYSTEM = 0x100,
    HANDLE_CHASSIS = 0x300,
    HANDLE_CPU = 0x400,
    HANDLE_MEMORY_ARRAY = 0x1000,
    HANDLE_DIMM = 0x1100,
    HANDLE_MEMORY_MAP = 0x1300,
    HANDLE_BOOT = 0x2000,
    HANDLE_END = 0x7f00
};

typedef struct Smbios {
    GByteArray *bytes;
    unsigned count, largest;
    guint start; /* of the structure being built */
} Smbios;

typedef struct SmbiosField {
    uint8_t offset, size;
    uint64_t value;
} SmbiosField;

/* Starts a structure of `length` bytes with the given fields, all others zero. */
static uint8_t *smbios_begin(Smbios *s, uint8_t type, uint8_t length, uint16_t handle,
                             const SmbiosField *fields, size_t field_count)
{
    s->start = s->bytes->len;
    g_byte_array_set_size(s->bytes, s->start + length);
    uint8_t *at = s->bytes->data + s->start;
    memset(at, 0, length);
    at[0] = type;
    at[1] = length;
    store_le16(at + 2, handle);
    for (size_t i = 0; i < field_count; i++) {
        uint8_t value[8];
        store_le64(value, fields[i].value);
        memcpy(at + fields[i].offset, value, fields[i].size);
    }
    return at;
}

/* Ends it with its strings (numbered from 1 in the fields); the list ends with NULL. */
static void smbios_end(Smbios *s, const char *const *strings)
{
    static const uint8_t nul[2];

    for (unsigned i = 0; strings && strings[i]; i++)
        g_byte_array_append(s->bytes, (const uint8_t *)strings[i], strlen(strings[i]) + 1);
    g_byte_array_append(s->bytes, nul, strings && strings[0] ? 1 : 2);
    s->count++;
    s->largest = MAX(s->largest, s->bytes->len - s->start);
}

#define SMBIOS_BEGIN(s, type, length, handle, ...)                            \
    smbios_begin(s, type, length, handle, (const SmbiosField[]){__VA_ARGS__}, \
                 sizeof((const SmbiosField[]){__VA_ARGS__}) / sizeof(SmbiosField))
#define SMBIOS_END(s, ...) smbios_end(s, (const char *const[]){__VA_ARGS__, NULL})

/* SMBIOS 7.2.1: the first three fields are little-endian. */
static void smbios_put_uuid(uint8_t *to, const uint8_t *uuid)
{
    store_le32(to, load_be32(uuid));
    store_le16(to + 4, load_be16(uuid + 4));
    store_le16(to + 6, load_be16(uuid + 6));
    memcpy(to + 8, uuid + 8, 8);
}

static void smbios_add_system(Smbios *s, const SmbiosConfig *config)
{
    /* Type 0, BIOS: PCI and selectable boot (bits 7, 16), ACPI; virtual machine. */
    SMBIOS_BEGIN(s, 0, 24, HANDLE_BIOS, {4, 1, 1}, {5, 1, 2}, {6, 2, 0xe800}, {8, 1, 3},
                 {10, 8, 1 << 7 | 1 << 16}, {18, 1, 0x01}, {19, 1, 0x14}, {20, 1, 1}, {22, 1, 0xff},
                 {23, 1, 0xff});
    SMBIOS_END(s, SMBIOS_MAKER, "1.0", "01/01/2026");
    uint8_t *system = SMBIOS_BEGIN(s, 1, 27, HANDLE_SYSTEM, {4, 1, 1}, {5, 1, 2}, {6, 1, 3},
                                   {24, 1, 6} /* woken by the power switch */);
    smbios_put_uuid(system + 8, config->uuid);
    SMBIOS_END(s, SMBIOS_MAKER, SMBIOS_PRODUCT, "1.0");
    /* Type 3, chassis: other; boot-up, power and thermal state safe. */
    SMBIOS_BEGIN(s, 3, 22, HANDLE_CHASSIS, {4, 1, 1}, {5, 1, 1}, {6, 1, 2}, {9, 1, 3}, {10, 1, 3},
                 {11, 1, 3}, {12, 1, 2});
    SMBIOS_END(s, SMBIOS_MAKER, "1.0");
}

/* One socket with one core for each vCPU. */
static void smbios_add_cpus(Smbios *s, const SmbiosConfig *config)
{
    for (unsigned i = 0; i < config->cpu_count; i++) {
        g_autofree char *socket = g_strdup_printf("CPU %u", i);
        SMBIOS_BEGIN(s, 4, 42, HANDLE_CPU + i, {4, 1, 1}, {5, 1, 3} /* central processor */,
                     {6, 1, 1} /* family: other */, {7, 1, 2}, {16, 1, 3}, {20, 2, 2000},
                     {22, 2, 2000}, {24, 1, 0x41} /* populated, enabled */, {25, 1, 1},
                     {26, 2, 0xffff}, {28, 2, 0xffff}, {30, 2, 0xffff} /* no cache handles */,
                     {35, 1, 1}, {36, 1, 1}, {37, 1, 1}, {38, 2, 1 << 2} /* 64-bit */, {40, 2, 1});
        SMBIOS_END(s, socket, SMBIOS_MAKER, config->cpu_name ? config->cpu_name : "virtual");
    }
}

static void smbios_add_memory_map(Smbios *s, unsigned n, uint64_t start, uint64_t size)
{
    uint64_t last_kib = (start + size) / 1024 - 1;

    if (last_kib < UINT32_MAX)
        SMBIOS_BEGIN(s, 19, 31, HANDLE_MEMORY_MAP + n, {4, 4, start / 1024}, {8, 4, last_kib},
                     {12, 2, HANDLE_MEMORY_ARRAY}, {14, 1, 1});
    else
        SMBIOS_BEGIN(s, 19, 31, HANDLE_MEMORY_MAP + n, {4, 4, UINT32_MAX}, {8, 4, UINT32_MAX},
                     {12, 2, HANDLE_MEMORY_ARRAY}, {14, 1, 1}, {15, 8, start},
                     {23, 8, start + size - 1});
    smbios_end(s, NULL);
}

static void smbios_add_memory(Smbios *s, const SmbiosConfig *config)
{
    uint64_t total = config->low_ram + config->high_ram;
    unsigned dimms = (total + SMBIOS_DIMM_MAX - 1) / SMBIOS_DIMM_MAX;
    uint64_t kib = total / 1024;

    SMBIOS_BEGIN(s, 16, 23, HANDLE_MEMORY_ARRAY, {4, 1, 1}, {5, 1, 3} /* system memory */,
                 {6, 1, 6} /* multi-bit ECC */, {7, 4, MIN(kib, UINT64_C(0x80000000))},
                 {11, 2, 0xfffe}, {13, 2, dimms}, {15, 8, kib >= 0x80000000 ? total : 0});
    smbios_end(s, NULL);
    for (unsigned i = 0; i < dimms; i++) {
        uint64_t size = MIN(SMBIOS_DIMM_MAX, total - i * SMBIOS_DIMM_MAX);
        g_autofree char *slot = g_strdup_printf("DIMM %u", i);
        SMBIOS_BEGIN(s, 17, 40, HANDLE_DIMM + i, {4, 2, HANDLE_MEMORY_ARRAY}, {6, 2, 0xfffe},
                     {8, 2, 64}, {10, 2, 64}, {12, 2, size / MIB(1)}, {14, 1, 9} /* DIMM */,
                     {16, 1, 1}, {18, 1, 7} /* RAM */, {19, 2, 1 << 1}, {23, 1, 2});
        SMBIOS_END(s, slot, SMBIOS_MAKER);
    }
    smbios_add_memory_map(s, 0, 0, config->low_ram);
    if (config->high_ram)
        smbios_add_memory_map(s, 1, GIB(4), config->high_ram);
}

/* Entry point structure, DSP0134 §5.2.1; addresses and checksums come later. */
static GByteArray *smbios_build_anchor(const Smbios *s)
{
    uint8_t anchor[SMBIOS_ANCHOR_SIZE] = "_SM_";
    GByteArray *bytes = g_byte_array_new();

    anchor[5] = sizeof(anchor);
    anchor[6] = 2;
    anchor[7] = 8;
    store_le16(anchor + 8, s->largest);
    memcpy(anchor + 16, "_DMI_", 5);
    store_le16(anchor + 22, s->bytes->len);
    store_le16(anchor + 28, s->count);
    anchor[30] = 0x28;
    return g_byte_array_append(bytes, anchor, sizeof(anchor));
}

GByteArray *smbios_build(const SmbiosConfig *config, GByteArray **ret_anchor)
{
    Smbios s = {.bytes = g_byte_array_new()};

    smbios_add_system(&s, config);
    smbios_add_cpus(&s, config);
    smbios_add_memory(&s, config);
    SMBIOS_BEGIN(&s, 32, 11, HANDLE_BOOT, {10, 1, 0} /* no error */);
    smbios_end(&s, NULL);
    smbios_begin(&s, 127, 4, HANDLE_END, NULL, 0);
    smbios_end(&s, NULL);
    *ret_anchor = smbios_build_anchor(&s);
    smbios_set_address(*ret_anchor, 0);
    return s.bytes;
}

static void smbios_checksum(uint8_t *data, unsigned at, unsigned size)
{
    uint8_t sum = 0;

    data[at] = 0;
    for (unsigned i = 0; i < size; i++)
        sum += data[i];
    data[at] = -sum;
}

void smbios_set_address(GByteArray *anchor, uint32_t tables_address)
{
    store_le32(anchor->data + 24, tables_address);
    smbios_checksum(anchor->data + 16, 5, 15);
    smbios_checksum(anchor->data, 4, SMBIOS_ANCHOR_SIZE);
}
