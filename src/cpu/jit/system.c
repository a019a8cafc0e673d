/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Ways of 64-bit kernels in and out that translated code takes without going through the loop:
 * SYSCALL, SYSRET, IRETQ between flat segments; and filling the TLB.
 *
 * Each transfer either does nothing and returns NULL, and the instruction's handler does it all;
 * or does all of it and returns the host code that goes on. Called while the guest's vector
 * registers are in the host's, so this file is compiled without them and calls nothing outside of
 * such files.
 */
#include "cpu/jit/system.h"

#include <stdatomic.h>

#include "cpu/soft/access.h"
#include "cpu/soft/system.h"

#define SYSRET_FLAGS 0x3c7fd7
#define IRETQ_FLAGS                                                                              \
    (FLAGS_ARITHMETIC | FLAG_DF | FLAG_NT | FLAG_AC | FLAG_ID | FLAG_IF | FLAG_IOPL | FLAG_VIF | \
     FLAG_VIP)
#define CPL_MASK (3u << MODE_CPL_SHIFT)

/* ---- code segments -------------------------------------------------------------------------- */

#define PROBES 16

/* Two that took turns in one place would be new each time, and so would their translations. */
static JitCode *find_code(JitCpu *jit, uint32_t base, uint32_t limit)
{
    unsigned hash = (base * 0x9e3779b1u ^ limit * 0x85ebca6bu) >> (32 - JIT_CODES_BITS);
    for (unsigned i = 0; i < PROBES; i++) {
        JitCode *code = &jit->codes[(hash + i) % JIT_CODES];
        if (!code->key || (code->base == base && code->limit == limit))
            return code;
    }
    return &jit->codes[(hash + jit->last_code % PROBES) % JIT_CODES];
}

void jit_set_code(SoftCpu *cpu)
{
    JitCpu *jit = cpu->jit;
    const Segment *cs = &cpu->s.seg[SEG_CS];
    if (!jit_is_segmented(cpu->mode)) {
        jit->code_key = 0;
        return;
    }
    JitCode *code = find_code(jit, cs->base, cs->limit);
    if (!code->key || code->base != cs->base || code->limit != cs->limit)
        *code = (JitCode){
            .key = (uint64_t)++jit->last_code << 32, .base = cs->base, .limit = cs->limit};
    jit->code_key = code->key;
}

/* ---- arriving ------------------------------------------------------------------------------- */

static bool must_look(const SoftCpu *cpu)
{
    return atomic_load_explicit(&cpu->exit_request, memory_order_relaxed);
}

/* What cpu_update_mode() does when nothing but the privilege level and AC changes, in 64-bit code.
 */
static void set_cpl(SoftCpu *cpu, unsigned cpl)
{
    bool nosmap = cpu->s.cr4 & CR4_SMAP && cpu->s.rflags & FLAG_AC;
    cpu->cpl = cpl;
    cpu->mode = (cpu->mode & ~CPL_MASK) | cpl << MODE_CPL_SHIFT;
    jit_set_stamps(cpu);
    cpu->mmu_index = cpl == 3 ? MMU_USER : nosmap ? MMU_KERNEL_NOSMAP : MMU_KERNEL;
    cpu->tlb = cpu->tlbs[cpu->mmu_index];
}

/* The code at RIP, or the way to the loop, which finds it. */
static const uint8_t *go_to(SoftCpu *cpu, uint64_t rip)
{
    uint64_t key = rip | cpu->jit->code_key;
    const uint8_t *host = jit_jump_host(cpu, jit_jump(cpu->jit, key), key);
    cpu->s.rip = rip;
    cpu->jit->ret = 0;
    return host && !must_look(cpu) ? host : cpu->jit->thunks.leave;
}

static void set_flat(SoftCpu *cpu, unsigned seg, uint16_t selector, uint32_t attributes)
{
    Segment *s = &cpu->s.seg[seg];
    s->selector = selector;
    s->attributes = attributes | SEGMENT_G | SEGMENT_P | SEGMENT_S | SEGMENT_ACCESSED |
                    (uint32_t)(selector & 3) << SEGMENT_DPL_SHIFT;
    s->limit = UINT32_MAX;
    s->base = 0;
}

