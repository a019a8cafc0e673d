/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A block → host code: liveness of flags backwards, then one instruction after the other, then what
 * is out of line.
 */
#include "cpu/jit/system.h"

#include "base/bits.h"
#include "cpu/soft/decode.h"
#include "cpu/soft/soft_vm.h"

#define DROPS_MOST 4

/* ---- registers ----------------------------------------------------------------------------------
 */

void settle_rsp(Translation *t)
{
    if (t->now.rsp_moved)
        emit_op(&t->e, 0x8d | (t->mode64 ? OP_W : 0), GUEST_RSP,
                rm_mem(GUEST_RSP, t->now.rsp_moved));
    t->now.rsp_moved = 0;
}

unsigned guest_read(Translation *t, unsigned guest, unsigned scratch)
{
    if (guest == GPR_RSP)
        settle_rsp(t);
    if (!guest_in_memory(guest))
        return guest_host(guest);
    if (scratch == SCRATCH1 && t->now.copied == guest)
        return scratch;
    scratch_lost(t, scratch);
    if (scratch == SCRATCH1)
        t->now.copied = guest;
    emit_load(&t->e, scratch, rm_state(CPU_AT(s.gpr) + guest * 8));
    return scratch;
}

void guest_written(Translation *t, unsigned guest, unsigned host)
{
    if (!guest_in_memory(guest))
        return;
    emit_store(&t->e, host, rm_state(CPU_AT(s.gpr) + guest * 8));
    if (t->now.copied == guest)
        t->now.copied = 0;
    if (host == SCRATCH1) {
        scratch_lost(t, host);
        t->now.copied = guest;
    }
}

/* ---- what is live ------------------------------------------------------------ */

static uint64_t linear_at(const Translation *t, uint64_t rip)
{
    return t->segmented ? (uint32_t)(t->code_base + rip) : rip;
}

static bool on_same_page(const Translation *t, uint64_t target)
{
    return (linear_at(t, target) ^ linear_at(t, t->rip)) < GUEST_PAGE_SIZE;
}

/* A link to an instruction that may go on behind the page holds only while that page's mapping
 * does.
 */
static bool needs_no_guard(const Translation *t, uint64_t target)
{
    return on_same_page(t, target) &&
           (linear_at(t, target) & (GUEST_PAGE_SIZE - 1)) <= GUEST_PAGE_SIZE - INSN_MAX_BYTES;
}

unsigned live_at(Translation *t, uint64_t target)
{
    uint64_t offset =
        (t->block->offset & GUEST_PAGE_MASK) | (linear_at(t, target) & (GUEST_PAGE_SIZE - 1));
    if (!on_same_page(t, target))
        return JIT_ALL_FLAGS;
    const Block *block = block_peek(t->cpu->blocks, t->block->ram, offset, t->block->mode);
    /* Where code is written over and over, no translation goes because of another. */
    if (!block || atomic_load_explicit(&code_page(t->block->ram, offset)->drops,
                                       memory_order_relaxed) > DROPS_MOST)
        return JIT_ALL_FLAGS;
    t->result->relies = true;
    return block->live_flags;
}

static uint64_t branch_target(const Translation *t, const Insn *insn)
{
    uint64_t mask = t->mode64 ? UINT64_MAX : insn->op_size == 2 ? UINT16_MAX : UINT32_MAX;
    return (t->rip + insn->imm) & mask;
}

static uint64_t block_end(const Translation *t)
{
    const Insn *last = &t->insns[t->count - 1];
    return (t->rip + last->rip_offset + last->length) & (t->mode64 ? UINT64_MAX : UINT32_MAX);
}

static bool may_fault(const Insn *insn, const JitOp *op)
{
    switch (op->kind) {
    case JIT_LEA:
    case JIT_NOTHING:
        return false;
    case JIT_CALL:
    case JIT_MOVE_OFFSET:
    case JIT_PUSH ... JIT_LEAVE:
    case JIT_DIVIDE:
    case JIT_DIVIDE_SIGNED:
    case JIT_CALL_REL:
        return true;
    default:
        return insn->flags & INSN_MEMORY || op->kind >= JIT_SYSTEM;
    }
}

/* Of the flags before each instruction those that the block itself made, in t->live. */
static void find_made_flags(Translation *t)
{
    unsigned made = 0;
    for (unsigned i = 0; i < t->count; i++) {
        if (t->round && i % t->round == 0)
            made = 0;
        t->live[i] = made;
        made |= t->ops[i].kills;
    }
}

