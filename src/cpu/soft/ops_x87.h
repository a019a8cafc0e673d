/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The x87: chooses the handler of a decoded instruction with opcode D8-DF or 9B (FWAIT).
 *
 * Inside a software CPU SoftCpu.s.fpu.st[] holds the PHYSICAL registers R0-R7 (MM0-MM7), so that a
 * push moves no data; FpuState's own definition is relative to TOP. Whoever copies the state in or
 * out of SoftCpu converts it.
 */
#pragma once

#include "cpu/cpuid.h"
#include "cpu/soft/cpu.h"
#include "cpu/soft/insn.h"

/* D8-DF and 9B. Sets insn->fn (and insn->data); false: #UD. Any thread. */
bool x87_select(uint32_t mode, const CpuModel *model, Insn *insn);

/* Physical registers → relative to TOP (what get_state returns) and back (what set_state was
 * given). */
void x87_to_architectural(FpuState *fpu);
void x87_from_architectural(FpuState *fpu);

/* Sets FCW and what follows from it: the error summary in FSW. */
void x87_set_control(SoftCpu *cpu, uint16_t fcw);
/*
 * An unmasked error waits (FSW.ES): raises #MF, or, with CR0.NE clear and FERR# wired, freezes:
 * true: the handler returns at once with RIP at its instruction. False: IGNNE#, go on. Waiting x87
 * and all MMX instructions ask.
 */
bool x87_error_waits(SoftCpu *cpu, const Insn *insn);
