/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Memory operands (jit.h, SoftCpu.sites).
 *
 *   direct    lea r9,[base+low]; xor r9,tag; cmp r9,4096-span; ja miss; mov r10,addend;
 *             op [base+r10+disp]
 *   fixed     cmp tag,page; jne miss; mov r10,addend; op [r10+address]
 *   uniform   r9 = address; mov r10,tag; xor r10,r9; cmp r10,4096-span; ja miss; add r9,addend;
 *             op [r9+disp-low]
 *   scattered the same with the entry of the TLB in r10 instead of a site, where those missed often
 *   miss      looks the TLB up, fills the site and comes back; else fills the TLB; else the
 *             instruction is executed by its handler
 *
 * One check serves all accesses of the block through the same registers that lie near each other
 * (span), as long as those change by constants alone: the others just load the addend of the site.
 * Where such a check fails for good (the span crosses a page, devices, …) the block is left for a
 * plain translation of its rest, in which each access stands for itself.
 */
#include "cpu/jit/system.h"

#include "base/bits.h"
#include "cpu/soft/x87_internal.h"

#define STACK_SPAN_MAX 256

/* ---- addresses ---------------------------------------------------------------------------------
 */

static bool is_natural(const Translation *t, const Insn *insn)
{
    return insn->addr_size == (t->mode64 ? 8 : 4);
}

static JitAddress operand_address(const Insn *insn)
{
    return (JitAddress){.base = insn->base,
                        .index = insn->index,
                        .scale = insn->index == GPR_NONE ? 0 : insn->scale,
                        .disp = insn->disp};
}

static void hold_in(Translation *t, unsigned scratch, JitHeld wanted)
{
    Emit *e = &t->e;
    JitHeld held = t->now.held[scratch - SCRATCH1];
    if (held.addend != wanted.addend || (held.base && held.base != wanted.base)) {
        emit_load(e, scratch, rm_state(wanted.addend));
        held.base = 0;
    }
    if (held.base != wanted.base)
        emit_op(e, 0x8d | OP_W, scratch,
                (Rm){.kind = RM_MEM, .base = scratch, .index = guest_host(wanted.base - 1)});
    scratch_lost(t, scratch);
    t->now.held[scratch - SCRATCH1] = wanted;
}

/* The scratch register that holds it; SCRATCH1 if that is free, and SCRATCH2 holds another. */
static unsigned hold(Translation *t, JitHeld wanted, bool free)
{
    const JitHeld *held = t->now.held;
    bool other = held[1].addend &&
                 (held[1].addend != wanted.addend || (held[1].base && held[1].base != wanted.base));
    unsigned scratch = free && other ? SCRATCH1 : SCRATCH2;
    hold_in(t, scratch, wanted);
    return scratch;
}

/* Into a scratch register; SCRATCH2 changes if the index is in memory. EFLAGS stay. */
static void emit_address_to(Translation *t, JitAddress at, bool wide, unsigned scratch)
{
    uint64_t mask = wide ? UINT64_MAX : UINT32_MAX;
    Rm rm = {.kind = RM_MEM,
             .base = HOST_NONE,
             .index = HOST_NONE,
             .scale = at.scale,
             .disp = (int32_t)at.disp};
    if (at.base != GPR_NONE && at.base != GPR_BLOCK_RIP)
        rm.base = guest_read(t, at.base, t->now.copied == at.base ? SCRATCH1 : scratch);
    if (at.index != GPR_NONE)
        rm.index = guest_read(t, at.index, SCRATCH2);
    scratch_lost(t, scratch);
    if (at.base == GPR_BLOCK_RIP)
        emit_constant(&t->e, scratch, (t->rip + at.disp) & mask);
    else if (rm.base == HOST_NONE && rm.index == HOST_NONE && !wide)
        emit_constant(&t->e, scratch, (uint32_t)at.disp);
    else if (!wide || rm.base == HOST_NONE || rm.index != HOST_NONE || rm.disp)
        emit_op(&t->e, 0x8d | (wide ? OP_W : 0), scratch, rm);
    else if (rm.base != scratch)
        emit_move(&t->e, scratch, rm.base);
}

static void emit_address(Translation *t, JitAddress at, bool wide)
{
    emit_address_to(t, at, wide, SCRATCH1);
}

void emit_offset(Translation *t, JitAddress at, unsigned addr_size)
{
    bool constant = at.base >= GPR_NONE && at.index == GPR_NONE;
    if (addr_size == 2 && constant)
        at.disp &= UINT16_MAX;
    emit_address(t, at, addr_size == 8);
    if (addr_size == 2 && !constant)
        emit_op(&t->e, 0xb7 | OP_0F, SCRATCH1, rm_reg(SCRATCH1)); /* movzx */
}