/* Flags that SYSRET and IRETQ may load without the handler's help. */
static bool flags_are_plain(const SoftCpu *cpu, uint64_t flags, unsigned cpl)
{
    return !(flags & (FLAG_TF | FLAG_VM)) &&
           !(cpl == 3 && flags & FLAG_AC && cpu->s.cr0 & CR0_AM) &&
           !(flags & FLAG_IF && cpu->interrupt_waits);
}

/* ---- SYSCALL, SYSRET ------------------------------------------------------------------------ */

const uint8_t *jit_syscall(SoftCpu *cpu, uint64_t next, uint64_t what)
{
    CpuState *s = &cpu->s;
    if (!(s->efer & EFER_SCE))
        return NULL;
    uint16_t selector = s->star >> 32 & 0xfffc;
    s->gpr[GPR_RCX] = next;
    s->gpr[GPR_R11] = flags_get(cpu) & ~(uint64_t)FLAG_RF;
    flags_set(cpu, s->gpr[GPR_R11] & ~s->sfmask);
    set_flat(cpu, SEG_CS, selector, SEGMENT_L | SEGMENT_CODE | SEGMENT_READABLE);
    set_flat(cpu, SEG_SS, selector + 8, SEGMENT_DB | SEGMENT_WRITABLE);
    set_cpl(cpu, 0);
    return go_to(cpu, s->lstar);
}

const uint8_t *jit_sysret(SoftCpu *cpu, uint64_t next, uint64_t what)
{
    CpuState *s = &cpu->s;
    uint64_t flags = s->gpr[GPR_R11] & SYSRET_FLAGS, rip = s->gpr[GPR_RCX];
    uint16_t selector = (s->star >> 48 & 0xfffc) | 3;
    if (!(s->efer & EFER_SCE) || !is_canonical48(rip) || !flags_are_plain(cpu, flags, 3))
        return NULL;
    flags_set(cpu, flags);
    set_flat(cpu, SEG_CS, selector + 16, SEGMENT_L | SEGMENT_CODE | SEGMENT_READABLE);
    set_flat(cpu, SEG_SS, selector + 8, SEGMENT_DB | SEGMENT_WRITABLE);
    set_cpl(cpu, 3);
    return go_to(cpu, rip);
}

/* ---- IRETQ ---------------------------------------------------------------------------------- */

/* Host address of what the TLB lets the kernel read; NULL: ask the long way. */
static const uint64_t *peek(const SoftCpu *cpu, const TlbEntry *tlb, uint64_t linear, unsigned size)
{
    const TlbEntry *entry = &tlb[linear >> GUEST_PAGE_SHIFT & (TLB_SIZE - 1)];
    if ((linear ^ entry->tag_read) > GUEST_PAGE_SIZE - size)
        return NULL;
    return (const uint64_t *)(linear + entry->addend);
}

/* The descriptor of the GDT, if it is a code or data segment of the selector's RPL that is present
 * and accessed. */
static bool read_segment(const SoftCpu *cpu, uint16_t selector, Segment *seg)
{
    const uint32_t needed = SEGMENT_P | SEGMENT_S | SEGMENT_ACCESSED;
    uint32_t index = selector & 0xfff8;
    if (selector & 4 || !index || index + 7 > cpu->s.gdtr.limit)
        return false;
    const uint64_t *host = peek(cpu, cpu->tlbs[MMU_KERNEL], cpu->s.gdtr.base + index, 8);
    if (!host)
        return false;
    uint64_t word = *host;
    seg->selector = selector;
    seg->attributes = word >> 40 & 0xf0ff;
    seg->limit = (word & 0xffff) | (word >> 32 & 0xf0000);
    if (seg->attributes & SEGMENT_G)
        seg->limit = seg->limit << 12 | 0xfff;
    seg->base = (word >> 16 & 0xffffff) | word >> 56 << 24;
    return (seg->attributes & needed) == needed && segment_dpl(seg) == (selector & 3);
}

