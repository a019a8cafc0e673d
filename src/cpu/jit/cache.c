/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Memory of translated code, W^X by two mappings of one memfd; translations of a vCPU and how they
 * are linked.
 *
 * Code and what describes it are only ever added; everything goes at once when one of the two areas
 * is full, or when the blocks do.
 */
#include "cpu/jit/jit.h"

#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/reserve.h"

#define CODE_SIZE      ((size_t)MIB(64))
#define COLD_START     ((size_t)MIB(24)) /* what follows is seldom executed */
#define CODE_ROOM      ((size_t)KIB(96)) /* more than either part of any translation */
#define ARENA_SIZE     ((size_t)MIB(64))
#define ARENA_ROOM     ((size_t)KIB(64))
#define X87_SITES_SIZE (JIT_X87_SITES * sizeof(JitX87Site))
#define BLOCKS_SIZE    (ARENA_SIZE / sizeof(JitBlock) * sizeof(JitRef))
#define RETURNS_SIZE   ((size_t)KIB(256)) /* with room for signals below the limit */
#define RETURNS_USED   ((size_t)KIB(32))
#define RED_ZONE       128
#define ARENA_START    64 /* no JitRef is 0 */
#define RIPS_MOST      8  /* of a block: for programs in turn, not for all that ended */

