/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Reading partition tables; see partition.h. UEFI 2.10 §5.3 has GPT. */
#include "block/partition.h"

#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "block/partition_table.h"

/* Chains of extended partitions that are longer are taken for loops. */
#define MAX_LOGICAL 128

typedef struct TypeName {
    uint8_t mbr;
    const char *guid, *name;
} TypeName;

static const TypeName type_names[] = {
    {0x01, "", "FAT12"},
    {0x04, "", "FAT16"},
    {0x05, "", "extended"},
    {0x06, "", "FAT16"},
    {0x07, "", "NTFS or exFAT"},
    {0x0b, "", "FAT32"},
    {0x0c, "", "FAT32"},
    {0x0e, "", "FAT16"},
    {0x0f, "", "extended"},
    {0x82, "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f", "Linux swap"},
    {0x83, "0fc63daf-8483-4772-8e79-3d69d8477de4", "Linux"},
    {0x8e, "e6d6d379-f507-44c2-a23c-238f2a3df928", "Linux LVM"},
    {0xa5, "516e7cb4-6ecf-11d6-8ff8-00022d09712b", "FreeBSD"},
    {0xee, "", "GPT"},
    {0xef, "c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "EFI system"},
    {0xfd, "a19d880f-05fc-4d3b-a006-743f0f84911e", "Linux RAID"},
    {0, "21686148-6449-6e6f-744e-656564454649", "BIOS boot"},
    {0, "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7", "Windows data"},
    {0, "e3c9e316-0b5c-4db8-817d-f92df00215ae", "Windows reserved"},
    {0, "de94bba4-06d1-4d40-a16a-bfd50179d6ac", "Windows recovery"},
    {0, "4f68bce3-e8cd-4db1-96e7-fbcaf984b709", "Linux root"},
    {0, "933ac7e1-2eb4-4f13-b844-0e14e2aef915", "Linux home"},
};

bool partition_is_container(const Partition *p)
{
    return !p->guid[0] && (p->mbr_type == 0x05 || p->mbr_type == 0x0f || p->mbr_type == 0x85);
}

const char *partition_type_name(const Partition *p)
{
    for (size_t i = 0; i < G_N_ELEMENTS(type_names); i++) {
        const TypeName *t = &type_names[i];
        if (p->guid[0] ? !strcmp(t->guid, p->guid) : t->mbr && t->mbr == p->mbr_type)
            return t->name;
    }
    return NULL;
}

static void partition_free(gpointer obj)
{
    Partition *p = obj;
    g_free(p->name);
    g_free(p);
}

void partition_table_clear(PartitionTable *table)
{
    g_clear_pointer(&table->partitions, g_ptr_array_unref);
}

/* Only what lies inside the disk. */
static Partition *add(PartitionTable *t, const Image *image, uint64_t start, uint64_t sectors)
{
    uint64_t end = image->map->size / SECTOR;
    if (!sectors || start >= end)
        return NULL;
    Partition *p = g_new0(Partition, 1);
    p->start = start * SECTOR;
    p->size = MIN(sectors, end - start) * SECTOR;
    g_ptr_array_add(t->partitions, p);
    return p;
}

/* ---- MBR ------------------------------------------------------------------------------------- */

bool partition_is_extended(uint8_t type)
{
    return type == 0x05 || type == 0x0f || type == 0x85;
}

static Partition *add_entry(PartitionTable *t, const Image *image, const uint8_t *e, uint64_t entry,
                            uint64_t base)
{
    Partition *p =
        e[M_TYPE] ? add(t, image, base + load_le32(e + M_START), load_le32(e + M_COUNT)) : NULL;
    if (p) {
        p->active = e[0] == 0x80;
        p->mbr_type = e[M_TYPE];
        p->entry = entry;
        p->table = base;
    }
    return p;
}

/* Each logical partition has a sector with its own entry and one that leads to the next. */
static int read_logical(Image *image, PartitionTable *t, uint64_t extended)
{
    uint64_t at = extended;
    uint8_t sector[SECTOR];
    for (unsigned n = 0; n < MAX_LOGICAL && at < image->map->size / SECTOR; n++) {
        int result = image_read(image, at * SECTOR, sector, SECTOR);
        if (result || load_le16(sector + 510) != 0xaa55)
            return result;
        Partition *p = add_entry(t, image, sector + M_TABLE, at * SECTOR + M_TABLE, at);
        if (p) {
            p->number = 5 + n;
            p->logical = true;
        }
        const uint8_t *next = sector + M_TABLE + M_ENTRY;
        uint64_t to = extended + load_le32(next + M_START);
        if (!partition_is_extended(next[M_TYPE]) || to <= at)
            return 0;
        at = to;
    }
    return 0;
}

static int read_mbr(Image *image, PartitionTable *t, const uint8_t *sector)
{
    int result = 0;
    for (unsigned i = 0; i < 4 && !result; i++) {
        const uint8_t *e = sector + M_TABLE + i * M_ENTRY;
        Partition *p = add_entry(t, image, e, M_TABLE + i * M_ENTRY, 0);
        if (p)
            p->number = i + 1;
        if (p && partition_is_extended(e[M_TYPE]))
            result = read_logical(image, t, load_le32(e + M_START));
    }
    return result;
}

/* A file system's boot sector ends in 55 AA, too: its "entries" are not like a table's. */
static bool is_mbr(const uint8_t *sector)
{
    bool any = false;
    for (unsigned i = 0; i < 4; i++) {
        const uint8_t *e = sector + M_TABLE + i * M_ENTRY;
        if (e[0] & 0x7f || (e[M_TYPE] && (!load_le32(e + M_START) || !load_le32(e + M_COUNT))))
            return false;
        any = any || e[M_TYPE];
    }
    return any;
}

/* ---- GPT ------------------------------------------------------------------------------------- */

/* The first three fields are little-endian. */
static void guid_text(const uint8_t *g, char text[37])
{
    g_snprintf(text, 37, "%08x-%04x-%04x-%02x%02x-%02x%02x%02x%02x%02x%02x", load_le32(g),
               load_le16(g + 4), load_le16(g + 6), g[8], g[9], g[10], g[11], g[12], g[13], g[14],
               g[15]);
}

int gpt_read(Image *image, uint64_t at, GptHeader *h, uint8_t **ret_entries)
{
    uint64_t sectors = image->map->size / SECTOR;
    if (at >= sectors)
        return -ENOENT;
    int result = image_read(image, at * SECTOR, h->sector, SECTOR);
    if (result)
        return result;
    uint32_t length = load_le32(h->sector + G_LENGTH), crc = load_le32(h->sector + G_CRC);
    if (memcmp(h->sector, "EFI PART", 8) || length < 92 || length > SECTOR)
        return -ENOENT;
    store_le32(h->sector + G_CRC, 0);
    if (crc32_ieee(h->sector, length) != crc)
        return -ENOENT;
    h->entries_at = load_le64(h->sector + G_ENTRIES);
    h->count = load_le32(h->sector + G_COUNT);
    h->entry_size = load_le32(h->sector + G_ENTRY_SIZE);
    if (h->count > 1024 || h->entry_size < 128 || h->entry_size > 1024 || h->entry_size % 128)
        return -ENOENT;
    h->bytes = align_up((uint64_t)h->count * h->entry_size, SECTOR);
    if (h->entries_at >= sectors || h->bytes > (sectors - h->entries_at) * SECTOR)
        return -ENOENT;
    g_autofree uint8_t *entries = g_malloc0(MAX(h->bytes, SECTOR));
    result = image_read(image, h->entries_at * SECTOR, entries, h->bytes);
    if (!result &&
        crc32_ieee(entries, h->count * h->entry_size) != load_le32(h->sector + G_ENTRIES_CRC))
        result = -ENOENT;
    if (!result)
        *ret_entries = g_steal_pointer(&entries);
    return result;
}

static int read_gpt(Image *image, PartitionTable *t)
{
    static const uint8_t none[16];
    g_autofree uint8_t *entries = NULL;
    GptHeader h;
    int result = gpt_read(image, 1, &h, &entries);
    if (result == -ENOENT) /* the second header is for this */
        result = gpt_read(image, image->map->size / SECTOR - 1, &h, &entries);
    for (uint32_t i = 0; !result && i < h.count; i++) {
        const uint8_t *e = entries + (size_t)i * h.entry_size;
        uint64_t first = load_le64(e + E_FIRST), last = load_le64(e + E_LAST);
        Partition *p = memcmp(e, none, 16) && last >= first && last < UINT64_MAX
                           ? add(t, image, first, last - first + 1)
                           : NULL;
        if (!p)
            continue;
        p->number = i + 1;
        p->entry = i;
        guid_text(e, p->guid);
        gunichar2 name[36];
        for (unsigned k = 0; k < 36; k++)
            name[k] = load_le16(e + E_NAME + 2 * k);
        p->name = name[0] ? g_utf16_to_utf8(name, 36, NULL, NULL, NULL) : NULL;
    }
    return result;
}

int partition_table_read(Image *image, PartitionTable *t)
{
    uint8_t sector[SECTOR];
    *t = (PartitionTable){PARTITIONS_NONE, g_ptr_array_new_with_free_func(partition_free)};
    int result = image->map->size >= 2 * SECTOR ? image_read(image, 0, sector, SECTOR) : -ENOENT;
    if (result || load_le16(sector + 510) != 0xaa55 || !is_mbr(sector))
        return result == -ENOENT ? 0 : result;
    bool protects = false;
    for (unsigned i = 0; i < 4; i++)
        protects = protects || sector[M_TABLE + i * M_ENTRY + M_TYPE] == 0xee;
    if (protects) {
        t->scheme = PARTITIONS_GPT;
        result = read_gpt(image, t);
        if (result != -ENOENT)
            return result;
    }
    t->scheme = PARTITIONS_MBR;
    return read_mbr(image, t, sector);
}