/* Signal handlers and debuggers see what a fault in a program pushes: it reads what the block made.
 * What blocks before it made would have to be saved for that, which costs up to a fifth. */
static void find_live_flags(Translation *t)
{
    unsigned count = t->count, live = live_at(t, block_end(t));
    find_made_flags(t);
    t->live[count] = live;
    for (unsigned i = count; i-- > 0;) {
        const JitOp *op = &t->ops[i];
        if (op->kind == JIT_JMP || op->kind == JIT_CALL_REL)
            live = live_at(t, branch_target(t, &t->insns[i]));
        else if (op->kind == JIT_JMP_E || op->kind == JIT_CALL_E || op->kind == JIT_RET ||
                 (t->insns[i].flags & INSN_ENDS_BLOCK && op->kind == JIT_CALL))
            live = JIT_ALL_FLAGS;
        else if (op->kind == JIT_JCC || op->kind == JIT_LOOP)
            live |= live_at(t, branch_target(t, &t->insns[i]));
        live = op->reads | (live & ~op->kills);
        if (t->user && may_fault(&t->insns[i], op))
            live |= t->live[i];
        t->live[i] = live;
    }
}

/* ---- stubs --------------------------------------------------------------------------------------
 */

static Stub *add_stub(Translation *t, StubKind kind)
{
    g_assert(t->stub_count < STUBS_MAX);
    Stub *stub = &t->stubs[t->stub_count++];
    *stub = (Stub){.kind = kind, .insn = t->index, .now = t->now};
    return stub;
}

Stub *new_stub(Translation *t, StubKind kind)
{
    settle_rsp(t);
    return add_stub(t, kind);
}

/* ---- ways out -----------------------------------------------------------------------------------
 */

uint32_t code_offset(const Translation *t)
{
    return t->e.p - t->jit->write;
}

static void add_link(Translation *t, JitLink *link, uint64_t target)
{
    t->jit->stat_exits++;
    link->target = target;
    link->from = jit_ref(t->jit, t->result);
    link->next_out = t->result->out;
    t->result->out = jit_ref(t->jit, link);
}

static JitLink *new_link(Translation *t, uint64_t target)
{
    JitLink *link = jit_alloc(t->jit, sizeof(JitLink));
    add_link(t, link, target);
    return link;
}

/* Where the link goes as long as it goes nowhere. */
static Stub *new_link_stub(Translation *t, JitLink *link)
{
    Stub *stub = new_stub(t, STUB_EXIT);
    stub->link = link;
    return stub;
}

void write_unlinked(Translation *t, JitLink *link)
{
    emit_constant(&t->e, SCRATCH1, jit_ref(t->jit, link));
    emit_jump(&t->e, t->jit->thunks.link);
}

/* The next CALL of the host has room on the stack of returns. EFLAGS are lost. */
static void make_room(Translation *t)
{
    emit_op(&t->e, 0x3b | OP_W, HOST_RSP, rm_state(JIT_AT(returns_limit)));
    Stub *stub = new_stub(t, STUB_FULL);
    stub->from = emit_jcc(&t->e, CC_B, NULL);
    stub->resume = emit_here(&t->e);
}

/* What the host's CALL before returns to: SCRATCH1 is where the guest does. */
static void write_return(Translation *t, uint64_t rip)
{
    Emit *e = &t->e;
    if (!t->mode64 || (int64_t)rip == (int32_t)rip) {
        emit_op(e, 0x81 | (t->mode64 ? OP_W : 0), 7, rm_reg(SCRATCH1)); /* cmp */
        e32(e, rip);
    } else {
        emit_constant(e, SCRATCH2, rip);
        emit_op(e, 0x3b | OP_W, SCRATCH1, rm_reg(SCRATCH2));
    }
    emit_jcc(e, CC_NE, t->jit->thunks.return_to);
    t->now = (JitNow){.lazy = true, .recipe.how = JIT_RECIPE_RETURN};
    exit_to(t, rip, JIT_ALL_FLAGS);
}

/* Whether a CALL can be the host's, to return to `rip`. */
static bool has_return(const Translation *t, uint64_t rip)
{
    return needs_no_guard(t, rip);
}

