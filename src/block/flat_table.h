/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A table that is kept whole in memory, in the file's byte order, and written back by the sectors
 * that changed. Threads: as the format that owns it.
 */
#pragma once

#include "block/host_file.h"

typedef struct FlatTable {
    HostFile *file;
    uint64_t offset; /* in the file */
    size_t size;     /* bytes */
    uint8_t *data;
    uint8_t *changed; /* a flag for each 512 bytes */
    bool dirty;
} FlatTable;

/* Reads the table; `size` was checked against a limit by the caller. */
int flat_table_load(FlatTable *table, HostFile *file, uint64_t offset, size_t size);
void flat_table_clear(FlatTable *table);
/* The entry of `length` bytes at byte `at` was changed. */
void flat_table_mark(FlatTable *table, size_t at, size_t length);
/* Writes what was changed; not durable. */
int flat_table_write(FlatTable *table);
