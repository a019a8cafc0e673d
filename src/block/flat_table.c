/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Tables that are whole in memory; see flat_table.h. */
#include "block/flat_table.h"

#define SECTOR 512

int flat_table_load(FlatTable *table, HostFile *file, uint64_t offset, size_t size)
{
    *table = (FlatTable){.file = file, .offset = offset, .size = size};
    table->data = g_malloc0(size + 1);
    table->changed = g_malloc0(size / SECTOR + 1);
    return host_file_read(file, offset, table->data, size);
}

void flat_table_clear(FlatTable *table)
{
    g_clear_pointer(&table->data, g_free);
    g_clear_pointer(&table->changed, g_free);
}

void flat_table_mark(FlatTable *table, size_t at, size_t length)
{
    for (size_t i = at / SECTOR; i <= (at + length - 1) / SECTOR; i++)
        table->changed[i] = 1;
    table->dirty = true;
}

int flat_table_write(FlatTable *table)
{
    size_t sectors = (table->size + SECTOR - 1) / SECTOR;
    for (size_t i = 0, end; table->dirty && i < sectors; i = end + 1) {
        for (end = i; end < sectors && table->changed[end]; end++)
            ;
        if (end == i)
            continue;
        size_t at = i * SECTOR, length = MIN(end * SECTOR, table->size) - at;
        int result = host_file_write(table->file, table->offset + at, table->data + at, length);
        if (result)
            return result;
        memset(table->changed + i, 0, end - i);
    }
    table->dirty = false;
    return 0;
}
