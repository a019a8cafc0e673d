/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The partitions of a disk: MBR with logical ones, and GPT. What the tables say is checked against
 * the disk: a partition that is returned lies inside it.
 *
 * Threads: the image's.
 */
#pragma once

#include "block/image.h"

typedef enum PartitionScheme { PARTITIONS_NONE, PARTITIONS_MBR, PARTITIONS_GPT } PartitionScheme;

typedef struct Partition {
    unsigned number;      /* as Linux counts: logical ones from 5 */
    uint64_t start, size; /* bytes */
    bool active;          /* MBR: the BIOS boots it */
    bool logical;
    uint8_t mbr_type;
    char guid[37];  /* GPT: of the type, else "" */
    char *name;     /* GPT; NULL: none */
    uint64_t entry; /* where the disk has its table entry: bytes … */
    uint64_t table; /* … and MBR: the sector that its start counts from */
} Partition;

typedef struct PartitionTable {
    PartitionScheme scheme;
    GPtrArray *partitions; /* Partition * */
} PartitionTable;

/* 0 or a negative errno. A disk without a table has scheme NONE. */
int partition_table_read(Image *image, PartitionTable *ret_table);
void partition_table_clear(PartitionTable *table);
/* What people call the type: "Linux", "EFI system"; NULL: unknown. */
const char *partition_type_name(const Partition *partition);
/* It holds logical partitions. */
bool partition_is_container(const Partition *partition);

/*
 * After the disk grew from `old_size`: moves GPT's second header to the new end, extends the
 * partition that lies last, and puts the number of heads right in boot sectors of FAT and NTFS when
 * the BIOS geometry changed. Flushes. `ret_number` is the partition's, 0: there is none.
 */
bool partition_grow_last(Image *image, uint64_t old_size, unsigned *ret_number, GError **error);
