/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Code that is not 64-bit and not 32-bit in flat segments: real and virtual-8086 mode, 16-bit
 * protected mode, 32-bit code in segments with bases and limits.
 *
 * Its translations are of one code segment (JitCpu.code): base and limit are constants in them. The
 * bases of data segments are read with each access, and an offset is compared with the last that
 * the segment allows (SoftCpu.seg_last); in 16-bit code with plain segments, whatever 16 bits
 * address needs no more than not to cross their end. What fails is for the handler, which knows
 * expanding segments, too.
 *
 * In real and virtual-8086 mode segment registers are loaded in line, and far transfers are made by
 * system.c.
 */
#include "cpu/jit/system.h"

/* ---- operands -----------------------------------------------------------------------------------
 */

/* What an access of 16 bits of address can't fail at, but by crossing their end. */
static bool is_plain(const Translation *t, const SegmentAccess *access)
{
    const uint32_t plain = MODE_PLAIN_SEGMENTS | MODE_CODE_MASK;
    return (t->block->mode & plain) == (MODE_PLAIN_SEGMENTS | MODE_CODE16) &&
           access->addr_size == 2 &&
           (access->segment == SEG_DS || access->segment == SEG_ES || access->segment == SEG_SS);
}

/* The handler executes the instruction if the offset in SCRATCH1 is not good for the access. */
static void check_limit(Translation *t, const SegmentAccess *access)
{
    Emit *e = &t->e;
    Rm last = rm_state(CPU_AT(seg_last) + (access->write * SEG_COUNT + access->segment) * 8);
    bool plain = is_plain(t, access);
    if (plain && access->size == 1)
        return;
    if (plain) {
        emit_op(e, 0x81, 7, rm_reg(SCRATCH1)); /* cmp */
        e32(e, 0x10000 - access->size);
        slow_if(t, CC_A);
        return;
    }
    if (access->size == 1) {
        emit_op(e, 0x3b | OP_W, SCRATCH1, last);
    } else {
        emit_op(e, 0x8d | OP_W, SCRATCH2, rm_mem(SCRATCH1, access->size - 1));
        emit_op(e, 0x3b | OP_W, SCRATCH2, last);
    }
    slow_if(t, CC_G);
}

void emit_segment_linear(Translation *t, const SegmentAccess *access)
{
    emit_offset(t, access->at, access->addr_size);
    check_limit(t, access);
    emit_op(&t->e, 0x03, SCRATCH1, rm_state(CPU_AT(seg_base) + access->segment * 8));
}

/* ---- the stack ----------------------------------------------------------------------------------
 */

void move_stack(Translation *t, unsigned base, int32_t by)
{
    Emit *e = &t->e;
    if (base == GUEST_RSP && t->stack_size != 2) {
        t->now.rsp_moved += by;
        return;
    }
    t->now.rsp_moved = 0;
    if (t->stack_size != 2) {
        emit_op(e, 0x8d | (t->mode64 ? OP_W : 0), GUEST_RSP, rm_mem(base, by));
        return;
    }
    if (base != GUEST_RSP)
        emit_op(e, 0x8b | OP_66, GUEST_RSP, rm_reg(base));
    if (by == (int8_t)by) {
        emit_op(e, 0x83 | OP_66, 0, rm_reg(GUEST_RSP)); /* add */
        e8(e, by);
        return;
    }
    emit_op(e, 0x81 | OP_66, 0, rm_reg(GUEST_RSP));
    e8(e, by), e8(e, by >> 8);
}

/* ---- branches -----------------------------------------------------------------------------------
 */

void check_target(Translation *t)
{
    uint64_t most = t->insn->op_size == 2 ? UINT16_MAX : UINT32_MAX;
    if (!t->segmented || t->code_limit >= most)
        return;
    emit_op(&t->e, 0x81, 7, rm_reg(SCRATCH1)); /* cmp */
    e32(&t->e, t->code_limit);
    slow_if(t, CC_A);
}

