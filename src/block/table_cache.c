/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Tables in memory; see table_cache.h. The queue is ordered by use, the newest at its head. */
#include "block/table_cache.h"

#include <errno.h>
#include <string.h>

#define KEEP_NEWEST 4

typedef struct Block {
    GList link;
    uint64_t offset;
    bool dirty;
    uint8_t data[];
} Block;

struct TableCache {
    HostFile *file;
    size_t block_size;
    unsigned max_blocks, dirty_count;
    int (*clean)(void *obj);
    void *obj;
    bool cleaning;
    GHashTable *blocks; /* &offset → Block */
    GQueue used;
};

TableCache *table_cache_new(HostFile *file, size_t block_size, size_t max_bytes,
                            int (*clean)(void *obj), void *obj)
{
    TableCache *cache = g_new0(TableCache, 1);
    cache->file = file;
    cache->block_size = block_size;
    cache->max_blocks = MAX(max_bytes / block_size, KEEP_NEWEST + 4);
    cache->clean = clean;
    cache->obj = obj;
    cache->blocks = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, g_free);
    return cache;
}

void table_cache_clear(TableCache *cache)
{
    g_queue_init(&cache->used);
    cache->dirty_count = 0;
    g_hash_table_remove_all(cache->blocks);
}

void table_cache_free(TableCache *cache)
{
    if (!cache)
        return;
    g_hash_table_unref(cache->blocks);
    g_free(cache);
}

static void remove_block(TableCache *cache, Block *block)
{
    cache->dirty_count -= block->dirty;
    g_queue_unlink(&cache->used, &block->link);
    g_hash_table_remove(cache->blocks, &block->offset);
}

static Block *find_victim(TableCache *cache)
{
    unsigned left = cache->used.length;
    for (GList *l = cache->used.tail; l && left > KEEP_NEWEST; l = l->prev, left--) {
        Block *block = l->data;
        if (!block->dirty)
            return block;
    }
    return NULL;
}

/* Grows past its limit rather than fail where the owner is already at work on it. */
static int make_room(TableCache *cache)
{
    if (cache->used.length < cache->max_blocks)
        return 0;
    Block *victim = find_victim(cache);
    if (!victim && !cache->cleaning) {
        cache->cleaning = true;
        int result = cache->clean(cache->obj);
        cache->cleaning = false;
        if (result)
            return result;
        victim = find_victim(cache);
    }
    if (victim)
        remove_block(cache, victim);
    return 0;
}

static Block *insert(TableCache *cache, uint64_t offset)
{
    Block *block = g_malloc(sizeof(Block) + cache->block_size);
    block->offset = offset;
    block->dirty = false;
    block->link = (GList){.data = block};
    g_hash_table_insert(cache->blocks, &block->offset, block);
    g_queue_push_head_link(&cache->used, &block->link);
    return block;
}

int table_cache_get(TableCache *cache, uint64_t offset, bool cached, uint8_t **ret_block)
{
    Block *block = g_hash_table_lookup(cache->blocks, &offset);
    if (block) {
        g_queue_unlink(&cache->used, &block->link);
        g_queue_push_head_link(&cache->used, &block->link);
        *ret_block = block->data;
        return 0;
    }
    if (cached)
        return -EAGAIN;
    int result = make_room(cache);
    if (result)
        return result;
    block = insert(cache, offset);
    result = host_file_read(cache->file, offset, block->data, cache->block_size);
    *ret_block = block->data;
    if (result)
        remove_block(cache, block);
    return result;
}

int table_cache_add(TableCache *cache, uint64_t offset, uint8_t **ret_block)
{
    table_cache_drop(cache, offset);
    int result = make_room(cache);
    if (result)
        return result;
    Block *block = insert(cache, offset);
    memset(block->data, 0, cache->block_size);
    *ret_block = block->data;
    table_cache_mark(cache, block->data);
    return 0;
}

void table_cache_mark(TableCache *cache, const uint8_t *data)
{
    Block *block = (Block *)(data - offsetof(Block, data));
    cache->dirty_count += !block->dirty;
    block->dirty = true;
}

int table_cache_write(TableCache *cache)
{
    for (GList *l = cache->used.head; l && cache->dirty_count; l = l->next) {
        Block *block = l->data;
        if (!block->dirty)
            continue;
        int result = host_file_write(cache->file, block->offset, block->data, cache->block_size);
        if (result)
            return result;
        block->dirty = false;
        cache->dirty_count--;
    }
    return 0;
}

bool table_cache_is_dirty(const TableCache *cache)
{
    return cache->dirty_count > 0;
}

void table_cache_drop(TableCache *cache, uint64_t offset)
{
    Block *block = g_hash_table_lookup(cache->blocks, &offset);
    if (block)
        remove_block(cache, block);
}
