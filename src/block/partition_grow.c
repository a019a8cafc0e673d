/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Growing the last partition with its disk; see partition.h. */
#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "block/partition_table.h"

static const Partition *last_of(const PartitionTable *t)
{
    const Partition *last = NULL;
    for (guint i = 0; i < t->partitions->len; i++) {
        const Partition *p = t->partitions->pdata[i];
        bool holds_others = !p->guid[0] && partition_is_extended(p->mbr_type);
        if (!holds_others && (!last || p->start > last->start))
            last = p;
    }
    return last;
}

/* ---- MBR ------------------------------------------------------------------------------------- */

/* Makes the entry at `entry`, whose start counts from `base`, reach to sector `end`. */
static int stretch_entry(Image *image, uint64_t entry, uint64_t base, uint64_t end)
{
    uint8_t sector[SECTOR], *e = sector + entry % SECTOR;
    int result = image_read(image, entry - entry % SECTOR, sector, SECTOR);
    uint64_t count = end - base - load_le32(e + M_START);
    if (result)
        return result;
    store_le32(e + M_COUNT, (uint32_t)MIN(count, UINT32_MAX));
    memcpy(e + M_LAST_CHS, "\xfe\xff\xff", 3); /* beyond what CHS can say */
    return image_write(image, entry - entry % SECTOR, sector, SECTOR);
}

/* The entry in the chain that leads to the table of a logical partition counts from the first. */
static int stretch_links(Image *image, const PartitionTable *t, const Partition *last, uint64_t end)
{
    const Partition *outer = NULL, *before = NULL;
    for (guint i = 0; i < t->partitions->len; i++) {
        const Partition *p = t->partitions->pdata[i];
        if (!p->logical && partition_is_extended(p->mbr_type) && p->start <= last->start)
            outer = p;
        if (p->logical && p->table < last->table && (!before || p->table > before->table))
            before = p;
    }
    int result = outer ? stretch_entry(image, outer->entry, 0, end) : -EINVAL;
    if (!result && before)
        result = stretch_entry(image, before->table * SECTOR + M_TABLE + M_ENTRY,
                               outer->start / SECTOR, end);
    return result;
}

static int grow_mbr(Image *image, const PartitionTable *t, const Partition *last)
{
    uint64_t end = MIN(image->map->size / SECTOR, UINT32_MAX);
    int result = last->logical ? stretch_links(image, t, last, end) : 0;
    return result ? result : stretch_entry(image, last->entry, last->table, end);
}

/* ---- GPT ------------------------------------------------------------------------------------- */

static int write_header(Image *image, GptHeader *h, const uint8_t *entries, uint64_t self,
                        uint64_t other, uint64_t entries_at)
{
    uint8_t *s = h->sector;
    store_le64(s + G_SELF, self);
    store_le64(s + G_OTHER, other);
    store_le64(s + G_ENTRIES, entries_at);
    store_le32(s + G_ENTRIES_CRC, crc32_ieee(entries, h->count * h->entry_size));
    store_le32(s + G_CRC, 0);
    store_le32(s + G_CRC, crc32_ieee(s, load_le32(s + G_LENGTH)));
    int result = image_write(image, entries_at * SECTOR, entries, h->bytes);
    return result ? result : image_write(image, self * SECTOR, s, SECTOR);
}

/* The protective entry covers the disk. */
static int stretch_protection(Image *image)
{
    uint8_t sector[SECTOR];
    int result = image_read(image, 0, sector, SECTOR);
    for (unsigned i = 0; i < 4; i++) {
        uint8_t *e = sector + M_TABLE + i * M_ENTRY;
        if (e[M_TYPE] == 0xee)
            store_le32(e + M_COUNT, (uint32_t)MIN(image->map->size / SECTOR - 1, UINT32_MAX));
    }
    return result ? result : image_write(image, 0, sector, SECTOR);
}

