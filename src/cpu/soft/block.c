/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The block cache of one vCPU: finding, decoding and dropping blocks (block.h says what points at
 * what).
 *
 * vCPU thread only; block_cache_drop() also from others in an exclusive section, when the vCPU
 * stands between two instructions' accesses.
 */
#include "cpu/soft/block.h"

#include "base/reserve.h"
#include "cpu/soft/decode.h"
#include "cpu/soft/ops_system.h"
#include "cpu/soft/soft_trace.h"
#include "cpu/soft/soft_vm.h"

#define ARENA_BLOCKS ((size_t)256 << 10) /* address space; touched as blocks come */
#define HASH_BITS    16
#define PAGES_BITS   14

void *block_reserve(size_t size)
{
    void *memory = reserve_new(size, true);
    if (!memory)
        g_error("no address space for a software CPU");
    return memory;
}

BlockCache *block_cache_new(SoftCpu *cpu, size_t insns_most)
{
    BlockCache *cache = g_new0(BlockCache, 1);
    cache->cpu = cpu;
    cache->insns_most = insns_most;
    cpu->map_generation[0] = 2;
    cpu->map_generation[1] = 1;
    cache->link_generation = 1;
    cache->hash = g_new0(BlockRef, 1 << HASH_BITS);
    cache->pages = g_new0(BlockRef, 1 << PAGES_BITS);
    cache->arena_used = 1;
    cache->scratch = g_new0(Block, 1);
    cache->scratch->insns = g_new0(Insn, 2);
    cache->arena = block_reserve(ARENA_BLOCKS * sizeof(Block));
    cache->insns = block_reserve(insns_most * sizeof(Insn));
    return cache;
}

void block_cache_free(BlockCache *cache)
{
    reserve_free(cache->arena, ARENA_BLOCKS * sizeof(Block));
    reserve_free(cache->insns, cache->insns_most * sizeof(Insn));
    g_free(cache->hash);
    g_free(cache->pages);
    g_free(cache->scratch->insns);
    g_free(cache->scratch);
    g_free(cache);
}

static void forget_links(BlockCache *cache)
{
    if (++cache->link_generation == 0)
        block_cache_clear(cache);
}

static void next_generation(SoftCpu *cpu, unsigned half)
{
    cpu->map_generation[half] += 2;
    if (cpu->jit)
        jit_mapping_changed(cpu, half);
    if (cpu->map_generation[half] > 1)
        return;
    cpu->map_generation[half] = half ? 1 : 2; /* after 2^31 of them: old ones come again */
    memset(cpu->blocks->jumps, 0, sizeof(cpu->blocks->jumps));
    if (cpu->jit)
        jit_blocks_cleared(cpu);
}

void interp_mapping_changed(SoftCpu *cpu, bool lower, bool upper)
{
    cpu->translation_stop = true;
    if (lower)
        next_generation(cpu, 0);
    if (upper)
        next_generation(cpu, 1);
}

void block_cache_clear(BlockCache *cache)
{
    if (cache->cpu->jit)
        jit_blocks_cleared(cache->cpu);
    memset(cache->hash, 0, sizeof(BlockRef) << HASH_BITS);
    memset(cache->pages, 0, sizeof(BlockRef) << PAGES_BITS);
    memset(cache->jumps, 0, sizeof(cache->jumps));
    cache->arena_used = 1;
    cache->insns_used = 0;
    cache->unused = cache->spare = 0;
    cache->link_generation = 1;
}

/* No jump entry or link goes to any block now. One that crosses pages may be in a list yet. */
static void forget_insns(BlockCache *cache)
{
    memset(cache->jumps, 0, sizeof(cache->jumps));
    for (BlockRef i = 1; i < cache->arena_used; i++) {
        Block *block = &cache->arena[i];
        block->insns = NULL;
        if (!block->dead || block->named || block->crossing)
            continue;
        *block = (Block){.next_in_hash = cache->unused};
        cache->unused = i;
    }
    cache->insns_used = 0;
    forget_links(cache);
}

/* Room for the instructions of one more block. */
static Insn *take_insns(BlockCache *cache)
{
    if (cache->insns_most - cache->insns_used <= BLOCK_MAX_INSNS)
        forget_insns(cache);
    return cache->insns + cache->insns_used;
}

static uint64_t mix(uint64_t value)
{
    return value * UINT64_C(0x9e3779b97f4a7c15) >> 40;
}

static Block *block_at(const BlockCache *cache, BlockRef ref)
{
    return ref ? &cache->arena[ref] : NULL;
}

