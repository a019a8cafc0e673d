/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Tables of an image (blocks of one size, by their offset in the file) in memory, of which the
 * least used leave when there are too many.
 *
 * A block that was changed stays until table_cache_write(). When only such blocks are left,
 * `clean` is asked to make them durable in the order the format needs. Pointers to blocks are good
 * for the next three calls of table_cache_get() on the same cache.
 *
 * Threads: as the format that owns it.
 */
#pragma once

#include "block/host_file.h"

typedef struct TableCache TableCache;

TableCache *table_cache_new(HostFile *file, size_t block_size, size_t max_bytes,
                            int (*clean)(void *obj), void *obj);
void table_cache_free(TableCache *cache);
/* The block at `offset`; with `cached` -EAGAIN rather than a read. */
int table_cache_get(TableCache *cache, uint64_t offset, bool cached, uint8_t **ret_block);
/* A new block of zeros, changed. */
int table_cache_add(TableCache *cache, uint64_t offset, uint8_t **ret_block);
/* The block that was got last was changed. */
void table_cache_mark(TableCache *cache, const uint8_t *block);
/* Writes what was changed; not durable. */
int table_cache_write(TableCache *cache);
bool table_cache_is_dirty(const TableCache *cache);
/* Forgets a block that is no table any more. */
void table_cache_drop(TableCache *cache, uint64_t offset);
/* Forgets everything, changes too. */
void table_cache_clear(TableCache *cache);
