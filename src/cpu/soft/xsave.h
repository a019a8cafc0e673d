/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Whole images of the FPU: FXSAVE, XSAVE and relatives, MXCSR.
 */
#pragma once

#include "cpu/soft/cpu.h"

/* MXCSR bits a guest may set: all of Intel's; others are #GP. */
#define MXCSR_MASK  0xffffu
#define MXCSR_FLAGS 0x3fu
#define MXCSR_INIT  0x1f80u /* which C expects, too */

/* 0F AE /0-/6 and 0F C7 /4, memory forms. As simd_select(). */
bool xsave_select(uint32_t mode, const CpuModel *model, Insn *insn);
/* Components that are not in their initial configuration: XINUSE, what XGETBV with ECX=1 returns
 * and-ed with XCR0. */
uint64_t xsave_in_use(const SoftCpu *cpu);
