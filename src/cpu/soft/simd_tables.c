/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The table of MMX, SSE and AVX opcodes (SDM 2, appendix A and the instructions' pages).
 *
 * Invariant: rows of one (map, opcode, prefix) stand together.
 */
#include "cpu/soft/simd_tables.h"

#include <glib.h>

#include "cpu/cpuid.h"

#define NO  SIMD_NO
#define ANY SIMD_NO_EXT
#define NDS SIMD_NDS
#define MM  (SIMD_REG_MM | SIMD_RM_MM)
#define FP  SIMD_FP
#define IMM SIMD_IMM
#define LIG SIMD_LIG
#define W0  SIMD_W0

#define ROW(map, op, prefix, legacy, vex128, vex256, memory, flags)               \
    {                                                                             \
        map, op, prefix, ANY, legacy, vex128, vex256, memory, SPECIAL_NONE, flags \
    }
#define CROW(map, op, prefix, legacy, vex128, vex256, memory, special, flags) \
    {                                                                         \
        map, op, prefix, ANY, legacy, vex128, vex256, memory, special, flags  \
    }

/* ps, pd, ss, sd */
#define ARITH(op, flags)                                                                 \
    ROW(MAP_0F, op, SIMD_NP, CPU_SSE, CPU_AVX, CPU_AVX, MEM_VL, NDS | (flags)),          \
        ROW(MAP_0F, op, SIMD_66, CPU_SSE2, CPU_AVX, CPU_AVX, MEM_VL, NDS | (flags)),     \
        ROW(MAP_0F, op, SIMD_F3, CPU_SSE, CPU_AVX, CPU_AVX, MEM_4, NDS | LIG | (flags)), \
        ROW(MAP_0F, op, SIMD_F2, CPU_SSE2, CPU_AVX, CPU_AVX, MEM_8, NDS | LIG | (flags))
/* ps, pd */
#define PACKED(op, flags)                                                       \
    ROW(MAP_0F, op, SIMD_NP, CPU_SSE, CPU_AVX, CPU_AVX, MEM_VL, NDS | (flags)), \
        ROW(MAP_0F, op, SIMD_66, CPU_SSE2, CPU_AVX, CPU_AVX, MEM_VL, NDS | (flags))
/* MMX and SSE2 integer */
#define INTEGER(op, mmx)                              \
    ROW(MAP_0F, op, SIMD_NP, mmx, NO, NO, MEM_8, MM), \
        ROW(MAP_0F, op, SIMD_66, CPU_SSE2, CPU_AVX, CPU_AVX2, MEM_VL, NDS)
#define UNPACK_LOW(op)                                    \
    ROW(MAP_0F, op, SIMD_NP, CPU_MMX, NO, NO, MEM_4, MM), \
        ROW(MAP_0F, op, SIMD_66, CPU_SSE2, CPU_AVX, CPU_AVX2, MEM_VL, NDS)
#define SHIFT(op)                                         \
    ROW(MAP_0F, op, SIMD_NP, CPU_MMX, NO, NO, MEM_8, MM), \
        ROW(MAP_0F, op, SIMD_66, CPU_SSE2, CPU_AVX, CPU_AVX2, MEM_16, NDS)
#define SHIFT_IMM_X(op, reg)                                                           \
    {                                                                                  \
        MAP_0F, op, SIMD_66, reg, CPU_SSE2, CPU_AVX, CPU_AVX2, MEM_NONE, SPECIAL_NONE, \
            SIMD_NDD | IMM                                                             \
    }
#define SHIFT_IMM_MM(op, reg)                                                                  \
    {                                                                                          \
        MAP_0F, op, SIMD_NP, reg, CPU_MMX, NO, NO, MEM_NONE, SPECIAL_NONE, SIMD_NDD | IMM | MM \
    }
#define SSSE3(op, flags)                                      \
    ROW(MAP_0F38, op, SIMD_NP, CPU_SSSE3, NO, NO, MEM_8, MM), \
        ROW(MAP_0F38, op, SIMD_66, CPU_SSSE3, CPU_AVX, CPU_AVX2, MEM_VL, flags)
#define SSE41(op, flags)   ROW(MAP_0F38, op, SIMD_66, CPU_SSE41, CPU_AVX, CPU_AVX2, MEM_VL, flags)
#define EXTEND(op, memory) ROW(MAP_0F38, op, SIMD_66, CPU_SSE41, CPU_AVX, CPU_AVX2, memory, 0)
#define AVX38(op, vex128, vex256, memory, flags) \
    ROW(MAP_0F38, op, SIMD_66, NO, vex128, vex256, memory, flags)
#define AVX3A(op, vex128, vex256, memory, flags) \
    ROW(MAP_0F3A, op, SIMD_66, NO, vex128, vex256, memory, IMM | (flags))
#define SSE3A(op, vex128, vex256, memory, flags) \
    ROW(MAP_0F3A, op, SIMD_66, CPU_SSE41, vex128, vex256, memory, IMM | (flags))
#define SHA(op, flags) ROW(MAP_0F38, op, SIMD_NP, CPU_SHA, NO, NO, MEM_16, flags)
#define FMA_PACKED(op) AVX38(op, CPU_FMA, CPU_FMA, MEM_VL, NDS | FP | SIMD_WVEX)
#define FMA_SCALAR(op) AVX38(op, CPU_FMA, CPU_FMA, MEM_W, NDS | FP | LIG | SIMD_WVEX)
#define FMA_GROUP(base)                                                         \
    FMA_PACKED(base + 0x6), FMA_PACKED(base + 0x7), FMA_PACKED(base + 0x8),     \
        FMA_SCALAR(base + 0x9), FMA_PACKED(base + 0xa), FMA_SCALAR(base + 0xb), \
        FMA_PACKED(base + 0xc), FMA_SCALAR(base + 0xd), FMA_PACKED(base + 0xe), \
        FMA_SCALAR(base + 0xf)
#define PCMPSTR(op)                                            \
    ROW(MAP_0F3A, op, SIMD_66, CPU_SSE42, CPU_AVX, NO, MEM_16, \
        IMM | SIMD_PCMPSTR | SIMD_NO_DEST | SIMD_EFLAGS | SIMD_UNALIGNED | SIMD_W)
/* moves, done in C */
#define LOAD(op, prefix, legacy, vex128, vex256, memory, flags) \
    CROW(MAP_0F, op, prefix, legacy, vex128, vex256, memory, SPECIAL_MOVE_LOAD, flags)
#define STORE(op, prefix, legacy, vex128, vex256, memory, flags)                 \
    CROW(MAP_0F, op, prefix, legacy, vex128, vex256, memory, SPECIAL_MOVE_STORE, \
         SIMD_STORE | (flags))

const SimdRow simd_rows[] = {
    LOAD(0x10, SIMD_NP, CPU_SSE, CPU_AVX, CPU_AVX, MEM_VL, SIMD_UNALIGNED),
    LOAD(0x10, SIMD_66, CPU_SSE2, CPU_AVX, CPU_AVX, MEM_VL, SIMD_UNALIGNED),
    LOAD(0x10, SIMD_F3, CPU_SSE, CPU_AVX, CPU_AVX, MEM_4, LIG | NDS),
    LOAD(0x10, SIMD_F2, CPU_SSE2, CPU_AVX, CPU_AVX, MEM_8, LIG | NDS),
    STORE(0x11, SIMD_NP, CPU_SSE, CPU_AVX, CPU_AVX, MEM_VL, SIMD_UNALIGNED),
    STORE(0x11, SIMD_66, CPU_SSE2, CPU_AVX, CPU_AVX, MEM_VL, SIMD_UNALIGNED),
    STORE(0x11, SIMD_F3, CPU_SSE, CPU_AVX, CPU_AVX, MEM_4, LIG | NDS),
    STORE(0x11, SIMD_F2, CPU_SSE2, CPU_AVX, CPU_AVX, MEM_8, LIG | NDS),
    ROW(MAP_0F, 0x12, SIMD_NP, CPU_SSE, CPU_AVX, NO, MEM_8, NDS),
    ROW(MAP_0F, 0x12, SIMD_66, CPU_SSE2, CPU_AVX, NO, MEM_8, NDS | SIMD_MEM_ONLY),
    ROW(MAP_0F, 0x12, SIMD_F3, CPU_SSE3, CPU_AVX, CPU_AVX, MEM_VL, 0),
    ROW(MAP_0F, 0x12, SIMD_F2, CPU_SSE3, CPU_AVX, CPU_AVX, MEM_DUP, 0),
    ROW(MAP_0F, 0x13, SIMD_NP, CPU_SSE, CPU_AVX, NO, MEM_8, SIMD_STORE | SIMD_MEM_ONLY),
    ROW(MAP_0F, 0x13, SIMD_66, CPU_SSE2, CPU_AVX, NO, MEM_8, SIMD_STORE | SIMD_MEM_ONLY),
    PACKED(0x14, 0),
    PACKED(0x15, 0),
    ROW(MAP_0F, 0x16, SIMD_NP, CPU_SSE, CPU_AVX, NO, MEM_8, NDS),
    ROW(MAP_0F, 0x16, SIMD_66, CPU_SSE2, CPU_AVX, NO, MEM_8, NDS | SIMD_MEM_ONLY),
    ROW(MAP_0F, 0x16, SIMD_F3, CPU_SSE3, CPU_AVX, CPU_AVX, MEM_VL, 0),
    ROW(MAP_0F, 0x17, SIMD_NP, CPU_SSE, CPU_AVX, NO, MEM_8, SIMD_STORE | SIMD_MEM_ONLY),
    ROW(MAP_0F, 0x17, SIMD_66, CPU_SSE2, CPU_AVX, NO, MEM_8, SIMD_STORE | SIMD_MEM_ONLY),
    LOAD(0x28, SIMD_NP, CPU_SSE, CPU_AVX, CPU_AVX, MEM_VL, SIMD_ALIGNED_VEX),
    LOAD(0x28, SIMD_66, CPU_SSE2, CPU_AVX, CPU_AVX, MEM_VL, SIMD_ALIGNED_VEX),
    STORE(0x29, SIMD_NP, CPU_SSE, CPU_AVX, CPU_AVX, MEM_VL, SIMD_ALIGNED_VEX),
    STORE(0x29, SIMD_66, CPU_SSE2, CPU_AVX, CPU_AVX, MEM_VL, SIMD_ALIGNED_VEX),
    ROW(MAP_0F, 0x2a, SIMD_NP, CPU_SSE, NO, NO, MEM_8, SIMD_RM_MM | FP),
    ROW(MAP_0F, 0x2a, SIMD_66, CPU_SSE2, NO, NO, MEM_8, SIMD_RM_MM),
    ROW(MAP_0F, 0x2a, SIMD_F3, CPU_SSE, CPU_AVX, CPU_AVX, MEM_W,
        NDS | SIMD_RM_GPR | FP | LIG | SIMD_W),
    ROW(MAP_0F, 0x2a, SIMD_F2, CPU_SSE2, CPU_AVX, CPU_AVX, MEM_W,
        NDS | SIMD_RM_GPR | FP | LIG | SIMD_W),
    STORE(0x2b, SIMD_NP, CPU_SSE, CPU_AVX, CPU_AVX, MEM_VL, SIMD_ALIGNED_VEX | SIMD_MEM_ONLY),
    STORE(0x2b, SIMD_66, CPU_SSE2, CPU_AVX, CPU_AVX, MEM_VL, SIMD_ALIGNED_VEX | SIMD_MEM_ONLY),
#define TO_INTEGER(op)                                                        \
    ROW(MAP_0F, op, SIMD_NP, CPU_SSE, NO, NO, MEM_8, SIMD_REG_MM | FP),       \
        ROW(MAP_0F, op, SIMD_66, CPU_SSE2, NO, NO, MEM_16, SIMD_REG_MM | FP), \
        ROW(MAP_0F, op, SIMD_F3, CPU_SSE, CPU_AVX, CPU_AVX, MEM_4,            \
            SIMD_REG_GPR | FP | LIG | SIMD_W),                                \
        ROW(MAP_0F, op, SIMD_F2, CPU_SSE2, CPU_AVX, CPU_AVX, MEM_8,           \
            SIMD_REG_GPR | FP | LIG | SIMD_W)
    TO_INTEGER(0x2c),
    TO_INTEGER(0x2d),
#define COMPARE(op)                                                 \
    ROW(MAP_0F, op, SIMD_NP, CPU_SSE, CPU_AVX, CPU_AVX, MEM_4,      \
        SIMD_NO_DEST | FP | LIG | SIMD_EFLAGS),                     \
        ROW(MAP_0F, op, SIMD_66, CPU_SSE2, CPU_AVX, CPU_AVX, MEM_8, \
            SIMD_NO_DEST | FP | LIG | SIMD_EFLAGS)
    COMPARE(0x2e),
    COMPARE(0x2f),
    ROW(MAP_0F, 0x50, SIMD_NP, CPU_SSE, CPU_AVX, CPU_AVX, MEM_NONE, SIMD_REG_GPR),
    ROW(MAP_0F, 0x50, SIMD_66, CPU_SSE2, CPU_AVX, CPU_AVX, MEM_NONE, SIMD_REG_GPR),
    ROW(MAP_0F, 0x51, SIMD_NP, CPU_SSE, CPU_AVX, CPU_AVX, MEM_VL, FP),
    ROW(MAP_0F, 0x51, SIMD_66, CPU_SSE2, CPU_AVX, CPU_AVX, MEM_VL, FP),
    ROW(MAP_0F, 0x51, SIMD_F3, CPU_SSE, CPU_AVX, CPU_AVX, MEM_4, NDS | LIG | FP),
    ROW(MAP_0F, 0x51, SIMD_F2, CPU_SSE2, CPU_AVX, CPU_AVX, MEM_8, NDS | LIG | FP),
    ROW(MAP_0F, 0x52, SIMD_NP, CPU_SSE, CPU_AVX, CPU_AVX, MEM_VL, 0),
    ROW(MAP_0F, 0x52, SIMD_F3, CPU_SSE, CPU_AVX, CPU_AVX, MEM_4, NDS | LIG),
    ROW(MAP_0F, 0x53, SIMD_NP, CPU_SSE, CPU_AVX, CPU_AVX, MEM_VL, 0),
    ROW(MAP_0F, 0x53, SIMD_F3, CPU_SSE, CPU_AVX, CPU_AVX, MEM_4, NDS | LIG),
    PACKED(0x54, 0),
    PACKED(0x55, 0),
    PACKED(0x56, 0),
    PACKED(0x57, 0),
    ARITH(0x58, FP),
    ARITH(0x59, FP),
    ROW(MAP_0F, 0x5a, SIMD_NP, CPU_SSE2, CPU_AVX, CPU_AVX, MEM_VL2, FP),
    ROW(MAP_0F, 0x5a, SIMD_66, CPU_SSE2, CPU_AVX, CPU_AVX, MEM_VL, FP),
    ROW(MAP_0F, 0x5a, SIMD_F3, CPU_SSE2, CPU_AVX, CPU_AVX, MEM_4, NDS | LIG | FP),
    ROW(MAP_0F, 0x5a, SIMD_F2, CPU_SSE2, CPU_AVX, CPU_AVX, MEM_8, NDS | LIG | FP),
    ROW(MAP_0F, 0x5b, SIMD_NP, CPU_SSE2, CPU_AVX, CPU_AVX, MEM_VL, FP),
    ROW(MAP_0F, 0x5b, SIMD_66, CPU_SSE2, CPU_AVX, CPU_AVX, MEM_VL, FP),
    ROW(MAP_0F, 0x5b, SIMD_F3, CPU_SSE2, CPU_AVX, CPU_AVX, MEM_VL, FP),
    ARITH(0x5c, FP),
    ARITH(0x5d, FP),
    ARITH(0x5e, FP),
    ARITH(0x5f, FP),
    UNPACK_LOW(0x60),
    UNPACK_LOW(0x61),
    UNPACK_LOW(0x62),
    INTEGER(0x63, CPU_MMX),
    INTEGER(0x64, CPU_MMX),
    INTEGER(0x65, CPU_MMX),
    INTEGER(0x66, CPU_MMX),
    INTEGER(0x67, CPU_MMX),
    INTEGER(0x68, CPU_MMX),
    INTEGER(0x69, CPU_MMX),
    INTEGER(0x6a, CPU_MMX),
    INTEGER(0x6b, CPU_MMX),
    ROW(MAP_0F, 0x6c, SIMD_66, CPU_SSE2, CPU_AVX, CPU_AVX2, MEM_VL, NDS),
    ROW(MAP_0F, 0x6d, SIMD_66, CPU_SSE2, CPU_AVX, CPU_AVX2, MEM_VL, NDS),
    LOAD(0x6e, SIMD_NP, CPU_MMX, NO, NO, MEM_W, SIMD_REG_MM | SIMD_RM_GPR | SIMD_W),
    LOAD(0x6e, SIMD_66, CPU_SSE2, CPU_AVX, NO, MEM_W, SIMD_RM_GPR | SIMD_W),
    LOAD(0x6f, SIMD_NP, CPU_MMX, NO, NO, MEM_8, MM),
    LOAD(0x6f, SIMD_66, CPU_SSE2, CPU_AVX, CPU_AVX, MEM_VL, SIMD_ALIGNED_VEX),
    LOAD(0x6f, SIMD_F3, CPU_SSE2, CPU_AVX, CPU_AVX, MEM_VL, SIMD_UNALIGNED),
    ROW(MAP_0F, 0x70, SIMD_NP, CPU_SSE, NO, NO, MEM_8, MM | IMM),
    ROW(MAP_0F, 0x70, SIMD_66, CPU_SSE2, CPU_AVX, CPU_AVX2, MEM_VL, IMM),
    ROW(MAP_0F, 0x70, SIMD_F3, CPU_SSE2, CPU_AVX, CPU_AVX2, MEM_VL, IMM),
    ROW(MAP_0F, 0x70, SIMD_F2, CPU_SSE2, CPU_AVX, CPU_AVX2, MEM_VL, IMM),
    SHIFT_IMM_MM(0x71, 2),
    SHIFT_IMM_MM(0x71, 4),
    SHIFT_IMM_MM(0x71, 6),
    SHIFT_IMM_X(0x71, 2),
    SHIFT_IMM_X(0x71, 4),
    SHIFT_IMM_X(0x71, 6),
    SHIFT_IMM_MM(0x72, 2),
    SHIFT_IMM_MM(0x72, 4),
    SHIFT_IMM_MM(0x72, 6),
    SHIFT_IMM_X(0x72, 2),
    SHIFT_IMM_X(0x72, 4),
    SHIFT_IMM_X(0x72, 6),
    SHIFT_IMM_MM(0x73, 2),
    SHIFT_IMM_MM(0x73, 6),
    SHIFT_IMM_X(0x73, 2),
    SHIFT_IMM_X(0x73, 3),
    SHIFT_IMM_X(0x73, 6),
    SHIFT_IMM_X(0x73, 7),
    INTEGER(0x74, CPU_MMX),
    INTEGER(0x75, CPU_MMX),
    INTEGER(0x76, CPU_MMX),
    ROW(MAP_0F, 0x7c, SIMD_66, CPU_SSE3, CPU_AVX, CPU_AVX, MEM_VL, NDS | FP),
    ROW(MAP_0F, 0x7c, SIMD_F2, CPU_SSE3, CPU_AVX, CPU_AVX, MEM_VL, NDS | FP),
    ROW(MAP_0F, 0x7d, SIMD_66, CPU_SSE3, CPU_AVX, CPU_AVX, MEM_VL, NDS | FP),
    ROW(MAP_0F, 0x7d, SIMD_F2, CPU_SSE3, CPU_AVX, CPU_AVX, MEM_VL, NDS | FP),
    STORE(0x7e, SIMD_NP, CPU_MMX, NO, NO, MEM_W, SIMD_REG_MM | SIMD_RM_GPR | SIMD_W),
    STORE(0x7e, SIMD_66, CPU_SSE2, CPU_AVX, NO, MEM_W, SIMD_RM_GPR | SIMD_W),
    LOAD(0x7e, SIMD_F3, CPU_SSE2, CPU_AVX, NO, MEM_8, 0),
    STORE(0x7f, SIMD_NP, CPU_MMX, NO, NO, MEM_8, MM),
    STORE(0x7f, SIMD_66, CPU_SSE2, CPU_AVX, CPU_AVX, MEM_VL, SIMD_ALIGNED_VEX),
    STORE(0x7f, SIMD_F3, CPU_SSE2, CPU_AVX, CPU_AVX, MEM_VL, SIMD_UNALIGNED),
    ARITH(0xc2, FP | IMM),
    ROW(MAP_0F, 0xc4, SIMD_NP, CPU_SSE, NO, NO, MEM_2, SIMD_REG_MM | SIMD_RM_GPR | IMM),
    ROW(MAP_0F, 0xc4, SIMD_66, CPU_SSE2, CPU_AVX, NO, MEM_2, NDS | SIMD_RM_GPR | IMM),
    ROW(MAP_0F, 0xc5, SIMD_NP, CPU_SSE, NO, NO, MEM_NONE, SIMD_REG_GPR | SIMD_RM_MM | IMM),
    ROW(MAP_0F, 0xc5, SIMD_66, CPU_SSE2, CPU_AVX, NO, MEM_NONE, SIMD_REG_GPR | IMM),
    PACKED(0xc6, IMM),
    ROW(MAP_0F, 0xd0, SIMD_66, CPU_SSE3, CPU_AVX, CPU_AVX, MEM_VL, NDS | FP),
    ROW(MAP_0F, 0xd0, SIMD_F2, CPU_SSE3, CPU_AVX, CPU_AVX, MEM_VL, NDS | FP),
    SHIFT(0xd1),
    SHIFT(0xd2),
    SHIFT(0xd3),
    INTEGER(0xd4, CPU_SSE2),
    INTEGER(0xd5, CPU_MMX),
    STORE(0xd6, SIMD_66, CPU_SSE2, CPU_AVX, NO, MEM_8, 0),
    ROW(MAP_0F, 0xd6, SIMD_F3, CPU_SSE2, NO, NO, MEM_NONE, SIMD_RM_MM),
    ROW(MAP_0F, 0xd6, SIMD_F2, CPU_SSE2, NO, NO, MEM_NONE, SIMD_REG_MM),
    ROW(MAP_0F, 0xd7, SIMD_NP, CPU_SSE, NO, NO, MEM_NONE, SIMD_REG_GPR | SIMD_RM_MM),
    ROW(MAP_0F, 0xd7, SIMD_66, CPU_SSE2, CPU_AVX, CPU_AVX2, MEM_NONE, SIMD_REG_GPR),
    INTEGER(0xd8, CPU_MMX),
    INTEGER(0xd9, CPU_MMX),
    INTEGER(0xda, CPU_SSE),
    INTEGER(0xdb, CPU_MMX),
    INTEGER(0xdc, CPU_MMX),
    INTEGER(0xdd, CPU_MMX),
    INTEGER(0xde, CPU_SSE),
    INTEGER(0xdf, CPU_MMX),
    INTEGER(0xe0, CPU_SSE),
    SHIFT(0xe1),
    SHIFT(0xe2),
    INTEGER(0xe3, CPU_SSE),
    INTEGER(0xe4, CPU_SSE),
    INTEGER(0xe5, CPU_MMX),
    ROW(MAP_0F, 0xe6, SIMD_66, CPU_SSE2, CPU_AVX, CPU_AVX, MEM_VL, FP),
    ROW(MAP_0F, 0xe6, SIMD_F3, CPU_SSE2, CPU_AVX, CPU_AVX, MEM_VL2, 0),
    ROW(MAP_0F, 0xe6, SIMD_F2, CPU_SSE2, CPU_AVX, CPU_AVX, MEM_VL, FP),
    STORE(0xe7, SIMD_NP, CPU_SSE, NO, NO, MEM_8, MM | SIMD_MEM_ONLY),
    STORE(0xe7, SIMD_66, CPU_SSE2, CPU_AVX, CPU_AVX, MEM_VL, SIMD_ALIGNED_VEX | SIMD_MEM_ONLY),
    INTEGER(0xe8, CPU_MMX),
    INTEGER(0xe9, CPU_MMX),
    INTEGER(0xea, CPU_SSE),
    INTEGER(0xeb, CPU_MMX),
    INTEGER(0xec, CPU_MMX),
    INTEGER(0xed, CPU_MMX),
    INTEGER(0xee, CPU_SSE),
    INTEGER(0xef, CPU_MMX),
    LOAD(0xf0, SIMD_F2, CPU_SSE3, CPU_AVX, CPU_AVX, MEM_VL, SIMD_UNALIGNED | SIMD_MEM_ONLY),
    SHIFT(0xf1),
    SHIFT(0xf2),
    SHIFT(0xf3),
    INTEGER(0xf4, CPU_SSE2),
    INTEGER(0xf5, CPU_MMX),
    INTEGER(0xf6, CPU_SSE),
    CROW(MAP_0F, 0xf7, SIMD_NP, CPU_SSE, NO, NO, MEM_NONE, SPECIAL_MASKMOV_IMPLICIT,
         MM | SIMD_NO_DEST),
    CROW(MAP_0F, 0xf7, SIMD_66, CPU_SSE2, CPU_AVX, NO, MEM_NONE, SPECIAL_MASKMOV_IMPLICIT,
         SIMD_NO_DEST),
    INTEGER(0xf8, CPU_MMX),
    INTEGER(0xf9, CPU_MMX),
    INTEGER(0xfa, CPU_MMX),
    INTEGER(0xfb, CPU_SSE2),
    INTEGER(0xfc, CPU_MMX),
    INTEGER(0xfd, CPU_MMX),
    INTEGER(0xfe, CPU_MMX),

    SSSE3(0x00, NDS),
    SSSE3(0x01, NDS),
    SSSE3(0x02, NDS),
    SSSE3(0x03, NDS),
    SSSE3(0x04, NDS),
    SSSE3(0x05, NDS),
    SSSE3(0x06, NDS),
    SSSE3(0x07, NDS),
    SSSE3(0x08, NDS),
    SSSE3(0x09, NDS),
    SSSE3(0x0a, NDS),
    SSSE3(0x0b, NDS),
    AVX38(0x0c, CPU_AVX, CPU_AVX, MEM_VL, NDS | W0),
    AVX38(0x0d, CPU_AVX, CPU_AVX, MEM_VL, NDS | W0),
    AVX38(0x0e, CPU_AVX, CPU_AVX, MEM_VL, SIMD_NO_DEST | SIMD_EFLAGS | W0),
    AVX38(0x0f, CPU_AVX, CPU_AVX, MEM_VL, SIMD_NO_DEST | SIMD_EFLAGS | W0),
    ROW(MAP_0F38, 0x10, SIMD_66, CPU_SSE41, NO, NO, MEM_16, SIMD_XMM0),
    AVX38(0x13, CPU_F16C, CPU_F16C, MEM_VL2, FP | W0),
    ROW(MAP_0F38, 0x14, SIMD_66, CPU_SSE41, NO, NO, MEM_16, SIMD_XMM0),
    ROW(MAP_0F38, 0x15, SIMD_66, CPU_SSE41, NO, NO, MEM_16, SIMD_XMM0),
    AVX38(0x16, NO, CPU_AVX2, MEM_VL, NDS | W0),
    ROW(MAP_0F38, 0x17, SIMD_66, CPU_SSE41, CPU_AVX, CPU_AVX, MEM_VL, SIMD_NO_DEST | SIMD_EFLAGS),
    AVX38(0x18, CPU_AVX, CPU_AVX, MEM_4, W0 | SIMD_MEM_ONLY),
    AVX38(0x18, CPU_AVX2, CPU_AVX2, MEM_NONE, W0),
    AVX38(0x19, NO, CPU_AVX, MEM_8, W0 | SIMD_MEM_ONLY),
    AVX38(0x19, NO, CPU_AVX2, MEM_NONE, W0),
    AVX38(0x1a, NO, CPU_AVX, MEM_16, W0 | SIMD_MEM_ONLY),
    SSSE3(0x1c, 0),
    SSSE3(0x1d, 0),
    SSSE3(0x1e, 0),
    EXTEND(0x20, MEM_VL2),
    EXTEND(0x21, MEM_VL4),
    EXTEND(0x22, MEM_VL8),
    EXTEND(0x23, MEM_VL2),
    EXTEND(0x24, MEM_VL4),
    EXTEND(0x25, MEM_VL2),
    SSE41(0x28, NDS),
    SSE41(0x29, NDS),
    SSE41(0x2a, SIMD_MEM_ONLY | SIMD_ALIGNED_VEX),
    SSE41(0x2b, NDS),
    CROW(MAP_0F38, 0x2c, SIMD_66, NO, CPU_AVX, CPU_AVX, MEM_VL, SPECIAL_MASK_LOAD,
         NDS | W0 | SIMD_MEM_ONLY),
    CROW(MAP_0F38, 0x2d, SIMD_66, NO, CPU_AVX, CPU_AVX, MEM_VL, SPECIAL_MASK_LOAD,
         NDS | W0 | SIMD_MEM_ONLY),
    CROW(MAP_0F38, 0x2e, SIMD_66, NO, CPU_AVX, CPU_AVX, MEM_VL, SPECIAL_MASK_STORE,
         NDS | W0 | SIMD_MEM_ONLY),
    CROW(MAP_0F38, 0x2f, SIMD_66, NO, CPU_AVX, CPU_AVX, MEM_VL, SPECIAL_MASK_STORE,
         NDS | W0 | SIMD_MEM_ONLY),
    EXTEND(0x30, MEM_VL2),
    EXTEND(0x31, MEM_VL4),
    EXTEND(0x32, MEM_VL8),
    EXTEND(0x33, MEM_VL2),
    EXTEND(0x34, MEM_VL4),
    EXTEND(0x35, MEM_VL2),
    AVX38(0x36, NO, CPU_AVX2, MEM_VL, NDS | W0),
    ROW(MAP_0F38, 0x37, SIMD_66, CPU_SSE42, CPU_AVX, CPU_AVX2, MEM_VL, NDS),
    SSE41(0x38, NDS),
    SSE41(0x39, NDS),
    SSE41(0x3a, NDS),
    SSE41(0x3b, NDS),
    SSE41(0x3c, NDS),
    SSE41(0x3d, NDS),
    SSE41(0x3e, NDS),
    SSE41(0x3f, NDS),
    SSE41(0x40, NDS),
    ROW(MAP_0F38, 0x41, SIMD_66, CPU_SSE41, CPU_AVX, NO, MEM_VL, 0),
    AVX38(0x45, CPU_AVX2, CPU_AVX2, MEM_VL, NDS | SIMD_WVEX),
    AVX38(0x46, CPU_AVX2, CPU_AVX2, MEM_VL, NDS | W0),
    AVX38(0x47, CPU_AVX2, CPU_AVX2, MEM_VL, NDS | SIMD_WVEX),
    AVX38(0x58, CPU_AVX2, CPU_AVX2, MEM_4, W0),
    AVX38(0x59, CPU_AVX2, CPU_AVX2, MEM_8, W0),
    AVX38(0x5a, NO, CPU_AVX2, MEM_16, W0 | SIMD_MEM_ONLY),
    AVX38(0x78, CPU_AVX2, CPU_AVX2, MEM_1, W0),
    AVX38(0x79, CPU_AVX2, CPU_AVX2, MEM_2, W0),
    CROW(MAP_0F38, 0x8c, SIMD_66, NO, CPU_AVX2, CPU_AVX2, MEM_VL, SPECIAL_MASK_LOAD,
         NDS | SIMD_WVEX | SIMD_MEM_ONLY),
    CROW(MAP_0F38, 0x8e, SIMD_66, NO, CPU_AVX2, CPU_AVX2, MEM_VL, SPECIAL_MASK_STORE,
         NDS | SIMD_WVEX | SIMD_MEM_ONLY),
#define GATHER(op)                                                             \
    CROW(MAP_0F38, op, SIMD_66, NO, CPU_AVX2, CPU_AVX2, MEM_W, SPECIAL_GATHER, \
         NDS | SIMD_WVEX | SIMD_MEM_ONLY)
    GATHER(0x90),
    GATHER(0x91),
    GATHER(0x92),
    GATHER(0x93),
    FMA_GROUP(0x90),
    FMA_GROUP(0xa0),
    FMA_GROUP(0xb0),
    SHA(0xc8, 0),
    SHA(0xc9, 0),
    SHA(0xca, 0),
    SHA(0xcb, SIMD_XMM0),
    SHA(0xcc, 0),
    SHA(0xcd, 0),
    ROW(MAP_0F38, 0xcf, SIMD_66, CPU_GFNI, CPU_GFNI, CPU_GFNI, MEM_VL, NDS | W0),
    ROW(MAP_0F38, 0xdb, SIMD_66, CPU_AES, CPU_AES, NO, MEM_VL, 0),
    ROW(MAP_0F38, 0xdc, SIMD_66, CPU_AES, CPU_AES, CPU_VAES, MEM_VL, NDS),
    ROW(MAP_0F38, 0xdd, SIMD_66, CPU_AES, CPU_AES, CPU_VAES, MEM_VL, NDS),
    ROW(MAP_0F38, 0xde, SIMD_66, CPU_AES, CPU_AES, CPU_VAES, MEM_VL, NDS),
    ROW(MAP_0F38, 0xdf, SIMD_66, CPU_AES, CPU_AES, CPU_VAES, MEM_VL, NDS),

    AVX3A(0x00, NO, CPU_AVX2, MEM_VL, SIMD_W1),
    AVX3A(0x01, NO, CPU_AVX2, MEM_VL, SIMD_W1),
    AVX3A(0x02, CPU_AVX2, CPU_AVX2, MEM_VL, NDS | W0),
    AVX3A(0x04, CPU_AVX, CPU_AVX, MEM_VL, W0),
    AVX3A(0x05, CPU_AVX, CPU_AVX, MEM_VL, W0),
    AVX3A(0x06, NO, CPU_AVX, MEM_VL, NDS | W0),
    SSE3A(0x08, CPU_AVX, CPU_AVX, MEM_VL, FP),
    SSE3A(0x09, CPU_AVX, CPU_AVX, MEM_VL, FP),
    SSE3A(0x0a, CPU_AVX, CPU_AVX, MEM_4, NDS | FP | LIG),
    SSE3A(0x0b, CPU_AVX, CPU_AVX, MEM_8, NDS | FP | LIG),
    SSE3A(0x0c, CPU_AVX, CPU_AVX, MEM_VL, NDS),
    SSE3A(0x0d, CPU_AVX, CPU_AVX, MEM_VL, NDS),
    SSE3A(0x0e, CPU_AVX, CPU_AVX2, MEM_VL, NDS),
    ROW(MAP_0F3A, 0x0f, SIMD_NP, CPU_SSSE3, NO, NO, MEM_8, MM | IMM),
    ROW(MAP_0F3A, 0x0f, SIMD_66, CPU_SSSE3, CPU_AVX, CPU_AVX2, MEM_VL, NDS | IMM),
    SSE3A(0x14, CPU_AVX, NO, MEM_1, SIMD_STORE | SIMD_RM_GPR),
    SSE3A(0x15, CPU_AVX, NO, MEM_2, SIMD_STORE | SIMD_RM_GPR),
    SSE3A(0x16, CPU_AVX, NO, MEM_W, SIMD_STORE | SIMD_RM_GPR | SIMD_W),
    SSE3A(0x17, CPU_AVX, NO, MEM_4, SIMD_STORE | SIMD_RM_GPR),
    AVX3A(0x18, NO, CPU_AVX, MEM_16, NDS | W0),
    AVX3A(0x19, NO, CPU_AVX, MEM_16, SIMD_STORE | W0),
    AVX3A(0x1d, CPU_F16C, CPU_F16C, MEM_VL2, SIMD_STORE | FP | W0),
    SSE3A(0x20, CPU_AVX, NO, MEM_1, NDS | SIMD_RM_GPR),
    SSE3A(0x21, CPU_AVX, NO, MEM_4, NDS),
    SSE3A(0x22, CPU_AVX, NO, MEM_W, NDS | SIMD_RM_GPR | SIMD_W),
    AVX3A(0x38, NO, CPU_AVX2, MEM_16, NDS | W0),
    AVX3A(0x39, NO, CPU_AVX2, MEM_16, SIMD_STORE | W0),
    SSE3A(0x40, CPU_AVX, CPU_AVX, MEM_VL, NDS | FP),
    SSE3A(0x41, CPU_AVX, NO, MEM_VL, NDS | FP),
    SSE3A(0x42, CPU_AVX, CPU_AVX2, MEM_VL, NDS),
    ROW(MAP_0F3A, 0x44, SIMD_66, CPU_PCLMULQDQ, CPU_PCLMULQDQ, CPU_VPCLMULQDQ, MEM_VL, NDS | IMM),
    AVX3A(0x46, NO, CPU_AVX2, MEM_VL, NDS | W0),
    AVX3A(0x4a, CPU_AVX, CPU_AVX, MEM_VL, NDS | SIMD_IS4 | W0),
    AVX3A(0x4b, CPU_AVX, CPU_AVX, MEM_VL, NDS | SIMD_IS4 | W0),
    AVX3A(0x4c, CPU_AVX, CPU_AVX2, MEM_VL, NDS | SIMD_IS4 | W0),
    PCMPSTR(0x60),
    PCMPSTR(0x61),
    PCMPSTR(0x62),
    PCMPSTR(0x63),
    ROW(MAP_0F3A, 0xcc, SIMD_NP, CPU_SHA, NO, NO, MEM_16, IMM),
    ROW(MAP_0F3A, 0xce, SIMD_66, CPU_GFNI, CPU_GFNI, CPU_GFNI, MEM_VL, NDS | IMM | SIMD_W1),
    ROW(MAP_0F3A, 0xcf, SIMD_66, CPU_GFNI, CPU_GFNI, CPU_GFNI, MEM_VL, NDS | IMM | SIMD_W1),
    ROW(MAP_0F3A, 0xdf, SIMD_66, CPU_AES, CPU_AES, NO, MEM_VL, IMM),
};

const unsigned simd_row_count = G_N_ELEMENTS(simd_rows);

/* First row of each (map, opcode, prefix), plus one; made once from the table above. */
static uint16_t row_index[3][256][4];

static void row_index_fill(void)
{
    for (unsigned i = simd_row_count; i-- > 0;) {
        const SimdRow *row = &simd_rows[i];
        row_index[row->map - MAP_0F][row->opcode][row->prefix] = i + 1;
    }
}

static bool row_matches(const SimdRow *row, uint8_t modrm, bool vex, bool l, bool w)
{
    bool memory = modrm < 0xc0;
    if (row->ext != SIMD_NO_EXT && row->ext != (modrm >> 3 & 7))
        return false;
    if (memory ? row->memory == MEM_NONE : (row->flags & SIMD_MEM_ONLY) != 0)
        return false;
    if (!vex)
        return row->legacy != SIMD_NO;
    if (((row->flags & SIMD_W0) && w) || ((row->flags & SIMD_W1) && !w))
        return false;
    return (l && !(row->flags & SIMD_LIG) ? row->vex256 : row->vex128) != SIMD_NO;
}

const SimdRow *simd_find_row(OpcodeMap map, uint8_t opcode, unsigned prefix, uint8_t modrm,
                             bool vex, bool l, bool w)
{
    static gsize once;
    if (g_once_init_enter(&once)) {
        row_index_fill();
        g_once_init_leave(&once, 1);
    }
    if (map == MAP_ONE_BYTE)
        return NULL;
    unsigned first = row_index[map - MAP_0F][opcode][prefix];
    if (first == 0)
        return NULL;
    for (const SimdRow *row = &simd_rows[first - 1];
         row < simd_rows + simd_row_count && row->map == map && row->opcode == opcode &&
         row->prefix == prefix;
         row++)
        if (row_matches(row, modrm, vex, l, w))
            return row;
    return NULL;
}

unsigned simd_memory_size(const SimdRow *row, bool l, bool w)
{
    unsigned vector = l ? 32 : 16;
    switch ((SimdMemory)row->memory) {
    case MEM_NONE:
        return 0;
    case MEM_1:
        return 1;
    case MEM_2:
        return 2;
    case MEM_4:
        return 4;
    case MEM_8:
        return 8;
    case MEM_16:
        return 16;
    case MEM_32:
        return 32;
    case MEM_VL:
        return vector;
    case MEM_VL2:
        return vector / 2;
    case MEM_VL4:
        return vector / 4;
    case MEM_VL8:
        return vector / 8;
    case MEM_W:
        return w ? 8 : 4;
    case MEM_DUP:
        return l ? 32 : 8;
    }
    return 0;
}
