/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Code that all translations of a vCPU share, written at the start of its code area (jit.h says
 * what each is given). */
#include "cpu/jit/system.h"

#include <stdatomic.h>

#include "base/bits.h"

static const uint8_t saved[] = {HOST_RBX, HOST_RBP, HOST_R12, HOST_R13, HOST_R14, HOST_R15};

/* ---- what handlers are called through
 * ------------------------------------------------------------ */

/* Behind the instruction: goes on at the next one. */
void jit_after(SoftCpu *cpu, const Insn *insn)
{
    cpu->s.rip = INSN_RIP(cpu, insn) & cpu->rip_mask;
}

static bool run_pair(SoftCpu *cpu, const Insn *insn)
{
    JitCpu *jit = cpu->jit;
    uint64_t next = (cpu->s.gpr[GPR_BLOCK_RIP] + insn->rip_offset + insn->length) & cpu->rip_mask;
    bool ends = insn->flags & INSN_ENDS_BLOCK;
    uint32_t mode = cpu->mode;
    jit->stat_slow++;
    insn->fn(cpu, insn);
    if (ends && jit_goes_on(insn))
        ends = cpu->mode != mode;
    /* An interrupt that a device's register raised comes before the next instruction. */
    ends |= atomic_load_explicit(&cpu->exit_request, memory_order_relaxed);
    return ends || cpu->s.rip != next || cpu->translation_stop || cpu->pending_db ||
           cpu->s.interrupt_shadow;
}

/* NULL: it is just written over. */
static const Insn *decode_again(SoftCpu *cpu, const JitBlock *block, uint32_t place)
{
    size_t hash = ((uintptr_t)block / 8 ^ place * 64) * 0x9e3779b1u >> 8;
    JitDecoded *decoded = &cpu->jit->decoded[hash % JIT_DECODED];
    Insn insn;
    if (decoded->block == block && decoded->place == place)
        return &decoded->insn;
    if (!block_insn_at(cpu, block->block, place & 0xffff, &insn) || jit_place(&insn) != place)
        return NULL;
    *decoded = (JitDecoded){block, place, insn};
    return &decoded->insn;
}

/* Runs the handler of one instruction; true: translated code must be left, s.rip says where to. */
static bool run_insn(SoftCpu *cpu, JitRef ref, uint32_t place)
{
    const JitBlock *block = jit_at(cpu->jit, ref);
    Insn *pair = cpu->jit->pair;
    const Insn *insn = decode_again(cpu, block, place);
    cpu->s.gpr[GPR_BLOCK_RIP] = block->rip;
    if (!insn) {
        cpu->s.rip = block->rip + (place & 0xffff);
        return true;
    }
    pair[0] = *insn;
    pair[1] = JIT_AFTER(insn);
    return run_pair(cpu, pair);
}

/* ---- writing ------------------------------------------------------------------------------------
 */

/* Those of the guest's registers that C may change; and R11, which SYSCALL does, is in SoftCpu. */
static void move_volatile(Emit *e, bool store)
{
    static const uint8_t guests[] = {GPR_RAX, GPR_RCX, GPR_RDX, GPR_RSI, GPR_RDI, GPR_R8, GPR_RSP};
    for (unsigned i = 0; i < G_N_ELEMENTS(guests); i++)
        emit_op(e, (store ? 0x89 : 0x8b) | OP_W, guest_host(guests[i]),
                rm_state(CPU_AT(s.gpr) + guests[i] * 8));
}

static void move_guest(Emit *e, bool store)
{
    for (unsigned guest = 0; guest < 16; guest++) {
        Rm slot = rm_state(CPU_AT(s.gpr) + guest * 8);
        if (!guest_in_memory(guest))
            emit_op(e, (store ? 0x89 : 0x8b) | OP_W, guest_host(guest), slot);
    }
}

/* push rbx … r15; sub rsp, 8; change the stack; load the guest; jmp rsi */
static void write_enter(Emit *e, JitThunks *thunks)
{
    thunks->enter = (void (*)(SoftCpu *, uint8_t *))emit_here(e);
    e8(e, 0xf3), e8(e, 0x0f), e8(e, 0x1e), e8(e, 0xfa); /* endbr64 */
    for (unsigned i = 0; i < G_N_ELEMENTS(saved); i++)
        emit_push(e, saved[i], false);
    emit_op(e, 0x83 | OP_W, 5, rm_reg(HOST_RSP));
    e8(e, 8);
    emit_move(e, STATE, HOST_RDI);
    emit_store(e, HOST_RSP, rm_state(JIT_AT(c_stack)));
    emit_load(e, HOST_RSP, rm_state(JIT_AT(returns)));
    emit_move(e, SCRATCH2, HOST_RSI);
    move_guest(e, false);
    emit_op(e, 0xff, 4, rm_reg(SCRATCH2));
}

