/* SPDX-License-Identifier: GPL-3.0-or-later */
/* IN and OUT, and who may. SDM 2A, 2B, 1 19.5. */
#include "cpu/soft/ops_operand.h"

bool io_map_read(SoftCpu *cpu, int offset_from_map, uint16_t *ret_value)
{
    const Segment *tr = &cpu->s.tr;
    uint64_t base = cpu_is_long_mode(cpu) ? tr->base : (uint32_t)tr->base;
    int64_t offset;

    if (!(tr->attributes & 8) || tr->limit < 0x67)
        return false;
    offset = (int64_t)system_load(cpu, base + 0x66, 2) + offset_from_map;
    if (offset < 0 || offset + 1 > tr->limit)
        return false;
    *ret_value = system_load(cpu, base + (uint64_t)offset, 2);
    return true;
}

void io_check(SoftCpu *cpu, uint16_t port, unsigned size)
{
    uint16_t map;

    if (!(cpu->s.cr0 & CR0_PE) || (cpu->cpl <= iopl(cpu) && !cpu_is_vm86(cpu)))
        return;
    if (!io_map_read(cpu, port / 8, &map) || map >> (port % 8) & ((1u << size) - 1))
        cpu_raise_error(cpu, EXC_GP, 0);
}

uint32_t port_read(SoftCpu *cpu, const Insn *insn, uint16_t port, unsigned size)
{
    uint32_t value;

    INSN_PRECISE(cpu, insn);
    io_watch(cpu, port, size);
    cpu->stat_pio++;
    vcpu_leave(cpu->vcpu);
    value = space_load(cpu->vcpu->vm->ports, port, size);
    vcpu_enter(cpu->vcpu);
    return value;
}

void port_write(SoftCpu *cpu, const Insn *insn, uint16_t port, unsigned size, uint32_t value)
{
    INSN_PRECISE(cpu, insn);
    io_watch(cpu, port, size);
    cpu->stat_pio++;
    vcpu_leave(cpu->vcpu);
    space_store(cpu->vcpu->vm->ports, port, size, value);
    vcpu_enter(cpu->vcpu);
}

static void port_in(SoftCpu *cpu, const Insn *insn, uint16_t port)
{
    uint32_t value;

    INSN_LEAVE(cpu, insn);
    io_check(cpu, port, insn->op_size);
    value = port_read(cpu, insn, port, insn->op_size);
    if (insn->op_size == 1)
        cpu->s.gpr[GPR_RAX] = (cpu->s.gpr[GPR_RAX] & ~UINT64_C(0xff)) | (value & 0xff);
    else
        set_reg(cpu, GPR_RAX, insn->op_size, value);
}

static void port_out(SoftCpu *cpu, const Insn *insn, uint16_t port)
{
    INSN_LEAVE(cpu, insn);
    io_check(cpu, port, insn->op_size);
    port_write(cpu, insn, port, insn->op_size, cpu->s.gpr[GPR_RAX]);
}

void op_in_imm(SoftCpu *cpu, const Insn *insn)
{
    port_in(cpu, insn, insn->imm & 0xff);
    INSN_END(cpu);
}

void op_in_dx(SoftCpu *cpu, const Insn *insn)
{
    port_in(cpu, insn, cpu->s.gpr[GPR_RDX]);
    INSN_END(cpu);
}

void op_out_imm(SoftCpu *cpu, const Insn *insn)
{
    port_out(cpu, insn, insn->imm & 0xff);
    INSN_END(cpu);
}

void op_out_dx(SoftCpu *cpu, const Insn *insn)
{
    port_out(cpu, insn, cpu->s.gpr[GPR_RDX]);
    INSN_END(cpu);
}
