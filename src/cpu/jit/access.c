/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Memory operands (jit.h, SoftCpu.sites).
 *
 *   direct    lea r9,[base+disp]; xor r9,tag; cmp r9,4096-size; ja miss; mov r10,addend; op
 * [base+r10+disp] uniform   r9 = address; mov r10,tag; xor r10,r9; cmp r10,4096-size; ja miss; add
 * r9,addend; op [r9] miss      looks the TLB up, fills the site and comes back; else fills the TLB;
 * else the instruction is executed by its handler
 */
#include "cpu/jit/system.h"

#include "base/bits.h"

/* ---- addresses ---------------------------------------------------------------------------------
 */

void address_of_operand(Translation *t, const Insn *insn)
{
    uint32_t wide = insn->addr_size == 8 ? OP_W : 0;
    if (insn->base == GPR_BLOCK_RIP) {
        emit_constant(&t->e, SCRATCH1, (t->rip + (int64_t)insn->disp) & insn->addr_mask);
        return;
    }
    Rm rm = {.kind = RM_MEM,
             .base = HOST_NONE,
             .index = HOST_NONE,
             .scale = insn->scale,
             .disp = insn->disp};
    if (insn->base != GPR_NONE)
        rm.base = guest_read(t, insn->base, SCRATCH1);
    if (insn->index != GPR_NONE)
        rm.index = guest_read(t, insn->index, SCRATCH2);
    if (rm.base == HOST_NONE && rm.index == HOST_NONE && !wide)
        emit_constant(&t->e, SCRATCH1, (uint32_t)insn->disp);
    else
        emit_op(&t->e, 0x8d | wide, SCRATCH1, rm);
}

static bool has_base(const Insn *insn)
{
    return insn->segment == SEG_FS || insn->segment == SEG_GS;
}

/* ---- the check ---------------------------------------------------------------------------------
 */

static uint32_t new_site(Translation *t, bool write, bool stack)
{
    unsigned kind = t->user * 2 + write, n = 0;
    if (!stack)
        n = 1 + t->jit->next_site[kind]++ % (TLB_SITES - 1);
    return offsetof(SoftCpu, sites) + (kind * TLB_SITES + n) * sizeof(TlbSite);
}

static Stub *miss_stub(Translation *t, uint32_t site, unsigned size, bool write)
{
    Stub *stub = new_stub(t, STUB_MISS);
    stub->site = jit_alloc(t->jit, sizeof(JitSite));
    *stub->site = (JitSite){
        .limit = GUEST_PAGE_SIZE - size, .site = site, .how = size | (write ? JIT_FILL_WRITE : 0)};
    stub->from = emit_jcc(&t->e, CC_A, NULL);
    return stub;
}

static void check_alignment(Translation *t, unsigned align)
{
    if (!align)
        return;
    emit_op(&t->e, 0xf6, 0, rm_reg(SCRATCH1)); /* test r9b, align */
    e8(&t->e, align);
    slow_if(t, CC_NE);
}

static Rm direct(Translation *t, unsigned base, int32_t disp, uint32_t site, unsigned size,
                 bool write, unsigned align)
{
    Emit *e = &t->e;
    emit_op(e, 0x8d | OP_W, SCRATCH1, rm_mem(base, disp));
    check_alignment(t, align);
    emit_op(e, 0x33 | OP_W, SCRATCH1, rm_gs(site));
    emit_op(e, 0x81 | OP_W, 7, rm_reg(SCRATCH1));
    e32(e, GUEST_PAGE_SIZE - size);
    Stub *stub = miss_stub(t, site, size, write);
    stub->direct = true;
    stub->base = base;
    stub->disp = disp;
    emit_load(e, SCRATCH2, rm_gs(site + offsetof(TlbSite, addend)));
    stub->resume = emit_here(e);
    return (Rm){.kind = RM_MEM, .base = base, .index = SCRATCH2, .disp = disp};
}

/* The address is in SCRATCH1. */
static Rm uniform(Translation *t, uint32_t site, unsigned size, bool write, unsigned align)
{
    Emit *e = &t->e;
    check_alignment(t, align);
    emit_load(e, SCRATCH2, rm_gs(site));
    emit_op(e, 0x33 | OP_W, SCRATCH2, rm_reg(SCRATCH1));
    emit_op(e, 0x81 | OP_W, 7, rm_reg(SCRATCH2));
    e32(e, GUEST_PAGE_SIZE - size);
    Stub *stub = miss_stub(t, site, size, write);
    emit_op(e, 0x03 | OP_W, SCRATCH1, rm_gs(site + offsetof(TlbSite, addend)));
    stub->resume = emit_here(e);
    return rm_mem(SCRATCH1, 0);
}

