/* SPDX-License-Identifier: GPL-3.0-or-later */
/* System instructions that have no file of their own: halting, caches, translations, ENTER. SDM
 * 2A-2D. */
#include "cpu/soft/ops_operand.h"

/* ---- halting, caches, translations ----------------------------------------------------------- */

void op_hlt(SoftCpu *cpu, const Insn *insn)
{
    INSN_LEAVE(cpu, insn);
    require_ring0(cpu);
    cpu->s.activity = CPU_HALTED;
    cpu->s.interrupt_shadow = false; /* STI; HLT: what comes from now on wakes */
    events_notify(cpu);
    INSN_END(cpu);
}

/* Guest caches have no state: the host keeps memory coherent. */
static void flush_caches(SoftCpu *cpu, const Insn *insn)
{
    INSN_PRECISE(cpu, insn);
    require_ring0(cpu);
}

void op_invd(SoftCpu *cpu, const Insn *insn)
{
    flush_caches(cpu, insn);
    INSN_NEXT(cpu, insn);
}

void op_wbinvd(SoftCpu *cpu, const Insn *insn)
{
    flush_caches(cpu, insn);
    INSN_NEXT(cpu, insn);
}

void op_invlpg(SoftCpu *cpu, const Insn *insn)
{
    uint64_t linear = cpu->seg_base[insn->segment] + insn_ea(cpu, insn);

    INSN_LEAVE(cpu, insn);
    require_memory(cpu, insn);
    require_ring0(cpu);
    tlb_flush_page(cpu, cpu_is_long_mode(cpu) ? linear : (uint32_t)linear);
    INSN_END(cpu);
}

enum { INVPCID_ADDRESS, INVPCID_CONTEXT, INVPCID_ALL_GLOBAL, INVPCID_ALL };

void op_invpcid(SoftCpu *cpu, const Insn *insn)
{
    uint64_t type = cpu->s.gpr[insn->reg], linear, pcid, address;
    bool current;

    INSN_LEAVE(cpu, insn);
    require_feature(cpu, CPU_INVPCID);
    require_memory(cpu, insn);
    require_ring0(cpu);
    if (cpu->code_size != 8)
        type = (uint32_t)type;
    linear = insn_linear(cpu, insn, 16, MMU_READ);
    pcid = mem_read64(cpu, insn, linear);
    address = mem_read64(cpu, insn, linear + 8);
    require(cpu, type <= INVPCID_ALL && pcid < 0x1000, EXC_GP);
    if (type <= INVPCID_CONTEXT)
        require(cpu, !pcid || cpu->s.cr4 & CR4_PCIDE, EXC_GP);
    if (type == INVPCID_ADDRESS)
        require(cpu, is_canonical48(address), EXC_GP);
    /* The TLB holds the current PCID and global pages only. */
    current = pcid == (cpu->s.cr4 & CR4_PCIDE ? cpu->s.cr3 & 0xfff : 0);
    if (type == INVPCID_ALL_GLOBAL)
        tlb_flush_all(cpu);
    else if (type == INVPCID_ALL || (type == INVPCID_CONTEXT && current))
        tlb_flush_non_global(cpu);
    else if (type == INVPCID_ADDRESS && current)
        tlb_flush_page(cpu, address);
    INSN_END(cpu);
}

/* ---- the rest -------------------------------------------------------------------------------- */

OUT_OF_LINE enter_frame(SoftCpu *cpu, const Insn *insn)
{
    unsigned size = insn->op_size, level = insn->imm >> 16 & 31;
    uint64_t frame, rbp = cpu->s.gpr[GPR_RBP];
    Stack stack, outer;

    INSN_PRECISE(cpu, insn);
    stack = outer = stack_current(cpu);
    stack_push(cpu, &stack, size, rbp);
    frame = stack.sp;
    outer.sp = rbp;
    for (unsigned i = 1; i < level; i++) {
        outer.sp = (outer.sp & ~outer.mask) | ((outer.sp - size) & outer.mask);
        Stack display = outer;
        stack_push(cpu, &stack, size, stack_pop(cpu, &display, size));
    }
    if (level)
        stack_push(cpu, &stack, size, frame);
    stack.sp = (stack.sp & ~stack.mask) | ((stack.sp - (insn->imm & 0xffff)) & stack.mask);
    mmu_probe(cpu,
              segment_access(cpu, stack.segment, stack.sp & stack.mask, size, MMU_WRITE,
                             stack.long_mode, EXC_SS, 0),
              size, MMU_WRITE, stack.index);
    /* With 32-bit operands on a 16-bit stack processors take the upper half from ESP. */
    set_reg(cpu, GPR_RBP, size, frame);
    stack_commit(cpu, &stack);
}

void op_enter(SoftCpu *cpu, const Insn *insn)
{
    enter_frame(cpu, insn);
    INSN_NEXT(cpu, insn);
}

void op_ud(SoftCpu *cpu, const Insn *insn)
{
    INSN_RAISE(cpu, insn, EXC_UD);
}

/* Only system management mode has it, and no firmware of ours enters that. */
void op_rsm(SoftCpu *cpu, const Insn *insn)
{
    INSN_RAISE(cpu, insn, EXC_UD);
}

/* No safer mode extensions in any model. */
void op_getsec(SoftCpu *cpu, const Insn *insn)
{
    INSN_RAISE(cpu, insn, EXC_UD);
}
