/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Address spaces: a list of mappings, flattened into an array of ranges ordered by address without
 * gaps (holes are ranges with region NULL) that covers the whole space.
 *
 * Readers take a reference on the flat map under `map_lock` (a few instructions) and look up
 * without it. Only the board's thread of change (board lock held) replaces it.
 */
#include "memory/space.h"

#include <stdlib.h>
#include <string.h>

#include "base/bits.h"

struct SpaceMapping {
    uint64_t address, size;
    Region *region;
    uint64_t offset;
    int priority;
    uint64_t serial; /* later mappings win among equals */
    bool read_only;
};

typedef struct FlatMap {
    _Atomic int references;
    size_t count;
    SpaceRange ranges[];
} FlatMap;

typedef struct Listener {
    SpaceListenerFn fn;
    void *obj;
} Listener;

struct AddressSpace {
    char *name;
    uint64_t size;
    GPtrArray *mappings; /* of SpaceMapping, best first */
    GArray *listeners;   /* of Listener */
    uint64_t next_serial;
    unsigned depth; /* of space_begin() */
    bool changed;
    GMutex map_lock;
    FlatMap *map;
};

static FlatMap *map_ref(AddressSpace *space)
{
    FlatMap *map;

    g_mutex_lock(&space->map_lock);
    map = space->map;
    atomic_fetch_add(&map->references, 1);
    g_mutex_unlock(&space->map_lock);
    return map;
}

static void map_unref(FlatMap *map)
{
    if (atomic_fetch_sub(&map->references, 1) == 1)
        g_free(map);
}

/* Best first: higher priority, then later. */
static int compare_mappings(gconstpointer a, gconstpointer b)
{
    const SpaceMapping *x = *(SpaceMapping *const *)a, *y = *(SpaceMapping *const *)b;

    if (x->priority != y->priority)
        return x->priority > y->priority ? -1 : 1;
    return x->serial > y->serial ? -1 : 1;
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static const SpaceMapping *best_at(AddressSpace *space, uint64_t address)
{
    for (guint i = 0; i < space->mappings->len; i++) {
        const SpaceMapping *m = space->mappings->pdata[i];
        if (address >= m->address && address - m->address < m->size)
            return m;
    }
    return NULL;
}

/* Extends the last range when `next` continues it. */
static bool merge_range(SpaceRange *last, const SpaceRange *next)
{
    if (last->region != next->region || last->read_only != next->read_only)
        return false;
    if (next->region && last->offset + last->size != next->offset)
        return false;
    last->size += next->size;
    return true;
}

static SpaceRange range_from(const SpaceMapping *m, uint64_t start, uint64_t end)
{
    SpaceRange range = {.start = start, .size = end - start};

    if (m) {
        range.region = m->region;
        range.offset = m->offset + (start - m->address);
        range.read_only = m->read_only;
    }
    return range;
}

static FlatMap *flatten(AddressSpace *space)
{
    guint count = space->mappings->len;
    g_autofree uint64_t *edges = g_new(uint64_t, 2 * count + 2);
    size_t edge_count = 0;
    FlatMap *map = g_malloc(sizeof(FlatMap) + (2 * count + 2) * sizeof(SpaceRange));

    atomic_init(&map->references, 1);
    map->count = 0;
    edges[edge_count++] = 0;
    edges[edge_count++] = space->size;
    for (guint i = 0; i < count; i++) {
        const SpaceMapping *m = space->mappings->pdata[i];
        edges[edge_count++] = MIN(m->address, space->size);
        edges[edge_count++] = MIN(m->address + m->size, space->size);
    }
    qsort(edges, edge_count, sizeof(*edges), compare_u64);
    for (size_t i = 0; i + 1 < edge_count; i++) {
        SpaceRange range;
        if (edges[i] == edges[i + 1])
            continue;
        range = range_from(best_at(space, edges[i]), edges[i], edges[i + 1]);
        if (!map->count || !merge_range(&map->ranges[map->count - 1], &range))
            map->ranges[map->count++] = range;
    }
    return map;
}

static void update(AddressSpace *space)
{
    FlatMap *old = space->map, *map = flatten(space);

    g_mutex_lock(&space->map_lock);
    space->map = map;
    g_mutex_unlock(&space->map_lock);
    map_unref(old);
    space->changed = false;
    for (guint i = 0; i < space->listeners->len; i++) {
        Listener *listener = &g_array_index(space->listeners, Listener, i);
        listener->fn(listener->obj, map->ranges, map->count);
    }
}

AddressSpace *space_new(const char *name, uint64_t size)
{
    AddressSpace *space = g_new0(AddressSpace, 1);

    space->name = g_strdup(name);
    space->size = size;
    space->mappings = g_ptr_array_new_with_free_func(g_free);
    space->listeners = g_array_new(FALSE, FALSE, sizeof(Listener));
    g_mutex_init(&space->map_lock);
    space->map = flatten(space);
    return space;
}

void space_free(AddressSpace *space)
{
    if (!space)
        return;
    map_unref(space->map);
    g_ptr_array_unref(space->mappings);
    g_array_unref(space->listeners);
    g_mutex_clear(&space->map_lock);
    g_free(space->name);
    g_free(space);
}

void space_begin(AddressSpace *space)
{
    space->depth++;
}

void space_commit(AddressSpace *space)
{
    g_assert(space->depth);
    if (--space->depth == 0 && space->changed)
        update(space);
}

SpaceMapping *space_map(AddressSpace *space, uint64_t address, Region *region, uint64_t offset,
                        uint64_t size, int priority, bool read_only)
{
    SpaceMapping *mapping = g_new(SpaceMapping, 1);

    g_assert(size && size <= region->size && offset <= region->size - size);
    g_assert(address <= UINT64_MAX - size);
    *mapping =
        (SpaceMapping){address, size, region, offset, priority, space->next_serial++, read_only};
    space_begin(space);
    g_ptr_array_add(space->mappings, mapping);
    g_ptr_array_sort(space->mappings, compare_mappings);
    space->changed = true;
    space_commit(space);
    return mapping;
}

void space_unmap(AddressSpace *space, SpaceMapping *mapping)
{
    if (!mapping)
        return;
    space_begin(space);
    g_ptr_array_remove(space->mappings, mapping);
    space->changed = true;
    space_commit(space);
}

void space_add_listener(AddressSpace *space, SpaceListenerFn fn, void *obj)
{
    Listener listener = {fn, obj};

    g_array_append_val(space->listeners, listener);
    fn(obj, space->map->ranges, space->map->count);
}

void space_remove_listener(AddressSpace *space, SpaceListenerFn fn, void *obj)
{
    for (guint i = 0; i < space->listeners->len; i++) {
        Listener *listener = &g_array_index(space->listeners, Listener, i);
        if (listener->fn == fn && listener->obj == obj) {
            g_array_remove_index(space->listeners, i);
            return;
        }
    }
}

SpaceRange space_lookup(AddressSpace *space, uint64_t address)
{
    FlatMap *map;
    SpaceRange range;
    size_t low = 0, high;

    if (address >= space->size)
        return (SpaceRange){.start = space->size, .size = UINT64_MAX - space->size};
    map = map_ref(space);
    high = map->count;
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        if (map->ranges[middle].start <= address)
            low = middle;
        else
            high = middle;
    }
    range = map->ranges[low];
    map_unref(map);
    return range;
}

