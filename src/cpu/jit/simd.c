/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * MMX, SSE and AVX instructions on the host's own registers: register n of the guest is register n
 * of the host. Upper halves of YMM are loaded for instructions with VEX only: those of SSE neither
 * need nor change them.
 */
#include "cpu/jit/translate.h"

#include "cpu/soft/simd_tables.h"

typedef struct Simd {
    const SimdRow *row;
    unsigned flags;
    bool vex, memory, store, w, l;
} Simd;

/* JIT_LIVE_* of its operands. What names MM registers switches the x87 to MMX, whatever its
 * operands. */
static unsigned needed(const Simd *s)
{
    bool mmx = s->flags & (SIMD_REG_MM | SIMD_RM_MM);
    bool reg_is_xmm = !(s->flags & (SIMD_REG_MM | SIMD_REG_GPR)) && s->row->ext == SIMD_NO_EXT;
    bool rm_is_xmm = !s->memory && !(s->flags & (SIMD_RM_MM | SIMD_RM_GPR));
    unsigned xmm = s->vex ? JIT_LIVE_XMM | JIT_LIVE_YMM : JIT_LIVE_XMM;
    return (mmx ? JIT_LIVE_X87 : 0) |
           (reg_is_xmm || rm_is_xmm || s->flags & SIMD_FP || s->vex ? xmm : 0);
}

static uint8_t immediate(const Translation *t)
{
    const Block *block = t->block;
    if (block->crossing) {
        uint64_t first = GUEST_PAGE_SIZE - (block->offset & (GUEST_PAGE_SIZE - 1));
        return block->second_ram->host[block->second_offset + block->bytes - first - 1];
    }
    return block->ram->host[block->offset + t->insn->rip_offset + t->insn->length - 1];
}

static void write_insn(Translation *t, const Simd *s, unsigned reg, Rm rm)
{
    static const uint32_t prefixes[] = {0, OP_66, OP_F3, OP_F2};
    const SimdRow *row = s->row;
    uint32_t word = row->opcode | (uint32_t)row->map << OP_MAP_SHIFT | prefixes[row->prefix] |
                    (s->w ? OP_W : 0);
    if (s->vex)
        emit_vex(&t->e, word, s->l, s->flags & (SIMD_NDS | SIMD_NDD) ? t->insn->vvvv : 0,
                 row->ext != SIMD_NO_EXT ? row->ext : reg, rm);
    else
        emit_op(&t->e, word, row->ext != SIMD_NO_EXT ? row->ext : reg, rm);
    unsigned above = s->flags & SIMD_IS4 && !t->mode64 ? 0x80 : 0; /* there is no register 8 */
    if (s->flags & SIMD_IMM)
        e8(&t->e, immediate(t) & ~above);
    if (s->flags & SIMD_EFLAGS)
        t->now.host_flags = true;
}

static bool can_translate(const Translation *t, const Simd *s, unsigned need)
{
    unsigned off = MODE_FPU_TRAP | (need & JIT_LIVE_YMM ? MODE_AVX_OFF : 0) |
                   (need & JIT_LIVE_XMM && !s->vex ? MODE_SSE_OFF : 0);
    bool moves = s->row->special == SPECIAL_NONE || s->row->special == SPECIAL_MOVE_LOAD ||
                 s->row->special == SPECIAL_MOVE_STORE;
    return !(t->block->mode & off) && moves && !(s->flags & SIMD_PCMPSTR);
}

/* VZEROUPPER, VZEROALL */
static bool translate_zero(Translation *t)
{
    if (t->block->mode & (MODE_FPU_TRAP | MODE_AVX_OFF) || (t->insn->rex & VEX_L && !t->mode64))
        return false; /* the upper eight are not the guest's to clear */
    fpu_need(t, JIT_LIVE_XMM | JIT_LIVE_YMM);
    e8(&t->e, 0xc5);
    e8(&t->e, t->insn->rex & VEX_L ? 0xfc : 0xf8);
    e8(&t->e, 0x77);
    return true;
}

static void translate_operands(Translation *t, const Simd *s)
{
    const Insn *insn = t->insn;
    unsigned reg = insn->reg, free = SCRATCH1;
    Rm rm;
    if (s->memory) {
        rm = access_operand(t, insn->imm >> 48 & 0xff, s->store, insn->imm >> 56, &free);
    } else if (s->flags & SIMD_RM_GPR) {
        unsigned host =
            s->store && guest_in_memory(insn->rm) ? SCRATCH1 : guest_read(t, insn->rm, SCRATCH1);
        rm = rm_reg(host);
        free = SCRATCH2;
    } else {
        rm = rm_reg(s->flags & SIMD_RM_MM ? insn->rm & 7 : insn->rm);
    }
    if (s->flags & SIMD_REG_GPR)
        reg = guest_in_memory(insn->reg) ? free : guest_host(insn->reg);
    else if (s->flags & SIMD_REG_MM)
        reg &= 7;
    write_insn(t, s, reg, rm);
    if (s->flags & SIMD_REG_GPR && !(s->flags & SIMD_NO_DEST))
        guest_written(t, insn->reg, reg);
    if (s->store && !s->memory && s->flags & SIMD_RM_GPR)
        guest_written(t, insn->rm, rm.base);
}

/* False: its handler must be called. */
static bool describe(const Translation *t, const Insn *insn, Simd *s)
{
    unsigned prefix = insn->prefixes & PREFIX_REPE     ? SIMD_F3
                      : insn->prefixes & PREFIX_REPNE  ? SIMD_F2
                      : insn->prefixes & PREFIX_OPSIZE ? SIMD_66
                                                       : SIMD_NP;
    bool vex = insn->prefixes & PREFIX_VEX, l = vex && insn->rex & VEX_L;
    *s = (Simd){.row = simd_find_row(insn->map, insn->opcode, prefix, insn->modrm, vex, l,
                                     insn->rex & REX_W),
                .vex = vex};
    if (!s->row)
        return false;
    s->flags = s->row->flags;
    s->memory = insn->flags & INSN_MEMORY;
    s->store = s->flags & SIMD_STORE;
    s->l = l && !(s->flags & SIMD_LIG);
    s->w = insn->rex & REX_W &&
           ((s->flags & SIMD_W && t->mode64) || (vex && s->flags & (SIMD_WVEX | SIMD_W1)));
    return can_translate(t, s, needed(s));
}

static bool is_zero_all(const Insn *insn)
{
    return insn->prefixes & PREFIX_VEX && insn->map == MAP_0F && insn->opcode == 0x77;
}

unsigned simd_fpu_bits(const Translation *t, const Insn *insn)
{
    Simd s;
    return !is_zero_all(insn) && describe(t, insn, &s) ? needed(&s) : 0;
}

bool translate_simd(Translation *t)
{
    Simd s;
    if (is_zero_all(t->insn))
        return translate_zero(t);
    if (!describe(t, t->insn, &s))
        return false;
    fpu_need(t, needed(&s));
    translate_operands(t, &s);
    return true;
}
