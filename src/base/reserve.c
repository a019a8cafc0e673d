/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "base/reserve.h"

#include <stdint.h>
#include <sys/mman.h>

#include "base/bits.h"

#define HOST_PAGE ((size_t)4 << 10)
#define HUGE_PAGE ((size_t)2 << 20)

static void *reserve(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

/* Of what is reserved, the part that begins with a huge page. */
static uint8_t *keep_aligned(uint8_t *memory, size_t reserved, size_t size)
{
    uint8_t *aligned = (uint8_t *)align_up((uintptr_t)memory, HUGE_PAGE);
    uint8_t *end = aligned + align_up(size, HOST_PAGE);
    if (aligned > memory)
        munmap(memory, aligned - memory);
    if (end < memory + reserved)
        munmap(end, memory + reserved - end);
    return aligned;
}

void *reserve_new(size_t size_bytes, bool huge)
{
    if (!huge || size_bytes < HUGE_PAGE)
        return reserve(size_bytes);
    size_t reserved = align_up(size_bytes, HOST_PAGE) + HUGE_PAGE;
    uint8_t *memory = reserve(reserved);
    if (!memory)
        return NULL;
    memory = keep_aligned(memory, reserved, size_bytes);
    madvise(memory, size_bytes, MADV_HUGEPAGE); /* a host that has none says so, which is no harm */
    return memory;
}

void reserve_free(void *memory, size_t size_bytes)
{
    if (memory)
        munmap(memory, size_bytes);
}