static BlockRef *hash_bucket(BlockCache *cache, const Ram *ram, uint64_t offset, uint32_t mode)
{
    return &cache->hash[mix(offset ^ (uintptr_t)ram << 8 ^ (uint64_t)mode << 36) &
                        ((1 << HASH_BITS) - 1)];
}

static BlockRef *page_bucket(BlockCache *cache, const Ram *ram, uint64_t offset)
{
    return &cache
                ->pages[mix(offset >> GUEST_PAGE_SHIFT ^ (uintptr_t)ram) & ((1 << PAGES_BITS) - 1)];
}

/* ---- dropping -------------------------------------------------------------------------------- */

void block_uncount(SoftCpu *cpu, const Insn *insn)
{
    for (; insn->length; insn++)
        cpu->insn_count--;
}

/* Takes the place of every handler of a dropped block. */
static void op_dropped(SoftCpu *cpu, const Insn *insn)
{
    cpu->s.rip = INSN_RIP(cpu, insn) & cpu->rip_mask;
    block_uncount(cpu, insn);
    cpu->insn = NULL;
}

void block_stop_behind(SoftCpu *cpu, const Insn *insn)
{
    Insn *next = (Insn *)insn + 1; /* blocks are ours to change */
    if (next->length)
        next->fn = op_dropped;
}

static void block_kill(BlockCache *cache, Block *block)
{
    BlockRef *at = hash_bucket(cache, block->ram, block->offset, block->mode);
    while (*at != (BlockRef)(block - cache->arena))
        at = &cache->arena[*at].next_in_hash;
    *at = block->next_in_hash;
    if (block->translations)
        jit_block_dropped(cache->cpu, block);
    block->dead = true;
    for (unsigned i = 0; block->insns && i <= block->count; i++)
        block->insns[i].fn = op_dropped;
}

static bool overlaps(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size)
{
    return a < b + b_size && b < a + a_size;
}

/* The part of a block on its first (0) or second (1) page. */
static uint64_t part_start(const Block *block, unsigned part)
{
    return part ? block->second_offset : block->offset;
}
static uint64_t part_size(const Block *block, unsigned part)
{
    uint64_t first =
        block->crossing ? GUEST_PAGE_SIZE - (block->offset & (GUEST_PAGE_SIZE - 1)) : block->bytes;
    return part ? block->bytes - first : first;
}

/* A crossing block stands in two lists; which part this link is of. */
static unsigned link_part(const Block *block, const Ram *ram, uint64_t page)
{
    return !(block->ram == ram && (block->offset & GUEST_PAGE_MASK) == page);
}

static bool block_on_page(const Block *block, const Ram *ram, uint64_t page)
{
    return (block->ram == ram && (block->offset & GUEST_PAGE_MASK) == page) ||
           (block->crossing && block->second_ram == ram &&
            (block->second_offset & GUEST_PAGE_MASK) == page);
}

/* Translated code of a page relies on what blocks of the same page do with the flags. */
static void drop_translations(BlockCache *cache, BlockRef list, const Ram *ram, uint64_t page)
{
    for (Block *block = block_at(cache, list); block;) {
        if (block->translations && block_on_page(block, ram, page))
            jit_neighbour_dropped(cache->cpu, block);
        bool second =
            page_bucket(cache, block->ram, block->offset) != page_bucket(cache, ram, page);
        block = block_at(cache, block->next_in_page[second]);
    }
}

unsigned block_cache_drop(BlockCache *cache, Ram *ram, uint64_t offset, uint64_t size,
                          uint64_t *remaining)
{
    uint64_t page = offset & GUEST_PAGE_MASK;
    BlockRef *bucket = page_bucket(cache, ram, offset), *at = bucket;
    unsigned dropped = 0;
    while (*at) {
        Block *block = block_at(cache, *at);
        /* Which list of the block's two this is: the bucket tells, unless both pages share it. */
        unsigned list = page_bucket(cache, block->ram, block->offset) == bucket ? 0 : 1;
        if (!block->dead && block_on_page(block, ram, page)) {
            unsigned part = link_part(block, ram, page);
            uint64_t start = part_start(block, part), bytes = part_size(block, part);
            if (overlaps(start, bytes, offset, size)) {
                block_kill(cache, block);
                dropped++;
            } else {
                *remaining |= code_lines(start, bytes);
            }
        }
        if (block->dead)
            *at = block->next_in_page[list];
        else
            at = &block->next_in_page[list];
    }
    if (dropped) {
        forget_links(cache);
        drop_translations(cache, *bucket, ram, page);
    }
    return dropped;
}

/* ---- decoding -------------------------------------------------------------------------------- */