/* The stack of C; add rsp, 8; pop r15 … rbx; ret */
static uint8_t *write_leave(Emit *e)
{
    uint8_t *leave = emit_here(e);
    emit_load(e, HOST_RSP, rm_state(JIT_AT(c_stack)));
    emit_op(e, 0x83 | OP_W, 0, rm_reg(HOST_RSP));
    e8(e, 8);
    for (unsigned i = G_N_ELEMENTS(saved); i-- > 0;)
        emit_push(e, saved[i], true);
    e8(e, 0xc3);
    return leave;
}

void emit_jump_entry(Emit *e)
{
    _Static_assert(JIT_JUMP_BITS == 16 && sizeof(JitJump) == 32, "MOVZX and SHL");
    emit_op(e, 0xb7 | OP_0F, SCRATCH2, rm_reg(SCRATCH1)); /* movzx r10d, r9w */
    emit_op(e, 0xc1, 4, rm_reg(SCRATCH2));
    e8(e, 5);
}

void emit_to_c_stack(Emit *e)
{
    emit_store(e, HOST_RSP, rm_state(JIT_AT(code_stack)));
    emit_load(e, HOST_RSP, rm_state(JIT_AT(c_stack)));
}

void emit_to_code_stack(Emit *e)
{
    emit_load(e, HOST_RSP, rm_state(JIT_AT(code_stack)));
}

/* Before C runs. */
static void save_fpu(Emit *e, const JitThunks *thunks)
{
    emit_op(e, 0x80, 7, rm_state(JIT_AT(live)));
    e8(e, 0);
    e8(e, 0x74); /* over the call */
    e8(e, 5);
    emit_call(e, thunks->save_fpu);
}

static uint8_t *write_insn(Emit *e, const JitThunks *thunks, uintptr_t run, const uint8_t *leave)
{
    uint8_t *start = emit_here(e);
    emit_to_c_stack(e);
    move_guest(e, true);
    emit_store(e, SCRATCH2, rm_state(CPU_AT(s.gpr) + GPR_BLOCK_RIP * 8));
    emit_move(e, HOST_RDI, STATE);
    emit_move(e, HOST_RSI, SCRATCH1);
    save_fpu(e, thunks);
    emit_load(e, HOST_RDX, rm_state(CPU_AT(s.gpr) + GPR_BLOCK_RIP * 8));
    emit_constant(e, HOST_RAX, run);
    emit_op(e, 0xff, 2, rm_reg(HOST_RAX));
    e8(e, 0x84), e8(e, 0xc0); /* test al, al */
    emit_jcc(e, CC_NE, leave);
    move_guest(e, false);
    emit_to_code_stack(e);
    e8(e, 0xc3);
    return start;
}

/* Calls a function of system.c; the result is in rax. */
static void call_system(Emit *e, uintptr_t function)
{
    emit_to_c_stack(e);
    move_volatile(e, true);
    emit_move(e, HOST_RDI, STATE);
    emit_move(e, HOST_RSI, SCRATCH1);
    emit_move(e, HOST_RDX, SCRATCH2);
    emit_constant(e, HOST_RAX, function);
    emit_op(e, 0xff, 2, rm_reg(HOST_RAX));
}

/* Ends the thunk but for its RET; EFLAGS stay. */
static void end_system(Emit *e)
{
    move_volatile(e, false);
    emit_to_code_stack(e);
}

static uint8_t *write_transfer(Emit *e, const uint8_t *(*function)(SoftCpu *, uint64_t, uint64_t))
{
    uint8_t *start = emit_here(e);
    call_system(e, (uintptr_t)function);
    emit_move(e, SCRATCH2, HOST_RAX);
    emit_op(e, 0x85 | OP_W, HOST_RAX, rm_reg(HOST_RAX)); /* test */
    end_system(e);
    e8(e, 0x75); /* jne */
    e8(e, 1);
    e8(e, 0xc3);
    emit_load(e, HOST_RSP, rm_state(JIT_AT(returns)));
    emit_op(e, 0xff, 4, rm_reg(SCRATCH2));
    return start;
}

