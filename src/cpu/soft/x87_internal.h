/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the two halves of the x87 share: registers, flags, memory operands, the frame of a handler.
 */
#pragma once

#include "base/bits.h"
#include "cpu/soft/access.h"
#include "cpu/soft/ops_x87.h"

#define ALWAYS_INLINE inline __attribute__((always_inline))
#define LIKELY(x)     __builtin_expect(!!(x), 1)
#define UNLIKELY(x)   __builtin_expect(!!(x), 0)

enum {
    FSW_IE = 1 << 0,
    FSW_FLAGS = 0x3f,
    FSW_SF = 1 << 6,
    FSW_ES = 1 << 7,
    FSW_C0 = 1 << 8,
    FSW_C1 = 1 << 9,
    FSW_C2 = 1 << 10,
    FSW_TOP_SHIFT = 11,
    FSW_TOP = 7 << 11,
    FSW_C3 = 1 << 14,
    FSW_B = 1 << 15,
    FSW_CONDITION = FSW_C0 | FSW_C1 | FSW_C2 | FSW_C3,
};
enum { FCW_MASKS = 0x3f, FCW_INIT = 0x37f, FCW_WRITABLE = 0x1f3f, FCW_FIXED = 0x40 };
enum { TAG_VALID, TAG_ZERO, TAG_SPECIAL, TAG_EMPTY };

/* ---- state ----------------------------------------------------------------------------------- */

static ALWAYS_INLINE unsigned x87_top(const FpuState *fpu)
{
    return fpu->fsw >> FSW_TOP_SHIFT & 7;
}

static ALWAYS_INLINE unsigned physical(const FpuState *fpu, unsigned i)
{
    return (x87_top(fpu) + i) & 7;
}

static ALWAYS_INLINE void *st(FpuState *fpu, unsigned i)
{
    return fpu->st[physical(fpu, i)];
}

static ALWAYS_INLINE bool st_used(const FpuState *fpu, unsigned i)
{
    return fpu->ftw_abridged >> physical(fpu, i) & 1;
}

static ALWAYS_INLINE void set_top(FpuState *fpu, unsigned top)
{
    fpu->fsw = (fpu->fsw & ~FSW_TOP) | (top & 7) << FSW_TOP_SHIFT;
}

static ALWAYS_INLINE void pop(FpuState *fpu)
{
    fpu->ftw_abridged &= ~(1 << x87_top(fpu));
    set_top(fpu, x87_top(fpu) + 1);
}

static ALWAYS_INLINE void push(FpuState *fpu, const void *value)
{
    set_top(fpu, x87_top(fpu) - 1);
    fpu->ftw_abridged |= 1 << x87_top(fpu);
    memcpy(st(fpu, 0), value, 10);
}

/*
 * Handlers are made of bodies that return whether to go on to the next instruction: the body's
 * locals are gone by then, so that going on can be a tail call.
 */
#define X87_WAIT(cpu, insn)                                                    \
    do {                                                                       \
        if (UNLIKELY((cpu)->s.fpu.fsw & FSW_ES) && x87_error_waits(cpu, insn)) \
            return false;                                                      \
    } while (0)
#define X87_EXPORTED_HANDLER(name, body)      \
    void name(SoftCpu *cpu, const Insn *insn) \
    {                                         \
        if (LIKELY(body))                     \
            INSN_NEXT(cpu, insn);             \
    }
#define X87_HANDLER(name, body) static X87_EXPORTED_HANDLER(name, body)

/* What is not stored for an unmasked exception faults still. */
static inline void x87_probe_store(SoftCpu *cpu, const Insn *insn, unsigned size)
{
    uint64_t linear = insn_linear(cpu, insn, size, MMU_WRITE);
    cpu->insn = insn;
    mmu_probe(cpu, linear, size, MMU_WRITE, cpu->mmu_index);
}

static ALWAYS_INLINE void load_bytes(SoftCpu *cpu, const Insn *insn, void *data, unsigned size)
{
    uint64_t linear = insn_linear(cpu, insn, size, MMU_READ);
    TlbEntry *entry = tlb_entry(cpu->tlb, linear);
    if (LIKELY((linear ^ entry->tag_read) <= GUEST_PAGE_SIZE - size)) {
        memcpy(data, (const void *)(linear + entry->addend), size);
        return;
    }
    cpu->insn = insn;
    mmu_load_bytes(cpu, linear, data, size, cpu->mmu_index);
}

static ALWAYS_INLINE void store_bytes(SoftCpu *cpu, const Insn *insn, const void *data,
                                      unsigned size)
{
    uint64_t linear = insn_linear(cpu, insn, size, MMU_WRITE);
    TlbEntry *entry = tlb_entry(cpu->tlb, linear);
    if (LIKELY((linear ^ entry->tag_write) <= GUEST_PAGE_SIZE - size)) {
        memcpy((void *)(linear + entry->addend), data, size);
        return;
    }
    cpu->insn = insn;
    mmu_store_bytes(cpu, linear, data, size, cpu->mmu_index);
}

/* Bytes of the memory operand, negative if it is written; 0: control instructions but FLDCW,
 * FNSTCW, FNSTSW. */
int x87_memory_size(const Insn *insn);
/* Two bits for each physical register, as FNSTENV stores them, and one, as FXSAVE does. */
uint16_t x87_full_tags(const FpuState *fpu);
uint8_t x87_abridged_tags(uint16_t tags);
/* Makes ES and B what flags and masks say. */
void x87_update_summary(FpuState *fpu);

/* Handlers of control instructions. */
void x87_fldcw(SoftCpu *cpu, const Insn *insn);
void x87_fnstcw(SoftCpu *cpu, const Insn *insn);
void x87_fnstsw(SoftCpu *cpu, const Insn *insn);
void x87_fnstsw_ax(SoftCpu *cpu, const Insn *insn);
void x87_fnclex(SoftCpu *cpu, const Insn *insn);
void x87_fninit(SoftCpu *cpu, const Insn *insn);
void x87_fwait(SoftCpu *cpu, const Insn *insn);
void x87_fnstenv(SoftCpu *cpu, const Insn *insn);
void x87_fldenv(SoftCpu *cpu, const Insn *insn);
void x87_fnsave(SoftCpu *cpu, const Insn *insn);
void x87_frstor(SoftCpu *cpu, const Insn *insn);
void x87_nothing(SoftCpu *cpu, const Insn *insn);
