/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The decoder: bytes → Insn, for 16-, 32- and 64-bit code (SDM 2, chapters 2 and appendix A).
 *
 * decode_tables.c holds a row for every opcode; decode.c knows prefixes, ModRM and immediates. What
 * is no valid instruction decodes to a handler that raises #UD (or #GP beyond 15 bytes), so that it
 * faults when it is reached and not before. Pure functions; any thread.
 */
#pragma once

#include "cpu/cpuid.h"
#include "cpu/soft/ops.h"

#define INSN_MAX_BYTES 15

typedef struct Opcode Opcode;
typedef struct Decoder Decoder;

struct Opcode {
    const OpForms *forms;                      /* by size and operand form, or */
    InsnFn fn;                                 /* one handler, or */
    const Opcode *group;                       /* 8 rows by ModRM.reg, or */
    const Opcode *(*resolve)(const Decoder *); /* whatever else decides */
    uint32_t attributes;                       /* OPCODE_*; a group's row adds to its parent's */
    uint16_t feature;                          /* CpuFeature + 1 that it needs, or 0 */
};

enum {
    OPCODE_MODRM = 1 << 0,
    OPCODE_BYTE = 1 << 1,  /* 1-byte operands */
    OPCODE_D64 = 1 << 2,   /* 64-bit mode: 8 bytes, or 2 with prefix 66 */
    OPCODE_F64 = 1 << 3,   /* 64-bit mode: 8 bytes always */
    OPCODE_NOT64 = 1 << 4, /* #UD in 64-bit mode */
    OPCODE_ONLY64 = 1 << 5,
    OPCODE_ENDS = 1 << 6,               /* ends a block */
    OPCODE_IN_OPCODE = 1 << 7,          /* rm: low 3 bits of the opcode */
    OPCODE_MEMORY = 1 << 8,             /* only memory operands */
    OPCODE_REGISTER = 1 << 9,           /* only registers */
    OPCODE_MOD_IGNORED = 1 << 10,       /* a register whatever mod says (MOV CR, DR) */
    OPCODE_RM8 = 1 << 11,               /* rm is a byte register though the operand is not */
    OPCODE_SWAP = 1 << 12,              /* G,E: the register form has its operands swapped */
    OPCODE_ACCUMULATOR = 1 << 13,       /* rm: AL, AX, EAX, RAX */
    OPCODE_STACK = 1 << 14,             /* SS is accessed */
    OPCODE_SOURCE = 1 << 15,            /* [segment:rSI] or the like is accessed */
    OPCODE_TARGET = 1 << 16,            /* ES:[rDI] is accessed */
    OPCODE_NO_W = 1 << 17,              /* at most 4 bytes */
    OPCODE_ONE = 1 << 18,               /* imm: 1 */
    OPCODE_SIMD = 1 << 19,              /* simd_select() decides */
    OPCODE_X87 = 1 << 20,               /* x87_select() does */
    OPCODE_SEGMENT_REG = 1 << 21,       /* ModRM.reg is a segment register */
    OPCODE_SEGMENT_IN_OPCODE = 1 << 22, /* reg: bits 5:3 of the opcode are a segment register */
    OPCODE_VVVV = 1 << 24,              /* VEX.vvvv is an operand (else it must be 1111) */
    OPCODE_PROTECTED = 1 << 25,         /* #UD in real and virtual-8086 mode */

    OPCODE_IMM_SHIFT = 28,
    IMM_BYTE = 1u << OPCODE_IMM_SHIFT,   /* zero-extended */
    IMM_SIGNED = 2u << OPCODE_IMM_SHIFT, /* a byte, sign-extended */
    IMM_Z = 3u << OPCODE_IMM_SHIFT,      /* 2 or 4 bytes by operand size, sign-extended */
    IMM_V = 4u << OPCODE_IMM_SHIFT,      /* the operand size's bytes */
    IMM_WORD = 5u << OPCODE_IMM_SHIFT,   /* 2 bytes, zero-extended */
    IMM_ENTER = 6u << OPCODE_IMM_SHIFT,  /* 2 bytes and 1: size | level << 16 */
    IMM_FAR = 7u << OPCODE_IMM_SHIFT,    /* offset | selector << 32 */
    IMM_REL8 = 8u << OPCODE_IMM_SHIFT,   /* becomes: target - RIP of the block */
    IMM_RELZ = 9u << OPCODE_IMM_SHIFT,
    IMM_OFFSET = 10u << OPCODE_IMM_SHIFT, /* by address size */
    OPCODE_IMM_MASK = 15u << OPCODE_IMM_SHIFT,
};

/* What rows that resolve themselves look at. */
struct Decoder {
    const uint8_t *bytes;
    unsigned position, available;
    bool short_of_bytes; /* more than `available` are needed */
    uint32_t mode;       /* SoftCpu.mode */
    const CpuModel *model;
    int segment_override; /* SEG_*, or -1 */
    Insn *insn;
};

extern const Opcode opcode_one_byte[256], opcode_0f[256];
/* Rows of maps 0F38 and 0F3A, and of VEX-coded general register instructions; NULL:
 * simd_select()'s. */
const Opcode *opcode_0f38(const Decoder *decoder);
const Opcode *opcode_vex(const Decoder *decoder);

/*
 * Decodes one instruction of code in `mode` (SoftCpu.mode). insn->rip_offset must be set. Direct
 * branches, and only they, have addr_mask 0 (ops_branch.c says what else they hold). False: the
 * instruction goes on behind the `available` bytes (never said when 15 are there).
 */
bool decode_insn(const CpuModel *model, uint32_t mode, const uint8_t *bytes, unsigned available,
                 Insn *insn);

/* #GP(0): more than 15 bytes. */
void op_too_long(SoftCpu *cpu, const Insn *insn);
