/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Decoded blocks and the ways from one to the next. For the loop, branches, strings and faults
 * alone.
 *
 *   jump table   linear RIP and mode → block; valid for one generation of the linear mapping
 *   links        in a direct branch: the target's block, when it lies on the same page (so no
 * mapping is involved) page hash    RAM page, offset and mode → block; what stays when mappings
 * change
 *
 * A block is memory of its vCPU's arena and is freed only with all others. A dropped block stays
 * where it is, all its handlers replaced by one that leaves to the loop; so jump table, links and
 * the running handler may go on pointing at it.
 *
 * Its instructions are many times as large, and most blocks run a few times: they have a small area
 * of their own, in which those of all blocks are forgotten whenever it is full. Only blocks that
 * have theirs are in the jump table and linked to; block_insns() decodes them again.
 */
#pragma once

#include "cpu/soft/cpu.h"

#define BLOCK_MAX_INSNS 64
#define JUMP_TABLE_BITS 15

/* Beside SoftCpu.mode in a block's key: one instruction only. */
#define BLOCK_SINGLE (1u << 31)

/* There are many of these: they name each other by number in the arena. 0: none. */
typedef uint32_t BlockRef;

typedef struct Block Block;
struct Block {
    Ram *ram;
    uint64_t offset; /* of the first byte in ram */
    uint32_t mode;
    uint16_t bytes, count; /* length of the code, instructions */
    bool dead : 1;
    bool named : 1;     /* by a translation, if only a dead one */
    bool hot : 1;       /* a loop that was found running, for the translator */
    bool counting : 1;  /* its runs are counted, to see how many of its accesses miss */
    bool counted : 1;   /* they are or were */
    uint8_t heat;       /* times it was interpreted at a new RIP, for the translator */
    uint8_t live_flags; /* that the block may read before it writes them, the same */
    bool crossing; /* one instruction that ends on another page, at second_offset in second_ram */
    BlockRef next_in_hash;
    BlockRef next_in_page[2];      /* [1]: the list of the second page */
    struct JitBlock *translations; /* the translator's, of this block at different RIPs */
    /* What it has learnt of the instructions: whose operand lies now here, now there; whose operand
     * lies on another page than what is near it, or than the rest of the stack. */
    uint64_t scattered, split, apart;
    Insn *insns; /* count + 1: the last goes on behind the block; NULL: forgotten */
    Ram *second_ram;
    uint64_t second_offset;
};

typedef struct JumpEntry {
    uint64_t key;
    Block *block;
    uint32_t generation;
} JumpEntry;

struct BlockCache {
    uint32_t link_generation; /* of links: never 0 */
    uintptr_t stack_floor;    /* blocks chain on only above it: a handler the compiler gave no tail
                                 call ends here */
    bool look_again;          /* events were looked for while they could not be taken */
    Block *arena;
    size_t arena_used; /* blocks, the first of which is none */
    BlockRef unused;   /* dropped blocks that nothing points at any more, by next_in_hash */
    BlockRef spare;    /* the block that is being decoded */
    Insn *insns;
    size_t insns_used, insns_most;
    BlockRef *hash, *pages;
    SoftCpu *cpu;
    Block *scratch; /* one instruction that is not to be kept */
    JumpEntry jumps[1 << JUMP_TABLE_BITS];
};

/* Linear addresses use 48 bits, the rest repeats bit 47; the mode has 17 bits. */
static inline uint64_t jump_key(uint64_t linear, uint32_t mode)
{
    return linear ^ (uint64_t)mode << 47;
}
static inline JumpEntry *jump_entry(BlockCache *cache, uint64_t linear)
{
    return &cache->jumps[(linear ^ linear >> JUMP_TABLE_BITS) & ((1 << JUMP_TABLE_BITS) - 1)];
}
static inline uint64_t code_linear(const SoftCpu *cpu, uint64_t rip)
{
    uint64_t linear = cpu->seg_base[SEG_CS] + rip;
    return cpu->code_size == 8 ? linear : (uint32_t)linear;
}

