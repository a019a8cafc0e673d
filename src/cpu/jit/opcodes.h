/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the translator knows of each instruction: how it is translated, which operands and flags it
 * reads and writes. Pure functions; any thread.
 */
#pragma once

#include "cpu/soft/block.h"

typedef enum JitKind {
    JIT_CALL, /* its handler is called */
    JIT_COPY, /* same opcode, operands rewritten */
    JIT_NOTHING,
    JIT_PLAIN,       /* same opcode, without ModRM and operands in other than identical registers */
    JIT_ACCUMULATOR, /* accumulator, immediate */
    JIT_MOVE_IMM,
    JIT_MOVE_OFFSET, /* accumulator, memory named by the immediate */
    JIT_EXCHANGE,
    JIT_STEP /* INC, DEC in the opcode */,
    JIT_SWAP_BYTES,
    JIT_PUSH,
    JIT_PUSH_IMM,
    JIT_PUSH_MEM,
    JIT_POP,
    JIT_LEAVE,
    JIT_LEA,
    JIT_DIVIDE,
    JIT_DIVIDE_SIGNED,
    JIT_JCC,
    JIT_LOOP, /* JCXZ, too */
    JIT_JMP,
    JIT_CALL_REL,
    JIT_JMP_E,
    JIT_CALL_E,
    JIT_RET,
    JIT_SIMD,
    JIT_X87,
    JIT_BMI, /* VEX on general registers */
    JIT_FENCE,
    JIT_SYSTEM, /* from here on translate_system(); some at CPL 0 only */
    JIT_CLI = JIT_SYSTEM,
    JIT_STI,
    JIT_CLD,
    JIT_STD,
    JIT_PUSHF,
    JIT_STAC,
    JIT_CLAC,
    JIT_SWAPGS,
    JIT_RDTSC,
    JIT_READ_CR2,
    JIT_READ_CR3,
    JIT_READ_SEG,
    JIT_PUSH_SEG,
    JIT_LOAD_SEG,
    JIT_STRING, /* not repeated */
    JIT_REPEAT, /* REP MOVS and others */
    JIT_STMXCSR,
    JIT_FAR,
    JIT_SYSCALL,
    JIT_SYSRET,
    JIT_IRETQ,
} JitKind;

enum { ROLE_NONE, ROLE_READ = 1, ROLE_WRITE = 2, ROLE_BOTH = 3 };
enum {
    JIT_CF = 1,
    JIT_PF = 2,
    JIT_AF = 4,
    JIT_ZF = 8,
    JIT_SF = 16,
    JIT_OF = 32,
    JIT_ALL_FLAGS = 63
};

typedef struct JitOp {
    uint8_t kind;
    uint8_t rm, reg;              /* ROLE_*; reg NONE: ModRM.reg is part of the opcode */
    uint8_t imm;                  /* bytes of the immediate */
    uint8_t memory;               /* bytes of the memory operand if not op_size */
    uint8_t swap;                 /* the register form's operands are swapped (OPCODE_SWAP) */
    uint8_t byte;                 /* both operands are byte registers; 2: rm alone */
    uint8_t reads, writes, kills; /* flags read, perhaps changed, surely overwritten */
    uint8_t far;                  /* JIT_FAR_* */
} JitOp;

enum { JIT_FAR_JUMP, JIT_FAR_CALL, JIT_FAR_RETURN, JIT_FAR_INT, JIT_FAR_IRET };

/* Whether segments of code in the mode may have bases and limits. */
static inline bool jit_is_segmented(uint32_t mode)
{
    const uint32_t flat = MODE_PROTECTED | MODE_STACK32 | MODE_FLAT_DS | MODE_FLAT_ES |
                          MODE_FLAT_SS | MODE_PLAIN_SEGMENTS | MODE_CODE32;
    return !(mode & MODE_CODE64) && ((mode & flat) != flat || mode & MODE_VM86);
}

/* `mode` is the block's. */
JitOp jit_classify(uint32_t mode, const Insn *insn);
/* The general registers that it may write, as a set. */
unsigned jit_written(const Insn *insn, const JitOp *op);
/* Whether it adds a constant to a register of full width: *ret_reg and *ret_by. */
bool jit_is_step(uint32_t mode, const Insn *insn, const JitOp *op, unsigned *ret_reg,
                 int64_t *ret_by);
/* The segment register that MOV, POP, LES and the like load. */
unsigned jit_loaded_segment(const Insn *insn);
/* Whether an instruction that ends its block mostly goes on at the next one, in the same mode. */
bool jit_goes_on(const Insn *insn);
/* Flags read by a condition code. */
unsigned jit_condition_flags(unsigned condition);
