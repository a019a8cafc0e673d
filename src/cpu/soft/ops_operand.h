/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the files of the system instructions (ops_system.h) share: operands, checks, flags. */
#pragma once

#include "base/bits.h"
#include "cpu/soft/block.h"
#include "cpu/soft/ops_system.h"
#include "cpu/soft/system.h"

/* A handler whose locals have their address taken can't go on to the next by a tail call: such work
 * stands in a function of its own. */
#define OUT_OF_LINE static __attribute__((noinline)) void

static inline void set_reg(SoftCpu *cpu, unsigned reg, unsigned size, uint64_t value)
{
    uint64_t *gpr = &cpu->s.gpr[reg];

    *gpr = size == 2   ? (*gpr & ~UINT64_C(0xffff)) | (value & 0xffff)
           : size == 4 ? (uint32_t)value
                       : value;
}

static inline uint16_t read_rm16(SoftCpu *cpu, const Insn *insn)
{
    if (insn->flags & INSN_MEMORY)
        return mem_read16(cpu, insn, insn_linear(cpu, insn, 2, MMU_READ));
    return cpu->s.gpr[insn->rm];
}

/* Memory takes 16 bits whatever the operand size; a register takes them all. */
static inline void write_rm_selector(SoftCpu *cpu, const Insn *insn, uint64_t value)
{
    if (insn->flags & INSN_MEMORY)
        mem_write16(cpu, insn, insn_linear(cpu, insn, 2, MMU_WRITE), value);
    else
        set_reg(cpu, insn->rm, insn->op_size, value);
}

static inline void set_zf(SoftCpu *cpu, bool value)
{
    cpu->flags = value ? cpu->flags | FLAG_ZF << 8 : cpu->flags & ~(uint32_t)(FLAG_ZF << 8);
}

static inline void require(SoftCpu *cpu, bool condition, int vector)
{
    if (G_LIKELY(condition))
        return;
    if (vector == EXC_UD)
        cpu_raise(cpu, EXC_UD);
    cpu_raise_error(cpu, vector, 0);
}

static inline void require_feature(SoftCpu *cpu, CpuFeature feature)
{
    require(cpu, cpu_has(cpu->model, feature), EXC_UD);
}

static inline void require_ring0(SoftCpu *cpu)
{
    require(cpu, cpu->cpl == 0, EXC_GP);
}

static inline void require_protected(SoftCpu *cpu)
{
    require(cpu, cpu->mode & MODE_PROTECTED, EXC_UD);
}

static inline void require_memory(SoftCpu *cpu, const Insn *insn)
{
    require(cpu, insn->flags & INSN_MEMORY, EXC_UD);
}

static inline void require_umip(SoftCpu *cpu)
{
    require(cpu, !(cpu->s.cr4 & CR4_UMIP) || cpu->cpl == 0, EXC_GP);
}

static inline unsigned iopl(const SoftCpu *cpu)
{
    return cpu->s.rflags >> 12 & 3;
}

/* FLAGS as virtual-8086 code with VME sees them: IOPL 3, VIF in place of IF. */
static inline uint16_t vme_flags(const SoftCpu *cpu)
{
    uint64_t flags = flags_get(cpu);

    return (flags & ~(uint64_t)FLAG_IF) | FLAG_IOPL | (flags & FLAG_VIF ? FLAG_IF : 0);
}

/* Two bytes of the TSS's I/O map area; false: not within the segment. */
bool io_map_read(SoftCpu *cpu, int offset_from_map, uint16_t *ret_value);
/* Offset and selector at the memory operand. */
uint64_t read_far_pointer(SoftCpu *cpu, const Insn *insn, uint16_t *ret_selector);