static uint8_t *write_learn(Emit *e)
{
    uint8_t *start = emit_here(e);
    emit_op(e, 0x03 | OP_W, SCRATCH2, rm_state(JIT_AT(arena)));
    emit_push(e, SCRATCH1, false);
    call_system(e, (uintptr_t)jit_learn);
    end_system(e);
    emit_push(e, SCRATCH1, true);
    e8(e, 0xc3);
    return start;
}

static uint8_t *write_fill(Emit *e)
{
    uint8_t *start = emit_here(e);
    emit_store(e, SCRATCH1, rm_state(JIT_AT(spare)));
    call_system(e, (uintptr_t)jit_fill_tlb);
    emit_op(e, 0x84 | OP_REG8 | OP_RM8, HOST_RAX, rm_reg(HOST_RAX)); /* test */
    end_system(e);
    emit_load(e, SCRATCH1, rm_state(JIT_AT(spare)));
    e8(e, 0xc3);
    return start;
}

static uint8_t *write_beside(Emit *e)
{
    uint8_t *start = emit_here(e);
    emit_store(e, SCRATCH1, rm_state(JIT_AT(spare)));
    call_system(e, (uintptr_t)jit_beside_code);
    emit_move(e, SCRATCH2, HOST_RAX);
    emit_op(e, 0x85 | OP_W, HOST_RAX, rm_reg(HOST_RAX)); /* test */
    end_system(e);
    emit_load(e, SCRATCH1, rm_state(JIT_AT(spare)));
    e8(e, 0xc3);
    return start;
}

/* A write that the TLB can't have, EQ: at once, where no other access goes by its site. */
static void write_once(Emit *e, const JitThunks *thunks)
{
    uint8_t *shared;
    emit_op(e, 0x80, 7, rm_mem(SCRATCH2, offsetof(JitSite, shared))); /* cmp */
    e8(e, false);
    shared = emit_jcc(e, CC_NE, NULL);
    emit_op(e, 0x8b, SCRATCH2, rm_mem(SCRATCH2, offsetof(JitSite, how)));
    emit_jump(e, thunks->beside);
    emit_patch(e, shared, emit_here(e));
    emit_op(e, 0x3b, SCRATCH2, rm_reg(SCRATCH2)); /* cmp: EQ */
}

/* What lies between TlbSite and TLB; the site is filled, but not with what AC lets the kernel see
 * for a while. */
