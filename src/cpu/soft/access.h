/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Memory operands of instructions: effective address → linear address → host address, inline while
 * the TLB hits. Faults leave by siglongjmp with cpu->insn naming the instruction.
 */
#pragma once

#include <string.h>

#include "cpu/soft/cpu.h"

/* The offset in its segment. */
static inline uint64_t insn_ea(const SoftCpu *cpu, const Insn *insn)
{
    return (cpu->s.gpr[insn->base] + (cpu->s.gpr[insn->index] << insn->scale) + insn->disp) &
           insn->addr_mask;
}

/* Adds the segment base; checks limit and type unless decoding proved that they can't fail. */
static inline uint64_t linear_address(SoftCpu *cpu, const Insn *insn, unsigned seg, uint64_t offset,
                                      unsigned size, MmuAccess access)
{
    if (__builtin_expect(insn->flags & INSN_SEG_CHECK, 0)) {
        cpu->insn = insn;
        return segment_linear_checked(cpu, seg, offset, size, access);
    }
    return cpu->seg_base[seg] + offset;
}

static inline uint64_t insn_linear(SoftCpu *cpu, const Insn *insn, unsigned size, MmuAccess access)
{
    return linear_address(cpu, insn, insn->segment, insn_ea(cpu, insn), size, access);
}

static inline TlbEntry *tlb_entry(TlbEntry *tlb, uint64_t linear)
{
    return &tlb[linear >> GUEST_PAGE_SHIFT & (TLB_SIZE - 1)];
}

#define ACCESS_DEFINE(bits)                                                                      \
    static inline uint##bits##_t mem_read##bits(SoftCpu *cpu, const Insn *insn, uint64_t linear) \
    {                                                                                            \
        TlbEntry *entry = tlb_entry(cpu->tlb, linear);                                           \
        if (__builtin_expect((linear ^ entry->tag_read) <= GUEST_PAGE_SIZE - bits / 8, 1)) {     \
            uint##bits##_t value;                                                                \
            memcpy(&value, (const void *)(linear + entry->addend), sizeof(value));               \
            return value;                                                                        \
        }                                                                                        \
        cpu->insn = insn;                                                                        \
        return mmu_load(cpu, linear, bits / 8, cpu->mmu_index);                                  \
    }                                                                                            \
    static inline void mem_write##bits(SoftCpu *cpu, const Insn *insn, uint64_t linear,          \
                                       uint##bits##_t value)                                     \
    {                                                                                            \
        TlbEntry *entry = tlb_entry(cpu->tlb, linear);                                           \
        if (__builtin_expect((linear ^ entry->tag_write) <= GUEST_PAGE_SIZE - bits / 8, 1)) {    \
            memcpy((void *)(linear + entry->addend), &value, sizeof(value));                     \
            return;                                                                              \
        }                                                                                        \
        cpu->insn = insn;                                                                        \
        mmu_store(cpu, linear, bits / 8, value, cpu->mmu_index);                                 \
    }

ACCESS_DEFINE(8)
ACCESS_DEFINE(16)
ACCESS_DEFINE(32)
ACCESS_DEFINE(64)
#undef ACCESS_DEFINE

/* Host address for read-modify-write of `size` bytes, write access checked; NULL: use load and
 * store (mmu_host_pointer()). */
static inline void *mem_rmw(SoftCpu *cpu, const Insn *insn, uint64_t linear, unsigned size)
{
    TlbEntry *entry = tlb_entry(cpu->tlb, linear);
    if (__builtin_expect((linear ^ entry->tag_write) <= GUEST_PAGE_SIZE - size, 1))
        return (void *)(linear + entry->addend);
    cpu->insn = insn;
    return mmu_host_pointer(cpu, linear, size, MMU_WRITE, cpu->mmu_index);
}