static bool read_return_segments(const SoftCpu *cpu, uint16_t cs_selector, uint16_t ss_selector,
                                 Segment *cs, Segment *ss)
{
    unsigned cpl = cs_selector & 3;
    if ((cpl != 0 && cpl != 3) || (ss_selector & 3) != cpl || !read_segment(cpu, cs_selector, cs) ||
        (cs->attributes & (SEGMENT_CODE | SEGMENT_L | SEGMENT_DB | SEGMENT_CONFORMING)) !=
            (SEGMENT_CODE | SEGMENT_L))
        return false;
    if (!(ss_selector & 0xfffc) && cpl == 0) {
        *ss = (Segment){.attributes = SEGMENT_UNUSABLE | SEGMENT_DB};
        return true;
    }
    return read_segment(cpu, ss_selector, ss) &&
           (ss->attributes & (SEGMENT_CODE | SEGMENT_WRITABLE)) == SEGMENT_WRITABLE;
}

/* None of the data segments would have to be hidden from ring 3. */
static bool data_segments_stay(const SoftCpu *cpu)
{
    static const uint8_t data[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};
    for (unsigned i = 0; i < G_N_ELEMENTS(data); i++) {
        const Segment *seg = &cpu->s.seg[data[i]];
        if (!segment_is_null(seg) && segment_dpl(seg) < 3)
            return false;
    }
    return true;
}

const uint8_t *jit_iretq(SoftCpu *cpu, uint64_t next, uint64_t what)
{
    CpuState *s = &cpu->s;
    const uint64_t *frame = peek(cpu, cpu->tlb, s->gpr[GPR_RSP], 40);
    Segment cs, ss;
    if (!frame || s->rflags & FLAG_NT || s->nmi_blocked)
        return NULL;
    uint64_t rip = frame[0], flags = frame[2];
    unsigned cpl = frame[1] & 3;
    if (!is_canonical48(rip) || !flags_are_plain(cpu, flags, cpl) ||
        !read_return_segments(cpu, frame[1], frame[4], &cs, &ss) ||
        (cpl == 3 && !data_segments_stay(cpu)))
        return NULL;
    s->gpr[GPR_RSP] = frame[3];
    s->seg[SEG_CS] = cs;
    s->seg[SEG_SS] = ss;
    flags_set(cpu, (flags & IRETQ_FLAGS) | (s->rflags & ~(uint64_t)(IRETQ_FLAGS | FLAG_RF)));
    set_cpl(cpu, cpl);
    return go_to(cpu, rip);
}

/* ---- indirect branches ---------------------------------------------------------------------- */

/* Before the first guess is given up, and eight times as many each time. */
#define GUESS_MISSES 32

void jit_learn(SoftCpu *cpu, uint64_t target, JitGuess *guess)
{
    JitCpu *jit = cpu->jit;
    JitBlock *to = NULL;
    const uint8_t *host = jit_jump_host(cpu, jit_jump(jit, target), target);
    guess->misses = GUESS_MISSES << 3 * MIN(guess->rounds, 7);
    if (host)
        to = jit_block_at(jit, host);
    if (!to || to->dead || to->rip != target)
        return;
    guess->rounds++;
    jit_guess(cpu, guess, to);
}

/* ---- far transfers of 16 bits in real and virtual-8086 mode ---------------------------------- */

/* CS as these modes make it: a load changes its base alone. */
static bool code_is_paragraph(const SoftCpu *cpu)
{
    const uint32_t type = SEGMENT_P | SEGMENT_S | SEGMENT_WRITABLE | SEGMENT_ACCESSED,
                   kept = SEGMENT_DB | SEGMENT_G | SEGMENT_AVL;
    bool v86 = cpu->s.rflags & FLAG_VM;
    return (cpu->s.seg[SEG_CS].attributes & ~kept) == (type | (v86 ? SEGMENT_DPL : SEGMENT_CODE));
}

