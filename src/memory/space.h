/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * An address space: which region answers at which guest address. One for guest-physical memory, one
 * for I/O ports (64 KiB).
 *
 * Mappings may overlap; the one with the highest priority wins (the latest among equals). The
 * visible result is a flat map, immutable and swapped whole. Nothing answers: reads give all ones,
 * writes vanish.
 *
 * Threads: mapping happens with the board lock held. Lookups and accesses come from any thread.
 * Listeners are called with the board lock held after a change, before space_commit() returns.
 */
#pragma once

#include "memory/region.h"

typedef struct AddressSpace AddressSpace;
typedef struct SpaceMapping SpaceMapping;

/* A stretch of addresses with one answer. */
typedef struct SpaceRange {
    uint64_t start;
    uint64_t size;   /* bytes, never 0 */
    Region *region;  /* NULL: nothing answers here */
    uint64_t offset; /* of `start` in the region */
    bool read_only;  /* writes vanish although the region is RAM */
} SpaceRange;

typedef void (*SpaceListenerFn)(void *obj, const SpaceRange *ranges, size_t count);

enum {
    SPACE_PRIORITY_RAM = 0,
    SPACE_PRIORITY_PCI = 1,   /* BARs lie under nothing but board devices */
    SPACE_PRIORITY_BOARD = 2, /* APIC, HPET, legacy VGA window, PAM */
    SPACE_PRIORITY_OVERLAY = 3,
};

/* `size` is the number of addresses; accesses beyond it wrap nothing and find nothing. */
AddressSpace *space_new(const char *name, uint64_t size);
void space_free(AddressSpace *space);

/* Puts [offset, offset + size) of `region` at `address`. The mapping is the space's; keep the
 * pointer to move or remove it. The region must outlive it. */
SpaceMapping *space_map(AddressSpace *space, uint64_t address, Region *region, uint64_t offset,
                        uint64_t size, int priority, bool read_only);
/* Removes and frees; NULL is allowed. */
void space_unmap(AddressSpace *space, SpaceMapping *mapping);
/* Several changes become visible at once; nests. */
void space_begin(AddressSpace *space);
void space_commit(AddressSpace *space);
/* Called with the whole map now (if a map is there) and after each change. */
void space_add_listener(AddressSpace *space, SpaceListenerFn fn, void *obj);
void space_remove_listener(AddressSpace *space, SpaceListenerFn fn, void *obj);

/* The range that holds `address`; always succeeds (region NULL for a hole). */
SpaceRange space_lookup(AddressSpace *space, uint64_t address);

/* What a CPU does: any region, 1 to 8 bytes, little-endian value. */
uint64_t space_load(AddressSpace *space, uint64_t address, unsigned size);
void space_store(AddressSpace *space, uint64_t address, unsigned size, uint64_t value);

/*
 * What a device does (DMA): RAM and ROM only, never another device's registers. False when any byte
 * of the range is not RAM: then nothing was written, and `data` of a read is filled with 0xff.
 */
bool space_read(AddressSpace *space, uint64_t address, void *data, size_t size);
bool space_write(AddressSpace *space, uint64_t address, const void *data, size_t size);
/* A loader's write, which fills ROM too. */
bool space_write_rom(AddressSpace *space, uint64_t address, const void *data, size_t size);

/*
 * Host address of guest memory for zero-copy DMA: `*size` is cut to what is contiguous in the host.
 * NULL when `address` is no RAM (or ROM, for !write). Call space_dma_written() for what was
 * written, after the bytes are there.
 */
void *space_dma_map(AddressSpace *space, uint64_t address, uint64_t *size, bool write);
void space_dma_written(AddressSpace *space, uint64_t address, uint64_t size);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(AddressSpace, space_free)
