/* SPDX-License-Identifier: GPL-3.0-or-later */
/* MOV, PUSH, POP and LDS to LGS of segment registers (segment.c). SDM 2A, 2B. */
#include "cpu/soft/ops_operand.h"

/* MOV SS and POP SS hold interrupts and debug traps for one instruction (SDM 3A 6.8.3). */
static void shadow_stack_load(SoftCpu *cpu)
{
    cpu->s.interrupt_shadow = true;
    cpu->pending_db = (cpu->pending_db & ~(uint32_t)DR6_BS) | PENDING_DB_HELD;
}

void op_mov_from_seg(SoftCpu *cpu, const Insn *insn)
{
    INSN_PRECISE(cpu, insn);
    require(cpu, insn_modrm_reg(insn) < SEG_COUNT, EXC_UD);
    write_rm_selector(cpu, insn, cpu->s.seg[insn_modrm_reg(insn)].selector);
    INSN_NEXT(cpu, insn);
}

void op_mov_to_seg(SoftCpu *cpu, const Insn *insn)
{
    unsigned seg = insn_modrm_reg(insn);

    INSN_LEAVE(cpu, insn);
    require(cpu, seg < SEG_COUNT && seg != SEG_CS, EXC_UD);
    segment_load(cpu, seg, read_rm16(cpu, insn));
    if (seg == SEG_SS)
        shadow_stack_load(cpu);
    INSN_END(cpu);
}

/* With 32-bit operands Intel's processors write the selector alone (SDM 2B PUSH), AMD's extend it
 * with zeros. */
OUT_OF_LINE push_segment(SoftCpu *cpu, const Insn *insn)
{
    uint16_t selector = cpu->s.seg[insn->reg].selector;
    Stack stack;

    INSN_PRECISE(cpu, insn);
    stack = stack_current(cpu);
    if (insn->op_size == 4 && !cpu_model_is_amd(cpu->model)) {
        stack.sp = (stack.sp & ~stack.mask) | ((stack.sp - 2) & stack.mask);
        stack_push(cpu, &stack, 2, selector);
    } else {
        stack_push(cpu, &stack, insn->op_size, selector);
    }
    stack_commit(cpu, &stack);
}

void op_push_seg(SoftCpu *cpu, const Insn *insn)
{
    push_segment(cpu, insn);
    INSN_NEXT(cpu, insn);
}

void op_pop_seg(SoftCpu *cpu, const Insn *insn)
{
    uint16_t selector;
    Stack stack;

    INSN_LEAVE(cpu, insn);
    stack = stack_current(cpu);
    selector = stack_pop(cpu, &stack, insn->op_size);
    segment_load(cpu, insn->reg, selector);
    stack_commit(cpu, &stack);
    if (insn->reg == SEG_SS)
        shadow_stack_load(cpu);
    INSN_END(cpu);
}

static unsigned far_pointer_segment(const Insn *insn)
{
    if (insn->map == MAP_ONE_BYTE)
        return insn->opcode == 0xc4 ? SEG_ES : SEG_DS;
    return insn->opcode == 0xb2 ? SEG_SS : insn->opcode == 0xb4 ? SEG_FS : SEG_GS;
}

void op_load_far_pointer(SoftCpu *cpu, const Insn *insn)
{
    uint16_t selector;
    uint64_t offset;

    INSN_LEAVE(cpu, insn);
    offset = read_far_pointer(cpu, insn, &selector);
    segment_load(cpu, far_pointer_segment(insn), selector);
    set_reg(cpu, insn->reg, insn->op_size, offset);
    INSN_END(cpu);
}
