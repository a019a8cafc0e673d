/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The x87: chooses the handler of a decoded instruction with opcode D8-DF or 9B (FWAIT).
 *
 * Inside a software CPU SoftCpu.s.fpu.st[] holds the PHYSICAL registers R0-R7 (MM0-MM7), so that a push moves no data;
 * FpuState's own definition is relative to TOP. Whoever copies the state in or out of SoftCpu converts it.
 */
#pragma once

#include "cpu/cpuid.h"
#include "cpu/soft/insn.h"
#include "cpu/state.h"

/* D8-DF and 9B. Sets insn->fn (and insn->data); false: #UD. Any thread. */
bool x87_select(uint32_t mode, const CpuModel *model, Insn *insn);

/* Physical registers → relative to TOP (what get_state returns) and back (what set_state was given). */
void x87_to_architectural(FpuState *fpu);
void x87_from_architectural(FpuState *fpu);