/* `guarded`: perhaps to another page. */
static void leave_by(Translation *t, JitLink *link, unsigned live, bool guarded, bool call)
{
    Emit *e = &t->e;
    settle_rsp(t);
    if (call || guarded)
        flags_lost(t, live);
    if (call)
        make_room(t);
    link->fpu = t->now.fpu;
    link->host_flags = t->now.host_flags;
    if (guarded) {
        emit_op(e, 0x81, 7, rm_state(CPU_AT(map_generation[0]) + (int)(link->target >> 63) * 4));
        link->guard = code_offset(t);
        e32(e, 0);
        Stub *stub = new_link_stub(t, link);
        stub->from = emit_jcc(e, CC_NE, NULL);
        stub->guard = true;
    }
    new_link_stub(t, link)->from = call ? emit_call(e, NULL) : emit_jump(e, NULL);
    link->site = code_offset(t) - 4;
}

void exit_to(Translation *t, uint64_t target, unsigned live)
{
    leave_by(t, new_link(t, target), live, !needs_no_guard(t, target), false);
}

void exit_to_plain(Translation *t, unsigned index)
{
    JitLink *link = new_link(t, t->rip + t->insns[index].rip_offset);
    link->plain = true;
    link->site = code_offset(t) + 1;
    emit_jump(&t->e, emit_here(&t->e) + 5);
    link->unlinked = code_offset(t);
    write_unlinked(t, link);
}

void jump_lookup(Translation *t)
{
    Emit *e = &t->e;
    Rm entry = rm_state_by(SCRATCH2, 0);
    emit_jump_entry(e);
    if (t->segmented)
        emit_op(e, 0x0b | OP_W, SCRATCH1, rm_state(JIT_AT(code_key))); /* or */
    entry.disp = JIT_AT(jumps[0].rip);
    emit_op(e, 0x3b | OP_W, SCRATCH1, entry);
    slow_if(t, CC_NE);
    /* A target in the other half of the address space never matches: in its entry the stamp stands
     * where exit_request is here. */
    emit_load(e, SCRATCH1, rm_state(t->rip >> 63 ? CPU_AT(exit_request) : CPU_AT(lower_stamp)));
    entry.disp = JIT_AT(jumps[0].stamp);
    emit_op(e, 0x3b | OP_W, SCRATCH1, entry);
    slow_if(t, CC_NE);
}

void jump_found(Translation *t)
{
    emit_op(&t->e, 0xff, 4, rm_state_by(SCRATCH2, JIT_AT(jumps[0].host)));
    t->ended = true;
}

void call_handler_inline(Translation *t)
{
    Emit *e = &t->e;
    settle_rsp(t);
    flags_to_slot(t, t->live[t->index]);
    Insn *pair = jit_alloc(t->jit, 2 * sizeof(Insn));
    pair[0] = *t->insn;
    pair[1] = JIT_AFTER(t->insn);
    emit_constant(e, SCRATCH1, (uintptr_t)pair);
    emit_constant(e, SCRATCH2, t->rip);
    emit_call(e, t->jit->thunks.pair);
    t->now = (JitNow){0};
    facts_forget(t);
    t->ended = t->insn->flags & INSN_ENDS_BLOCK && !jit_goes_on(t->insn);
}

/* ---- branches -----------------------------------------------------------------------------------
 */

static bool is_canonical(uint64_t linear)
{
    return (int64_t)(linear << 16) >> 16 == (int64_t)linear;
}

static void translate_jcc(Translation *t, uint64_t target)
{
    Emit *e = &t->e;
    unsigned live = live_at(t, target);
    flags_to_host(t, SCRATCH1);
    Stub *stub = new_stub(t, STUB_EXIT);
    stub->target = target;
    stub->live = live;
    stub->from = emit_jcc(e, t->insn->opcode & 15, NULL);
    if (needs_no_guard(t, target)) {
        stub->link = new_link(t, target);
        stub->link->host_flags = true;
        stub->link->plain = t->result->plain && target < t->rip;
        stub->link->fpu = t->now.fpu;
        stub->link->site = code_offset(t) - 4;
    }
}

static unsigned pushed_size(const Translation *t)
{
    return t->mode64 ? 8 : t->insn->op_size;
}

