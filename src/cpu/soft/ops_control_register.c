/* SPDX-License-Identifier: GPL-3.0-or-later */
/* MOV with control and debug registers, LMSW, SMSW, CLTS, XGETBV, XSETBV; control.c judges the
 * values. SDM 2A-2D. */
#include "cpu/soft/ops_operand.h"

void op_lmsw(SoftCpu *cpu, const Insn *insn)
{
    uint16_t value;

    INSN_LEAVE(cpu, insn);
    require_ring0(cpu);
    value = read_rm16(cpu, insn);
    /* PE can be set but not cleared. */
    control_write_cr0(cpu, (cpu->s.cr0 & ~UINT64_C(0xe)) | (value & 0xf));
    INSN_END(cpu);
}

void op_smsw(SoftCpu *cpu, const Insn *insn)
{
    INSN_PRECISE(cpu, insn);
    require_umip(cpu);
    write_rm_selector(cpu, insn, cpu->s.cr0);
    INSN_NEXT(cpu, insn);
}

void op_clts(SoftCpu *cpu, const Insn *insn)
{
    INSN_LEAVE(cpu, insn);
    require_ring0(cpu);
    cpu->s.cr0 &= ~(uint64_t)CR0_TS;
    cpu_update_mode(cpu);
    INSN_END(cpu);
}

static bool cr_exists(const SoftCpu *cpu, unsigned n)
{
    return n == 0 || n == 2 || n == 3 || n == 4 || (n == 8 && cpu->code_size == 8);
}

static uint64_t read_cr8(SoftCpu *cpu)
{
    const Vcpu *vcpu = cpu->vcpu;

    return vcpu->intc ? vcpu->intc->get_cr8(vcpu->intc_obj) : cpu->s.cr8;
}

static void write_cr8(SoftCpu *cpu, uint64_t value)
{
    const Vcpu *vcpu = cpu->vcpu;

    require(cpu, value <= 15, EXC_GP);
    cpu->s.cr8 = value;
    cpu->interrupt_waits = true; /* perhaps */
    if (vcpu->intc)
        vcpu->intc->set_cr8(vcpu->intc_obj, value);
    interrupts_maybe_enabled(cpu);
}

void op_mov_from_cr(SoftCpu *cpu, const Insn *insn)
{
    const CpuState *s = &cpu->s;
    uint64_t value;

    INSN_PRECISE(cpu, insn);
    require(cpu, cr_exists(cpu, insn->reg), EXC_UD);
    require_ring0(cpu);
    switch (insn->reg) {
    case 0:
        value = s->cr0;
        break;
    case 2:
        value = s->cr2;
        break;
    case 3:
        value = s->cr3;
        break;
    case 4:
        value = s->cr4;
        break;
    default:
        value = read_cr8(cpu);
    }
    set_reg(cpu, insn->rm, cpu->code_size == 8 ? 8 : 4, value);
    INSN_NEXT(cpu, insn);
}

void op_mov_to_cr(SoftCpu *cpu, const Insn *insn)
{
    uint64_t value = cpu->s.gpr[insn->rm];

    INSN_LEAVE(cpu, insn);
    require(cpu, cr_exists(cpu, insn->reg), EXC_UD);
    require_ring0(cpu);
    if (cpu->code_size != 8)
        value = (uint32_t)value;
    switch (insn->reg) {
    case 0:
        control_write_cr0(cpu, value);
        break;
    case 2:
        cpu->s.cr2 = value;
        break;
    case 3:
        control_write_cr3(cpu, value);
        break;
    case 4:
        control_write_cr4(cpu, value);
        break;
    default:
        write_cr8(cpu, value);
    }
    INSN_END(cpu);
}

/* DR4 and DR5 are names of DR6 and DR7 unless CR4.DE; DR7.GD guards all. */
static unsigned check_dr(SoftCpu *cpu, const Insn *insn)
{
    unsigned n = insn->reg;

    require(cpu, n < 8 && !((n == 4 || n == 5) && cpu->s.cr4 & CR4_DE), EXC_UD);
    require_ring0(cpu);
    if (cpu->s.dr7 & DR7_GD) {
        cpu->s.dr6 |= DR6_BD;
        cpu_raise(cpu, EXC_DB);
    }
    return n == 4 || n == 5 ? n + 2 : n;
}

void op_mov_from_dr(SoftCpu *cpu, const Insn *insn)
{
    unsigned n;

    INSN_PRECISE(cpu, insn);
    n = check_dr(cpu, insn);
    set_reg(cpu, insn->rm, cpu->code_size == 8 ? 8 : 4,
            n < 4    ? cpu->s.dr[n]
            : n == 6 ? cpu->s.dr6
                     : cpu->s.dr7);
    INSN_NEXT(cpu, insn);
}

void op_mov_to_dr(SoftCpu *cpu, const Insn *insn)
{
    uint64_t value = cpu->s.gpr[insn->rm];

    INSN_LEAVE(cpu, insn);
    control_write_dr(cpu, check_dr(cpu, insn), cpu->code_size == 8 ? value : (uint32_t)value);
    INSN_END(cpu);
}

void op_xgetbv(SoftCpu *cpu, const Insn *insn)
{
    uint32_t n = cpu->s.gpr[GPR_RCX];

    INSN_PRECISE(cpu, insn);
    require(cpu, cpu->s.cr4 & CR4_OSXSAVE, EXC_UD);
    require(cpu, n == 0 || (n == 1 && cpu_has(cpu->model, CPU_XGETBV1)), EXC_GP);
    cpu->s.gpr[GPR_RAX] = (uint32_t)cpu->s.xcr0;
    cpu->s.gpr[GPR_RDX] = cpu->s.xcr0 >> 32;
    INSN_NEXT(cpu, insn);
}

void op_xsetbv(SoftCpu *cpu, const Insn *insn)
{
    uint64_t value = (uint32_t)cpu->s.gpr[GPR_RAX] | cpu->s.gpr[GPR_RDX] << 32;

    INSN_LEAVE(cpu, insn);
    require(cpu, cpu->s.cr4 & CR4_OSXSAVE, EXC_UD);
    require_ring0(cpu);
    require(cpu, (uint32_t)cpu->s.gpr[GPR_RCX] == 0 && control_write_xcr0(cpu, value), EXC_GP);
    INSN_END(cpu);
}