/* LOOP, JCXZ: the counter is of the address size. */
void translate_counted(Translation *t, uint64_t target)
{
    Emit *e = &t->e;
    const Insn *insn = t->insn;
    uint32_t wide = insn->addr_size == 8 ? OP_W : insn->addr_size == 2 ? OP_66 : 0;
    bool loop = insn->opcode == 0xe2;
    flags_lost(t, t->live[t->index]);
    if (loop) {
        emit_op(e, 0x83 | wide, 5, rm_reg(HOST_RCX)); /* sub */
        e8(e, 1);
    } else {
        emit_op(e, 0x85 | wide, HOST_RCX, rm_reg(HOST_RCX)); /* test */
    }
    uint8_t *stay = emit_jcc(e, loop ? CC_E : CC_NE, NULL);
    JitNow now = t->now;
    exit_to(t, target, live_at(t, target));
    t->now = now;
    emit_patch(e, stay, emit_here(e));
}

void translate_far(Translation *t)
{
    Emit *e = &t->e;
    const Insn *insn = t->insn;
    unsigned free;
    uint64_t what = (uint64_t)t->op.far << 32;
    if (insn->opcode == 0xca)
        what |= insn->imm << 40;
    else if (t->op.far == JIT_FAR_INT)
        what |= insn->imm;
    else if (!(insn->flags & INSN_MEMORY))
        what |= (insn->imm & UINT16_MAX) | (insn->imm >> 32 & UINT16_MAX) << 16;
    flags_to_slot(t, JIT_ALL_FLAGS);
    if (insn->flags & INSN_MEMORY) {
        Rm rm = access_operand(t, 4, false, 0, &free);
        emit_op(e, 0x8b, SCRATCH2, rm);
        emit_constant(e, SCRATCH1, what);
        emit_op(e, 0x09 | OP_W, SCRATCH1, rm_reg(SCRATCH2)); /* or */
    } else {
        emit_constant(e, SCRATCH2, what);
    }
    emit_constant(e, SCRATCH1, t->rip + insn->rip_offset + insn->length);
    emit_call(e, t->jit->thunks.far);
    call_handler_inline(t);
}

/* ---- segment registers --------------------------------------------------------------------------
 */

static int32_t segment_field(unsigned seg, size_t offset)
{
    return CPU_AT(s.seg) + (int32_t)(seg * sizeof(Segment) + offset);
}

/* MOV from a segment register. */
void translate_read_segment(Translation *t)
{
    Emit *e = &t->e;
    const Insn *insn = t->insn;
    Rm selector = rm_state(segment_field(insn_modrm_reg(insn), offsetof(Segment, selector)));
    unsigned free;
    if (insn->flags & INSN_MEMORY) {
        Rm rm = access_operand(t, 2, true, 0, &free);
        emit_op(e, 0xb7 | OP_0F, free, selector); /* movzx */
        emit_op(e, 0x89 | OP_66, free, rm);
        return;
    }
    unsigned host = insn->op_size == 2          ? guest_read(t, insn->rm, SCRATCH1)
                    : guest_in_memory(insn->rm) ? SCRATCH1
                                                : guest_host(insn->rm);
    emit_op(e, insn->op_size == 2 ? 0x8b | OP_66 : 0xb7 | OP_0F, host, selector);
    guest_written(t, insn->rm, host);
}

void translate_push_segment(Translation *t)
{
    Emit *e = &t->e;
    unsigned free;
    Rm rm = access_stack(t, GPR_RSP, -2, 2, true, &free);
    emit_op(e, 0xb7 | OP_0F, free,
            rm_state(segment_field(t->insn->reg, offsetof(Segment, selector))));
    emit_op(e, 0x89 | OP_66, free, rm);
    move_stack(t, GUEST_RSP, -2);
}

/* A load changes neither attributes nor what may be accessed, but where this is the first one since
 * protected mode, or the segment is large enough to be flat. */