static uint8_t *write_miss(Emit *e, const JitThunks *thunks, bool write)
{
    unsigned tag = write ? offsetof(TlbEntry, tag_write) : offsetof(TlbEntry, tag_read);
    uint8_t *start = emit_here(e);
    emit_op(e, 0x03 | OP_W, SCRATCH2, rm_state(JIT_AT(arena)));
    emit_op(e, 0x83, 5, rm_mem(SCRATCH2, offsetof(JitSite, misses)));
    e8(e, 1);
    uint8_t *many = emit_jcc(e, CC_S, NULL);
    const uint8_t *look = emit_here(e);
    emit_push(e, HOST_RAX, false);
    emit_push(e, HOST_RDX, false);
    emit_move(e, HOST_RAX, SCRATCH1);
    emit_op(e, 0xc1 | OP_W, 5, rm_reg(HOST_RAX)); /* the entry */
    e8(e, GUEST_PAGE_SHIFT - 5);
    emit_op(e, 0x81, 4, rm_reg(HOST_RAX));
    e32(e, (TLB_SIZE - 1) * sizeof(TlbEntry));
    emit_op(e, 0x03 | OP_W, HOST_RAX, rm_state(CPU_AT(tlb)));
    emit_move(e, HOST_RDX, SCRATCH1);
    emit_op(e, 0x33 | OP_W, HOST_RDX, rm_mem(HOST_RAX, tag));
    emit_op(e, 0x3b | OP_W, HOST_RDX, rm_mem(SCRATCH2, offsetof(JitSite, limit)));
    uint8_t *fill = emit_jcc(e, CC_A, NULL);
    emit_op(e, 0x80, 7, rm_state(CPU_AT(mmu_index)));
    e8(e, MMU_KERNEL_NOSMAP);
    emit_load(e, HOST_RDX, rm_mem(HOST_RAX, offsetof(TlbEntry, addend)));
    uint8_t *unseen = emit_jcc(e, CC_E, NULL);
    Rm site = rm_state_by(SCRATCH2, 0);
    emit_op(e, 0x8b, SCRATCH2, rm_mem(SCRATCH2, offsetof(JitSite, site)));
    site.disp = offsetof(TlbSite, addend);
    emit_store(e, HOST_RDX, site);
    emit_load(e, HOST_RAX, rm_mem(HOST_RAX, tag));
    site.disp = offsetof(TlbSite, tag);
    emit_store(e, HOST_RAX, site);
    emit_op(e, 0xc7, 0, rm_state(CPU_AT(sites_filled)));
    e32(e, 0x01010101);
    const uint8_t *done = emit_here(e);
    emit_move(e, SCRATCH2, HOST_RDX);
    emit_op(e, 0x85 | OP_W, HOST_RSP, rm_reg(HOST_RSP)); /* test: NE */
    emit_push(e, HOST_RDX, true);
    emit_push(e, HOST_RAX, true);
    e8(e, 0xc3);
    emit_patch(e, unseen, emit_here(e));
    emit_op(e, 0x80, 7, rm_mem(SCRATCH2, offsetof(JitSite, shared)));
    e8(e, true);
    emit_jcc(e, CC_NE, done);
    emit_push(e, HOST_RDX, true);
    emit_push(e, HOST_RAX, true);
    e8(e, 0xc3);
    emit_patch(e, fill, emit_here(e));
    emit_push(e, HOST_RDX, true);
    emit_push(e, HOST_RAX, true);
    emit_push(e, SCRATCH2, false);
    emit_op(e, 0x8b, SCRATCH2, rm_mem(SCRATCH2, offsetof(JitSite, how)));
    emit_call(e, thunks->fill);
    emit_push(e, SCRATCH2, true);
    emit_jcc(e, CC_NE, look);
    if (write)
        write_once(e, thunks);
    e8(e, 0xc3);
    emit_patch(e, many, emit_here(e));
    emit_push(e, SCRATCH1, false);
    emit_push(e, SCRATCH2, false);
    call_system(e, (uintptr_t)jit_site_missed);
    end_system(e);
    emit_push(e, SCRATCH2, true);
    emit_push(e, SCRATCH1, true);
    emit_jump(e, look);
    return start;
}

static uint8_t *write_recall(Emit *e)
{
    uint8_t *start = emit_here(e);
    emit_op(e, 0x8b, SCRATCH2, rm_state(JIT_AT(ret)));
    emit_op(e, 0x03 | OP_W, SCRATCH2, rm_state(JIT_AT(arena)));
    emit_load(e, SCRATCH2, rm_mem(SCRATCH2, offsetof(JitReturn, recall)));
    emit_op(e, 0x85 | OP_W, SCRATCH2, rm_reg(SCRATCH2)); /* test */
    e8(e, 0x74);                                         /* je, over the jump */
    e8(e, 3);
    emit_op(e, 0xff, 4, rm_reg(SCRATCH2));
    e8(e, 0xc3);
    return start;
}