static void push_return_address(Translation *t)
{
    Emit *e = &t->e;
    unsigned size = pushed_size(t), free;
    uint64_t value = t->rip + t->insn->rip_offset + t->insn->length;
    Rm rm = access_stack(t, GPR_RSP, -(int)size, size, true, &free);
    if (size == 2) {
        emit_op(e, 0xc7 | OP_66, 0, rm);
        e8(e, value), e8(e, value >> 8);
    } else if (!t->mode64 || (int64_t)value == (int32_t)value) {
        emit_op(e, 0xc7 | (t->mode64 ? OP_W : 0), 0, rm);
        e32(e, value);
    } else {
        emit_constant(e, free, value);
        emit_store(e, free, rm);
    }
    move_stack(t, GUEST_RSP, -(int)size);
}

/* MOV of a target into a register; MOVZX of 16 bits. */
static uint32_t target_opcode(const Translation *t)
{
    unsigned size = pushed_size(t);
    return size == 2 ? 0xb7 | OP_0F : size == 8 ? 0x8b | OP_W : 0x8b;
}

/* The target of an indirect branch into SCRATCH1. */
static void read_target(Translation *t)
{
    unsigned free;
    if (t->insn->flags & INSN_MEMORY)
        emit_op(&t->e, target_opcode(t), SCRATCH1,
                access_operand(t, pushed_size(t), false, 0, &free));
    else
        emit_op(&t->e, target_opcode(t), SCRATCH1, rm_reg(guest_read(t, t->insn->rm, SCRATCH1)));
    check_target(t);
}

static uint64_t next_rip(const Translation *t)
{
    return (t->rip + t->insn->rip_offset + t->insn->length) & (t->mode64 ? UINT64_MAX : UINT32_MAX);
}

/* Flags are lost, but can be had by what it returns, until another is made. */
static JitReturn *new_return(Translation *t, uint64_t popped)
{
    JitReturn *ret = jit_alloc(t->jit, sizeof(JitReturn));
    *ret = (JitReturn){.block = t->segmented ? 0 : jit_ref(t->jit, t->result),
                       .place = jit_place(t->insn),
                       .popped = popped};
    flags_lost(t, JIT_ALL_FLAGS);
    if (t->now.lazy) {
        Stub *stub = add_stub(t, STUB_RECALL); /* RSP is settled by then */
        stub->ret = ret;
        stub->now.rsp_moved = 0;
        recipe_rsp_moved(&stub->now.recipe, popped);
    }
    return ret;
}

static void leave_by_return(Translation *t, const JitReturn *ret)
{
    emit_op(&t->e, 0xc7, 0, rm_state(JIT_AT(ret)));
    e32(&t->e, jit_ref(t->jit, ret));
}

/* The host's RET goes behind the CALL that belongs to it, if there is one: write_return(). */
static void translate_ret(Translation *t)
{
    Emit *e = &t->e;
    unsigned size = pushed_size(t), free;
    int32_t popped = size + (int32_t)t->insn->imm;
    JitReturn *ret = new_return(t, popped);
    Rm rm = access_stack(t, GPR_RSP, 0, size, false, &free);
    emit_op(e, target_opcode(t), SCRATCH1, rm);
    check_target(t);
    move_stack(t, GUEST_RSP, popped);
    settle_rsp(t);
    leave_by_return(t, ret);
    e8(e, 0xc3);
    t->ended = true;
}

/* SCRATCH1: the target, which is looked up. */
static void branch_by_lookup(Translation *t, const JitReturn *ret)
{
    Emit *e = &t->e;
    Rm host = rm_state(JIT_AT(target));
    jump_lookup(t);
    if (t->op.kind != JIT_CALL_E) {
        leave_by_return(t, ret);
        jump_found(t);
        return;
    }
    emit_load(e, SCRATCH1, rm_state_by(SCRATCH2, JIT_AT(jumps[0].host)));
    emit_store(e, SCRATCH1, host);
    scratches_lost(t); /* the lookup's index is there now */
    push_return_address(t);
    settle_rsp(t);
    leave_by_return(t, ret);
    if (has_return(t, next_rip(t))) {
        make_room(t);
        emit_op(e, 0xff, 2, host);
        write_return(t, next_rip(t));
    } else {
        emit_op(e, 0xff, 4, host);
    }
    t->ended = true;
}