/* The block at RIP on the fast way, or NULL. */
static inline Block *jump_find(SoftCpu *cpu, uint64_t rip)
{
    BlockCache *cache = cpu->blocks;
    uint64_t linear = code_linear(cpu, rip);
    JumpEntry *entry = jump_entry(cache, linear);
    bool hit = entry->key == jump_key(linear, cpu->mode) &&
               entry->generation == cpu->map_generation[linear >> 63];
    return hit ? entry->block : NULL;
}

/* In 16- and 32-bit code the segment may end inside the block, for this RIP. */
static inline bool block_fits(const SoftCpu *cpu, const Block *block, uint64_t rip)
{
    return cpu->code_size == 8 || rip + block->bytes - 1 <= cpu->s.seg[SEG_CS].limit;
}

#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
register uintptr_t block_stack_pointer asm("rsp");
static inline bool block_may_chain(const SoftCpu *cpu)
{
    return !atomic_load_explicit(&cpu->exit_request, memory_order_relaxed) &&
           block_stack_pointer > cpu->blocks->stack_floor;
}
#else /* calls may really nest: each block returns to the loop */
static inline bool block_may_chain(const SoftCpu *cpu)
{
    return false;
}
#endif

/* Runs a block, as the last thing a handler does. */
#define BLOCK_ENTER(cpu, block, rip_)                     \
    do {                                                  \
        Block *block_ = (block);                          \
        (cpu)->s.gpr[GPR_BLOCK_RIP] = (rip_);             \
        (cpu)->insn_count += block_->count;               \
        return block_->insns[0].fn((cpu), block_->insns); \
    } while (0)

/* ---- ops_branch.c ---------------------------------------------------------------------------- */

/* Behind the last instruction of a block that no branch ends. */
void op_block_end(SoftCpu *cpu, const Insn *insn);

/* ---- translator (jit/), called when SoftCpu.jit is set -----------------------------------------
 */

/* The block's translations are void. In the vCPU's thread or in an exclusive section. */
void jit_block_dropped(SoftCpu *cpu, Block *block);
/* Another block of its page is. */
void jit_neighbour_dropped(SoftCpu *cpu, Block *block);
/* All blocks are about to be forgotten. */
void jit_blocks_cleared(SoftCpu *cpu);
/* Flags read before the block overwrites them, if it runs from its start: what Block.live_flags is
 * to be. It has its instructions. */
unsigned jit_block_live_flags(const Block *block);
/* map_generation[half] has another value. */
void jit_mapping_changed(SoftCpu *cpu, unsigned half);

/* ---- block.c --------------------------------------------------------------------------------- */

/* Zeroed memory that is the host's until it is touched; reserve_free() it. */
void *block_reserve(size_t size);
/* For `insns_most` decoded instructions at a time. */
BlockCache *block_cache_new(SoftCpu *cpu, size_t insns_most);
void block_cache_free(BlockCache *cache);
/* Forgets every block. Only between blocks. */
void block_cache_clear(BlockCache *cache);
/* The block at s.rip, decoded if need be; with `single` one instruction. Faults of the fetch are
 * raised. It has its instructions, unless it has translations. Only between blocks. */
Block *block_find(SoftCpu *cpu, bool single);
/* Has the block's instructions decoded, also when they were forgotten. False: somebody is just
 * writing over the code, and the block about to be dropped. Only between blocks. */
bool block_insns(SoftCpu *cpu, Block *block);
/* The same for the one instruction that begins `offset` bytes behind the block's start, at any
 * time.
 */
bool block_insn_at(SoftCpu *cpu, const Block *block, unsigned offset, Insn *ret_insn);
/* The kept block at `offset` in `ram`, or NULL; nothing is decoded and no mapping looked at. */
Block *block_peek(BlockCache *cache, const Ram *ram, uint64_t offset, uint32_t mode);
/* Has the running instruction be the last before the loop looks around, now and whenever it runs
 * again. */
void block_stop_behind(SoftCpu *cpu, const Insn *insn);
/* Takes back from insn_count what a block did not execute from `insn` on (itself included). */
void block_uncount(SoftCpu *cpu, const Insn *insn);