void address_of_operand(Translation *t, const Insn *insn)
{
    emit_offset(t, operand_address(insn), insn->addr_size);
}

static bool same_registers(const JitAddress *a, const JitAddress *b)
{
    return a->base == b->base && a->index == b->index && a->scale == b->scale;
}

static bool is_constant(const JitAddress *at)
{
    return at->base >= GPR_NONE && at->index == GPR_NONE;
}

static uint64_t constant_linear(const Translation *t, const JitAddress *at)
{
    uint64_t linear = (at->base == GPR_BLOCK_RIP ? t->rip : 0) + at->disp;
    return t->mode64 ? linear : (uint32_t)linear;
}

/* Whether it may be a displacement of host code. */
static bool is_fixed(const Translation *t, const JitAddress *at)
{
    return is_constant(at) && (int64_t)constant_linear(t, at) == (int32_t)constant_linear(t, at);
}

/* ---- what comes later --------------------------------------------------------------------------
 */

static int operand_size(const Insn *insn, const JitOp *op)
{
    switch (op->kind) {
    case JIT_COPY:
        return op->memory ? op->memory : op->byte == 1 ? 1 : insn->op_size;
    case JIT_SIMD:
        return insn->imm >> 48 & 0xff;
    case JIT_X87:
        return ABS(x87_memory_size(insn));
    case JIT_PUSH_MEM:
    case JIT_DIVIDE:
    case JIT_DIVIDE_SIGNED:
    case JIT_BMI:
    case JIT_JMP_E:
    case JIT_CALL_E:
        return insn->op_size;
    default:
        return 0;
    }
}

static bool operand_written(const Insn *insn, const JitOp *op)
{
    return op->kind == JIT_X87
               ? x87_memory_size(insn) < 0
               : (op->kind == JIT_COPY || op->kind == JIT_SIMD) && op->rm & ROLE_WRITE;
}

unsigned find_accesses(const Translation *t, unsigned i, JitAccess *ret)
{
    const Insn *insn = &t->insns[i];
    const JitOp *op = &t->ops[i];
    unsigned count = 0;
    int size = t->mode64 ? 8 : 4;
    JitAddress stack = {.base = GPR_RSP, .index = GPR_NONE};
    if (insn->flags & INSN_MEMORY && operand_size(insn, op) && is_natural(t, insn) &&
        !has_base(insn))
        ret[count++] =
            (JitAccess){operand_address(insn), operand_size(insn, op), operand_written(insn, op)};
    switch (op->kind) {
    case JIT_PUSH:
    case JIT_PUSH_IMM:
    case JIT_PUSH_MEM:
    case JIT_CALL_REL:
    case JIT_CALL_E:
        stack.disp = -size;
        ret[count++] = (JitAccess){stack, size, true};
        break;
    case JIT_LEAVE:
        stack.base = GPR_RBP;
        G_GNUC_FALLTHROUGH;
    case JIT_POP:
    case JIT_RET:
        ret[count++] = (JitAccess){stack, size, false};
        break;
    default:
        break;
    }
    return count;
}

bool is_barrier(const JitOp *op)
{
    return op->kind == JIT_CALL || op->kind >= JIT_SYSTEM;
}

/* Widens [*low, *high) by an access that may be served by the same check. */
static bool widen(const Translation *t, const JitAddress *at, const JitAccess *access, int64_t disp,
                  int64_t *low, int64_t *high)
{
    int64_t first = MIN(*low, disp), last = MAX(*high, disp + access->size);
    if (is_constant(at)) {
        JitAddress from = *at, to = *at;
        from.disp = first;
        to.disp = last - 1;
        if ((constant_linear(t, &from) ^ constant_linear(t, &to)) >= GUEST_PAGE_SIZE)
            return false;
    } else if (last - first > (at->base == GPR_RSP ? STACK_SPAN_MAX : SPAN_MAX) ||
               first != (int32_t)first) {
        return false;
    }
    *low = first;
    *high = last;
    return true;
}

/* The range of later accesses that the check of this one can serve. Whether there are any. Of one
 * that is followed by a write for sure, a check for writing is made. */
