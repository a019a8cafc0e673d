/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What every MMX, SSE and AVX opcode reads, writes and may raise: one row per opcode, mandatory
 * prefix and (where it selects) ModRM.reg or memory/register form.
 *
 * A row describes the legacy and the VEX encoding at once. ModRM.reg is the destination and, in
 * legacy encodings, also the first source; ModRM.rm is the last source; flags below name what
 * differs.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "cpu/soft/insn.h"

enum { SIMD_NP, SIMD_66, SIMD_F3, SIMD_F2 }; /* mandatory prefix, coded as VEX.pp */

#define SIMD_NO     0xff /* no feature: this encoding does not exist */
#define SIMD_NO_EXT 0xff /* ModRM.reg is an operand */

typedef enum SimdMemory {           /* size of the memory operand; VL is the vector's: 16 or 32 */
                          MEM_NONE, /* register form only */
                          MEM_1,
                          MEM_2,
                          MEM_4,
                          MEM_8,
                          MEM_16,
                          MEM_32,
                          MEM_VL,
                          MEM_VL2 /* half */,
                          MEM_VL4,
                          MEM_VL8,
                          MEM_W,   /* 4, or 8 with W */
                          MEM_DUP, /* 8, or 32 with L */
} SimdMemory;

enum {                      /* SimdRow.flags */
       SIMD_NDS = 1 << 0,   /* VEX: first source is vvvv */
       SIMD_NDD = 1 << 1,   /* ModRM.reg selects the row, rm is shifted in place; VEX: into vvvv */
       SIMD_STORE = 1 << 2, /* rm is the destination, reg the source */
       SIMD_NO_DEST = 1 << 3,  /* only compares */
       SIMD_MEM_ONLY = 1 << 4, /* no register form */
       SIMD_REG_MM = 1 << 5,
       SIMD_RM_MM = 1 << 6,
       SIMD_REG_GPR = 1 << 7,
       SIMD_RM_GPR = 1 << 8,
       SIMD_FP = 1 << 9, /* uses MXCSR, may raise #XM */
       SIMD_IMM = 1 << 10,
       SIMD_IS4 = 1 << 11,         /* imm 7:4 is a source register */
       SIMD_XMM0 = 1 << 12,        /* XMM0 is a source */
       SIMD_EFLAGS = 1 << 13,      /* writes all arithmetic flags */
       SIMD_UNALIGNED = 1 << 14,   /* legacy: 16 bytes need no alignment */
       SIMD_ALIGNED_VEX = 1 << 15, /* VEX: aligned, too */
       SIMD_LIG = 1 << 16,         /* VEX.L is ignored */
       SIMD_W =
           1 << 17, /* W selects the width of a general register; ignored outside 64-bit mode */
       SIMD_W0 = 1 << 18,
       SIMD_W1 = 1 << 19,      /* VEX.W must be so */
       SIMD_WVEX = 1 << 20,    /* VEX.W selects the operation */
       SIMD_PCMPSTR = 1 << 21, /* implicit RAX, RDX; result in RCX or XMM0 */
};

typedef enum SimdSpecial { /* done in C */
                           SPECIAL_NONE,
                           SPECIAL_MOVE_LOAD,        /* reg ← rm */
                           SPECIAL_MOVE_STORE,       /* rm ← reg */
                           SPECIAL_MASKMOV_IMPLICIT, /* MASKMOVQ, MASKMOVDQU */
                           SPECIAL_MASK_LOAD,
                           SPECIAL_MASK_STORE,
                           SPECIAL_GATHER,
} SimdSpecial;

typedef struct SimdRow {
    uint8_t map, opcode, prefix, ext;
    uint8_t legacy, vex128, vex256; /* CpuFeature needed; with VEX, AVX is needed, too */
    uint8_t memory;                 /* SimdMemory */
    uint8_t special;
    uint32_t flags;
} SimdRow;

extern const SimdRow simd_rows[];
extern const unsigned simd_row_count;

/* The row of an encoding, or NULL. `prefix` is SIMD_NP … SIMD_F2. Any thread. */
const SimdRow *simd_find_row(OpcodeMap map, uint8_t opcode, unsigned prefix, uint8_t modrm,
                             bool vex, bool l, bool w);
/* Bytes of the row's memory operand. */
unsigned simd_memory_size(const SimdRow *row, bool l, bool w);