void write_other(Translation *t, const Stub *stub)
{
    Emit *e = &t->e;
    JitGuess *guess = (JitGuess *)stub->link;
    t->index = stub->insn;
    t->insn = &t->insns[stub->insn];
    t->op = t->ops[stub->insn];
    t->now = stub->now;
    facts_forget(t);
    emit_constant(e, SCRATCH2, (uintptr_t)&guess->misses);
    emit_op(e, 0x83, 5, rm_mem(SCRATCH2, 0)); /* sub */
    e8(e, 1);
    e8(e, 0x79); /* jns, over the call */
    uint8_t *over = e->p++;
    emit_constant(e, SCRATCH2, jit_ref(t->jit, guess));
    emit_call(e, t->jit->thunks.learn);
    *over = e->p - (over + 1);
    branch_by_lookup(t, stub->ret);
}

/* Calls, and jumps through a word in memory as those of a procedure linkage table: mostly to one
 * target. */
static bool is_guessed(const Translation *t)
{
    return t->mode64 &&
           (t->op.kind == JIT_CALL_E ||
            (t->insn->flags & INSN_MEMORY && t->insn->index == GPR_NONE && !has_base(t->insn)));
}

/* SCRATCH1: the target. One that can't be taken for the wrong one: it is where it says. */
static JitLink *guess_target(Translation *t, JitReturn *ret)
{
    Emit *e = &t->e;
    JitGuess *guess = jit_alloc(t->jit, sizeof(JitGuess));
    add_link(t, &guess->link, t->rip);
    e8(e, 0x49), e8(e, 0xb8 | (SCRATCH2 & 7)); /* mov of 64 bits */
    guess->expected = code_offset(t);
    e64(e, t->rip);
    emit_op(e, 0x3b | OP_W, SCRATCH1, rm_reg(SCRATCH2));
    scratches_lost(t);
    Stub *stub = new_stub(t, STUB_OTHER);
    stub->link = &guess->link;
    stub->ret = ret;
    stub->from = emit_jcc(e, CC_NE, NULL);
    return &guess->link;
}

static void translate_indirect(Translation *t)
{
    bool call = t->op.kind == JIT_CALL_E, returns = call && has_return(t, next_rip(t));
    JitReturn *ret = new_return(t, call ? -(int64_t)pushed_size(t) : 0);
    read_target(t);
    if (!is_guessed(t)) {
        branch_by_lookup(t, ret);
        return;
    }
    JitLink *link = guess_target(t, ret);
    if (call) {
        push_return_address(t);
        recipe_rsp_moved(&t->now.recipe, -(int64_t)pushed_size(t));
    }
    leave_by(t, link, JIT_ALL_FLAGS, true, returns);
    if (returns)
        write_return(t, next_rip(t));
    t->ended = true;
}

static void translate_call(Translation *t, uint64_t target)
{
    bool returns = has_return(t, next_rip(t));
    push_return_address(t);
    recipe_rsp_moved(&t->now.recipe, -(int64_t)pushed_size(t));
    leave_by(t, new_link(t, target), live_at(t, target), !needs_no_guard(t, target), returns);
    if (returns)
        write_return(t, next_rip(t));
    t->ended = true;
}

/* False: not a branch, or one for its handler. */
static bool translate_branch(Translation *t)
{
    const Insn *insn = t->insn;
    uint64_t target = branch_target(t, insn);
    if (t->op.kind < JIT_JCC || t->op.kind > JIT_RET)
        return false;
    if (insn->op_size == 2 && !t->segmented)
        return false;
    if (t->op.kind == JIT_RET) {
        translate_ret(t);
        return true;
    }
    if (t->op.kind >= JIT_JMP_E) {
        translate_indirect(t);
        return true;
    }
    if (t->mode64 ? !is_canonical(target) : target > t->code_limit)
        return false;
    if (t->op.kind == JIT_LOOP) {
        translate_counted(t, target);
        return true;
    }
    if (t->op.kind == JIT_JCC) {
        translate_jcc(t, target);
        return true;
    }
    if (t->op.kind == JIT_CALL_REL) {
        translate_call(t, target);
        return true;
    }
    exit_to(t, target, live_at(t, target));
    t->ended = true;
    return true;
}

/* ---- blocks -------------------------------------------------------------------------------------
 */

/* Kinds that leave the scratch registers alone, but where guest_read(), an access or flags say
 * otherwise. */
static bool holds_scratch(const JitOp *op)
{
    return op->kind == JIT_COPY || (op->kind >= JIT_NOTHING && op->kind <= JIT_LEA) ||
           op->kind == JIT_JCC || (op->kind == JIT_SIMD && !op->reg);
}