/* One of the two headers is whole at any instant: the new second one comes first. */
static int grow_gpt(Image *image, const Partition *last, uint64_t old_size)
{
    g_autofree uint8_t *entries = NULL;
    GptHeader h;
    uint64_t end = image->map->size / SECTOR;
    int result = gpt_read(image, 1, &h, &entries);
    if (result == -ENOENT)
        result = gpt_read(image, old_size / SECTOR - 1, &h, &entries);
    if (result)
        return result;
    uint64_t first_at = h.entries_at < old_size / SECTOR / 2 ? h.entries_at : 2;
    uint64_t second_at = end - 1 - h.bytes / SECTOR, usable = second_at - 1;
    if (last) {
        uint8_t *e = entries + last->entry * h.entry_size;
        uint64_t start = load_le64(e + E_FIRST), to = usable;
        if ((to + 1) % 2048 && align_down(to + 1, 2048) > start)
            to = align_down(to + 1, 2048) - 1; /* partitions end at whole MiB */
        store_le64(e + E_LAST, MAX(to, load_le64(e + E_LAST)));
    }
    store_le64(h.sector + G_LAST_USABLE, usable);
    result = write_header(image, &h, entries, end - 1, 1, second_at);
    if (!result)
        result = image_flush(image);
    if (!result)
        result = write_header(image, &h, entries, 1, end - 1, first_at);
    return result ? result : stretch_protection(image);
}

/* ---- boot sectors ---------------------------------------------------------------------------- */

/* What a BIOS says of a disk with LBA-assisted translation. */
static unsigned bios_heads(uint64_t size)
{
    static const unsigned heads[] = {16, 32, 64, 128};
    for (size_t i = 0; i < G_N_ELEMENTS(heads); i++) {
        if (size <= UINT64_C(1024) * heads[i] * 63 * SECTOR)
            return heads[i];
    }
    return 255;
}

enum { B_HEADS = 0x1a, B_FAT32_COPY = 0x32 };

static bool is_boot_sector(const uint8_t *s)
{
    bool is_fat = !memcmp(s + 0x36, "FAT1", 4) || !memcmp(s + 0x52, "FAT32", 5);
    return load_le16(s + 510) == 0xaa55 && (is_fat || !memcmp(s + 3, "NTFS    ", 8));
}

static int mend_sector(Image *image, uint64_t at, unsigned old, unsigned new, uint8_t *sector)
{
    int result = image_read(image, at, sector, SECTOR);
    if (result || !is_boot_sector(sector) || load_le16(sector + B_HEADS) != old)
        return result ? result : -ENOENT;
    store_le16(sector + B_HEADS, (uint16_t) new);
    return image_write(image, at, sector, SECTOR);
}

/* Heads of file systems that say what the BIOS said of the old disk. */
static int mend_boot_sectors(Image *image, const PartitionTable *t, uint64_t old_size)
{
    unsigned old = bios_heads(old_size), new = bios_heads(image->map->size);
    for (guint i = 0; old != new &&i < t->partitions->len; i++) {
        const Partition *p = t->partitions->pdata[i];
        uint8_t sector[SECTOR], copy[SECTOR];
        int result =
            p->size >= 16 * SECTOR ? mend_sector(image, p->start, old, new, sector) : -ENOENT;
        if (!result && !memcmp(sector + 0x52, "FAT32", 5) && load_le16(sector + B_FAT32_COPY) < 16)
            result = mend_sector(image, p->start + load_le16(sector + B_FAT32_COPY) * SECTOR, old,
                                 new, copy);
        /* NTFS keeps its copy behind the last sector that the volume counts. */
        uint64_t ntfs_end = load_le64(sector + 0x28);
        if (!result && !memcmp(sector + 3, "NTFS", 4) && ntfs_end < p->size / SECTOR)
            result = mend_sector(image, p->start + ntfs_end * SECTOR, old, new, copy);
        if (result && result != -ENOENT)
            return result;
    }
    return 0;
}

bool partition_grow_last(Image *image, uint64_t old_size, unsigned *ret_number, GError **error)
{
    PartitionTable t;
    int result = partition_table_read(image, &t);
    const Partition *last = result ? NULL : last_of(&t);
    *ret_number = last ? last->number : 0;
    if (!result && t.scheme == PARTITIONS_GPT)
        result = grow_gpt(image, last, old_size);
    else if (!result && last)
        result = grow_mbr(image, &t, last);
    if (!result)
        result = mend_boot_sectors(image, &t, old_size);
    partition_table_clear(&t);
    if (!result)
        result = image_flush(image);
    return result ? format_fail_io(error, image->path, "grow the last partition of", result) : true;
}