Rm access_operand(Translation *t, unsigned size, bool write, unsigned align, unsigned *ret_free)
{
    const Insn *insn = t->insn;
    bool stack = insn->base == GPR_RSP && insn->index == GPR_NONE;
    uint32_t site = new_site(t, write, stack && !has_base(insn));
    flags_to_slot(t, t->live[t->index]);
    if (t->mode64 && insn->addr_size == 8 && !has_base(insn) && insn->index == GPR_NONE &&
        insn->base < GPR_NONE && !guest_in_memory(insn->base)) {
        *ret_free = SCRATCH1;
        return direct(t, guest_host(insn->base), insn->disp, site, size, write, align);
    }
    address_of_operand(t, insn);
    if (has_base(insn))
        emit_op(&t->e, 0x03 | OP_W, SCRATCH1, rm_gs(GS_CPU(seg_base) + insn->segment * 8));
    *ret_free = SCRATCH2;
    return uniform(t, site, size, write, align);
}

Rm access_stack(Translation *t, unsigned base, int32_t disp, unsigned size, bool write,
                unsigned *ret_free)
{
    uint32_t site = new_site(t, write, true);
    flags_to_slot(t, t->live[t->index]);
    if (t->mode64) {
        *ret_free = SCRATCH1;
        return direct(t, base, disp, site, size, write, 0);
    }
    emit_op(&t->e, 0x8d, SCRATCH1, rm_mem(base, disp));
    *ret_free = SCRATCH2;
    return uniform(t, site, size, write, 0);
}

void slow_if(Translation *t, unsigned condition)
{
    Stub *stub = new_stub(t, STUB_SLOW);
    stub->from = emit_jcc(&t->e, condition, NULL);
}

/* ---- out of line --------------------------------------------------------------------------------
 */

static void write_slow(Translation *t, const Stub *stub)
{
    Emit *e = &t->e;
    emit_constant(e, SCRATCH1, (uintptr_t)&t->block->insns[stub->insn]);
    emit_constant(e, SCRATCH2, t->rip);
    emit_call(e, t->jit->thunks.insn);
    unsigned next = stub->insn + 1;
    if (!t->start[next])
        return; /* it ends the block: the thunk never comes back */
    fpu_write_load(t, t->at[next].fpu, next);
    t->now.host_flags = false;
    if (t->at[next].host_flags && t->live[next])
        flags_to_host(t, SCRATCH1);
    emit_jump(e, t->start[next]);
}

static void write_miss(Translation *t, const Stub *stub)
{
    Emit *e = &t->e;
    if (stub->direct)
        emit_op(e, 0x8d | OP_W, SCRATCH1, rm_mem(stub->base, stub->disp));
    emit_constant(e, SCRATCH2, (uintptr_t)stub->site);
    emit_call(e, t->jit->thunks.miss[!!(stub->site->how & JIT_FILL_WRITE)]);
    uint8_t *slow = emit_jcc(e, CC_E, NULL);
    if (!stub->direct)
        emit_op(e, 0x03 | OP_W, SCRATCH1, rm_reg(SCRATCH2));
    emit_jump(e, stub->resume);
    emit_patch(e, slow, emit_here(e));
    write_slow(t, stub);
}

static void write_exit(Translation *t, const Stub *stub)
{
    if (stub->link && stub->link->unlinked) {
        emit_patch(&t->e, stub->from, stub->link->unlinked);
        return;
    }
    if (stub->link) {
        write_unlinked(t, stub->link);
        return;
    }
    t->now = stub->now;
    exit_to(t, stub->target, stub->live, false);
}

static void write_load(Translation *t, const Stub *stub)
{
    fpu_write_load(t, stub->bits, stub->insn);
    emit_jump(&t->e, stub->resume);
}

/* Somebody wants the loop to look around. */
static void write_poll(Translation *t, const Stub *stub)
{
    emit_constant(&t->e, SCRATCH1, stub->target);
    emit_jump(&t->e, t->jit->thunks.go);
}

void write_stubs(Translation *t)
{
    for (unsigned i = 0; i < t->stub_count; i++) {
        const Stub *stub = &t->stubs[i];
        emit_patch(&t->e, stub->from, emit_here(&t->e));
        if (stub->kind == STUB_EXIT)
            write_exit(t, stub);
        else if (stub->kind == STUB_MISS)
            write_miss(t, stub);
        else if (stub->kind == STUB_LOAD)
            write_load(t, stub);
        else if (stub->kind == STUB_POLL)
            write_poll(t, stub);
        else
            write_slow(t, stub);
    }
}
