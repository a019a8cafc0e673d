/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Hostile partition tables: the input is a raw disk in parts, whose first byte says how large it is
 * and whether GPT's checksums are made right. Then it grows, and its last partition with it: no
 * other one may change, and every one lies inside the disk.
 */
#include "block/image_fuzz.h"
#include "block/partition_table.h"

enum { SEALED = 1, LARGE = 2, GROWS_FAR = 4 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The header at a sector, and the entries that it names, get the checksums that fit. */
static void seal_header(int fd, uint64_t at, uint64_t disk_size)
{
    uint8_t h[SECTOR] = {0};
    if (pread(fd, h, sizeof(h), (off_t)(at * SECTOR)) < 0 || memcmp(h, "EFI PART", 8))
        return;
    uint64_t place = load_le64(h + G_ENTRIES);
    uint64_t bytes = (uint64_t)load_le32(h + G_COUNT) * load_le32(h + G_ENTRY_SIZE);
    if (bytes <= MIB(1) && place < disk_size / SECTOR) {
        g_autofree uint8_t *entries = g_malloc0(bytes + 1);
        if (pread(fd, entries, bytes, (off_t)(place * SECTOR)) >= 0)
            store_le32(h + G_ENTRIES_CRC, crc32_ieee(entries, bytes));
    }
    store_le32(h + G_CRC, 0);
    store_le32(h + G_CRC, crc32_ieee(h, MIN(load_le32(h + G_LENGTH), SECTOR)));
    fuzz_put(fd, h, sizeof(h), at * SECTOR);
}

static void expect_inside(const PartitionTable *t, const Image *image)
{
    for (guint i = 0; i < t->partitions->len; i++) {
        const Partition *p = t->partitions->pdata[i];
        g_assert(p->number > 0 && p->size > 0 && p->start < image->map->size);
        g_assert(p->size <= image->map->size - p->start);
        g_assert(t->scheme == PARTITIONS_GPT ? p->guid[0] != 0 : p->mbr_type != 0);
    }
}

static const Partition *find(const PartitionTable *t, const Partition *wanted)
{
    for (guint i = 0; i < t->partitions->len; i++) {
        const Partition *p = t->partitions->pdata[i];
        if (p->entry == wanted->entry && p->table == wanted->table && p->number == wanted->number)
            return p;
    }
    return NULL;
}

/* A table that says what cannot be may have said it of its own sectors. */
static bool is_sane(const PartitionTable *t, uint64_t size)
{
    uint64_t begin = t->scheme == PARTITIONS_GPT ? 34 * SECTOR : SECTOR;
    for (guint i = 0; i < t->partitions->len; i++) {
        const Partition *p = t->partitions->pdata[i];
        if (p->start < begin || p->start + p->size >= size)
            return false;
        for (guint j = 0; j < i; j++) {
            const Partition *q = t->partitions->pdata[j];
            bool apart = p->start >= q->start + q->size || q->start >= p->start + p->size;
            bool inside = p->logical && partition_is_container(q) && p->start > q->start &&
                          p->start + p->size <= q->start + q->size;
            if (!apart && !inside)
                return false;
        }
    }
    return true;
}

static void expect_grown(const PartitionTable *before, const PartitionTable *after, unsigned number)
{
    g_assert(before->scheme == after->scheme);
    g_assert(before->partitions->len == after->partitions->len);
    for (guint i = 0; i < before->partitions->len; i++) {
        const Partition *old = before->partitions->pdata[i], *now = find(after, old);
        bool may_grow = old->number == number || partition_is_container(old);
        g_assert(now && now->start == old->start && now->mbr_type == old->mbr_type);
        g_assert(may_grow ? now->size >= old->size : now->size == old->size);
    }
}

static void grow(Image *image, const PartitionTable *before, uint64_t new_size)
{
    PartitionTable between = {0}, after = {0};
    unsigned number;
    uint64_t old_size = image->map->size;
    bool sane = is_sane(before, old_size);
    g_assert(image_resize(image, new_size, NULL));
    /* What the larger disk shows anew */
    bool same = partition_table_read(image, &between) == 0 && between.scheme == before->scheme &&
                between.partitions->len == before->partitions->len;
    bool grown = partition_grow_last(image, old_size, &number, NULL);
    if (partition_table_read(image, &after) == 0) {
        expect_inside(&after, image);
        if (sane && same && grown)
            expect_grown(before, &after, number);
    }
    partition_table_clear(&between);
    partition_table_clear(&after);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    PartitionTable table = {0};
    ImageOptions options = {.format = "raw"};
    if (size < 2)
        return 0;
    int fd = fuzz_new_file(path);
    uint64_t disk_size = data[0] & LARGE ? FUZZ_FILE_MAX : KIB(64) + 3 * SECTOR;
    fuzz_put_parts(fd, data + 1, size - 1);
    g_assert(ftruncate(fd, (off_t)disk_size) == 0);
    if (data[0] & SEALED) {
        seal_header(fd, 1, disk_size);
        seal_header(fd, disk_size / SECTOR - 1, disk_size);
    }
    g_autoptr(Image) image = image_open(path, &options, NULL);
    g_assert(image);
    if (partition_table_read(image, &table) == 0) {
        expect_inside(&table, image);
        grow(image, &table, data[0] & GROWS_FAR ? UINT64_C(3) << 40 : disk_size + MIB(1));
    }
    partition_table_clear(&table);
    g_clear_pointer(&image, image_close);
    close(fd);
    return 0;
}
