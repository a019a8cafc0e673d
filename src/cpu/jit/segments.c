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
 */
#include "cpu/jit/system.h"

/* ---- code segments ------------------------------------------------------------------------------
 */

void jit_set_code(SoftCpu *cpu)
{
    JitCpu *jit = cpu->jit;
    const Segment *cs = &cpu->s.seg[SEG_CS];
    uint32_t base = cs->base, limit = cs->limit;
    JitCode *code = &jit->codes[(base >> 4 ^ base >> 12 ^ limit) % JIT_CODES];
    if (!jit_is_segmented(cpu->mode)) {
        jit->code_key = 0;
        return;
    }
    if (!code->key || code->base != base || code->limit != limit)
        *code = (JitCode){.key = (uint64_t)++jit->last_code << 32, .base = base, .limit = limit};
    jit->code_key = code->key;
}

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
    Rm last = rm_gs(GS_CPU(seg_last) + (access->write * SEG_COUNT + access->segment) * 8);
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
    emit_op(&t->e, 0x03, SCRATCH1, rm_gs(GS_CPU(seg_base) + access->segment * 8));
}

/* ---- the stack ----------------------------------------------------------------------------------
 */

void move_stack(Translation *t, unsigned base, int32_t by)
{
    Emit *e = &t->e;
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