static bool look_ahead(const Translation *t, JitAccess *access, int64_t *low, int64_t *high)
{
    const JitAddress *at = &access->at;
    int64_t moved = 0;
    bool found = false, sure = true;
    for (unsigned i = t->index; i < t->count; i++) {
        JitAccess later[INSN_MAX_ACCESSES];
        const JitOp *op = &t->ops[i];
        unsigned written = jit_written(&t->insns[i], op), reg,
                 count = i > t->index ? find_accesses(t, i, later) : 0;
        int64_t by;
        if (is_barrier(op))
            break;
        for (unsigned n = 0; n < count; n++) {
            bool one = same_registers(&later[n].at, at) &&
                       (access->write || sure || !later[n].write) &&
                       widen(t, at, &later[n], later[n].at.disp + moved, low, high);
            found |= one;
            access->write |= one && later[n].write;
        }
        sure &= op->kind != JIT_JCC && op->kind != JIT_LOOP;
        if (jit_is_step(t->block->mode, &t->insns[i], op, &reg, &by)) {
            moved += by * jit_steps_by(at, reg);
            written &= ~(1u << reg);
        }
        if (depends_on(at, written))
            break;
    }
    return found;
}

/* ---- facts -------------------------------------------------------------------------------------
 */

void facts_forget(Translation *t)
{
    for (unsigned i = 0; i < FACTS_MAX; i++)
        t->facts[i].valid = false;
}

bool depends_on(const JitAddress *at, unsigned set)
{
    return (at->base < GPR_NONE && set >> at->base & 1) ||
           (at->index < GPR_NONE && set >> at->index & 1);
}

void facts_after_insn(Translation *t)
{
    unsigned written = jit_written(t->insn, &t->op), reg = GPR_NONE;
    int64_t by;
    for (unsigned scratch = SCRATCH1; scratch <= SCRATCH2; scratch++) {
        unsigned base = t->now.held[scratch - SCRATCH1].base;
        if (base && written >> (base - 1) & 1)
            scratch_lost(t, scratch);
    }
    bool step = jit_is_step(t->block->mode, t->insn, &t->op, &reg, &by);
    for (unsigned i = 0; i < FACTS_MAX; i++) {
        JitFact *fact = &t->facts[i];
        int64_t moved = step ? by * jit_steps_by(&fact->at, reg) : 0;
        fact->low -= moved;
        fact->high -= moved;
        fact->aligned_at -= moved;
        if (depends_on(&fact->at, step ? written & ~(1u << reg) : written))
            fact->valid = false;
    }
}

static JitFact *find_fact(Translation *t, const JitAccess *access)
{
    for (unsigned i = 0; i < FACTS_MAX; i++) {
        JitFact *fact = &t->facts[i];
        if (fact->valid && same_registers(&fact->at, &access->at) &&
            (fact->write || !access->write) && fact->low <= access->at.disp &&
            access->at.disp + access->size <= fact->high)
            return fact;
    }
    return NULL;
}

static JitFact *new_fact(Translation *t)
{
    return &t->facts[t->next_fact++ % FACTS_MAX];
}

/* ---- the check ---------------------------------------------------------------------------------
 */

/* Where checks look: the site of the page as displacement from STATE. */
static uint32_t new_site(Translation *t, bool write, bool stack)
{
    unsigned kind = t->sited * 2 + write, n = 0;
    if (!stack)
        n = 1 + t->jit->next_site[kind]++ % (TLB_SITES - 1);
    g_assert(n < tlb_site_count(kind)); /* what is cleared */
    return offsetof(SoftCpu, sites) + (kind * TLB_SITES + n) * sizeof(TlbSite);
}

/* A check being written. */
typedef struct Check {
    JitAccess access;
    bool linear; /* there is no segment with a base */
    bool wide;   /* address of 64 bits */
    uint8_t segment, addr_size;
    bool implied; /* not the operand */
    bool shared;  /* serves [low, high) */
    int64_t low, high;
    uint32_t site;
    unsigned align;
    bool scattered; /* the TLB is looked up, not the site */
} Check;

static Stub *miss_stub(Translation *t, const Check *check, unsigned condition)
{
    unsigned span = check->high - check->low;
    Stub *stub = new_stub(t, STUB_MISS);
    stub->site = jit_alloc(t->jit, sizeof(JitSite));
    *stub->site =
        (JitSite){.limit = GUEST_PAGE_SIZE - span,
                  .site = check->site,
                  .how = span | (check->access.write ? JIT_FILL_WRITE : 0),
                  .shared = check->shared,
                  .steps = t->round && step_of_round(t, t->round, &check->access.at),
                  .insn = index_in_block(t, t->index),
                  .misses = check->scattered && !check->shared ? INT32_MAX : JIT_SITE_MISSES,
                  .from = t->result};
    stub->align = condition == CC_NE ? check->align : 0;
    stub->from = emit_jcc(&t->e, condition, NULL);
    return stub;
}

