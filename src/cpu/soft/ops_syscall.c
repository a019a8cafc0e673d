/* SPDX-License-Identifier: GPL-3.0-or-later */
/* SYSCALL, SYSENTER and their ways back; the bases of FS and GS. SDM 2B, APM 3. */
#include "cpu/soft/ops_operand.h"

/* ---- bases of FS and GS ---------------------------------------------------------------------- */

void op_swapgs(SoftCpu *cpu, const Insn *insn)
{
    uint64_t base = cpu->s.seg[SEG_GS].base;

    INSN_PRECISE(cpu, insn);
    require(cpu, cpu->code_size == 8, EXC_UD);
    require_ring0(cpu);
    cpu->s.seg[SEG_GS].base = cpu->seg_base[SEG_GS] = cpu->s.kernel_gs_base;
    cpu->s.kernel_gs_base = base;
    INSN_NEXT(cpu, insn);
}

static void require_fsgsbase(SoftCpu *cpu, const Insn *insn)
{
    INSN_PRECISE(cpu, insn);
    require(cpu, cpu->code_size == 8 && cpu->s.cr4 & CR4_FSGSBASE, EXC_UD);
}

static void write_base(SoftCpu *cpu, const Insn *insn, unsigned seg)
{
    uint64_t value = cpu->s.gpr[insn->rm];

    require_fsgsbase(cpu, insn);
    if (insn->op_size == 4)
        value = (uint32_t)value;
    require(cpu, is_canonical48(value), EXC_GP);
    cpu->s.seg[seg].base = cpu->seg_base[seg] = value;
}

void op_rdfsbase(SoftCpu *cpu, const Insn *insn)
{
    require_fsgsbase(cpu, insn);
    set_reg(cpu, insn->rm, insn->op_size, cpu->s.seg[SEG_FS].base);
    INSN_NEXT(cpu, insn);
}

void op_rdgsbase(SoftCpu *cpu, const Insn *insn)
{
    require_fsgsbase(cpu, insn);
    set_reg(cpu, insn->rm, insn->op_size, cpu->s.seg[SEG_GS].base);
    INSN_NEXT(cpu, insn);
}

void op_wrfsbase(SoftCpu *cpu, const Insn *insn)
{
    write_base(cpu, insn, SEG_FS);
    INSN_NEXT(cpu, insn);
}

void op_wrgsbase(SoftCpu *cpu, const Insn *insn)
{
    write_base(cpu, insn, SEG_GS);
    INSN_NEXT(cpu, insn);
}

/* ---- fast system calls ----------------------------------------------------------------------- */

static void set_flat(SoftCpu *cpu, uint16_t cs, uint16_t ss, unsigned cpl, bool long_code)
{
    cpu->s.seg[SEG_CS] = segment_flat_code((cs & 0xfffc) | cpl, cpl, long_code);
    cpu->s.seg[SEG_SS] = segment_flat_data((ss & 0xfffc) | cpl, cpl);
    cpu_update_mode(cpu);
}

/* Single-stepping goes by TF at the end of SYSCALL and SYSRET (APM 3 SYSCALL). */
static void step_by_new_flags(SoftCpu *cpu)
{
    cpu->pending_db &= ~(uint32_t)DR6_BS;
    if (cpu->s.rflags & FLAG_TF)
        cpu->pending_db |= DR6_BS;
}

void op_syscall(SoftCpu *cpu, const Insn *insn)
{
    CpuState *s = &cpu->s;
    bool amd = cpu->code_size != 8 && cpu_model_is_amd(cpu->model);
    uint16_t cs = s->star >> 32;

    INSN_LEAVE(cpu, insn);
    require(cpu, s->efer & EFER_SCE && (cpu->code_size == 8 || (amd && cpu->mode & MODE_PROTECTED)),
            EXC_UD);
    s->gpr[GPR_RCX] = s->rip & cpu->rip_mask;
    if (cpu_is_long_mode(cpu)) {
        s->gpr[GPR_R11] = flags_get(cpu) & ~(uint64_t)FLAG_RF;
        s->rip = cpu->code_size == 8 ? s->lstar : s->cstar;
        flags_set(cpu, s->gpr[GPR_R11] & ~s->sfmask);
        set_flat(cpu, cs & 0xfffc, (cs & 0xfffc) + 8, 0, true);
    } else {
        s->rip = (uint32_t)s->star;
        s->rflags &= ~(uint64_t)(FLAG_IF | FLAG_VM | FLAG_RF);
        set_flat(cpu, cs & 0xfffc, (cs & 0xfffc) + 8, 0, false);
    }
    step_by_new_flags(cpu);
    INSN_END(cpu);
}

