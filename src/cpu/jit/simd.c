/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * SSE and AVX instructions on the host's own registers. XMM n of the guest is XMM n of the host
 * while it is loaded. The upper half of YMM n is kept track of by itself, and is loaded only
 * together with the lower: instructions of SSE neither need nor change it.
 */
#include "cpu/jit/translate.h"

#include "cpu/soft/simd_tables.h"

#define HIGH(n) (GS_CPU(s.fpu.ymm_high) + (n)*16)
#define LOW(n)  (GS_CPU(s.fpu.xmm) + (n)*16)
#define BIT(n)  (1u << (n))

/* ---- registers in and out
 * ------------------------------------------------------------------------- */

/* MOVUPS between a register and its place; with VEX among its like, because mixing costs. */
static void move_low(Translation *t, unsigned n, bool store)
{
    if (t->uses_avx)
        emit_vex(&t->e, (store ? 0x11 : 0x10) | OP_0F, false, 0, n, rm_gs(LOW(n)));
    else
        emit_op(&t->e, (store ? 0x11 : 0x10) | OP_0F, n, rm_gs(LOW(n)));
}

/* VINSERTF128 n, n, [place], 1; VEXTRACTF128 [place], n, 1 */
static void each_high(Translation *t, unsigned registers, bool store)
{
    for (; registers; registers &= registers - 1) {
        unsigned n = __builtin_ctz(registers);
        emit_vex(&t->e, (store ? 0x19 : 0x18) | OP_66 | 3 << OP_MAP_SHIFT, true, store ? 0 : n, n,
                 rm_gs(HIGH(n)));
        e8(&t->e, 1);
    }
}

static void each_low(Translation *t, unsigned registers, bool store)
{
    for (; registers; registers &= registers - 1)
        move_low(t, __builtin_ctz(registers), store);
}

void xmm_load(Translation *t, unsigned registers, unsigned high)
{
    each_low(t, registers & ~t->now.loaded, false);
    t->now.loaded |= registers;
    each_high(t, high & ~t->now.loaded_high, false);
    t->now.loaded_high |= high;
}

void xmm_store(Translation *t, const JitNow *now)
{
    each_low(t, now->dirty, true);
    each_high(t, now->dirty_high, true);
    if (now == &t->now)
        t->now.dirty = t->now.dirty_high = 0;
}

void xmm_reload(Translation *t, const JitNow *now)
{
    each_low(t, now->loaded, false);
    each_high(t, now->loaded_high, false);
}

void xmm_leave(Translation *t, const JitNow *now)
{
    if (now->loaded_high) /* vzeroupper */
        e8(&t->e, 0xc5), e8(&t->e, 0xf8), e8(&t->e, 0x77);
}

void translate_zero_upper(Translation *t)
{
    unsigned count = t->mode64 ? 16 : 8, free = ~t->now.loaded & 0xffff;
    if (!free) {
        call_handler_inline(t);
        return;
    }
    unsigned zero = __builtin_ctz(free);
    xmm_leave(t, &t->now);
    t->now.loaded_high = t->now.dirty_high = 0;
    emit_vex(&t->e, 0x57 | OP_0F, false, zero, zero, rm_reg(zero)); /* vxorps */
    for (unsigned n = 0; n < count; n++)
        emit_vex(&t->e, 0x11 | OP_0F, false, 0, zero, rm_gs(HIGH(n)));
}

/* ---- one instruction
 * ------------------------------------------------------------------------------ */

typedef struct Simd {
    const SimdRow *row;
    unsigned flags;
    bool vex, memory, store, w, l;
    unsigned reads, writes; /* XMM registers */
} Simd;

/* Instructions whose destination is not a source, too, as far as it matters. */
static bool only_writes(const Simd *s, const Insn *insn)
{
    if (s->row->special == SPECIAL_MOVE_LOAD)
        return s->memory || !(s->flags & SIMD_NDS);
    if (s->row->map == MAP_0F && insn->opcode == 0x70) /* PSHUFD, PSHUFLW, PSHUFHW */
        return true;
    if (s->vex) /* but FMA */
        return !(s->row->map == MAP_0F38 && insn->opcode >= 0x90 && insn->opcode <= 0xbf);
    bool clears = s->row->map == MAP_0F && (insn->opcode == 0x57 || insn->opcode == 0xef);
    return clears && !s->memory && insn->reg == insn->rm;
}