/* SCRATCH1: the address, or what has the same offset in its page. */
static void check_alignment(Translation *t, unsigned align)
{
    if (!align)
        return;
    emit_op(&t->e, 0xf6, 0, rm_reg(SCRATCH1)); /* test r9b, align */
    e8(&t->e, align);
    slow_if(t, CC_NE);
}

static bool is_direct(const Translation *t, const JitAddress *at, bool wide)
{
    return t->mode64 && wide && at->index == GPR_NONE && at->base < GPR_NONE &&
           !guest_in_memory(at->base);
}

/* Whether the instruction leaves both scratch registers to its memory operand. */
static bool spares_scratch(const Translation *t)
{
    const JitOp *op = &t->op;
    bool byte = op->byte == 1, loads = op->reg == ROLE_WRITE && !byte && t->insn->op_size >= 4;
    if (op->kind == JIT_COPY)
        return !op->reg || loads || !guest_in_memory(byte ? t->insn->reg / 8 : t->insn->reg);
    return (op->kind == JIT_SIMD && !op->reg) || op->kind == JIT_JMP_E || op->kind == JIT_CALL_E;
}

/* The same through a copy in SCRATCH1 of a register in memory. */
static bool is_copied(const Translation *t, const JitAddress *at, bool wide, unsigned align)
{
    return t->mode64 && wide && at->index == GPR_NONE && at->base < GPR_NONE &&
           guest_in_memory(at->base) && !align && spares_scratch(t);
}

/* The registers of an address that needs no computation but the addend. */
static bool is_indexed(const Translation *t, const JitAddress *at, bool wide)
{
    return t->mode64 && wide && at->index < GPR_NONE && !guest_in_memory(at->index) &&
           at->base < GPR_NONE && !guest_in_memory(at->base);
}

void emit_find_entry(Translation *t)
{
    Emit *e = &t->e;
    emit_move(e, SCRATCH2, SCRATCH1);
    emit_op(e, 0xc1 | OP_W, 5, rm_reg(SCRATCH2));
    e8(e, GUEST_PAGE_SHIFT - 5);
    emit_op(e, 0x81, 4, rm_reg(SCRATCH2));
    e32(e, (TLB_SIZE - 1) * sizeof(TlbEntry));
    emit_op(e, 0x03 | OP_W, SCRATCH2, rm_state(CPU_AT(tlb)));
}

static int32_t entry_tag(const Check *check)
{
    return check->access.write ? offsetof(TlbEntry, tag_write) : offsetof(TlbEntry, tag_read);
}

/* Whether one test sees to page and alignment: what is aligned to its size can't cross pages. */
static bool tests_alignment(const Check *check)
{
    return check->align && check->high - check->low == check->align + 1;
}

static Stub *compare_tag(Translation *t, const Check *check, unsigned reg, Rm tag)
{
    bool test = tests_alignment(check);
    emit_op(&t->e, 0x33 | OP_W, reg, tag);
    emit_op(&t->e, (test ? 0xf7 : 0x81) | OP_W, test ? 0 : 7, rm_reg(reg));
    e32(&t->e, test ? (uint32_t)GUEST_PAGE_MASK | check->align
                    : GUEST_PAGE_SIZE - (check->high - check->low));
    return miss_stub(t, check, test ? CC_NE : CC_A);
}

/* Where the facts that the check proves find the addend. */
static uint32_t addend_of(const Translation *t, const Check *check)
{
    return check->scattered ? (uint32_t)JIT_AT(addends[t->index][check->implied])
                            : check->site + (uint32_t)offsetof(TlbSite, addend);
}

/* The operand by its own registers and the addend, which a scratch register may hold. */
static Rm by_addend(Translation *t, const JitAddress *at, uint32_t addend)
{
    bool indexed = at->index != GPR_NONE,
         copied = !indexed && at->base < GPR_NONE && guest_in_memory(at->base);
    if (at->base == GPR_RSP && indexed)
        settle_rsp(t);
    unsigned scratch =
        hold(t, (JitHeld){addend, indexed ? at->base + 1 : 0}, !copied && spares_scratch(t));
    if (is_constant(at))
        return rm_mem(scratch, (int32_t)constant_linear(t, at));
    if (at->base == GPR_RSP && at->index == GPR_NONE)
        return (Rm){.kind = RM_MEM,
                    .base = GUEST_RSP,
                    .index = scratch,
                    .disp = at->disp + t->now.rsp_moved};
    if (at->index == GPR_NONE)
        return (Rm){.kind = RM_MEM,
                    .base = guest_read(t, at->base, SCRATCH1),
                    .index = scratch,
                    .disp = at->disp};
    return (Rm){.kind = RM_MEM,
                .base = scratch,
                .index = guest_host(at->index),
                .scale = at->scale,
                .disp = at->disp};
}