static void block_finish(Block *block, unsigned count, unsigned bytes)
{
    block->count = count;
    block->bytes = bytes;
    block->insns[count] = (Insn){.fn = op_block_end, .rip_offset = bytes};
    for (unsigned i = 0; i < count; i++) {
        if (block->insns[i].addr_mask == 0)
            block->insns[i].vvvv = count - 1 - i;
    }
}

/* As many instructions as the block may have and the bytes hold whole; 0: the first goes on behind
 * them. */
static unsigned decode_run(SoftCpu *cpu, Block *block, const uint8_t *bytes, unsigned available,
                           unsigned max)
{
    unsigned count = 0, used = 0;
    while (count < max) {
        Insn *insn = &block->insns[count];
        insn->rip_offset = used;
        if (!decode_insn(cpu->model, block->mode, bytes + used, available - used, insn))
            break;
        used += insn->length;
        count++;
        if (insn->flags & INSN_ENDS_BLOCK || used == available)
            break;
    }
    block_finish(block, count, used);
    if (count && soft_traces(cpu, TRACE_BLOCK))
        soft_trace_block(cpu, block, bytes);
    cpu->stat_blocks_decoded++;
    return count;
}

/* Bytes from s.rip on that the code segment and `most` allow; raises #GP(0) when there is none. */
static unsigned segment_room(SoftCpu *cpu, unsigned most)
{
    uint64_t rip = cpu->s.rip, limit = cpu->s.seg[SEG_CS].limit;
    if (cpu->code_size == 8)
        return most;
    if (rip > limit)
        cpu_raise_error(cpu, EXC_GP, 0);
    return MIN(most, limit - rip + 1);
}

static void check_canonical(SoftCpu *cpu, uint64_t linear)
{
    if (cpu->code_size == 8 && (int64_t)(linear << 16) >> 16 != (int64_t)linear)
        cpu_raise_error(cpu, EXC_GP, 0);
}

/* Copies at most `size` bytes up to the page's end and returns how many. What lies in one aligned
 * word is read at once, as a CPU fetches: an operand that another vCPU is writing is old or new. */
static unsigned fetch_bytes(uint8_t *to, const uint8_t *page, unsigned in_page, unsigned size)
{
    size = MIN(size, GUEST_PAGE_SIZE - in_page);
    for (unsigned n = 0; n < size;) {
        unsigned skip = (in_page + n) % 8, part = MIN(8 - skip, size - n);
        const _Atomic uint64_t *from = (const _Atomic uint64_t *)(page + in_page + n - skip);
        uint64_t word = atomic_load_explicit(from, memory_order_relaxed) >> 8 * skip;
        memcpy(to + n, &word, part);
        n += part;
    }
    return size;
}

/* One instruction into the scratch block, touching no page (of RAM) or byte (of a device) that it
 * has no part of: code in devices, at the end of the segment or on hot pages. */
static Block *decode_scratch(SoftCpu *cpu, uint64_t linear)
{
    uint8_t bytes[INSN_MAX_BYTES];
    Block *block = cpu->blocks->scratch;
    block->mode = cpu->mode;
    unsigned room = segment_room(cpu, INSN_MAX_BYTES);
    for (unsigned n = 0; n < INSN_MAX_BYTES;) {
        uint64_t at = code_linear(cpu, cpu->s.rip + n), offset;
        Ram *ram;
        if (n == room)
            cpu_raise_error(cpu, EXC_GP, 0);
        check_canonical(cpu, at);
        const uint8_t *page = mmu_fetch_page(cpu, at & GUEST_PAGE_MASK, &ram, &offset);
        if (page)
            n += fetch_bytes(bytes + n, page, at & (GUEST_PAGE_SIZE - 1), room - n);
        else
            bytes[n++] = mmu_load(cpu, at, 1, cpu->mmu_index);
        if (decode_run(cpu, block, bytes, n, 1))
            break;
    }
    block->dead = false;
    return block;
}

static Block *arena_block(BlockCache *cache)
{
    if (!cache->spare && !cache->unused && cache->arena_used == ARENA_BLOCKS)
        block_cache_clear(cache);
    Insn *insns = take_insns(cache);
    if (!cache->spare && cache->unused) {
        cache->spare = cache->unused;
        cache->unused = cache->arena[cache->spare].next_in_hash;
    } else if (!cache->spare) {
        cache->spare = cache->arena_used++;
    }
    Block *block = &cache->arena[cache->spare];
    *block = (Block){.insns = insns};
    return block;
}