static void find_registers(Simd *s, const Insn *insn)
{
    bool reg_is_xmm = !(s->flags & SIMD_REG_GPR) && s->row->ext == SIMD_NO_EXT;
    bool rm_is_xmm = !s->memory && !(s->flags & SIMD_RM_GPR);
    if (s->flags & SIMD_NDD) {
        s->reads = BIT(insn->rm);
        s->writes = BIT(s->vex ? insn->vvvv : insn->rm);
        return;
    }
    if (s->store) {
        s->reads = reg_is_xmm ? BIT(insn->reg) : 0;
        if (s->vex && s->flags & SIMD_NDS && !s->memory)
            s->reads |= BIT(insn->vvvv);
        if (rm_is_xmm) {
            s->writes = BIT(insn->rm);
            if (!s->vex)
                s->reads |= BIT(insn->rm);
        }
        return;
    }
    s->reads = rm_is_xmm ? BIT(insn->rm) : 0;
    if (s->vex && s->flags & SIMD_NDS && !(s->row->special && s->memory))
        s->reads |= BIT(insn->vvvv);
    if (reg_is_xmm && !(s->flags & SIMD_NO_DEST))
        s->writes = BIT(insn->reg);
    if (reg_is_xmm && (s->flags & SIMD_NO_DEST || !only_writes(s, insn)))
        s->reads |= BIT(insn->reg);
    bool xor = s->row->map == MAP_0F && (insn->opcode == 0x57 || insn->opcode == 0xef);
    if (xor&&!s->memory && (s->vex ? insn->vvvv : insn->reg) == insn->rm)
        s->reads = 0; /* cleared */
    if (s->flags & SIMD_XMM0)
        s->reads |= BIT(0);
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
    if (s->flags & SIMD_IMM)
        e8(&t->e, immediate(t));
    if (s->flags & SIMD_EFLAGS)
        t->now.host_flags = true;
}

static bool can_translate(const Translation *t, const Simd *s)
{
    bool off = t->block->mode & (MODE_FPU_TRAP | (s->vex ? MODE_AVX_OFF : MODE_SSE_OFF));
    bool moves = s->row->special == SPECIAL_NONE || s->row->special == SPECIAL_MOVE_LOAD ||
                 s->row->special == SPECIAL_MOVE_STORE;
    return !off && moves && !(s->flags & (SIMD_REG_MM | SIMD_RM_MM | SIMD_PCMPSTR | SIMD_IS4));
}

bool translate_simd(Translation *t)
{
    const Insn *insn = t->insn;
    unsigned prefix = insn->prefixes & PREFIX_REPE     ? SIMD_F3
                      : insn->prefixes & PREFIX_REPNE  ? SIMD_F2
                      : insn->prefixes & PREFIX_OPSIZE ? SIMD_66
                                                       : SIMD_NP;
    bool vex = insn->prefixes & PREFIX_VEX, l = vex && insn->rex & VEX_L;
    Simd s = {.row = simd_find_row(insn->map, insn->opcode, prefix, insn->modrm, vex, l,
                                   insn->rex & REX_W),
              .vex = vex};
    if (!s.row)
        return false;
    s.flags = s.row->flags;
    s.memory = insn->flags & INSN_MEMORY;
    s.store = s.flags & SIMD_STORE;
    s.l = l && !(s.flags & SIMD_LIG);
    s.w = insn->rex & REX_W &&
          ((s.flags & SIMD_W && t->mode64) || (vex && s.flags & (SIMD_WVEX | SIMD_W1)));
    if (!can_translate(t, &s))
        return false;
    find_registers(&s, insn);
    xmm_load(t, s.reads, s.l ? s.reads : 0);
    unsigned reg = insn->reg, free = SCRATCH1;
    Rm rm;
    if (s.memory) {
        rm = access_operand(t, insn->imm >> 48 & 0xff, s.store, insn->imm >> 56, &free);
    } else if (s.flags & SIMD_RM_GPR) {
        unsigned host =
            s.store && guest_in_memory(insn->rm) ? SCRATCH1 : guest_read(t, insn->rm, SCRATCH1);
        rm = rm_reg(host);
        free = SCRATCH2;
    } else {
        rm = rm_reg(insn->rm);
    }
    if (s.flags & SIMD_REG_GPR)
        reg = guest_in_memory(insn->reg) ? free : guest_host(insn->reg);
    write_insn(t, &s, reg, rm);
    if (s.flags & SIMD_REG_GPR && !(s.flags & SIMD_NO_DEST))
        guest_written(t, insn->reg, reg);
    if (s.store && !s.memory && s.flags & SIMD_RM_GPR)
        guest_written(t, insn->rm, rm.base);
    t->now.loaded |= s.writes;
    t->now.dirty |= s.writes;
    if (vex) {
        t->now.loaded_high |= s.writes;
        t->now.dirty_high |= s.writes;
    }
    return true;
}
