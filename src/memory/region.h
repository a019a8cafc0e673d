/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A region: a piece of something that a guest address can reach: device registers, RAM or ROM.
 *
 * A region does not know its address; an AddressSpace maps it (space.h), whole or in part, once or
 * many times (an alias is a second mapping). Memory and I/O ports use the same type.
 *
 * The dispatcher takes `lock` around read and write (not the device's author), and only calls sizes
 * between min_access and max_access, naturally sized (1, 2, 4, 8): wider accesses are split in
 * ascending order, narrower ones are widened (reads shift the wanted bytes out; writes of less than
 * min_access reach the device as min_access with the other bytes zero). Unaligned accesses are
 * passed on as they come unless min_access demands otherwise, in which case they are split into
 * bytes.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "memory/ram.h"

typedef struct RegionOps {
    const char *name;
    /* offset is relative to the region; size in bytes. NULL: reads as all ones. */
    uint64_t (*read)(void *obj, uint64_t offset, unsigned size);
    /* NULL: writes are ignored. */
    void (*write)(void *obj, uint64_t offset, unsigned size, uint64_t value);
    uint8_t min_access; /* bytes; 0 means 1 */
    uint8_t max_access; /* bytes; 0 means 4 */
} RegionOps;

typedef enum RegionKind {
    REGION_IO,  /* ops are called */
    REGION_RAM, /* host memory, read, written and executed without a call */
    REGION_ROM, /* host memory; writes go to ops->write if there is one, else nowhere */
} RegionKind;

typedef struct Region {
    RegionKind kind;
    uint64_t size; /* bytes */
    const RegionOps *ops;
    void *obj;
    GRecMutex *lock;     /* NULL: the device does its own locking */
    Ram *ram;            /* RAM and ROM: the memory behind it, not owned … */
    uint64_t ram_offset; /* … from this byte on, page-aligned */
} Region;

void region_init_io(Region *region, const RegionOps *ops, void *obj, GRecMutex *lock,
                    uint64_t size);
void region_init_ram(Region *region, RegionKind kind, Ram *ram, uint64_t ram_offset, uint64_t size);