/* What the site, or the entry in the TLB, of a constant address must be: the constant's page. */
static Rm fixed(Translation *t, const Check *check)
{
    Emit *e = &t->e;
    JitAddress at = check->access.at;
    at.disp = check->low;
    uint64_t linear = constant_linear(t, &at);
    Rm tag = rm_state(check->site), addend = rm_state(check->site + offsetof(TlbSite, addend));
    if (check->scattered) {
        int32_t entry = (linear >> GUEST_PAGE_SHIFT & (TLB_SIZE - 1)) * sizeof(TlbEntry);
        emit_load(e, SCRATCH2, rm_state(CPU_AT(tlb)));
        tag = rm_mem(SCRATCH2, entry + entry_tag(check));
        addend = rm_mem(SCRATCH2, entry + (int32_t)offsetof(TlbEntry, addend));
    }
    emit_op(e, 0x81 | OP_W, 7, tag); /* cmp */
    e32(e, linear & GUEST_PAGE_MASK);
    Stub *stub = miss_stub(t, check, CC_NE);
    stub->direct = true;
    stub->at = at;
    emit_load(e, SCRATCH2, addend);
    stub->resume = emit_here(e);
    if (check->scattered && check->shared)
        emit_store(e, SCRATCH2, rm_state(addend_of(t, check)));
    t->now.held[1].addend = addend_of(t, check);
    return by_addend(t, &check->access.at, addend_of(t, check));
}

static Rm direct(Translation *t, const Check *check)
{
    Emit *e = &t->e;
    JitAddress at = check->access.at;
    at.disp = check->low;
    bool aligns = check->align && !tests_alignment(check);
    unsigned scratch = check->scattered || aligns ? SCRATCH1 : SCRATCH2;
    if (guest_in_memory(at.base))
        guest_read(t, at.base, SCRATCH1);
    emit_address_to(t, at, true, scratch);
    Stub *stub;
    if (check->scattered) {
        emit_find_entry(t);
        stub = compare_tag(t, check, scratch, rm_mem(SCRATCH2, entry_tag(check)));
        emit_load(e, SCRATCH2, rm_mem(SCRATCH2, offsetof(TlbEntry, addend)));
    } else {
        stub = compare_tag(t, check, scratch, rm_state(check->site));
        emit_load(e, SCRATCH2, rm_state(check->site + offsetof(TlbSite, addend)));
    }
    stub->direct = true;
    stub->at = at;
    stub->resume = emit_here(e);
    if (check->scattered && check->shared)
        emit_store(e, SCRATCH2, rm_state(addend_of(t, check)));
    if (aligns)
        check_alignment(t, check->align);
    t->now.held[1].addend = addend_of(t, check);
    return by_addend(t, &check->access.at, addend_of(t, check));
}

static Rm uniform(Translation *t, const Check *check)
{
    Emit *e = &t->e;
    JitAddress at = check->access.at;
    at.disp = check->low;
    if (t->segmented) {
        emit_segment_linear(t, &(SegmentAccess){.at = at,
                                                .size = check->access.size,
                                                .write = check->access.write,
                                                .segment = check->segment,
                                                .addr_size = check->addr_size});
    } else {
        emit_address(t, at, check->wide);
        if (!check->linear)
            emit_op(e, 0x03 | OP_W, SCRATCH1, rm_state(CPU_AT(seg_base) + check->segment * 8));
    }
    Stub *stub;
    if (check->scattered) {
        Rm tag = rm_mem(SCRATCH2, entry_tag(check));
        emit_find_entry(t);
        stub = compare_tag(t, check, SCRATCH1, tag);
        stub->mixed = true;
        emit_op(e, 0x33 | OP_W, SCRATCH1, tag);
        emit_op(e, 0x03 | OP_W, SCRATCH1, rm_mem(SCRATCH2, offsetof(TlbEntry, addend)));
    } else {
        emit_move(e, SCRATCH2, SCRATCH1);
        stub = compare_tag(t, check, SCRATCH2, rm_state(check->site));
        emit_op(e, 0x03 | OP_W, SCRATCH1, rm_state(check->site + offsetof(TlbSite, addend)));
    }
    stub->resume = emit_here(e);
    if (!tests_alignment(check))
        check_alignment(t, check->align);
    return rm_mem(SCRATCH1, check->access.at.disp - check->low);
}

/* ---- without one -------------------------------------------------------------------------------
 */

static bool is_aligned(const JitFact *fact, int64_t disp, unsigned align)
{
    return !(align & ~fact->aligned) && !((disp - fact->aligned_at) & align);
}