static bool names_rsp(const Insn *insn)
{
    return insn->reg == GPR_RSP || (!(insn->flags & INSN_MEMORY) && insn->rm == GPR_RSP);
}

/* Whether RSP may be settled behind the instruction. Between a comparison and its jump it isn't:
 * hosts take those for one. */
static bool may_settle_later(const Translation *t)
{
    const JitOp *op = &t->ops[t->index];
    bool alone = t->index + 1 == t->count || op[1].kind != JIT_JCC;
    switch (op->kind) {
    case JIT_PUSH:
    case JIT_PUSH_IMM:
    case JIT_POP:
    case JIT_CALL_REL:
    case JIT_RET:
        return t->insn->rm != GPR_RSP;
    case JIT_COPY:
    case JIT_MOVE_IMM:
        return !names_rsp(t->insn) && (alone || !op->writes);
    case JIT_LEA:
        return t->insn->reg != GPR_RSP && t->insn->base != GPR_RSP;
    default:
        return op->kind == JIT_NOTHING;
    }
}

static void translate_insn(Translation *t)
{
    bool holds = holds_scratch(&t->op);
    if (!may_settle_later(t))
        settle_rsp(t);
    if (!holds && t->op.kind != JIT_CALL_REL && t->op.kind != JIT_RET)
        scratches_lost(t);
    t->start[t->index] = emit_here(&t->e);
    t->at[t->index] = t->now;
    flags_before_insn(t);
    if (t->op.kind == JIT_CALL) {
        call_handler_inline(t);
    } else if (t->op.kind == JIT_SIMD) {
        if (!translate_simd(t))
            call_handler_inline(t);
    } else if (t->op.kind >= JIT_SYSTEM) {
        translate_system(t);
    } else if (t->op.kind == JIT_X87) {
        translate_x87(t);
    } else if (t->op.kind >= JIT_JCC && t->op.kind <= JIT_RET) {
        if (!translate_branch(t))
            call_handler_inline(t);
    } else {
        translate_integer(t);
    }
    if (!holds)
        scratches_lost(t);
}

/* Whether the first instruction that cares finds flags in EFLAGS better. */
static bool wants_host_flags(const Translation *t)
{
    for (unsigned i = 0; i < t->count; i++) {
        const JitOp *op = &t->ops[i];
        if (op->kind == JIT_CALL || (op->kind >= JIT_CALL_REL && op->kind <= JIT_X87) ||
            op->kind == JIT_LOOP || op->kind == JIT_MOVE_OFFSET || op->kind >= JIT_SYSTEM)
            return false;
        if (t->insns[i].flags & INSN_MEMORY && op->kind != JIT_LEA && op->kind != JIT_NOTHING)
            return false;
        if (op->kind >= JIT_PUSH && op->kind <= JIT_LEAVE)
            return false;
        if (op_needs_host_flags(op, t->live[i + 1]))
            return true;
    }
    return false;
}

/* What the block needs of the vector and x87 registers before its first branch. */
static unsigned fpu_needed_first(const Translation *t)
{
    unsigned need = 0;
    for (unsigned i = 0; i < t->count; i++) {
        const JitOp *op = &t->ops[i];
        if (op->kind == JIT_SIMD)
            need |= simd_fpu_bits(t, &t->insns[i]);
        else if (op->kind == JIT_X87 && !(t->block->mode & MODE_FPU_TRAP))
            need |= JIT_LIVE_X87;
        else if (op->kind == JIT_CALL || (op->kind >= JIT_JCC && op->kind <= JIT_RET) ||
                 op->kind >= JIT_SYSTEM)
            break;
    }
    return need;
}

/* The same entries do for flags in the slot and in EFLAGS: nobody reads them. */
static void write_entries_without_flags(Translation *t)
{
    JitBlock *result = t->result;
    result->entry[0] = result->entry[1] = result->jump = code_offset(t);
    result->fpu = fpu_needed_first(t);
    fpu_need(t, result->fpu);
    result->body = code_offset(t);
}

static void write_entries_with_flags(Translation *t)
{
    JitBlock *result = t->result;
    result->flagged = true;
    result->entry[0] = result->entry[1] = code_offset(t);
    if (wants_host_flags(t)) {
        flags_to_host(t, SCRATCH1);
        result->entry[1] = code_offset(t);
    } else {
        t->now.host_flags = true;
        flags_to_slot(t, JIT_ALL_FLAGS);
        result->entry[0] = code_offset(t);
    }
}