bool jit_cache_init(JitCpu *jit)
{
    int fd = memfd_create("ospite-translations", MFD_CLOEXEC);
    if (fd < 0)
        return false;
    void *write = MAP_FAILED, *run = MAP_FAILED;
    if (ftruncate(fd, CODE_SIZE) == 0) {
        write = mmap(NULL, CODE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        run = mmap(NULL, CODE_SIZE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    }
    close(fd);
    jit->write = write == MAP_FAILED ? NULL : write;
    jit->run = run == MAP_FAILED ? NULL : run;
    jit->arena = reserve_new(ARENA_SIZE, true);
    jit->x87_sites = reserve_new(X87_SITES_SIZE, false);
    jit->blocks = reserve_new(BLOCKS_SIZE, false);
    jit->returns_area = reserve_new(RETURNS_SIZE, false);
    jit->returns = (uintptr_t)jit->returns_area + RETURNS_SIZE - RED_ZONE;
    jit->returns_limit = jit->returns - RETURNS_USED;
    jit->arena_used = ARENA_START;
    jit->limit = COLD_START;
    jit->cold_used = COLD_START;
    if (jit->write && jit->run && jit->arena && jit->x87_sites && jit->blocks &&
        jit->returns_area && mprotect(jit->returns_area, GUEST_PAGE_SIZE, PROT_NONE) == 0)
        return true;
    jit_cache_clear(jit);
    return false;
}

void jit_cache_clear(JitCpu *jit)
{
    reserve_free(jit->write, CODE_SIZE);
    reserve_free(jit->run, CODE_SIZE);
    reserve_free(jit->arena, ARENA_SIZE);
    reserve_free(jit->x87_sites, X87_SITES_SIZE);
    reserve_free(jit->blocks, BLOCKS_SIZE);
    reserve_free(jit->returns_area, RETURNS_SIZE);
    jit->returns_area = NULL;
    jit->x87_sites = NULL;
    jit->blocks = NULL;
    jit->write = jit->run = jit->arena = NULL;
}

void *jit_alloc(JitCpu *jit, size_t size)
{
    void *memory = jit->arena + jit->arena_used;
    jit->arena_used += align_up(size, 8);
    memset(memory, 0, size);
    return memory;
}

static void forget_translation(JitBlock *translation)
{
    translation->block->translations = NULL;
    translation->block->heat = 0;
}

void jit_cache_flush(SoftCpu *cpu)
{
    JitCpu *jit = cpu->jit;
    if (!jit->flush) { /* else the blocks are gone already */
        for (uint32_t i = 0; i < jit->block_count; i++)
            forget_translation(jit_at(jit, jit->blocks[i]));
    }
    jit->flush = false;
    jit->used = jit->thunks_end;
    jit->cold_used = COLD_START;
    jit->arena_used = ARENA_START;
    jit->x87_site_count = 0;
    jit->block_count = 0;
    jit->link = NULL;
    jit->retire = NULL;
    memset(jit->jumps, 0, sizeof(jit->jumps));
    memset(jit->decoded, 0, sizeof(jit->decoded));
    jit->stat_flushes++;
}

uint8_t *jit_cache_space(JitCpu *jit, uint8_t **ret_cold)
{
    if (jit->limit < jit->used + CODE_ROOM || CODE_SIZE < jit->cold_used + CODE_ROOM ||
        ARENA_SIZE - jit->arena_used < ARENA_ROOM ||
        JIT_X87_SITES - jit->x87_site_count < BLOCK_MAX_INSNS)
        return NULL;
    *ret_cold = jit->write + jit->cold_used;
    return jit->write + jit->used;
}

JitBlock *jit_block_at(const JitCpu *jit, const uint8_t *host)
{
    uint64_t offset = host - jit->run;
    bool cold = offset >= COLD_START;
    if (offset < jit->thunks_end || offset >= (cold ? jit->cold_used : jit->used))
        return NULL;
    uint32_t low = 0, high = jit->block_count; /* starts at or before it; or behind */
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        const JitBlock *translation = jit_at(jit, jit->blocks[middle]);
        if ((cold ? translation->cold : translation->start) <= offset)
            low = middle;
        else
            high = middle;
    }
    return jit_at(jit, jit->blocks[low]);
}

JitBlock *jit_find(const JitCpu *jit, Block *block, uint64_t rip, bool plain)
{
    JitBlock *before = NULL;
    for (JitBlock *translation = block->translations; translation;
         before = translation, translation = jit_at(jit, translation->next)) {
        if (translation->rip != rip || translation->plain != plain ||
            translation->code_key != jit->code_key)
            continue;
        if (before) { /* the others may be of programs that ended */
            before->next = translation->next;
            translation->next = jit_ref(jit, block->translations);
            block->translations = translation;
        }
        return translation;
    }
    return NULL;
}

/* ---- links -------------------------------------------------------------------------------------
 */

/* Plain stores here and below: sanitizers make calls of memcpy(), which changes vector registers.
 */
static void patch(JitCpu *jit, uint32_t site, uint32_t target)
{
    *(uint32_t *)(jit->write + site) = target - (site + 4);
}

static void unlink_from_target(JitCpu *jit, JitLink *link)
{
    JitRef *at = &((JitBlock *)jit_at(jit, link->to))->in, ref = jit_ref(jit, link);
    while (*at != ref)
        at = &((JitLink *)jit_at(jit, *at))->next_in;
    *at = link->next_in;
    link->to = 0;
}

static uint32_t entry_for(const JitLink *link, const JitBlock *to)
{
    bool loaded = !(to->fpu & ~link->fpu);
    return loaded && to->body ? to->body : to->entry[link->host_flags];
}

static void patch_link(JitCpu *jit, const JitLink *link)
{
    const JitBlock *to = jit_at(jit, link->to);
    bool saves = link->again && to && to->flagged;
    patch(jit, link->site, to && !saves ? entry_for(link, to) : link->unlinked);
    if (link->again)
        patch(jit, link->again, saves ? entry_for(link, to) : link->again + 4);
}

void jit_link(SoftCpu *cpu, JitLink *link, JitBlock *to)
{
    JitCpu *jit = cpu->jit;
    const JitBlock *from = jit_at(jit, link->from);
    JitRef ref = jit_ref(jit, to);
    if (from->dead || to->dead)
        return;
    if (link->to != ref) {
        if (link->to)
            unlink_from_target(jit, link);
        link->to = ref;
        link->next_in = to->in;
        to->in = jit_ref(jit, link);
    }
    if (link->guard)
        *(uint32_t *)(jit->write + link->guard) = cpu->map_generation[link->target >> 63];
    patch_link(jit, link);
    jit->stat_links++;
}

void jit_guess(SoftCpu *cpu, JitGuess *guess, JitBlock *to)
{
    JitLink *link = &guess->link;
    if (link->to)
        unlink_from_target(cpu->jit, link);
    link->target = to->rip;
    *(uint64_t *)(cpu->jit->write + guess->expected) = to->rip;
    jit_link(cpu, link, to);
}

void jit_unlink(JitCpu *jit, JitBlock *translation)
{
    for (JitLink *link = jit_at(jit, translation->out); link; link = jit_at(jit, link->next_out)) {
        if (link->to) {
            unlink_from_target(jit, link);
            patch_link(jit, link);
        }
    }
}

static void translation_kill(JitCpu *jit, JitBlock *translation)
{
    JitJump *jump = jit_jump(jit, translation->rip | translation->code_key);
    translation->dead = true;
    if (jump->host == jit->run + translation->jump)
        *jump = (JitJump){0};
    while (translation->in) {
        JitLink *link = jit_at(jit, translation->in);
        unlink_from_target(jit, link);
        patch_link(jit, link);
    }
    for (JitLink *link = jit_at(jit, translation->out); link; link = jit_at(jit, link->next_out)) {
        if (link->to)
            unlink_from_target(jit, link);
    }
}

void jit_add(JitCpu *jit, JitBlock *translation)
{
    Block *block = translation->block;
    translation->next = jit_ref(jit, block->translations);
    block->translations = translation;
    block->named = true;
    for (unsigned i = 1; i < RIPS_MOST && translation; i++)
        translation = jit_at(jit, translation->next);
    if (!translation || !translation->next)
        return;
    JitBlock *oldest = jit_at(jit, translation->next);
    translation->next = oldest->next;
    translation_kill(jit, oldest);
}

void jit_retire(JitCpu *jit)
{
    JitBlock *translation = jit->retire;
    jit->retire = NULL;
    if (translation->dead)
        return;
    JitBlock *before = translation->block->translations;
    if (before == translation) {
        translation->block->translations = jit_at(jit, translation->next);
    } else {
        while (jit_at(jit, before->next) != translation)
            before = jit_at(jit, before->next);
        before->next = translation->next;
    }
    translation_kill(jit, translation);
    translation->block->heat = jit->warm;
}

void jit_block_dropped(SoftCpu *cpu, Block *block)
{
    JitCpu *jit = cpu->jit;
    if (!jit->flush) {
        for (JitBlock *translation = block->translations; translation;
             translation = jit_at(jit, translation->next))
            translation_kill(jit, translation);
    }
    block->translations = NULL;
    block->heat = 0;
    cpu->translation_stop = true;
}

void jit_neighbour_dropped(SoftCpu *cpu, Block *block)
{
    for (const JitBlock *translation = block->translations; translation;
         translation = jit_at(cpu->jit, translation->next)) {
        if (translation->relies) {
            jit_block_dropped(cpu, block);
            return;
        }
    }
}

void jit_mapping_changed(SoftCpu *cpu, unsigned half)
{
    if (!(cpu->map_generation[half] >> 1 & ((1 << JIT_STAMP_BITS) - 1))) /* stamps come again */
        memset(cpu->jit->jumps, 0, sizeof(cpu->jit->jumps));
}

void jit_blocks_cleared(SoftCpu *cpu)
{
    cpu->jit->flush = true;
    cpu->translation_stop = true;
}