/* r9: the target of a RET. All that stands on the stack of returns is as unlikely now. */
static uint8_t *write_return_to(Emit *e, const JitThunks *thunks)
{
    uint8_t *start = emit_here(e);
    Rm entry = rm_state_by(SCRATCH2, 0);
    Rm stamp = rm_state_by(HOST_RAX, CPU_AT(lower_stamp));
    emit_load(e, HOST_RSP, rm_state(JIT_AT(returns)));
    emit_push(e, SCRATCH1, false);
    emit_call(e, thunks->recall);
    emit_push(e, SCRATCH1, true);
    emit_store(e, HOST_RAX, rm_state(JIT_AT(spare)));
    emit_jump_entry(e);
    emit_op(e, 0x0b | OP_W, SCRATCH1, rm_state(JIT_AT(code_key))); /* or */
    emit_move(e, HOST_RAX, SCRATCH1);
    emit_op(e, 0xc1 | OP_W, 7, rm_reg(HOST_RAX)); /* sar: 0 or -1 */
    e8(e, 63);
    emit_op(e, 0x83, 4, rm_reg(HOST_RAX));
    e8(e, 4);
    emit_load(e, HOST_RAX, stamp);
    entry.disp = JIT_AT(jumps[0].stamp);
    emit_op(e, 0x33 | OP_W, HOST_RAX, entry);
    entry.disp = JIT_AT(jumps[0].rip);
    emit_op(e, 0x2b | OP_W, SCRATCH1, entry);
    emit_op(e, 0x09 | OP_W, SCRATCH1, rm_reg(HOST_RAX)); /* both 0? */
    emit_load(e, HOST_RAX, rm_state(JIT_AT(spare)));
    uint8_t *slow = emit_jcc(e, CC_NE, NULL);
    entry.disp = JIT_AT(jumps[0].host);
    emit_op(e, 0xc7, 0, rm_state(JIT_AT(ret)));
    e32(e, 0);
    emit_op(e, 0xff, 4, entry);
    emit_patch(e, slow, emit_here(e));
    entry.disp = JIT_AT(jumps[0].rip);
    emit_op(e, 0x03 | OP_W, SCRATCH1, entry);
    emit_op(e, 0x8b, SCRATCH2, rm_state(JIT_AT(ret)));
    emit_op(e, 0x03 | OP_W, SCRATCH2, rm_state(JIT_AT(arena)));
    emit_op(e, 0x8b, SCRATCH1, rm_reg(SCRATCH1)); /* without code_key */
    emit_op(e, 0x83 | OP_W, 7, rm_mem(SCRATCH2, offsetof(JitReturn, block)));
    e8(e, 0);
    emit_jcc(e, CC_E, thunks->go);
    emit_op(e, 0x2b | OP_W, GUEST_RSP, rm_mem(SCRATCH2, offsetof(JitReturn, popped)));
    emit_load(e, SCRATCH1, rm_mem(SCRATCH2, offsetof(JitReturn, block)));
    emit_load(e, SCRATCH2, rm_mem(SCRATCH2, offsetof(JitReturn, place)));
    emit_call(e, thunks->insn); /* it ends the block: never comes back */
    return start;
}

_Static_assert(offsetof(SoftCpu, exit_request) == offsetof(SoftCpu, lower_stamp) + 4 &&
                   offsetof(SoftCpu, upper_stamp) == offsetof(SoftCpu, exit_request) + 4,
               "what is read as one word");
_Static_assert(sizeof(TlbEntry) == 32, "the shift of an address to its entry");
_Static_assert(sizeof(((SoftCpu *)0)->sites_filled) == 4, "set by one store");

void jit_thunks_make(JitCpu *jit)
{
    Emit e = {.p = jit->write, .run = jit->run - jit->write};
    JitThunks *thunks = &jit->thunks;
    write_enter(&e, thunks);
    uint8_t *leave = write_leave(&e);
    fpu_write_save(&e, thunks);
    thunks->insn = write_insn(&e, thunks, (uintptr_t)run_insn, leave);
    thunks->pair = write_insn(&e, thunks, (uintptr_t)run_pair, leave);
    thunks->link = emit_here(&e);
    emit_op(&e, 0x03 | OP_W, SCRATCH1, rm_state(JIT_AT(arena)));
    emit_store(&e, SCRATCH1, rm_state(JIT_AT(link)));
    emit_load(&e, SCRATCH1, rm_mem(SCRATCH1, offsetof(JitLink, target)));
    thunks->go = emit_here(&e);
    emit_store(&e, SCRATCH1, rm_state(CPU_AT(s.rip)));
    thunks->leave = emit_here(&e);
    move_guest(&e, true);
    emit_load(&e, HOST_RSP, rm_state(JIT_AT(c_stack)));
    emit_move(&e, HOST_RDI, STATE);
    save_fpu(&e, thunks);
    emit_jump(&e, leave);
    fpu_write_loads(&e, thunks);
    thunks->syscall = write_transfer(&e, jit_syscall);
    thunks->sysret = write_transfer(&e, jit_sysret);
    thunks->iretq = write_transfer(&e, jit_iretq);
    thunks->learn = write_learn(&e);
    thunks->far = write_transfer(&e, jit_far);
    thunks->fill = write_fill(&e);
    thunks->beside = write_beside(&e);
    thunks->miss[0] = write_miss(&e, thunks, false);
    thunks->miss[1] = write_miss(&e, thunks, true);
    thunks->recall = write_recall(&e);
    thunks->return_to = write_return_to(&e, thunks);
    *(uint64_t *)jit->returns = (uintptr_t)thunks->return_to;
    jit->thunks_end = jit->used = align_up(e.p - jit->write, 64);
}
