/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Far JMP, CALL, RET, IRET (transfer.c), INT n and its kin (exception.c). SDM 2A, 2B. */
#include "cpu/soft/ops_operand.h"

uint64_t read_far_pointer(SoftCpu *cpu, const Insn *insn, uint16_t *ret_selector)
{
    unsigned size = insn->op_size;
    uint64_t linear, offset;

    require_memory(cpu, insn);
    linear = insn_linear(cpu, insn, size + 2, MMU_READ);
    offset = index_load(cpu, linear, size, cpu->mmu_index);
    *ret_selector = index_load(cpu, linear + size, 2, cpu->mmu_index);
    return offset;
}

void op_far_jmp_imm(SoftCpu *cpu, const Insn *insn)
{
    INSN_LEAVE(cpu, insn);
    far_jump(cpu, insn->imm >> 32, (uint32_t)insn->imm, insn->op_size);
    INSN_END(cpu);
}

void op_far_jmp_mem(SoftCpu *cpu, const Insn *insn)
{
    uint16_t selector;
    uint64_t offset;

    INSN_LEAVE(cpu, insn);
    offset = read_far_pointer(cpu, insn, &selector);
    far_jump(cpu, selector, offset, insn->op_size);
    INSN_END(cpu);
}

void op_far_call_imm(SoftCpu *cpu, const Insn *insn)
{
    INSN_LEAVE(cpu, insn);
    far_call(cpu, insn->imm >> 32, (uint32_t)insn->imm, insn->op_size, cpu->s.rip);
    INSN_END(cpu);
}

void op_far_call_mem(SoftCpu *cpu, const Insn *insn)
{
    uint16_t selector;
    uint64_t offset;

    INSN_LEAVE(cpu, insn);
    offset = read_far_pointer(cpu, insn, &selector);
    far_call(cpu, selector, offset, insn->op_size, cpu->s.rip);
    INSN_END(cpu);
}

void op_far_ret(SoftCpu *cpu, const Insn *insn)
{
    INSN_LEAVE(cpu, insn);
    far_return(cpu, insn->op_size, 0);
    INSN_END(cpu);
}

void op_far_ret_imm(SoftCpu *cpu, const Insn *insn)
{
    INSN_LEAVE(cpu, insn);
    far_return(cpu, insn->op_size, insn->imm);
    INSN_END(cpu);
}

void op_iret(SoftCpu *cpu, const Insn *insn)
{
    INSN_LEAVE(cpu, insn);
    interrupt_return(cpu, insn->op_size);
    INSN_END(cpu);
}

/* INT n in virtual-8086 mode with VME: a clear bit in the TSS's redirection map sends it through
 * the 8086 vector table (SDM 3B 20.3.3). False: it goes the usual way. */
static bool redirect_interrupt(SoftCpu *cpu, unsigned vector)
{
    bool virtual = iopl(cpu) < 3;
    uint16_t map, flags;
    uint32_t target;
    Stack stack;

    if (!(cpu->s.cr4 & CR4_VME) || !io_map_read(cpu, (int)(vector / 8) - 32, &map) ||
        map >> (vector % 8) & 1)
        return false;
    flags = virtual ? vme_flags(cpu) : flags_get(cpu);
    target = index_load(cpu, vector * 4, 4, MMU_USER);
    stack = stack_current(cpu);
    stack_push(cpu, &stack, 2, flags);
    stack_push(cpu, &stack, 2, cpu->s.seg[SEG_CS].selector);
    stack_push(cpu, &stack, 2, cpu->s.rip);
    stack_commit(cpu, &stack);
    segment_load_paragraph(cpu, SEG_CS, target >> 16);
    cpu->s.rip = target & 0xffff;
    cpu->s.rflags &= ~(uint64_t)(FLAG_TF | FLAG_RF | (virtual ? FLAG_VIF : FLAG_IF));
    cpu->pending_db = 0;
    cpu_update_mode(cpu);
    return true;
}

void op_int(SoftCpu *cpu, const Insn *insn)
{
    INSN_LEAVE(cpu, insn);
    if (cpu_is_vm86(cpu)) {
        if (redirect_interrupt(cpu, insn->imm & 0xff))
            INSN_END(cpu);
        require(cpu, iopl(cpu) == 3, EXC_GP);
    }
    exception_software_interrupt(cpu, insn->imm & 0xff);
    INSN_END(cpu);
}

void op_int3(SoftCpu *cpu, const Insn *insn)
{
    INSN_LEAVE(cpu, insn);
    exception_software_interrupt(cpu, EXC_BP);
    INSN_END(cpu);
}

void op_into(SoftCpu *cpu, const Insn *insn)
{
    INSN_LEAVE(cpu, insn);
    require(cpu, cpu->code_size != 8, EXC_UD);
    if (flags_get(cpu) & FLAG_OF)
        exception_software_interrupt(cpu, EXC_OF);
    INSN_END(cpu);
}

void op_int1(SoftCpu *cpu, const Insn *insn)
{
    INSN_LEAVE(cpu, insn);
    exception_trap(cpu, EXC_DB);
    INSN_END(cpu);
}

void op_bound(SoftCpu *cpu, const Insn *insn)
{
    unsigned size = insn->op_size;
    int32_t index, low, high;
    uint64_t linear;

    INSN_PRECISE(cpu, insn);
    require_memory(cpu, insn);
    linear = insn_linear(cpu, insn, 2 * size, MMU_READ);
    if (size == 2) {
        index = (int16_t)cpu->s.gpr[insn->reg];
        low = (int16_t)mem_read16(cpu, insn, linear);
        high = (int16_t)mem_read16(cpu, insn, linear + 2);
    } else {
        index = (int32_t)cpu->s.gpr[insn->reg];
        low = (int32_t)mem_read32(cpu, insn, linear);
        high = (int32_t)mem_read32(cpu, insn, linear + 4);
    }
    if (index < low || index > high)
        cpu_raise(cpu, EXC_BR);
    INSN_NEXT(cpu, insn);
}
