/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * SIMD and x87 handlers against the host's own CPU: each encoding runs natively and through its
 * handler on the same random registers and memory; everything architectural must be equal. What
 * simd_test.c, x87_test.c and simd_rules_test.c share.
 *
 * Guest linear addresses are host addresses here (TLB addend 0), so that both runs use the same
 * operands.
 */
#pragma once

#include <setjmp.h>
#include <signal.h>

#include "base/bits.h"
#include "cpu/soft/access.h"
#include "cpu/soft/cpu.h"
#include "cpu/soft/ops_simd.h"
#include "cpu/soft/ops_x87.h"
#include "cpu/soft/simd_tables.h"
#include "cpu/soft/stub.h"
#include "cpu/soft/xsave.h"

#define IMAGE_SIZE 832
#define MODE_TEST  (MODE_CODE64 | MODE_PROTECTED | MODE_LONG)

typedef struct Native {
    uint64_t gpr[16]; /* RSP is not used */
    uint64_t flags;
    uint32_t mxcsr;
    uint8_t before[IMAGE_SIZE] __attribute__((aligned(64)));
    uint8_t after[IMAGE_SIZE] __attribute__((aligned(64)));
} Native;

typedef struct Encoding {
    uint8_t map, opcode, prefix; /* SIMD_* */
    bool vex, l, w, memory;
    uint8_t reg, rm, vvvv, imm;
    bool has_imm;
    uint8_t disp; /* memory operand: [rbx + disp] */
    uint8_t bytes[16];
    unsigned size;
} Encoding;

/* ---- both processors ------------------------------------------------------------------------- */
extern CpuModel model; /* with what the host has */
extern SoftCpu *cpu;
extern uint8_t *memory; /* one page, then one that may not be touched */
extern int raised;      /* vector of the last emulated fault, -1: none */
extern volatile int native_fault;
extern volatile uint32_t native_fault_mxcsr;

/* Before any test. */
void simd_kit_init(void);
/* Runs `bytes` on `native`; false: it faulted (native_fault). */
bool run_native(Native *native, const uint8_t *bytes, unsigned size);
/* Gives `cpu` the state that `native` begins with. */
void emulate_prepare(const Native *native, bool tlb_hit);
/* insns[1] is free. False: it raised `raised`. */
bool emulate(Insn *insns);

/* ---- random values --------------------------------------------------------------------------- */
uint64_t random64(void);
unsigned random_below(unsigned n);
/* Bits that floating-point units find interesting. */
uint64_t random_lane(void);
void random_bytes(void *data, unsigned size);
void random_extended(uint8_t *value);
void random_native(Native *native);
uint32_t random_mxcsr(void);

/* ---- encodings ------------------------------------------------------------------------------- */
static inline void put(uint8_t **at, const void *bytes, unsigned size)
{
    memcpy(*at, bytes, size);
    *at += size;
}
#define PUT(at, ...) put(at, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

/* Fills bytes and size. */
void encode(Encoding *e);
/* What the decoder makes of it. */
void decode(const Encoding *e, Insn *insn);
void x87_encoding(Encoding *e, Insn *insn, uint8_t opcode, uint8_t modrm);

/* ---- checks ---------------------------------------------------------------------------------- */
extern unsigned failures; /* complaints of this test */
void complain(const uint8_t *bytes, unsigned size, const char *format, ...);
void compare_states(const Encoding *e, const Native *native, bool x87);
/* One run of both; `aligned`: the instruction wants its operand so, `misalign`: sometimes it is
 * not.
 */
void check_encoding(Encoding *e, Insn *insns, unsigned memory_bytes, bool aligned, bool misalign,
                    bool x87);

/* ---- plain cases ----------------------------------------------------------------------------- */
/* An initial FPU, [rbx] on the page. */
void prepare_plain(Native *native);
void simd_insn(Insn *insns, uint8_t opcode, unsigned prefix, bool vex, bool memory_form);
void x87_insn(Insn *insns, uint8_t opcode, uint8_t modrm);
/* What one instruction raises (-1: nothing) with these control registers; -2: refused when decoded.
 */
int outcome(Insn *insns, bool x87, uint64_t cr0, uint64_t cr4, uint64_t xcr0);

/* ---- the other files' tests ------------------------------------------------------------------ */
void x87_add_tests(void);
void simd_rules_add_tests(void);
