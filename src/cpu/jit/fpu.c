/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The guest's XMM, YMM and x87 registers in those of the host (jit.h, JitCpu.live).
 *
 * They are loaded when the first instruction that wants them finds them missing, stay there from
 * one translation to the next, and are stored together before C runs. While an exception is
 * unmasked (or, with x87, waits) they are not loaded: the instruction that wanted them, and the
 * rest of its block, is interpreted.
 *
 * What is loaded is complete: nothing here knows which registers code reads or writes.
 */
#include "cpu/jit/translate.h"

#include "base/bits.h"
#include "cpu/soft/decode.h"
#include "cpu/soft/x87_internal.h"
#include "cpu/soft/xsave.h"

#define MXCSR_MASKS 0x1f80u
#define VECTORS     16

/* ---- x87 ---------------------------------------------------------------------------------------
 */

/* Between a guest's XMM registers and C that may use them, so: none that the compiler may think of.
 */
#define NO_VECTORS __attribute__((target("general-regs-only"), noinline, no_sanitize("thread")))

/* Ten bytes in halves that no library function is called for. */
typedef struct __attribute__((packed)) Extended {
    uint64_t mantissa;
    uint16_t exponent;
} Extended;

/* What FNSAVE stores in 64-bit code (SDM 1 figure 8-9). */
typedef struct __attribute__((packed)) X87Image {
    uint32_t fcw, fsw, ftw, fip;
    uint16_t fcs, fop;
    uint32_t fdp, fds;
    Extended st[8]; /* relative to TOP */
} X87Image;
_Static_assert(sizeof(X87Image) == 108, "FNSAVE image");

/* FRSTOR looks whether tags are "empty" and finds out the rest by itself. */
static NO_VECTORS uint32_t restore_tags(unsigned used)
{
    uint32_t tags = 0;
    for (unsigned n = 0; n < 8; n++)
        tags |= used >> n & 1 ? 0 : TAG_EMPTY << n * 2;
    return tags;
}

static NO_VECTORS unsigned used_by_tags(uint32_t tags)
{
    unsigned used = 0;
    for (unsigned n = 0; n < 8; n++)
        used |= (tags >> n * 2 & 3) == TAG_EMPTY ? 0 : 1 << n;
    return used;
}

static NO_VECTORS bool load_x87(SoftCpu *cpu)
{
    FpuState *fpu = &cpu->s.fpu;
    X87Image image;
    if ((fpu->fcw & FCW_MASKS) != FCW_MASKS || fpu->fsw & FSW_ES || cpu->ferr)
        return false;
    image.fcw = fpu->fcw;
    image.fsw = fpu->fsw;
    image.ftw = restore_tags(fpu->ftw_abridged);
    image.fip = image.fdp = image.fds = image.fcs = image.fop = 0;
    for (unsigned i = 0; i < 8; i++)
        image.st[i] = *(const Extended *)fpu->st[((fpu->fsw >> FSW_TOP_SHIFT) + i) & 7];
    __asm__ volatile("frstor %0" : : "m"(image));
    cpu->jit->live |= JIT_LIVE_X87;
    return true;
}

