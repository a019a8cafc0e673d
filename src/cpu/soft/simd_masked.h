/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Masked moves and gathers, and what entering MMX does.
 */
#pragma once

#include "cpu/soft/ops_x87.h"

#define FSW_ES  0x80
#define FSW_TOP 0x3800

/* Handlers. */
void simd_mask_load(SoftCpu *cpu, const Insn *insn);
void simd_mask_store(SoftCpu *cpu, const Insn *insn);
void simd_mask_move(SoftCpu *cpu, const Insn *insn);
void simd_mask_move_mmx(SoftCpu *cpu, const Insn *insn);
void simd_gather(SoftCpu *cpu, const Insn *insn);
/* The XMM number of a VSIB index. */
unsigned simd_gather_index(const Insn *insn);

/* An MMX instruction that went through makes TOP 0 and all registers valid (SDM 1 9.6.2). */
static inline void mmx_enter(SoftCpu *cpu)
{
    cpu->s.fpu.fsw &= ~FSW_TOP;
    cpu->s.fpu.ftw_abridged = 0xff;
}

#define MMX_CHECK(cpu, insn)                                                              \
    do {                                                                                  \
        if (__builtin_expect((cpu)->s.fpu.fsw & FSW_ES, 0) && x87_error_waits(cpu, insn)) \
            return;                                                                       \
    } while (0)
