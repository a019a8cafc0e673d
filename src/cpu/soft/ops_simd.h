/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * MMX, SSE, AVX and their relatives: chooses the handler of a decoded instruction.
 *
 * The data operations run on the host's own units through small stubs (stub.h); simd_tables.c says
 * what each opcode reads, writes and may raise. The selectors are pure functions of mode, model and
 * instruction; any thread.
 *
 * Opcodes taken by simd_select(); everything else of the three maps belongs to the integer decoder:
 *   0F    10-17, 28-2F, 50-77, 7C-7F, C2, C3 (MOVNTI), C4-C6, D0-FE,
 *         AE with a memory operand: /0-/5 without prefix, /6 without prefix (XSAVEOPT),
 *         C7 with a memory operand: /3-/5 (XSAVEC; XSAVES and XRSTORS are not offered)
 *   0F38  00-47, 58-5A, 78-79, 8C, 8E, 90-BF, C8-CF, DB-DF
 *   0F3A  00-22, 38-39, 40-46, 4A-4C, 60-63, CC, CE, CF, DF
 * Not taken: POPCNT, LZCNT, TZCNT, MOVBE, CRC32, ADX, BMI1/2 with VEX (0F38 F0-F7, 0F3A F0),
 * PREFETCH*, CLFLUSH*, CLWB, fences, RDFSBASE and relatives (AE, register forms and the prefixed
 * ones), XGETBV/XSETBV, INVPCID.
 *
 * Immediates of one byte: 0F 70-73, C2, C4, C5, C6 and all of 0F3A (also the register number in
 * bits 7:4 of VEX is4). What the selectors expect of the decoder: `prefixes` holds the mandatory
 * prefix (from VEX.pp, too); `rex` W and L; `reg`, `rm`, `vvvv` whole register numbers; `modrm`;
 * INSN_MEMORY and the operand's address; `imm`.
 */
#pragma once

#include "cpu/cpuid.h"
#include "cpu/soft/insn.h"

/* Sets insn->fn (and insn->data); false: #UD. */
bool simd_select(uint32_t mode, const CpuModel *model, Insn *insn);

/* Sets those features (CPU_FEATURE_COUNT long) among x87, MMX, SSE, AVX, XSAVE and relatives that
 * this host can execute; leaves the others alone. */
void simd_features(bool *ret_features);
