/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Model-specific registers (msr.c), counters, identification, hypercalls. SDM 2A-2D. */
#include "cpu/soft/ops_operand.h"

static void set_edx_eax(SoftCpu *cpu, uint64_t value)
{
    cpu->s.gpr[GPR_RAX] = (uint32_t)value;
    cpu->s.gpr[GPR_RDX] = value >> 32;
}

void op_rdmsr(SoftCpu *cpu, const Insn *insn)
{
    uint64_t value;

    INSN_LEAVE(cpu, insn);
    require_feature(cpu, CPU_MSR);
    require_ring0(cpu);
    require(cpu, msr_read(cpu, cpu->s.gpr[GPR_RCX], &value), EXC_GP);
    set_edx_eax(cpu, value);
    INSN_END(cpu);
}

void op_wrmsr(SoftCpu *cpu, const Insn *insn)
{
    uint64_t value = (uint32_t)cpu->s.gpr[GPR_RAX] | cpu->s.gpr[GPR_RDX] << 32;

    INSN_LEAVE(cpu, insn);
    require_feature(cpu, CPU_MSR);
    require_ring0(cpu);
    require(cpu, msr_write(cpu, cpu->s.gpr[GPR_RCX], value), EXC_GP);
    INSN_END(cpu);
}

static void read_tsc(SoftCpu *cpu, const Insn *insn, CpuFeature feature)
{
    INSN_PRECISE(cpu, insn);
    require_feature(cpu, feature);
    require(cpu, !(cpu->s.cr4 & CR4_TSD) || cpu->cpl == 0, EXC_GP);
    set_edx_eax(cpu, cpu_tsc(cpu));
}

void op_rdtsc(SoftCpu *cpu, const Insn *insn)
{
    read_tsc(cpu, insn, CPU_TSC);
    INSN_NEXT(cpu, insn);
}

void op_rdtscp(SoftCpu *cpu, const Insn *insn)
{
    read_tsc(cpu, insn, CPU_RDTSCP);
    cpu->s.gpr[GPR_RCX] = (uint32_t)cpu->s.tsc_aux;
    INSN_NEXT(cpu, insn);
}

void op_rdpmc(SoftCpu *cpu, const Insn *insn)
{
    INSN_PRECISE(cpu, insn);
    require_feature(cpu, CPU_MMX);
    require(cpu, cpu->cpl == 0 || cpu->s.cr4 & CR4_PCE, EXC_GP);
    /* AMD's processors always have four counters, here ones that never count; Intel's leaf 0xa says
     * that there are none. */
    require(cpu, cpu_model_is_amd(cpu->model) && (uint32_t)cpu->s.gpr[GPR_RCX] < 4, EXC_GP);
    set_edx_eax(cpu, 0);
    INSN_NEXT(cpu, insn);
}

void op_rdpid(SoftCpu *cpu, const Insn *insn)
{
    INSN_PRECISE(cpu, insn);
    require_feature(cpu, CPU_RDPID);
    cpu->s.gpr[insn->rm] = (uint32_t)cpu->s.tsc_aux;
    INSN_NEXT(cpu, insn);
}

void op_cpuid(SoftCpu *cpu, const Insn *insn)
{
    const CpuState *s = &cpu->s;
    CpuidValue value = cpu_model_cpuid(cpu->model, cpu->vcpu->index, s->cr4, s->xcr0, s->apic_base,
                                       s->gpr[GPR_RAX], s->gpr[GPR_RCX]);

    cpu->s.gpr[GPR_RAX] = value.eax;
    cpu->s.gpr[GPR_RBX] = value.ebx;
    cpu->s.gpr[GPR_RCX] = value.ecx;
    cpu->s.gpr[GPR_RDX] = value.edx;
    INSN_NEXT(cpu, insn);
}

/* VMCALL and VMMCALL: calls of the KVM interface, of which none is offered, so each answers that it
 * is not known, or from outer rings that it is not allowed (KVM_ENOSYS, KVM_EPERM). */
void op_hypercall(SoftCpu *cpu, const Insn *insn)
{
    enum { UNKNOWN_CALL = -1000, NOT_PERMITTED = -1 };
    int answer = cpu->cpl == 0 ? UNKNOWN_CALL : NOT_PERMITTED;

    cpu->s.gpr[GPR_RAX] = cpu->code_size == 8 ? (uint64_t)(int64_t)answer : (uint32_t)answer;
    INSN_NEXT(cpu, insn);
}
