/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Construction of regions. */
#include "memory/region.h"

void region_init_io(Region *region, const RegionOps *ops, void *obj, GRecMutex *lock, uint64_t size)
{
    *region = (Region){.kind = REGION_IO, .size = size, .ops = ops, .obj = obj, .lock = lock};
}

void region_init_ram(Region *region, RegionKind kind, Ram *ram, uint64_t ram_offset, uint64_t size)
{
    g_assert(kind != REGION_IO && ram_offset % GUEST_PAGE_SIZE == 0 && size <= ram->size &&
             ram_offset <= ram->size - size);
    *region = (Region){.kind = kind, .size = size, .ram = ram, .ram_offset = ram_offset};
}