/* ---- register access ------------------------------------------------------------------------- */

static uint64_t ones(unsigned size)
{
    return ~UINT64_C(0) >> (64 - 8 * size);
}

static uint64_t call_read(Region *region, uint64_t offset, unsigned size)
{
    return region->ops->read ? region->ops->read(region->obj, offset, size) & ones(size)
                             : ones(size);
}

static void call_write(Region *region, uint64_t offset, unsigned size, uint64_t value)
{
    if (region->ops->write)
        region->ops->write(region->obj, offset, size, value & ones(size));
}

/* The size to call the device with for an access of `size` bytes that lies in the region. */
static unsigned access_size(const RegionOps *ops, uint64_t offset, unsigned size)
{
    unsigned smallest = ops->min_access ? ops->min_access : 1;
    unsigned largest = ops->max_access ? ops->max_access : 4;
    unsigned use = CLAMP(size, smallest, largest);

    /* A strict device sees whole registers only. */
    return smallest > 1 && (offset & (use - 1)) ? smallest : use;
}

static uint64_t io_read(Region *region, uint64_t offset, unsigned size)
{
    unsigned use = access_size(region->ops, offset, size);
    uint64_t value = 0;

    g_assert(size <= sizeof(value));
    if (use > size || (region->ops->min_access > 1 && (offset & (use - 1)))) {
        /* Cut each wanted byte out of the register that holds it. */
        for (unsigned i = 0; i < size; i++) {
            uint64_t at = align_down(offset + i, use);
            value |= (call_read(region, at, use) >> 8 * (offset + i - at) & 0xff) << 8 * i;
        }
        return value;
    }
    for (unsigned i = 0; i < size; i += use)
        value |= call_read(region, offset + i, use) << 8 * i;
    return value;
}

static void io_write(Region *region, uint64_t offset, unsigned size, uint64_t value)
{
    unsigned use = access_size(region->ops, offset, size);

    if (use > size || (region->ops->min_access > 1 && (offset & (use - 1)))) {
        for (unsigned i = 0; i < size; i++) {
            uint64_t at = align_down(offset + i, use);
            call_write(region, at, use, (value >> 8 * i & 0xff) << 8 * (offset + i - at));
        }
        return;
    }
    for (unsigned i = 0; i < size; i += use)
        call_write(region, offset + i, use, value >> 8 * i);
}

static uint8_t *range_host(const SpaceRange *range, uint64_t address)
{
    const Region *region = range->region;

    return region->ram->host + region->ram_offset + range->offset + (address - range->start);
}