/* Host address of `size` bytes of the stack at SP; NULL: ask the long way. */
static uint16_t *stack_words(const SoftCpu *cpu, uint16_t sp, unsigned size, bool write)
{
    uint32_t linear = cpu->seg_base[SEG_SS] + sp;
    const TlbEntry *entry = &cpu->tlb[linear >> GUEST_PAGE_SHIFT & (TLB_SIZE - 1)];
    uint64_t tag = write ? entry->tag_write : entry->tag_read;
    unsigned last = sp + size - 1;
    if (cpu->stack_size != 2 || last > UINT16_MAX || (int64_t)last > cpu->seg_last[write][SEG_SS] ||
        (linear ^ tag) > GUEST_PAGE_SIZE - size)
        return NULL;
    return (uint16_t *)(linear + entry->addend);
}

static void move_sp(SoftCpu *cpu, uint16_t by)
{
    uint64_t rsp = cpu->s.gpr[GPR_RSP];
    cpu->s.gpr[GPR_RSP] = (rsp & ~(uint64_t)UINT16_MAX) | (uint16_t)(rsp + by);
}

static const uint8_t *go_far(SoftCpu *cpu, uint16_t selector, uint16_t ip)
{
    Segment *cs = &cpu->s.seg[SEG_CS];
    cs->selector = selector;
    cs->base = cpu->seg_base[SEG_CS] = (uint32_t)selector << 4;
    jit_set_code(cpu);
    return go_to(cpu, ip);
}

/* IRET of 16 bits. */
static bool load_flags(SoftCpu *cpu, uint16_t flags)
{
    const uint64_t mask = FLAGS_ARITHMETIC | FLAG_TF | FLAG_DF | FLAG_NT | FLAG_IF | FLAG_IOPL;
    if (cpu->s.rflags & FLAG_VM || cpu->s.nmi_blocked || flags & FLAG_TF ||
        (flags & FLAG_IF && cpu->interrupt_waits))
        return false;
    flags_set(cpu, (flags & mask) | (cpu->s.rflags & ~mask));
    return true;
}

static const uint8_t *return_far(SoftCpu *cpu, bool interrupt, uint16_t popped)
{
    unsigned size = interrupt ? 6 : 4;
    const uint16_t *frame = stack_words(cpu, cpu->s.gpr[GPR_RSP], size, false);
    if (!frame || frame[0] > cpu->s.seg[SEG_CS].limit || (interrupt && !load_flags(cpu, frame[2])))
        return NULL;
    move_sp(cpu, size + popped);
    return go_far(cpu, frame[1], frame[0]);
}

static const uint8_t *call_far(SoftCpu *cpu, uint64_t next, uint32_t target)
{
    uint16_t *frame = stack_words(cpu, cpu->s.gpr[GPR_RSP] - 4, 4, true);
    if (!frame || (target & UINT16_MAX) > cpu->s.seg[SEG_CS].limit)
        return NULL;
    frame[1] = cpu->s.seg[SEG_CS].selector;
    frame[0] = next;
    move_sp(cpu, -4);
    return go_far(cpu, target >> 16, target);
}

static const uint8_t *interrupt_far(SoftCpu *cpu, uint64_t next, uint32_t vector)
{
    CpuState *s = &cpu->s;
    uint16_t *frame = stack_words(cpu, s->gpr[GPR_RSP] - 6, 6, true);
    const uint64_t *entry =
        peek(cpu, cpu->tlbs[MMU_KERNEL], (uint32_t)(s->idtr.base + vector * 4), 4);
    if (!frame || !entry || s->rflags & FLAG_VM || cpu->traces || vector * 4 + 3 > s->idtr.limit)
        return NULL;
    uint32_t target = *(const uint32_t *)entry;
    frame[2] = flags_get(cpu);
    frame[1] = s->seg[SEG_CS].selector;
    frame[0] = next;
    s->rflags &= ~(uint64_t)(FLAG_IF | FLAG_TF | FLAG_RF | FLAG_AC);
    move_sp(cpu, -6);
    return go_far(cpu, target >> 16, target);
}