/* Of what a check for alignment proves: locked operations go on misaligned, in their handler. */
static unsigned proved_alignment(unsigned align)
{
    return align > 7 ? align : 0;
}

static bool reads_flags(const Translation *t)
{
    return op_needs_host_flags(&t->op, t->live[t->index + 1]);
}

/* EFLAGS are lost to a check. Lazy, they would cost the scratch registers, which then hold the
 * operand, so an instruction that reads them finds them in the slot. */
static void flags_lost_to_check(Translation *t)
{
    if (reads_flags(t))
        flags_to_slot(t, t->live[t->index]);
    else
        flags_lost(t, t->live[t->index]);
}

static void align_member(Translation *t, JitFact *fact, const JitAccess *access, unsigned align)
{
    if (!align || is_aligned(fact, access->at.disp, align))
        return;
    flags_lost_to_check(t);
    emit_address(t, access->at, t->mode64);
    check_alignment(t, align);
    fact->aligned = proved_alignment(align);
    fact->aligned_at = access->at.disp;
}

/* The operand, whose page a fact names. EFLAGS stay. */
static Rm member(Translation *t, JitFact *fact, const JitAccess *access, unsigned align,
                 unsigned *ret_free)
{
    Emit *e = &t->e;
    const JitAddress *at = &access->at;
    align_member(t, fact, access, align);
    if (is_direct(t, at, true) || is_indexed(t, at, true) || is_copied(t, at, true, align) ||
        is_fixed(t, at)) {
        *ret_free = SCRATCH1;
        return by_addend(t, at, fact->addend);
    }
    emit_address(t, *at, t->mode64);
    scratch_lost(t, SCRATCH2);
    emit_load(e, SCRATCH2, rm_state(fact->addend));
    emit_op(e, 0x8d | OP_W, SCRATCH1, (Rm){.kind = RM_MEM, .base = SCRATCH1, .index = SCRATCH2});
    *ret_free = SCRATCH2;
    return rm_mem(SCRATCH1, 0);
}

/* ---- accesses ----------------------------------------------------------------------------------
 */

static void note_fact(Translation *t, const Check *check)
{
    *new_fact(t) = (JitFact){.valid = true,
                             .write = check->access.write,
                             .at = check->access.at,
                             .low = check->low,
                             .high = check->high,
                             .addend = addend_of(t, check),
                             .aligned = proved_alignment(check->align),
                             .aligned_at = check->access.at.disp};
}

/* Whether an access before this one of the same instruction may have the handler execute it all,
 * which proves nothing. */
static bool may_be_skipped(const Translation *t)
{
    for (unsigned i = t->stub_count; i-- > 0 && t->stubs[i].insn == t->index;) {
        const Stub *stub = &t->stubs[i];
        if (stub->kind == STUB_SLOW || (stub->kind == STUB_MISS && !stub->site->shared))
            return true;
    }
    return false;
}

/* Whether a constant address needs no more than its page to be compared. */
static bool may_be_fixed(const Translation *t, const Check *check)
{
    JitAddress last = check->access.at;
    last.disp += check->access.size - 1;
    uint64_t linear = constant_linear(t, &check->access.at);
    return is_fixed(t, &check->access.at) && !(linear & check->align) &&
           (linear ^ constant_linear(t, &last)) < GUEST_PAGE_SIZE;
}

/* Another page's addend will be there: of a site's next, of an instruction's other access. */
static void lose_addend(Translation *t, uint32_t addend)
{
    for (unsigned i = 0; i < FACTS_MAX; i++) {
        if (t->facts[i].addend == addend)
            t->facts[i].valid = false;
    }
    if (t->now.held[0].addend == addend)
        scratch_lost(t, SCRATCH1);
}