static bool range_is_memory(const SpaceRange *range)
{
    return range->region && range->region->kind != REGION_IO;
}

static bool range_is_writable(const SpaceRange *range)
{
    return range->region && range->region->kind == REGION_RAM && !range->read_only;
}

static uint64_t range_load(const SpaceRange *range, uint64_t address, unsigned size)
{
    Region *region = range->region;
    uint64_t value = 0;

    if (!region)
        return ones(size);
    if (region->kind != REGION_IO) {
        memcpy(&value, range_host(range, address), size);
        return GUINT64_FROM_LE(value);
    }
    if (region->lock)
        g_rec_mutex_lock(region->lock);
    value = io_read(region, range->offset + (address - range->start), size);
    if (region->lock)
        g_rec_mutex_unlock(region->lock);
    return value;
}

static void range_store(const SpaceRange *range, uint64_t address, unsigned size, uint64_t value)
{
    Region *region = range->region;

    if (!region || range->read_only)
        return;
    if (region->kind == REGION_RAM) {
        uint64_t little = GUINT64_TO_LE(value);
        memcpy(range_host(range, address), &little, size);
        ram_written(region->ram, region->ram_offset + range->offset + (address - range->start),
                    size);
        return;
    }
    if (!region->ops)
        return;
    if (region->lock)
        g_rec_mutex_lock(region->lock);
    io_write(region, range->offset + (address - range->start), size, value);
    if (region->lock)
        g_rec_mutex_unlock(region->lock);
}

static bool range_holds(const SpaceRange *range, uint64_t address, uint64_t size)
{
    return size <= range->size - (address - range->start);
}

uint64_t space_load(AddressSpace *space, uint64_t address, unsigned size)
{
    SpaceRange range = space_lookup(space, address);
    uint64_t value = 0;

    if (range_holds(&range, address, size))
        return range_load(&range, address, size);
    for (unsigned i = 0; i < size; i++)
        value |= space_load(space, address + i, 1) << 8 * i;
    return value;
}

void space_store(AddressSpace *space, uint64_t address, unsigned size, uint64_t value)
{
    SpaceRange range = space_lookup(space, address);

    if (range_holds(&range, address, size)) {
        range_store(&range, address, size, value);
        return;
    }
    for (unsigned i = 0; i < size; i++)
        space_store(space, address + i, 1, value >> 8 * i & 0xff);
}

/* ---- DMA ------------------------------------------------------------------------------------- */

static bool range_allows(const SpaceRange *range, bool write)
{
    return write ? range_is_writable(range) : range_is_memory(range);
}

static bool covers(AddressSpace *space, uint64_t address, size_t size,
                   bool (*allowed)(const SpaceRange *))
{
    if (size && address + (size - 1) < address)
        return false;
    while (size) {
        SpaceRange range = space_lookup(space, address);
        uint64_t part = MIN(size, range.size - (address - range.start));
        if (!allowed(&range))
            return false;
        address += part;
        size -= part;
    }
    return true;
}

bool space_read(AddressSpace *space, uint64_t address, void *data, size_t size)
{
    uint8_t *to = data;

    if (!covers(space, address, size, range_is_memory)) {
        memset(data, 0xff, size);
        return false;
    }
    while (size) {
        SpaceRange range = space_lookup(space, address);
        uint64_t part = MIN(size, range.size - (address - range.start));
        memcpy(to, range_host(&range, address), part);
        to += part;
        address += part;
        size -= part;
    }
    return true;
}

static bool write_where(AddressSpace *space, uint64_t address, const void *data, size_t size,
                        bool (*allowed)(const SpaceRange *))
{
    const uint8_t *from = data;

    if (!covers(space, address, size, allowed))
        return false;
    while (size) {
        SpaceRange range = space_lookup(space, address);
        uint64_t part = MIN(size, range.size - (address - range.start));
        memcpy(range_host(&range, address), from, part);
        space_dma_written(space, address, part);
        from += part;
        address += part;
        size -= part;
    }
    return true;
}

bool space_write(AddressSpace *space, uint64_t address, const void *data, size_t size)
{
    return write_where(space, address, data, size, range_is_writable);
}

bool space_write_rom(AddressSpace *space, uint64_t address, const void *data, size_t size)
{
    return write_where(space, address, data, size, range_is_memory);
}

void *space_dma_map(AddressSpace *space, uint64_t address, uint64_t *size, bool write)
{
    SpaceRange range = space_lookup(space, address);

    if (!range_allows(&range, write))
        return NULL;
    *size = MIN(*size, range.size - (address - range.start));
    return range_host(&range, address);
}

void space_dma_written(AddressSpace *space, uint64_t address, uint64_t size)
{
    while (size) {
        SpaceRange range = space_lookup(space, address);
        uint64_t part = MIN(size, range.size - (address - range.start));
        if (range_is_memory(&range))
            ram_written(range.region->ram,
                        range.region->ram_offset + range.offset + (address - range.start), part);
        address += part;
        size -= part;
    }
}
