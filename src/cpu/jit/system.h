/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What translated code calls to get in and out of a 64-bit kernel (system.c), and how translations
 * do so. vCPU thread. */
#pragma once

#include "cpu/jit/translate.h"

/* At CPL 3 or 0 of 64-bit code, all registers that C may change in SoftCpu; `next`: RIP behind the
 * instruction. NULL: nothing has been done. */
const uint8_t *jit_syscall(SoftCpu *cpu, uint64_t next, uint64_t what);
const uint8_t *jit_sysret(SoftCpu *cpu, uint64_t next, uint64_t what);
const uint8_t *jit_iretq(SoftCpu *cpu, uint64_t next, uint64_t what);
/* In real and virtual-8086 mode. `what`: offset and selector, or the vector; JIT_FAR_* << 32; bytes
 * to pop << 40. */
const uint8_t *jit_far(SoftCpu *cpu, uint64_t next, uint64_t what);
/* An access site missed JIT_SITE_MISSES times. */
void jit_learn(SoftCpu *cpu, uint64_t target, JitGuess *guess);
void jit_site_missed(SoftCpu *cpu, uint64_t linear, JitSite *site);
/* mmu_beside_code() of a JitSite.how. */
uintptr_t jit_beside_code(SoftCpu *cpu, uint64_t linear, unsigned how);
/* Whether the TLB has the access now. */
bool jit_fill_tlb(SoftCpu *cpu, uint64_t linear, unsigned how);

/* ---- translate_system.c ---- */

/* The instruction t->insn of one of the kinds from JIT_CLI on. */
void translate_system(Translation *t);