static Rm access_at(Translation *t, Check *check, bool stack, unsigned *ret_free)
{
    JitAccess *access = &check->access;
    bool natural = check->linear && check->wide == t->mode64;
    JitFact *fact = natural ? find_fact(t, access) : NULL;
    if (reads_flags(t) && t->now.lazy)
        flags_to_slot(t, t->live[t->index]); /* no register is free for that later */
    if (fact)
        return member(t, fact, access, check->align, ret_free);
    settle_rsp(t);
    flags_lost_to_check(t);
    check->low = access->at.disp;
    check->high = access->at.disp + access->size;
    /* Accesses to the stack share a site, until frames of two pages take it from each other. */
    unsigned index = index_in_block(t, t->index);
    stack &= !(t->block->apart >> index & 1);
    bool guesses = stack || (t->sited && !t->result->plain); /* tlb_site_count() */
    check->scattered = !guesses || t->block->scattered >> index & 1;
    bool by_registers = check->linear && (is_direct(t, &access->at, check->wide) ||
                                          is_indexed(t, &access->at, check->wide));
    by_registers |=
        check->linear && !check->scattered && is_copied(t, &access->at, check->wide, check->align);
    bool fixes = natural && may_be_fixed(t, check);
    by_registers |= fixes;
    bool keeps_addend = by_registers || !check->scattered;
    bool split = t->plain || t->block->split >> index & 1;
    check->shared = natural && keeps_addend && !split && !may_be_skipped(t) &&
                    look_ahead(t, access, &check->low, &check->high);
    check->low -= (check->low - access->at.disp) & check->align;
    check->site =
        check->scattered ? (uint32_t)JIT_AT(unused_site) : new_site(t, access->write, stack);
    lose_addend(t, addend_of(t, check));
    *ret_free = by_registers ? SCRATCH1 : SCRATCH2;
    scratch_lost(t, SCRATCH2);
    Rm rm = fixes ? fixed(t, check) : by_registers ? direct(t, check) : uniform(t, check);
    if (check->shared)
        note_fact(t, check);
    return rm;
}

Rm access_operand(Translation *t, unsigned size, bool write, unsigned align, unsigned *ret_free)
{
    const Insn *insn = t->insn;
    Check check = {.access = {operand_address(insn), size, write},
                   .linear = !has_base(insn) && !t->segmented,
                   .wide = insn->addr_size == 8,
                   .segment = insn->segment,
                   .addr_size = insn->addr_size,
                   .align = align};
    bool stack = insn->base == GPR_RSP && insn->index == GPR_NONE && check.linear;
    return access_at(t, &check, stack, ret_free);
}

Rm access_index(Translation *t, unsigned guest, unsigned segment, unsigned size, bool write,
                unsigned *ret_free)
{
    Check check = {.access = {{.base = guest, .index = GPR_NONE}, size, write},
                   .segment = segment,
                   .addr_size = t->insn->addr_size};
    return access_at(t, &check, false, ret_free);
}

Rm access_constant(Translation *t, unsigned size, bool write, unsigned *ret_free)
{
    const Insn *insn = t->insn;
    JitAddress at = {.base = GPR_NONE, .index = GPR_NONE, .disp = (int64_t)insn->imm};
    Check check = {.access = {at, size, write},
                   .linear = !has_base(insn) && !t->segmented,
                   .segment = insn->segment,
                   .addr_size = insn->addr_size};
    return access_at(t, &check, false, ret_free);
}

Rm access_stack(Translation *t, unsigned guest, int32_t disp, unsigned size, bool write,
                unsigned *ret_free)
{
    Check check = {.access = {{.base = guest, .index = GPR_NONE, .disp = disp}, size, write},
                   .linear = !t->segmented,
                   .wide = t->mode64,
                   .segment = SEG_SS,
                   .addr_size = t->stack_size,
                   .implied = true};
    return access_at(t, &check, true, ret_free);
}

void slow_if(Translation *t, unsigned condition)
{
    Stub *stub = new_stub(t, STUB_SLOW);
    stub->from = emit_jcc(&t->e, condition, NULL);
}

/* ---- out of line --------------------------------------------------------------------------------
 */

/* Before C may look at them. */
static void lazy_flags_to_slot(Translation *t, const Stub *stub)
{
    t->now = stub->now;
    if (t->now.lazy)
        flags_to_slot(t, JIT_ALL_FLAGS);
}

/* A scratch register that was lost gets what it had. */
static void hold_again(Translation *t, unsigned scratch, const JitNow *then)
{
    JitHeld held = then->held[scratch - SCRATCH1];
    scratch_lost(t, scratch);
    if (held.addend)
        hold_in(t, scratch, held);
    else if (scratch == SCRATCH1 && then->copied)
        guest_read(t, then->copied, SCRATCH1);
}

static void write_slow(Translation *t, const Stub *stub)
{
    Emit *e = &t->e;
    lazy_flags_to_slot(t, stub);
    emit_constant(e, SCRATCH1, jit_ref(t->jit, t->result));
    emit_constant(e, SCRATCH2, jit_place(&t->insns[stub->insn]));
    emit_call(e, t->jit->thunks.insn);
    unsigned next = stub->insn + 1;
    if (!t->start[next])
        return; /* it ends the block: the thunk never comes back */
    const JitRecipe *recipe = &t->at[next].recipe;
    if (recipe->how == JIT_RECIPE_MEMORY && recipe->index == stub->insn) {
        t->now = (JitNow){0}; /* the handler kept nothing */
        exit_to(t, t->rip + t->insns[next].rip_offset, t->live[next]);
        return;
    }
    fpu_write_load(t, t->at[next].fpu, next);
    t->now = (JitNow){0};
    if (t->at[next].host_flags && t->live[next])
        flags_to_host(t, SCRATCH1);
    hold_again(t, SCRATCH1, &t->at[next]);
    hold_again(t, SCRATCH2, &t->at[next]);
    t->now.rsp_moved = -t->at[next].rsp_moved;
    settle_rsp(t);
    emit_jump(e, t->start[next]);
}

