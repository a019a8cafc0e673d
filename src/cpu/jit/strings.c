/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Repeated MOVS, STOS, CMPS and SCAS of flat 64-bit code, where what they touch lies in one page
 * each: compilers copy and clear small things by them. The rest is for the handler, which costs
 * more than the copy there.
 */
#include "cpu/jit/translate.h"

#include "base/bits.h"

static void slow_if_above(Translation *t, unsigned host, uint32_t limit)
{
    emit_op(&t->e, 0x81 | OP_W, 7, rm_reg(host)); /* cmp */
    e32(&t->e, limit);
    slow_if(t, CC_A);
}

/* SCRATCH1 is lost; SCRATCH2: the entry in the TLB of RCX units from [guest] on, few enough for a
 * page. What is in another page must not become small again by the addition. */
static void check_range(Translation *t, unsigned guest, bool write, unsigned shift)
{
    Emit *e = &t->e;
    emit_move(e, SCRATCH1, guest_host(guest));
    emit_find_entry(t);
    emit_op(e, 0x33 | OP_W, SCRATCH1,
            rm_mem(SCRATCH2, write ? offsetof(TlbEntry, tag_write) : offsetof(TlbEntry, tag_read)));
    slow_if_above(t, SCRATCH1, GUEST_PAGE_SIZE - 1);
    emit_op(e, 0x8d | OP_W, SCRATCH1,
            (Rm){.kind = RM_MEM, .base = SCRATCH1, .index = HOST_RCX, .scale = shift});
    slow_if_above(t, SCRATCH1, GUEST_PAGE_SIZE);
}

/* By the addends in the scratch registers. EFLAGS stay. */
static void move_indices(Emit *e, bool source)
{
    emit_op(e, 0x8d | OP_W, HOST_RDI,
            (Rm){.kind = RM_MEM, .base = HOST_RDI, .index = SCRATCH2}); /* lea */
    if (source)
        emit_op(e, 0x8d | OP_W, HOST_RSI,
                (Rm){.kind = RM_MEM, .base = HOST_RSI, .index = SCRATCH1});
}

static void write_repeated(Emit *e, const Insn *insn, unsigned size)
{
    if (size == 2)
        e8(e, 0x66);
    e8(e, insn->prefixes & PREFIX_REPE ? 0xf3 : 0xf2);
    if (size == 8)
        e8(e, 0x48);
    e8(e, insn->opcode);
}

void translate_repeat(Translation *t)
{
    Emit *e = &t->e;
    const Insn *insn = t->insn;
    unsigned string = insn->opcode & 0xfe;
    bool source = string == 0xa4 || string == 0xa6, writes = string == 0xa4 || string == 0xaa;
    unsigned size = insn->opcode & 1 ? insn->op_size : 1, shift = (unsigned)__builtin_ctz(size);
    Rm addend = rm_mem(SCRATCH2, offsetof(TlbEntry, addend));
    flags_lost(t, t->live[t->index]);
    emit_op(e, 0xf7, 0, rm_state(CPU_AT(s.rflags))); /* test */
    e32(e, FLAG_DF);
    slow_if(t, CC_NE);
    emit_op(e, 0x8d | OP_W, SCRATCH1, rm_mem(HOST_RCX, -1)); /* none: flags stay as they are */
    slow_if_above(t, SCRATCH1, (GUEST_PAGE_SIZE >> shift) - 1);
    if (source) {
        check_range(t, GPR_RSI, false, shift);
        emit_load(e, SCRATCH1, addend);
        emit_store(e, SCRATCH1, rm_state(JIT_AT(temp)));
    }
    check_range(t, GPR_RDI, writes, shift);
    emit_load(e, SCRATCH2, addend);
    if (source)
        emit_load(e, SCRATCH1, rm_state(JIT_AT(temp)));
    move_indices(e, source);
    emit_op(e, 0xf7 | OP_W, 3, rm_reg(SCRATCH2)); /* neg */
    if (source)
        emit_op(e, 0xf7 | OP_W, 3, rm_reg(SCRATCH1));
    write_repeated(e, insn, size);
    move_indices(e, source);
    if (!writes) {
        t->now.host_flags = true;
        t->now.lazy = false;
    }
}
