/* SPDX-License-Identifier: GPL-3.0-or-later */
/* CLI, STI, CLAC, STAC, PUSHF, POPF, with VME and PVI. SDM 2A, 2B, 3B 20.3. */
#include "cpu/soft/ops_operand.h"

/* Who may change IF: the flag itself, its virtual copy (VME, PVI), or nobody. */
typedef enum InterruptFlag { IF_REAL, IF_VIRTUAL, IF_DENIED } InterruptFlag;

static InterruptFlag interrupt_flag(const SoftCpu *cpu)
{
    if (cpu->cpl <= iopl(cpu))
        return IF_REAL;
    if (cpu_is_vm86(cpu))
        return cpu->s.cr4 & CR4_VME ? IF_VIRTUAL : IF_DENIED;
    return cpu->cpl == 3 && cpu->s.cr4 & CR4_PVI ? IF_VIRTUAL : IF_DENIED;
}

void op_cli(SoftCpu *cpu, const Insn *insn)
{
    InterruptFlag which = interrupt_flag(cpu);

    INSN_PRECISE(cpu, insn);
    require(cpu, which != IF_DENIED, EXC_GP);
    cpu->s.rflags &= ~(uint64_t)(which == IF_REAL ? FLAG_IF : FLAG_VIF);
    INSN_NEXT(cpu, insn);
}

void op_sti(SoftCpu *cpu, const Insn *insn)
{
    InterruptFlag which = interrupt_flag(cpu);

    INSN_LEAVE(cpu, insn);
    require(cpu, which != IF_DENIED && !(which == IF_VIRTUAL && cpu->s.rflags & FLAG_VIP), EXC_GP);
    if (which == IF_VIRTUAL) {
        cpu->s.rflags |= FLAG_VIF;
    } else if (!(cpu->s.rflags & FLAG_IF)) {
        cpu->s.rflags |= FLAG_IF;
        cpu->s.interrupt_shadow = true;
        interrupts_maybe_enabled(cpu);
        block_uncount(cpu, insn + 1);
        INSN_END(cpu);
    }
    INSN_NEXT(cpu, insn);
}

static void set_ac(SoftCpu *cpu, const Insn *insn, bool on)
{
    INSN_PRECISE(cpu, insn);
    require_feature(cpu, CPU_SMAP);
    require(cpu, cpu->cpl == 0, EXC_UD);
    cpu->s.rflags = on ? cpu->s.rflags | FLAG_AC : cpu->s.rflags & ~(uint64_t)FLAG_AC;
    cpu->mmu_index = index_for_cpl(cpu, 0);
    cpu->tlb = cpu->tlbs[cpu->mmu_index];
}

void op_clac(SoftCpu *cpu, const Insn *insn)
{
    set_ac(cpu, insn, false);
    INSN_NEXT(cpu, insn);
}

void op_stac(SoftCpu *cpu, const Insn *insn)
{
    set_ac(cpu, insn, true);
    INSN_NEXT(cpu, insn);
}

/* PUSHF and POPF in virtual-8086 mode with IOPL below 3 work on VIF, with 16 bits only. */
static bool uses_vif(SoftCpu *cpu, const Insn *insn)
{
    if (!cpu_is_vm86(cpu) || iopl(cpu) == 3)
        return false;
    require(cpu, cpu->s.cr4 & CR4_VME && insn->op_size == 2, EXC_GP);
    return true;
}

OUT_OF_LINE push_flags(SoftCpu *cpu, const Insn *insn)
{
    uint64_t flags;
    Stack stack;

    INSN_PRECISE(cpu, insn);
    flags = uses_vif(cpu, insn) ? vme_flags(cpu) : flags_get(cpu) & ~(uint64_t)(FLAG_VM | FLAG_RF);
    stack = stack_current(cpu);
    stack_push(cpu, &stack, insn->op_size, flags);
    stack_commit(cpu, &stack);
}

void op_pushf(SoftCpu *cpu, const Insn *insn)
{
    push_flags(cpu, insn);
    INSN_NEXT(cpu, insn);
}

static uint64_t popf_mask(const SoftCpu *cpu, unsigned op_size)
{
    uint64_t mask = FLAGS_ARITHMETIC | FLAG_TF | FLAG_DF | FLAG_NT | FLAG_AC | FLAG_ID;

    if (cpu->cpl == 0)
        mask |= FLAG_IOPL;
    if (cpu->cpl <= iopl(cpu))
        mask |= FLAG_IF;
    return op_size == 2 ? mask & 0xffff : mask;
}

OUT_OF_LINE pop_flags(SoftCpu *cpu, const Insn *insn)
{
    uint64_t flags, mask;
    Stack stack;
    bool virtual;

    INSN_LEAVE(cpu, insn);
    virtual = uses_vif(cpu, insn);
    stack = stack_current(cpu);
    flags = stack_pop(cpu, &stack, insn->op_size);
    mask = popf_mask(cpu, insn->op_size);
    if (virtual) {
        require(cpu, !(flags & FLAG_TF) && !(flags & FLAG_IF && cpu->s.rflags & FLAG_VIP), EXC_GP);
        flags |= flags & FLAG_IF ? FLAG_VIF : 0;
        mask = (mask & ~(uint64_t)FLAG_IF) | FLAG_VIF;
    }
    stack_commit(cpu, &stack);
    flags_load(cpu, flags & ~(uint64_t)FLAG_RF, mask | FLAG_RF);
}

void op_popf(SoftCpu *cpu, const Insn *insn)
{
    uint32_t mode = cpu->mode;

    pop_flags(cpu, insn);
    if (cpu->mode != mode || cpu->exit_request)
        INSN_END(cpu);
    INSN_NEXT(cpu, insn);
}