static void write_miss(Translation *t, const Stub *stub)
{
    Emit *e = &t->e;
    t->now = stub->now;
    if (stub->direct)
        emit_address(t, stub->at, true);
    if (stub->mixed)
        emit_op(e, 0x33 | OP_W, SCRATCH1,
                rm_mem(SCRATCH2, stub->site->how & JIT_FILL_WRITE ? offsetof(TlbEntry, tag_write)
                                                                  : offsetof(TlbEntry, tag_read)));
    uint8_t *unaligned = NULL;
    if (stub->align) {
        emit_op(e, 0xf6, 0, rm_reg(SCRATCH1)); /* test */
        e8(e, stub->align);
        unaligned = emit_jcc(e, CC_NE, NULL);
    }
    emit_constant(e, SCRATCH2, jit_ref(t->jit, stub->site));
    emit_call(e, t->jit->thunks.miss[!!(stub->site->how & JIT_FILL_WRITE)]);
    uint8_t *slow = emit_jcc(e, CC_E, NULL);
    if (!stub->direct)
        emit_op(e, 0x03 | OP_W, SCRATCH1, rm_reg(SCRATCH2));
    else
        hold_again(t, SCRATCH1, &stub->now);
    emit_jump(e, stub->resume);
    emit_patch(e, slow, emit_here(e));
    if (unaligned)
        emit_patch(e, unaligned, emit_here(e));
    if (stub->site->shared) {
        lazy_flags_to_slot(t, stub);
        exit_to_plain(t, stub->insn);
    } else {
        write_slow(t, stub);
    }
}

/* The flags go into the slot; then on, if the link's target reads them there, or to the loop. */
static void write_unlinked_lazy(Translation *t, const Stub *stub)
{
    Emit *e = &t->e;
    if (!stub->guard)
        stub->link->unlinked = code_offset(t);
    flags_to_slot(t, JIT_ALL_FLAGS);
    if (!stub->guard) {
        emit_jump(e, emit_here(e) + 5);
        stub->link->again = code_offset(t) - 4;
    }
    write_unlinked(t, stub->link);
}

static void write_exit(Translation *t, const Stub *stub)
{
    JitLink *link = stub->link;
    t->now = stub->now;
    if (!link) {
        exit_to(t, stub->target, stub->live);
    } else if (t->now.lazy) {
        write_unlinked_lazy(t, stub);
    } else if (link->unlinked) {
        emit_patch(&t->e, stub->from, t->jit->run + link->unlinked);
    } else {
        link->unlinked = code_offset(t);
        flags_to_slot(t, JIT_ALL_FLAGS);
        write_unlinked(t, link);
    }
}

static void write_load(Translation *t, const Stub *stub)
{
    lazy_flags_to_slot(t, stub);
    fpu_write_load(t, stub->bits, stub->insn);
    emit_jump(&t->e, stub->resume);
}

/* The stack of returns begins anew. */
static void write_full(Translation *t, const Stub *stub)
{
    emit_load(&t->e, HOST_RSP, rm_state(JIT_AT(returns)));
    emit_jump(&t->e, stub->resume);
}

/* What the thunk `recall` calls. */
static void write_recall(Translation *t, const Stub *stub)
{
    stub->ret->recall = emit_here(&t->e);
    lazy_flags_to_slot(t, stub);
    e8(&t->e, 0xc3);
}

void write_stubs(Translation *t)
{
    for (unsigned i = 0; i < t->stub_count; i++) {
        const Stub *stub = &t->stubs[i];
        if (stub->from)
            emit_patch(&t->e, stub->from, emit_here(&t->e));
        if (stub->kind == STUB_EXIT)
            write_exit(t, stub);
        else if (stub->kind == STUB_MISS)
            write_miss(t, stub);
        else if (stub->kind == STUB_LOAD)
            write_load(t, stub);
        else if (stub->kind == STUB_FULL)
            write_full(t, stub);
        else if (stub->kind == STUB_RECALL)
            write_recall(t, stub);
        else if (stub->kind == STUB_OTHER)
            write_other(t, stub);
        else
            write_slow(t, stub);
    }
}
