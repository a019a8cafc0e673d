/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Host code that runs one data instruction of the guest: loads operands, the instruction itself,
 * stores the result.
 *
 * A stub names its operands by pointers, never by register numbers, so one serves every register
 * and every CPU; it differs only by opcode, VEX.L, W, immediate and register/memory form. All that
 * can exist (stub_capacity_needed()) fit into the code area, so nothing is ever evicted and a
 * stub's address stays good for ever.
 *
 * Threads: stub_get*() from any; they lock. No mapping of the area is writable and executable at
 * once.
 */
#pragma once

#include <glib.h>

#include "cpu/soft/simd_tables.h"

/*
 * dst: where the result goes, a register's slot in FpuState or gpr[], or memory; also the old value
 * of a destination that is read (for rows with SIMD_NO_DEST only that).
 * a: first source (VEX.vvvv; with SIMD_STORE: ModRM.reg).
 * b: last source, slot or memory.
 *
 * With SIMD_FP the result is stored when (the host's MXCSR after the operation & mxcsr_mask) is
 * mxcsr_expected; 0 is returned then. cpu->stub_mxcsr keeps the MXCSR. With SIMD_IS4, mxcsr_mask is
 * the slot of the fourth operand.
 */
typedef uint32_t (*StubFn)(SoftCpu *cpu, void *dst, const void *a, const void *b,
                           uint64_t mxcsr_mask, uint64_t mxcsr_expected);

typedef struct StubKey {
    const SimdRow *row;
    bool vex, l, w, memory;
    uint8_t imm;
} StubKey;

/* The stub of an encoding, made when it is asked for first; NULL when the host gives no executable
 * memory. */
StubFn stub_get(const StubKey *key);
/*
 * An x87 instruction under the whole state of the guest: `image` (FNSAVE's 108 bytes) is loaded
 * before and saved after, `memory` is its operand, `flags` (as SoftCpu.flags) are in EFLAGS.
 * Returns the flags after. The host's x87 is initialized afterwards.
 */
typedef uint32_t (*X87Fn)(void *image, void *memory, uint32_t flags);
X87Fn stub_get_x87(uint8_t opcode, uint8_t modrm);

/* Whether executable memory can be had at all. */
bool stub_available(void);
/* Bytes that the stubs of all encodings take, and what is reserved for them. */
size_t stub_capacity_needed(void);
size_t stub_capacity(void);