/* EFLAGS stay. */
static void write_count(Translation *t)
{
    Emit *e = &t->e;
    emit_constant(e, SCRATCH2, (uintptr_t)&t->result->runs);
    emit_op(e, 0x8b, SCRATCH1, rm_mem(SCRATCH2, 0));
    emit_op(e, 0x8d, SCRATCH1, rm_mem(SCRATCH1, 1));
    emit_op(e, 0x89, SCRATCH1, rm_mem(SCRATCH2, 0));
    scratches_lost(t);
}

static void write_entries(Translation *t)
{
    if (t->live[0])
        write_entries_with_flags(t);
    else
        write_entries_without_flags(t);
    t->result->counts = t->block->counting;
    if (t->block->counting)
        write_count(t);
}

/* For the jump table, out of line: flags are where the block wants them first. */
static void write_recalling_entry(Translation *t)
{
    t->result->jump = code_offset(t);
    emit_call(&t->e, t->jit->thunks.recall);
    emit_jump(&t->e, t->jit->run + t->result->entry[0]);
}

static void translate_all(Translation *t)
{
    t->insns = t->block->insns;
    t->count = t->block->count;
    for (unsigned i = 0; i < t->count; i++)
        t->ops[i] = jit_classify(t->block->mode, &t->insns[i]);
    unroll(t);
    find_live_flags(t);
    write_entries(t);
    for (unsigned i = 0; i < t->count && !t->ended; i++) {
        t->index = i;
        t->insn = &t->insns[i];
        t->op = t->ops[i];
        translate_insn(t);
        flags_after_insn(t);
        facts_after_insn(t);
    }
    if (!t->ended) {
        settle_rsp(t);
        t->index = t->count;
        t->start[t->count] = emit_here(&t->e);
        t->at[t->count] = t->now;
        exit_to(t, block_end(t), t->live[t->count]);
    }
}

JitBlock *jit_translate(SoftCpu *cpu, Block *block, uint64_t rip, bool plain)
{
    JitCpu *jit = cpu->jit;
    uint8_t *cold, *write = jit_cache_space(jit, &cold);
    if (!write)
        return NULL;
    Translation t;
    memset(&t, 0, offsetof(Translation, stubs));
    t.e = (Emit){.p = write, .run = jit->run - jit->write};
    t.cpu = cpu;
    t.jit = jit;
    t.block = block;
    t.rip = rip;
    t.plain = plain;
    t.mode64 = (block->mode & MODE_CODE_MASK) == MODE_CODE64;
    t.segmented = jit_is_segmented(block->mode);
    t.plain |= t.segmented;
    /* Programs, and what there is no paging under, which is as good as one. */
    t.user = (block->mode >> MODE_CPL_SHIFT & 3) == 3;
    t.sited = t.user || !(block->mode & (MODE_PROTECTED | MODE_VM86));
    t.stack_size = t.mode64 ? 8 : block->mode & MODE_STACK32 ? 4 : 2;
    t.code_base = cpu->s.seg[SEG_CS].base;
    t.code_limit = cpu->s.seg[SEG_CS].limit;
    t.result = jit_alloc(jit, sizeof(JitBlock));
    t.result->block = block;
    t.result->rip = rip;
    t.result->code_key = jit->code_key;
    t.result->plain = plain;
    t.result->start = write - jit->write;
    t.result->cold = cold - jit->write;
    jit->blocks[jit->block_count++] = jit_ref(jit, t.result);
    translate_all(&t);
    uint8_t *end = t.e.p;
    t.e.p = cold;
    write_stubs(&t);
    if (t.live[0])
        write_recalling_entry(&t);
    jit_add(jit, t.result);
    jit->stat_translated++;
    jit->stat_bytes += end - write + (t.e.p - cold);
    jit->stat_guest_bytes += block->bytes;
    jit->used = align_up(end - jit->write, 16);
    jit->cold_used = t.e.p - jit->write;
    if (G_UNLIKELY(cpu->vcpu->vm->perf_map)) {
        uint64_t linear = linear_at(&t, rip);
        perf_map_add(cpu->vcpu->vm->perf_map, write + t.e.run, end - write, linear);
        perf_map_add(cpu->vcpu->vm->perf_map, cold + t.e.run, t.e.p - cold, linear);
    }
    return t.result;
}
