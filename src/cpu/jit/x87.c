/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * x87 instructions on the host's own registers, with every exception masked (fpu.c sees to that).
 *
 * FIP and FOP are found when the registers are stored, by the host's own FIP; FDP is written down
 * by each instruction.
 */
#include "cpu/jit/translate.h"

#include "cpu/soft/x87_internal.h"

/* Neither FIP nor FDP change. */
static bool is_control(const Insn *insn)
{
    unsigned reg = insn_modrm_reg(insn);
    if (insn->flags & INSN_MEMORY)
        return (insn->opcode == 0xd9 || insn->opcode == 0xdd) && reg > 3;
    return (insn->opcode == 0xdb && insn->modrm >= 0xe0 && insn->modrm <= 0xe4) ||
           (insn->opcode == 0xdf && insn->modrm == 0xe0);
}

/* Unmasking is for the handler. The word is read once. */
static void translate_fldcw(Translation *t)
{
    Emit *e = &t->e;
    unsigned free;
    flags_to_slot(t, t->live[t->index]);
    Rm rm = access_operand(t, 2, false, 0, &free);
    emit_op(e, 0xb7 | OP_0F, SCRATCH1, rm); /* movzx */
    emit_store(e, SCRATCH1, rm_state(JIT_AT(temp)));
    emit_op(e, 0xf7, 2, rm_reg(SCRATCH1)); /* not, test */
    emit_op(e, 0xf6 | OP_RM8, 0, rm_reg(SCRATCH1));
    e8(e, FCW_MASKS);
    slow_if(t, CC_NE);
    emit_op(e, 0xd9, 5, rm_state(JIT_AT(temp)));
}

static void translate_memory(Translation *t)
{
    const Insn *insn = t->insn;
    int size = x87_memory_size(insn);
    unsigned free;
    bool pointers = !is_control(insn);
    Rm rm = access_operand(t, size < 0 ? -size : size, size < 0, 0, &free);
    if (pointers)
        fpu_add_x87_site(t);
    emit_op(&t->e, insn->opcode, insn_modrm_reg(insn), rm);
    if (!pointers)
        return;
    address_of_operand(t, insn);
    if (!(t->block->mode & MODE_PROTECTED))
        emit_op(&t->e, 0x03 | OP_W, SCRATCH1, rm_state(CPU_AT(seg_base) + insn->segment * 8));
    emit_store(&t->e, SCRATCH1, rm_state(CPU_AT(s.fpu.fdp)));
}

/* AMD's CPUs leave C1 as it was where Intel's clear it, and so does the interpreter. */
static bool host_keeps_c1(void)
{
    uint16_t fsw;
    __asm__("fld1; fchs; fxam; fcomi %%st(0); fnstsw %0; fstp %%st(0)" /* FXAM: C1 is the sign */
            : "=am"(fsw)
            :
            : "cc", "st");
    return fsw & FSW_C1;
}

static void clear_c1(Emit *e)
{
    e8(e, 0xd9), e8(e, 0xf6); /* fdecstp, fincstp: no site, they belong to the one before */
    e8(e, 0xd9), e8(e, 0xf7);
}

static void translate_registers(Translation *t)
{
    const Insn *insn = t->insn;
    if (t->op.reads)
        flags_to_host(t, SCRATCH1);
    if (!is_control(insn))
        fpu_add_x87_site(t);
    e8(&t->e, insn->opcode);
    e8(&t->e, insn->modrm);
    if (!t->op.writes)
        return;
    t->now.host_flags = true; /* FCOMI and relatives */
    if (host_keeps_c1())
        clear_c1(&t->e);
}

void translate_x87(Translation *t)
{
    const Insn *insn = t->insn;
    if (t->block->mode & MODE_FPU_TRAP) {
        call_handler_inline(t);
        return;
    }
    fpu_need(t, JIT_LIVE_X87);
    if (insn->map == MAP_0F) { /* EMMS */
        e8(&t->e, 0x0f), e8(&t->e, 0x77);
    } else if (insn->opcode == 0x9b) {
        return; /* FWAIT: nothing can wait */
    } else if (!(insn->flags & INSN_MEMORY)) {
        translate_registers(t);
    } else if (insn->opcode == 0xd9 && insn_modrm_reg(insn) == 5) {
        translate_fldcw(t);
    } else {
        translate_memory(t);
    }
}
