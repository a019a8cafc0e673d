/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See emit.h. Encoding: SDM 2A chapter 2. */
#include "cpu/jit/emit.h"

static void emit_modrm(Emit *e, unsigned reg, Rm rm)
{
    reg = (reg & 7) << 3;
    if (rm.kind == RM_REG) {
        e8(e, 0xc0 | reg | (rm.base & 7));
        return;
    }
    if (rm.base == HOST_NONE) { /* disp32 without base: SIB */
        e8(e, reg | 4);
        e8(e, rm.index == HOST_NONE ? 0x25 : rm.scale << 6 | (rm.index & 7) << 3 | 5);
        e32(e, rm.disp);
        return;
    }
    bool sib = rm.index != HOST_NONE || (rm.base & 7) == 4;
    unsigned mod = rm.disp == 0 && (rm.base & 7) != 5 ? 0
                   : rm.disp == (int8_t)rm.disp       ? 0x40
                                                      : 0x80;
    e8(e, mod | reg | (sib ? 4 : rm.base & 7));
    if (sib)
        e8(e, rm.scale << 6 | (rm.index == HOST_NONE ? 4 : rm.index & 7) << 3 | (rm.base & 7));
    if (mod == 0x40)
        e8(e, rm.disp);
    else if (mod == 0x80)
        e32(e, rm.disp);
}

static unsigned rex_bits(uint32_t op, unsigned reg, Rm rm)
{
    unsigned rex = op & OP_W ? 8 : 0;
    rex |= reg & 8 ? 4 : 0;
    rex |= rm.base != HOST_NONE && rm.base & 8 ? 1 : 0;
    rex |= rm.kind != RM_REG && rm.index != HOST_NONE && rm.index & 8 ? 2 : 0;
    return rex;
}

static bool low_byte_needs_rex(unsigned reg)
{
    return reg >= 4 && reg < 8;
}

static bool needs_rex(uint32_t op, unsigned reg, Rm rm)
{
    return rex_bits(op, reg, rm) || (op & OP_REG8 && low_byte_needs_rex(reg)) ||
           (op & OP_RM8 && rm.kind == RM_REG && low_byte_needs_rex(rm.base));
}

bool emit_possible(uint32_t op, unsigned reg, Rm rm)
{
    bool high = (op & OP_REG8 && reg != HOST_NONE && reg >= HOST_HIGH) ||
                (op & OP_RM8 && rm.kind == RM_REG && rm.base >= HOST_HIGH);
    return !high || !needs_rex(op, reg, rm);
}

void emit_op(Emit *e, uint32_t op, unsigned reg, Rm rm)
{
    unsigned map = op >> OP_MAP_SHIFT & 3;
    if (op & OP_LOCK)
        e8(e, 0xf0);
    if (op & OP_66)
        e8(e, 0x66);
    if (op & OP_F3)
        e8(e, 0xf3);
    if (op & OP_F2)
        e8(e, 0xf2);
    if (needs_rex(op, reg, rm))
        e8(e, 0x40 | rex_bits(op, reg, rm));
    if (map)
        e8(e, 0x0f);
    if (map > 1)
        e8(e, map == 2 ? 0x38 : 0x3a);
    e8(e, op);
    emit_modrm(e, reg, rm);
}

void emit_vex(Emit *e, uint32_t op, bool l, unsigned vvvv, unsigned reg, Rm rm)
{
    unsigned rex = rex_bits(op & ~OP_W, reg, rm);
    unsigned pp = op & OP_66 ? 1 : op & OP_F3 ? 2 : op & OP_F2 ? 3 : 0;
    e8(e, 0xc4);
    e8(e, (~rex & 7) << 5 | (op >> OP_MAP_SHIFT & 3));
    e8(e, (op & OP_W ? 0x80 : 0) | (~vvvv & 15) << 3 | l << 2 | pp);
    e8(e, op);
    emit_modrm(e, reg, rm);
}

void emit_constant(Emit *e, unsigned reg, uint64_t value)
{
    if (value == (uint32_t)value) {
        if (reg & 8)
            e8(e, 0x41);
        e8(e, 0xb8 | (reg & 7));
        e32(e, value);
    } else if ((int64_t)value == (int32_t)value) {
        emit_op(e, 0xc7 | OP_W, 0, rm_reg(reg));
        e32(e, value);
    } else {
        e8(e, 0x48 | (reg & 8 ? 1 : 0));
        e8(e, 0xb8 | (reg & 7));
        e64(e, value);
    }
}

void emit_patch(const Emit *e, uint8_t *site, const uint8_t *target)
{
    int32_t relative = (int32_t)(target - (site + e->run + 4));
    memcpy(site, &relative, 4);
}

static uint8_t *emit_relative(Emit *e, const uint8_t *target)
{
    uint8_t *site = e->p;
    e32(e, 0);
    if (target)
        emit_patch(e, site, target);
    return site;
}

uint8_t *emit_jump(Emit *e, const uint8_t *target)
{
    e8(e, 0xe9);
    return emit_relative(e, target);
}

uint8_t *emit_call(Emit *e, const uint8_t *target)
{
    e8(e, 0xe8);
    return emit_relative(e, target);
}

uint8_t *emit_jcc(Emit *e, unsigned condition, const uint8_t *target)
{
    e8(e, 0x0f);
    e8(e, 0x80 | condition);
    return emit_relative(e, target);
}