/* A return to RCX that is not canonical faults here on Intel (ring 0), at the target on AMD. */
void op_sysret(SoftCpu *cpu, const Insn *insn)
{
    CpuState *s = &cpu->s;
    bool amd = cpu_model_is_amd(cpu->model), wide = insn->op_size == 8;
    uint16_t selector = s->star >> 48;

    INSN_LEAVE(cpu, insn);
    require(cpu, s->efer & EFER_SCE && (cpu->code_size == 8 || (amd && cpu->mode & MODE_PROTECTED)),
            EXC_UD);
    require_ring0(cpu);
    if (wide && !amd)
        require(cpu, is_canonical48(s->gpr[GPR_RCX]), EXC_GP);
    s->rip = wide ? s->gpr[GPR_RCX] : (uint32_t)s->gpr[GPR_RCX];
    if (cpu_is_long_mode(cpu))
        flags_set(cpu, s->gpr[GPR_R11] & 0x3c7fd7);
    else
        s->rflags |= FLAG_IF;
    set_flat(cpu, wide ? selector + 16 : selector, selector + 8, 3, wide);
    step_by_new_flags(cpu);
    interrupts_maybe_enabled(cpu);
    INSN_END(cpu);
}

void op_sysenter(SoftCpu *cpu, const Insn *insn)
{
    CpuState *s = &cpu->s;
    bool long_mode = cpu_is_long_mode(cpu);

    INSN_LEAVE(cpu, insn);
    require_feature(cpu, CPU_SEP);
    require(cpu, !(long_mode && cpu_model_is_amd(cpu->model)), EXC_UD);
    require(cpu, !cpu_is_real_mode(cpu) && s->sysenter_cs & 0xfffc, EXC_GP);
    s->rflags &= ~(uint64_t)(FLAG_VM | FLAG_IF | FLAG_RF);
    s->gpr[GPR_RSP] = long_mode ? s->sysenter_esp : (uint32_t)s->sysenter_esp;
    s->rip = long_mode ? s->sysenter_eip : (uint32_t)s->sysenter_eip;
    set_flat(cpu, s->sysenter_cs, (s->sysenter_cs & 0xfffc) + 8, 0, long_mode);
    INSN_END(cpu);
}

void op_sysexit(SoftCpu *cpu, const Insn *insn)
{
    CpuState *s = &cpu->s;
    bool wide = insn->op_size == 8;
    uint16_t cs = s->sysenter_cs & 0xfffc;

    INSN_LEAVE(cpu, insn);
    require_feature(cpu, CPU_SEP);
    require(cpu, !(cpu_is_long_mode(cpu) && cpu_model_is_amd(cpu->model)), EXC_UD);
    require(cpu, !cpu_is_real_mode(cpu) && cs, EXC_GP);
    require_ring0(cpu);
    if (wide)
        require(cpu, is_canonical48(s->gpr[GPR_RCX]) && is_canonical48(s->gpr[GPR_RDX]), EXC_GP);
    s->gpr[GPR_RSP] = wide ? s->gpr[GPR_RCX] : (uint32_t)s->gpr[GPR_RCX];
    s->rip = wide ? s->gpr[GPR_RDX] : (uint32_t)s->gpr[GPR_RDX];
    set_flat(cpu, cs + (wide ? 32 : 16), cs + (wide ? 40 : 24), 3, wide);
    INSN_END(cpu);
}