static void check_paragraph(Translation *t, unsigned seg)
{
    const uint32_t type = SEGMENT_P | SEGMENT_S | SEGMENT_WRITABLE | SEGMENT_ACCESSED,
                   kept = SEGMENT_DB | SEGMENT_G | SEGMENT_AVL;
    Emit *e = &t->e;
    flags_lost(t, t->live[t->index]);
    if (t->block->mode & MODE_VM86)
        return; /* they all are that way */
    emit_op(e, 0x83, 7, rm_state(segment_field(seg, offsetof(Segment, limit)))); /* cmp */
    e8(e, 0xff);
    slow_if(t, CC_E);
    emit_op(e, 0x8b, SCRATCH2, rm_state(segment_field(seg, offsetof(Segment, attributes))));
    emit_op(e, 0x81, 4, rm_reg(SCRATCH2)); /* and */
    e32(e, ~kept);
    emit_op(e, 0x81, 7, rm_reg(SCRATCH2)); /* cmp */
    e32(e, type);
    slow_if(t, CC_NE);
}

/* MOV to a segment register, POP, LES and the like in real and virtual-8086 mode. */
void translate_load_segment(Translation *t)
{
    Emit *e = &t->e;
    const Insn *insn = t->insn;
    unsigned seg = jit_loaded_segment(insn), free;
    bool mov = insn->map == MAP_ONE_BYTE && insn->opcode == 0x8e,
         pointer = !mov && insn->flags & INSN_MEMORY;
    Rm rm;
    check_paragraph(t, seg);
    if (pointer)
        rm = access_operand(t, 2 + insn->op_size, false, 0, &free);
    else if (insn->flags & INSN_MEMORY)
        rm = access_operand(t, 2, false, 0, &free);
    else
        rm = mov ? rm_reg(guest_host(insn->rm)) : access_stack(t, GPR_RSP, 0, 2, false, &free);
    Rm selector = rm;
    if (pointer)
        selector.disp += insn->op_size;
    emit_op(e, 0xb7 | OP_0F, SCRATCH2, selector); /* movzx */
    if (pointer)
        emit_op(e, 0x8b | (insn->op_size == 2 ? OP_66 : 0), guest_host(insn->reg), rm);
    emit_op(e, 0x89 | OP_66, SCRATCH2, rm_state(segment_field(seg, offsetof(Segment, selector))));
    emit_op(e, 0xc1, 4, rm_reg(SCRATCH2)); /* shl */
    e8(e, 4);
    emit_store(e, SCRATCH2, rm_state(segment_field(seg, offsetof(Segment, base))));
    emit_store(e, SCRATCH2, rm_state(CPU_AT(seg_base) + seg * 8));
    if (!mov && !pointer)
        move_stack(t, GUEST_RSP, 2);
}

/* ---- strings ------------------------------------------------------------------------------------
 */

static void step_index(Translation *t, unsigned host, unsigned by)
{
    emit_op(&t->e, 0x83 | (t->insn->addr_size == 2 ? OP_66 : 0), 0, rm_reg(host)); /* add */
    e8(&t->e, by);
}

/* MOVS, STOS, LODS, not repeated; backward is for the handler. */
void translate_string(Translation *t)
{
    Emit *e = &t->e;
    const Insn *insn = t->insn;
    bool byte = !(insn->opcode & 1), stores = insn->opcode < 0xac,
         loads = insn->opcode < 0xaa || !stores;
    unsigned size = byte ? 1 : insn->op_size, free;
    uint32_t width = byte ? OP_REG8 : 1 | (size == 2 ? OP_66 : 0);
    flags_lost(t, t->live[t->index]);
    emit_op(e, 0xf7, 0, rm_state(CPU_AT(s.rflags))); /* test */
    e32(e, FLAG_DF);
    slow_if(t, CC_NE);
    if (loads) {
        Rm rm = access_index(t, GPR_RSI, insn->segment, size, false, &free);
        emit_op(e, 0x8a | width, stores ? SCRATCH1 : HOST_RAX, rm);
    }
    if (loads && stores)
        emit_store(e, SCRATCH1, rm_state(JIT_AT(temp)));
    if (stores) {
        Rm rm = access_index(t, GPR_RDI, SEG_ES, size, true, &free);
        if (loads)
            emit_load(e, free, rm_state(JIT_AT(temp)));
        emit_op(e, 0x88 | width, loads ? free : HOST_RAX, rm);
        step_index(t, HOST_RDI, size);
    }
    if (loads)
        step_index(t, HOST_RSI, size);
}
