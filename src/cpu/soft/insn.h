/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A decoded instruction, as interpreter and translator see it.
 *
 * A block is an array of Insn that ends with a sentinel; each handler does its work and goes on to
 * the next by INSN_NEXT (a tail call), or, when it has changed RIP, mode or memory maps, by
 * INSN_END, which returns to the loop in interp.c. So no stack grows and no RIP is stored per
 * instruction: the RIP of an instruction is gpr[GPR_BLOCK_RIP] + rip_offset.
 *
 * Rules for handlers:
 * - No register, flag or memory is changed before the last possible fault of the instruction.
 * - A handler that can fault other than in a memory accessor starts with cpu->insn = insn
 * (INSN_PRECISE).
 * - One that calls code that reads or writes s.rip or whole RFLAGS, changes CS/CPL/CR/EFER or the
 * maps starts with INSN_LEAVE (s.rip = next instruction) and ends with INSN_END.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef struct SoftCpu SoftCpu;
typedef struct Insn Insn;
typedef void (*InsnFn)(SoftCpu *cpu, const Insn *insn);

enum { /* Insn.prefixes */
       PREFIX_LOCK = 1 << 0,
       PREFIX_REPE = 1 << 1,     /* F3, the last of F2/F3 counts */
       PREFIX_REPNE = 1 << 2,    /* F2 */
       PREFIX_OPSIZE = 1 << 3,   /* 66 */
       PREFIX_ADDRSIZE = 1 << 4, /* 67 */
       PREFIX_REX = 1 << 5,
       PREFIX_VEX = 1 << 6,
       PREFIX_SEGMENT = 1 << 7,
};

enum { /* Insn.rex, also filled from VEX */
       REX_B = 1,
       REX_X = 2,
       REX_R = 4,
       REX_W = 8,
       VEX_L = 16,
};

enum {                          /* Insn.flags */
       INSN_MEMORY = 1 << 0,    /* ModRM names memory */
       INSN_SEG_CHECK = 1 << 1, /* limits and types of the segment must be checked */
       INSN_ENDS_BLOCK = 1 << 2,
};

typedef enum OpcodeMap { MAP_ONE_BYTE, MAP_0F, MAP_0F38, MAP_0F3A } OpcodeMap;

struct Insn {
    InsnFn fn;
    uint64_t
        imm; /* sign- or zero-extended as the opcode wants; far pointers: offset | selector << 32 */
    uint64_t addr_mask; /* of the address size: 0xffff, 0xffffffff or all ones */
    int64_t disp; /* wider than the encoding: RIP-relative ones count from the block's start */
    uint8_t base, index, scale, segment; /* memory operand: GPR_* (absent: GPR_NONE), shift count,
                                          * SEG_* after overrides and defaults */
    uint8_t reg,
        rm; /* register numbers 0 to 15 with REX/VEX applied; for byte registers of the integer set
             * the BYTE OFFSET in gpr[] (number * 8, or number * 8 + 1 for AH, CH, DH, BH) */
    uint8_t vvvv;        /* VEX.vvvv, already inverted */
    uint8_t length;      /* bytes, 1 to 15 */
    uint16_t rip_offset; /* of the instruction from the block's start; RIP-relative operands have
                          * base GPR_BLOCK_RIP and a displacement from the block's start */
    uint8_t opcode;      /* last opcode byte */
    uint8_t map;         /* OpcodeMap */
    uint8_t modrm;
    uint8_t prefixes, rex, flags;
    uint8_t op_size;   /* bytes: 2, 4, 8 (1 for byte opcodes) */
    uint8_t addr_size; /* bytes: 2, 4, 8 */
    const void *data;  /* the handler family's own (SIMD: its stub) */
};

#define INSN_NEXT(cpu, insn) return (insn)[1].fn((cpu), (insn) + 1)
#define INSN_PRECISE(cpu, i) ((cpu)->insn = (i))
#define INSN_RIP(cpu, insn)  ((cpu)->s.gpr[GPR_BLOCK_RIP] + (insn)->rip_offset)
/* Commits RIP to the next instruction. The loop masks RIP by the mode on entry. */
#define INSN_LEAVE(cpu, insn) \
    ((cpu)->insn = (insn), (cpu)->s.rip = INSN_RIP(cpu, insn) + (insn)->length)
#define INSN_END(cpu) return

static inline unsigned insn_modrm_reg(const Insn *insn)
{
    return insn->modrm >> 3 & 7;
}