static void block_insert(BlockCache *cache, Block *block)
{
    BlockRef ref = block - cache->arena;
    BlockRef *bucket = hash_bucket(cache, block->ram, block->offset, block->mode);
    block->next_in_hash = *bucket;
    *bucket = ref;
    BlockRef *page = page_bucket(cache, block->ram, block->offset);
    block->next_in_page[0] = *page;
    *page = ref;
    if (block->crossing) {
        BlockRef *second = page_bucket(cache, block->second_ram, block->second_offset);
        if (second != page) {
            block->next_in_page[1] = *second;
            *second = ref;
        }
    }
    cache->spare = 0;
    cache->insns_used += block->count + 1;
    if (cache->cpu->jit)
        block->live_flags = jit_block_live_flags(block);
}

/* A block inside one page, to be kept. NULL: its first instruction crosses the page's or the
 * segment's end. */
static Block *decode_block(SoftCpu *cpu, const uint8_t *page, Ram *ram, uint64_t offset,
                           uint32_t mode, unsigned max)
{
    uint8_t copy[BLOCK_MAX_INSNS * INSN_MAX_BYTES];
    unsigned in_page = offset & (GUEST_PAGE_SIZE - 1);
    unsigned available = segment_room(cpu, MIN(sizeof(copy), GUEST_PAGE_SIZE - in_page));
    Block *block = arena_block(cpu->blocks);
    block->ram = ram;
    block->offset = offset;
    block->mode = mode;
    do {
        memcpy(copy, page + in_page, available);
        if (!decode_run(cpu, block, copy, available, max))
            return NULL;
        soft_vm_mark_code(cpu, ram, offset, block->bytes);
        /* Written by another vCPU or a device before the mark stood? */
    } while (memcmp(copy, page + in_page, block->bytes));
    block_insert(cpu->blocks, block);
    return block;
}

/* A block of the one instruction that starts on `page` and ends on the next. NULL: not to be kept.
 */
static Block *decode_crossing(SoftCpu *cpu, const uint8_t *page, Ram *ram, uint64_t offset,
                              uint32_t mode)
{
    uint8_t copy[INSN_MAX_BYTES];
    unsigned in_page = offset & (GUEST_PAGE_SIZE - 1), first = GUEST_PAGE_SIZE - in_page;
    uint64_t second_linear = code_linear(cpu, cpu->s.rip + first), second_offset;
    Ram *second_ram;
    if (segment_room(cpu, INSN_MAX_BYTES) < INSN_MAX_BYTES || first >= INSN_MAX_BYTES)
        return NULL;
    check_canonical(cpu, second_linear);
    const uint8_t *second = mmu_fetch_page(cpu, second_linear, &second_ram, &second_offset);
    if (!second || second_offset >= second_ram->size ||
        atomic_load(&code_page(second_ram, second_offset)->hot))
        return NULL;
    Block *block = arena_block(cpu->blocks);
    *block = (Block){.ram = ram,
                     .offset = offset,
                     .mode = mode,
                     .crossing = true,
                     .second_ram = second_ram,
                     .second_offset = second_offset & GUEST_PAGE_MASK,
                     .insns = block->insns};
    do {
        memcpy(copy, page + in_page, first);
        memcpy(copy + first, second, INSN_MAX_BYTES - first);
        if (!decode_run(cpu, block, copy, INSN_MAX_BYTES, 1) || block->bytes <= first)
            return NULL;
        while ((int)soft_vm_mark_code(cpu, ram, offset, first) |
               (int)soft_vm_mark_code(cpu, second_ram, block->second_offset, block->bytes - first))
            continue;
    } while (memcmp(copy, page + in_page, first) ||
             memcmp(copy + first, second, block->bytes - first));
    block_insert(cpu->blocks, block);
    return block;
}

/* ---- decoding again -------------------------------------------------------------------------- */

/* What it was decoded from, from `from` on, which is on its first page: at most `size` bytes;
 * returns how many. */
static unsigned block_bytes(const Block *block, unsigned from, uint8_t *to, unsigned size)
{
    uint64_t offset = block->offset + from;
    unsigned first = MIN(size, GUEST_PAGE_SIZE - (offset & (GUEST_PAGE_SIZE - 1)));
    memcpy(to, block->ram->host + offset, first);
    if (!block->crossing)
        return first;
    memcpy(to + first, block->second_ram->host + block->second_offset, size - first);
    return size;
}

bool block_insns(SoftCpu *cpu, Block *block)
{
    uint8_t copy[BLOCK_MAX_INSNS * INSN_MAX_BYTES];
    if (block->insns)
        return true;
    Block again = {.mode = block->mode, .insns = take_insns(cpu->blocks)};
    unsigned available = block_bytes(block, 0, copy, sizeof(copy));
    if (decode_run(cpu, &again, copy, available, block->count) != block->count ||
        again.bytes != block->bytes)
        return false;
    block->insns = again.insns;
    cpu->blocks->insns_used += block->count + 1;
    return true;
}