/* The instruction that the host executed last says which of the guest it was. */
static NO_VECTORS void take_pointers(SoftCpu *cpu, uint32_t host)
{
    const JitCpu *jit = cpu->jit;
    uint32_t low = 0, high = jit->x87_site_count, offset = host - (uint32_t)(uintptr_t)jit->run;
    while (low < high) { /* the last that does not lie behind */
        uint32_t middle = (low + high) / 2;
        if (jit->x87_sites[middle].offset <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    const JitX87Site *site = &jit->x87_sites[low - 1];
    if (!host || !low || offset - site->offset >= INSN_MAX_BYTES)
        return; /* none since the registers were loaded */
    cpu->s.fpu.fip = site->rip;
    cpu->s.fpu.fop = site->fop;
}

static NO_VECTORS void save_x87(SoftCpu *cpu)
{
    FpuState *fpu = &cpu->s.fpu;
    X87Image image;
    __asm__ volatile("fnsave %0" : "=m"(image));
    fpu->fcw = image.fcw;
    fpu->fsw = image.fsw;
    fpu->ftw_abridged = used_by_tags(image.ftw);
    for (unsigned i = 0; i < 8; i++)
        *(Extended *)fpu->st[((image.fsw >> FSW_TOP_SHIFT) + i) & 7] = image.st[i];
    take_pointers(cpu, image.fip);
}

/* ---- thunks ------------------------------------------------------------------------------------
 */

static uint8_t *emit_short_jump(Emit *e, unsigned opcode)
{
    e8(e, opcode);
    e8(e, 0);
    return e->p;
}

static void land_short_jump(Emit *e, uint8_t *from)
{
    from[-1] = e->p - from;
}

static void emit_test_live(Emit *e, unsigned bits)
{
    emit_op(e, 0xf6, 0, rm_state(JIT_AT(live)));
    e8(e, bits);
}

static void emit_set_live(Emit *e, unsigned bits)
{
    emit_op(e, 0x80, 1, rm_state(JIT_AT(live)));
    e8(e, bits);
}

/* MOVUPS */
static void move_low(Emit *e, bool store)
{
    for (unsigned n = 0; n < VECTORS; n++)
        emit_op(e, (store ? 0x11 : 0x10) | OP_0F, n, rm_state(CPU_AT(s.fpu.xmm) + n * 16));
}

/* VEXTRACTF128 [place], n, 1; VINSERTF128 n, n, [place], 1 */
static void move_high(Emit *e, bool store)
{
    for (unsigned n = 0; n < VECTORS; n++) {
        emit_vex(e, (store ? 0x19 : 0x18) | OP_66 | 3 << OP_MAP_SHIFT, true, store ? 0 : n, n,
                 rm_state(CPU_AT(s.fpu.ymm_high) + n * 16));
        e8(e, 1);
    }
}

/* The guest's goes, C's comes. RAX is lost. */
static void save_mxcsr(Emit *e)
{
    emit_op(e, 0xae | OP_0F, 3, rm_state(CPU_AT(s.fpu.mxcsr))); /* stmxcsr */
    emit_op(e, 0x8b, HOST_RAX, rm_state(CPU_AT(s.fpu.mxcsr)));
    e8(e, 0x25); /* and eax */
    e32(e, ~MXCSR_FLAGS);
    e8(e, 0x3d); /* cmp eax */
    e32(e, MXCSR_INIT);
    uint8_t *same = emit_short_jump(e, 0x74);
    emit_op(e, 0xae | OP_0F, 2, rm_state(JIT_AT(c_mxcsr))); /* ldmxcsr */
    land_short_jump(e, same);
}

void fpu_write_save(Emit *e, JitThunks *thunks)
{
    thunks->save_fpu = emit_here(e);
    emit_test_live(e, JIT_LIVE_XMM);
    uint8_t *no_xmm = emit_jcc(e, CC_E, NULL);
    move_low(e, true);
    save_mxcsr(e);
    emit_test_live(e, JIT_LIVE_YMM);
    uint8_t *no_ymm = emit_jcc(e, CC_E, NULL);
    move_high(e, true);
    e8(e, 0xc5), e8(e, 0xf8), e8(e, 0x77); /* vzeroupper */
    emit_patch(e, no_xmm, emit_here(e));
    emit_patch(e, no_ymm, emit_here(e));
    emit_test_live(e, JIT_LIVE_X87);
    uint8_t *no_x87 = emit_short_jump(e, 0x74);
    emit_push(e, HOST_RSI, false);
    emit_constant(e, HOST_RAX, (uintptr_t)save_x87);
    emit_op(e, 0xff, 2, rm_reg(HOST_RAX));
    emit_push(e, HOST_RSI, true);
    emit_move(e, HOST_RDI, STATE);
    land_short_jump(e, no_x87);
    emit_op(e, 0xc6, 0, rm_state(JIT_AT(live)));
    e8(e, 0);
    e8(e, 0xc3);
}

/* The loading thunk's caller is left for the interpreter, at the RIP in SCRATCH1. */
static uint8_t *write_refuse(Emit *e, const JitThunks *thunks)
{
    uint8_t *refuse = emit_here(e);
    emit_op(e, 0x83 | OP_W, 0, rm_reg(HOST_RSP));
    e8(e, 8);
    emit_op(e, 0xc6, 0, rm_state(JIT_AT(interpret)));
    e8(e, 1);
    emit_jump(e, thunks->go);
    return refuse;
}

static void write_load_low(Emit *e, const uint8_t *refuse)
{
    emit_op(e, 0x8b, SCRATCH2, rm_state(CPU_AT(s.fpu.mxcsr)));
    emit_op(e, 0xf7, 2, rm_reg(SCRATCH2)); /* not */
    emit_op(e, 0xf7, 0, rm_reg(SCRATCH2)); /* test */
    e32(e, MXCSR_MASKS);
    emit_jcc(e, CC_NE, refuse);
    emit_op(e, 0xae | OP_0F, 2, rm_state(CPU_AT(s.fpu.mxcsr))); /* ldmxcsr */
    move_low(e, false);
}

static void write_load_x87(Emit *e, const uint8_t *refuse)
{
    static const uint8_t guests[] = {GPR_RAX, GPR_RCX, GPR_RDX, GPR_RSI, GPR_RDI, GPR_R8, GPR_RSP};
    emit_store(e, SCRATCH1, rm_state(JIT_AT(spare)));
    emit_to_c_stack(e);
    for (unsigned i = 0; i < G_N_ELEMENTS(guests); i++)
        emit_store(e, guest_host(guests[i]), rm_state(CPU_AT(s.gpr) + guests[i] * 8));
    emit_move(e, HOST_RDI, STATE);
    emit_constant(e, HOST_RAX, (uintptr_t)load_x87);
    emit_op(e, 0xff, 2, rm_reg(HOST_RAX));
    emit_op(e, 0x84 | OP_REG8 | OP_RM8, HOST_RAX, rm_reg(HOST_RAX));
    for (unsigned i = 0; i < G_N_ELEMENTS(guests); i++)
        emit_load(e, guest_host(guests[i]), rm_state(CPU_AT(s.gpr) + guests[i] * 8));
    emit_to_code_stack(e);
    emit_load(e, SCRATCH1, rm_state(JIT_AT(spare)));
    emit_jcc(e, CC_E, refuse);
    e8(e, 0xc3);
}

void fpu_write_loads(Emit *e, JitThunks *thunks)
{
    uint8_t *refuse = write_refuse(e, thunks);
    thunks->load_xmm = emit_here(e);
    write_load_low(e, refuse);
    emit_set_live(e, JIT_LIVE_XMM);
    e8(e, 0xc3);
    thunks->load_ymm = emit_here(e);
    emit_test_live(e, JIT_LIVE_XMM);
    uint8_t *has_low = emit_jcc(e, CC_NE, NULL);
    write_load_low(e, refuse);
    emit_patch(e, has_low, emit_here(e));
    move_high(e, false);
    emit_set_live(e, JIT_LIVE_XMM | JIT_LIVE_YMM);
    e8(e, 0xc3);
    thunks->load_x87 = emit_here(e);
    write_load_x87(e, refuse);
}

/* ---- translations ------------------------------------------------------------------------------
 */

static const uint8_t *loader(const Translation *t, unsigned bit)
{
    const JitThunks *thunks = &t->jit->thunks;
    return bit == JIT_LIVE_X87   ? thunks->load_x87
           : bit == JIT_LIVE_YMM ? thunks->load_ymm
                                 : thunks->load_xmm;
}

void fpu_write_load(Translation *t, unsigned bits, unsigned index)
{
    if (bits & JIT_LIVE_YMM)
        bits &= ~JIT_LIVE_XMM; /* one loads both */
    for (; bits; bits &= bits - 1) {
        emit_constant(&t->e, SCRATCH1, t->rip + t->insns[index].rip_offset);
        emit_call(&t->e, loader(t, bits & -bits));
    }
}

void fpu_need(Translation *t, unsigned bits)
{
    unsigned missing = bits & ~t->now.fpu;
    if (missing) {
        flags_lost(t, t->live[t->index]);
        scratches_lost(t);
    }
    if (missing & JIT_LIVE_YMM)
        missing &= ~JIT_LIVE_XMM;
    for (; missing; missing &= missing - 1) {
        emit_test_live(&t->e, missing & -missing);
        Stub *stub = new_stub(t, STUB_LOAD);
        stub->bits = missing & -missing;
        stub->from = emit_jcc(&t->e, CC_E, NULL);
        stub->resume = emit_here(&t->e);
    }
    t->now.fpu |= bits;
}

void translate_stmxcsr(Translation *t)
{
    unsigned free;
    unsigned off = t->insn->prefixes & PREFIX_VEX ? MODE_AVX_OFF : MODE_SSE_OFF;
    if (t->block->mode & (MODE_FPU_TRAP | off)) {
        call_handler_inline(t);
        return;
    }
    fpu_need(t, JIT_LIVE_XMM);
    emit_op(&t->e, 0xae | OP_0F, 3, access_operand(t, 4, true, 0, &free));
}

void fpu_add_x87_site(Translation *t)
{
    JitCpu *jit = t->jit;
    jit->x87_sites[jit->x87_site_count++] = (JitX87Site){
        .offset = emit_here(&t->e) - jit->run,
        .fop = (t->insn->opcode & 7) << 8 | t->insn->modrm,
        .rip = t->rip + t->insn->rip_offset + (t->block->mode & MODE_PROTECTED ? 0 : t->code_base)};
}
