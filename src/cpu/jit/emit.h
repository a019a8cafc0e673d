/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Writing x86-64 instructions. An instruction is an opcode word (OP_* below), a register and an
 * operand (Rm). No thread of its own; the caller sees to the room.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum {
    HOST_RAX,
    HOST_RCX,
    HOST_RDX,
    HOST_RBX,
    HOST_RSP,
    HOST_RBP,
    HOST_RSI,
    HOST_RDI,
    HOST_R8,
    HOST_R9,
    HOST_R10,
    HOST_R11,
    HOST_R12,
    HOST_R13,
    HOST_R14,
    HOST_R15
};
#define HOST_NONE 0xff
#define HOST_HIGH 16 /* added to 4 to 7: AH, CH, DH, BH */

typedef struct Emit {
    uint8_t *p;
    intptr_t run; /* executed address - written address */
} Emit;

typedef enum RmKind { RM_REG, RM_MEM } RmKind;
typedef struct Rm {
    uint8_t kind, base, index, scale;
    int32_t disp;
} Rm;

enum {                   /* opcode words */
       OP_MAP_SHIFT = 8, /* OpcodeMap */
       OP_66 = 1 << 10,
       OP_F3 = 1 << 11,
       OP_F2 = 1 << 12,
       OP_W = 1 << 13,
       OP_LOCK = 1 << 14,
       OP_REG8 = 1 << 15,
       OP_RM8 = 1 << 16, /* byte registers: numbers 4 to 7 need REX */
};
#define OP_0F (1 << OP_MAP_SHIFT)

static inline void e8(Emit *e, unsigned byte)
{
    *e->p++ = byte;
}
static inline void e32(Emit *e, uint32_t value)
{
    memcpy(e->p, &value, 4);
    e->p += 4;
}
static inline void e64(Emit *e, uint64_t value)
{
    memcpy(e->p, &value, 8);
    e->p += 8;
}
static inline uint8_t *emit_here(const Emit *e)
{
    return e->p + e->run;
}
static inline Rm rm_reg(unsigned reg)
{
    return (Rm){.kind = RM_REG, .base = reg};
}
static inline Rm rm_mem(unsigned base, int32_t disp)
{
    return (Rm){.kind = RM_MEM, .base = base, .index = HOST_NONE, .disp = disp};
}

void emit_op(Emit *e, uint32_t op, unsigned reg, Rm rm);
/* `op`: opcode, map, OP_66/F3/F2 and OP_W as the VEX prefix has them. */
void emit_vex(Emit *e, uint32_t op, bool l, unsigned vvvv, unsigned reg, Rm rm);
/* Whether byte registers of both kinds stand together as they may. */
bool emit_possible(uint32_t op, unsigned reg, Rm rm);
/* Shortest move of a constant. */
void emit_constant(Emit *e, unsigned reg, uint64_t value);

static inline void emit_push(Emit *e, unsigned reg, bool pop)
{
    if (reg & 8)
        e8(e, 0x41);
    e8(e, (pop ? 0x58 : 0x50) | (reg & 7));
}
static inline void emit_load(Emit *e, unsigned reg, Rm rm)
{
    emit_op(e, 0x8b | OP_W, reg, rm);
}
static inline void emit_store(Emit *e, unsigned reg, Rm rm)
{
    emit_op(e, 0x89 | OP_W, reg, rm);
}
static inline void emit_move(Emit *e, unsigned to, unsigned from)
{
    emit_op(e, 0x89 | OP_W, from, rm_reg(to));
}
/* JMP, CALL and Jcc with rel32 to an executed address, NULL: to be patched. Return where the rel32
 * is, as written. */
uint8_t *emit_jump(Emit *e, const uint8_t *target);
uint8_t *emit_call(Emit *e, const uint8_t *target);
uint8_t *emit_jcc(Emit *e, unsigned condition, const uint8_t *target);
/* Lets the rel32 at `site` (as written) go to `target` (as executed). */
void emit_patch(const Emit *e, uint8_t *site, const uint8_t *target);

enum {
    CC_O,
    CC_NO,
    CC_B,
    CC_AE,
    CC_E,
    CC_NE,
    CC_BE,
    CC_A,
    CC_S,
    CC_NS,
    CC_P,
    CC_NP,
    CC_L,
    CC_GE,
    CC_LE,
    CC_G
};