const uint8_t *jit_far(SoftCpu *cpu, uint64_t next, uint64_t what)
{
    uint32_t operand = what;
    if (!code_is_paragraph(cpu))
        return NULL;
    switch (what >> 32 & 0xff) {
    case JIT_FAR_JUMP:
        return (operand & UINT16_MAX) <= cpu->s.seg[SEG_CS].limit
                   ? go_far(cpu, operand >> 16, operand)
                   : NULL;
    case JIT_FAR_CALL:
        return call_far(cpu, next, operand);
    case JIT_FAR_RETURN:
        return return_far(cpu, false, what >> 40);
    case JIT_FAR_IRET:
        return return_far(cpu, true, 0);
    default:
        return interrupt_far(cpu, next, operand);
    }
}

/* ---- the TLB -------------------------------------------------------------------------------- */

/* Of the TSC: where misses come sooner, they are a good part of the time. */
#define TICKS_PER_MISS  150  /* else: a program that goes through its memory needs new pages */
#define TICKS_PER_FRAME 2000 /* what lies on the edge of two pages stays there */
#define TICKS_TO_COUNT  6000 /* together with others they may be */
#define RUNS_COUNTED    2048
#define RUNS_PER_MISS   8 /* where fewer come to one, looking the TLB up costs less */

/* Soon: it leaves to the loop at its end. */
static void retire(JitCpu *jit, JitBlock *translation)
{
    jit->retire = translation;
    jit_unlink(jit, translation);
}

/* Big programs miss in many places, and little in each: what part of a block's runs do is counted
 * for a while. */
static bool misses_often(JitCpu *jit, JitSite *site, uint64_t ticks)
{
    JitBlock *from = site->from;
    Block *block = from->block;
    if (!block->counted && ticks < TICKS_TO_COUNT) {
        block->counting = block->counted = true;
        retire(jit, from);
    }
    if (!from->counts)
        return false;
    uint32_t runs = from->runs - site->runs;
    site->runs = from->runs;
    if (from->runs > RUNS_COUNTED) {
        block->counting = false;
        retire(jit, from);
    }
    return runs < JIT_SITE_MISSES * RUNS_PER_MISS;
}

/* A range that goes on behind its page is had once for each access from then on, and so is a site
 * that frames on two pages take from each other; other accesses look the TLB up. */
void jit_site_missed(SoftCpu *cpu, uint64_t linear, JitSite *site)
{
    uint64_t now = __builtin_ia32_rdtsc(), ticks = (now - site->since) / JIT_SITE_MISSES;
    Block *block = site->from->block;
    bool crosses = site->shared && (linear & (GUEST_PAGE_SIZE - 1)) > site->limit;
    bool stack = jit_is_stack_site(site->site), frame = stack || (crosses && !site->steps);
    uint64_t *set = crosses ? &block->split
                    : stack ? &block->apart
                            : &block->scattered,
             bit = UINT64_C(1) << site->insn;
    bool looks_up = site->site == (uint32_t)JIT_AT(unused_site); /* the TLB already */
    site->misses = JIT_SITE_MISSES;
    site->since = now;
    if (cpu->jit->retire || site->from->dead)
        return;
    bool often = frame ? ticks < TICKS_PER_FRAME : !block->hot && ticks < TICKS_PER_MISS;
    often |= !crosses && misses_often(cpu->jit, site, ticks);
    if (!often || (looks_up && !crosses) || *set & bit)
        return;
    *set |= bit;
    if (!block->counting)
        retire(cpu->jit, site->from);
}

bool jit_fill_tlb(SoftCpu *cpu, uint64_t linear, unsigned how)
{
    return mmu_fill_quick(cpu, linear, how & 0xffff, how & JIT_FILL_WRITE ? MMU_WRITE : MMU_READ);
}

uintptr_t jit_beside_code(SoftCpu *cpu, uint64_t linear, unsigned how)
{
    return mmu_beside_code(cpu, linear, how & 0xffff);
}