bool block_insn_at(SoftCpu *cpu, const Block *block, unsigned offset, Insn *ret_insn)
{
    uint8_t copy[INSN_MAX_BYTES];
    unsigned available = block_bytes(block, offset, copy, sizeof(copy));
    *ret_insn = (Insn){.rip_offset = offset};
    return decode_insn(cpu->model, block->mode, copy, available, ret_insn);
}

/* ---- finding --------------------------------------------------------------------------------- */

/* Whether the page after the block's is still the one that its end was decoded from. */
static bool crossing_valid(SoftCpu *cpu, const Block *block)
{
    uint64_t first = GUEST_PAGE_SIZE - (block->offset & (GUEST_PAGE_SIZE - 1)), offset;
    uint64_t linear = code_linear(cpu, cpu->s.rip + first);
    Ram *ram;
    check_canonical(cpu, linear);
    const uint8_t *page = mmu_fetch_page(cpu, linear, &ram, &offset);
    return page && ram == block->second_ram && (offset & GUEST_PAGE_MASK) == block->second_offset;
}

Block *block_peek(BlockCache *cache, const Ram *ram, uint64_t offset, uint32_t mode)
{
    for (Block *block = block_at(cache, *hash_bucket(cache, ram, offset, mode)); block;
         block = block_at(cache, block->next_in_hash)) {
        if (block->offset == offset && block->ram == ram && block->mode == mode && !block->crossing)
            return block;
    }
    return NULL;
}

static Block *hash_find(SoftCpu *cpu, const Ram *ram, uint64_t offset, uint32_t mode)
{
    BlockCache *cache = cpu->blocks;
    for (Block *block = block_at(cache, *hash_bucket(cache, ram, offset, mode)); block;
         block = block_at(cache, block->next_in_hash)) {
        if (block->offset != offset || block->ram != ram || block->mode != mode ||
            !block_fits(cpu, block, cpu->s.rip))
            continue;
        if (!block->crossing || crossing_valid(cpu, block))
            return block;
    }
    return NULL;
}

static Block *block_find_slow(SoftCpu *cpu, uint64_t linear, bool single)
{
    uint32_t mode = cpu->mode | (single ? BLOCK_SINGLE : 0);
    uint64_t offset;
    Ram *ram;
    segment_room(cpu, 1);
    const uint8_t *page = mmu_fetch_page(cpu, linear & GUEST_PAGE_MASK, &ram, &offset);
    if (!page || cpu->vm->is_guest)
        return decode_scratch(cpu, linear);
    offset = (offset & GUEST_PAGE_MASK) | (linear & (GUEST_PAGE_SIZE - 1));
    _Atomic uint32_t *hot = &code_page(ram, offset)->hot;
    uint32_t heat = atomic_load_explicit(hot, memory_order_relaxed);
    if (heat) {
        atomic_store_explicit(hot, heat - 1, memory_order_relaxed); /* a lost count does no harm */
        return decode_scratch(cpu, linear);
    }
    Block *block = hash_find(cpu, ram, offset, mode);
    if (!block) {
        unsigned max = mode & (BLOCK_SINGLE | MODE_SINGLE_STEP) ? 1 : BLOCK_MAX_INSNS;
        block = decode_block(cpu, page, ram, offset, mode, max);
        if (!block)
            block = decode_crossing(cpu, page, ram, offset, mode);
        if (!block)
            return decode_scratch(cpu, linear);
    }
    if (!block->translations && !block_insns(cpu, block))
        return decode_scratch(cpu, linear);
    /* A step ends in the loop, not in the next: nothing may chain to it. */
    if (block->insns && !(mode & (BLOCK_SINGLE | MODE_SINGLE_STEP))) {
        JumpEntry *entry = jump_entry(cpu->blocks, linear);
        *entry = (JumpEntry){jump_key(linear, cpu->mode), block, cpu->map_generation[linear >> 63]};
    }
    return block;
}

Block *block_find(SoftCpu *cpu, bool single)
{
    cpu->s.rip &= cpu->rip_mask;
    uint64_t rip = cpu->s.rip;
    cpu->insn = NULL;
    check_canonical(cpu, code_linear(cpu, rip)); /* the table's keys suppose it */
    Block *block = single ? NULL : jump_find(cpu, rip);
    if (block && !block->dead && block_fits(cpu, block, rip))
        return block;
    return block_find_slow(cpu, code_linear(cpu, rip), single);
}
