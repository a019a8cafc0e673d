/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Control of the x87: control and status words, tags, waiting errors, images of the whole unit.
 */
#include "cpu/soft/x87_internal.h"

/* ---- state ----------------------------------------------------------------------------------- */

static unsigned register_tag(const FpuState *fpu, unsigned n)
{
    uint64_t mantissa = load_le64(fpu->st[n]);
    unsigned exponent = load_le16(fpu->st[n] + 8) & 0x7fff;
    if (!(fpu->ftw_abridged >> n & 1))
        return TAG_EMPTY;
    if (exponent == 0 && mantissa == 0)
        return TAG_ZERO;
    return exponent == 0 || exponent == 0x7fff || !(mantissa >> 63) ? TAG_SPECIAL : TAG_VALID;
}

uint16_t x87_full_tags(const FpuState *fpu)
{
    uint16_t tags = 0;
    for (unsigned n = 0; n < 8; n++)
        tags |= register_tag(fpu, n) << n * 2;
    return tags;
}

uint8_t x87_abridged_tags(uint16_t tags)
{
    uint8_t used = 0;
    for (unsigned n = 0; n < 8; n++)
        used |= ((tags >> n * 2 & 3) != TAG_EMPTY) << n;
    return used;
}

static void rotate(FpuState *fpu, unsigned by)
{
    uint8_t old[8][16];
    memcpy(old, fpu->st, sizeof(old));
    for (unsigned i = 0; i < 8; i++)
        memcpy(fpu->st[i], old[(i + by) & 7], 16);
}

void x87_to_architectural(FpuState *fpu)
{
    rotate(fpu, x87_top(fpu));
}

void x87_from_architectural(FpuState *fpu)
{
    rotate(fpu, 8 - x87_top(fpu));
}

void x87_update_summary(FpuState *fpu)
{
    fpu->fsw &= ~(FSW_ES | FSW_B);
    if (fpu->fsw & ~fpu->fcw & FSW_FLAGS)
        fpu->fsw |= FSW_ES | FSW_B;
}

void x87_set_control(SoftCpu *cpu, uint16_t fcw)
{
    cpu->s.fpu.fcw = (fcw & FCW_WRITABLE) | FCW_FIXED;
    x87_update_summary(&cpu->s.fpu);
}

bool x87_error_waits(SoftCpu *cpu, const Insn *insn)
{
    if ((cpu->s.cr0 & CR0_NE) || !cpu->x87_error)
        INSN_RAISE(cpu, insn, EXC_MF);
    cpu->ferr = true;
    if (!cpu->x87_error(cpu, true))
        return false;
    cpu->insn = insn;
    cpu->s.rip = INSN_RIP(cpu, insn);
    return true;
}

/* After what may end an error: lets go of FERR#. */
static void error_may_be_gone(SoftCpu *cpu)
{
    if (LIKELY(!cpu->ferr) || cpu->s.fpu.fsw & FSW_ES)
        return;
    cpu->ferr = false;
    if (cpu->x87_error)
        cpu->x87_error(cpu, false);
}

/* ---- control --------------------------------------------------------------------------------- */

static ALWAYS_INLINE bool fldcw_body(SoftCpu *cpu, const Insn *insn)
{
    X87_WAIT(cpu, insn);
    x87_set_control(cpu, mem_read16(cpu, insn, insn_linear(cpu, insn, 2, MMU_READ)));
    return true;
}
X87_EXPORTED_HANDLER(x87_fldcw, fldcw_body(cpu, insn))

static ALWAYS_INLINE bool fnstcw_body(SoftCpu *cpu, const Insn *insn)
{
    mem_write16(cpu, insn, insn_linear(cpu, insn, 2, MMU_WRITE), cpu->s.fpu.fcw);
    return true;
}
X87_EXPORTED_HANDLER(x87_fnstcw, fnstcw_body(cpu, insn))

static ALWAYS_INLINE bool fnstsw_body(SoftCpu *cpu, const Insn *insn)
{
    mem_write16(cpu, insn, insn_linear(cpu, insn, 2, MMU_WRITE), cpu->s.fpu.fsw);
    return true;
}
X87_EXPORTED_HANDLER(x87_fnstsw, fnstsw_body(cpu, insn))

static ALWAYS_INLINE bool fnstsw_ax_body(SoftCpu *cpu, const Insn *insn)
{
    cpu->s.gpr[GPR_RAX] = (cpu->s.gpr[GPR_RAX] & ~UINT64_C(0xffff)) | cpu->s.fpu.fsw;
    return true;
}
X87_EXPORTED_HANDLER(x87_fnstsw_ax, fnstsw_ax_body(cpu, insn))

static ALWAYS_INLINE bool fnclex_body(SoftCpu *cpu, const Insn *insn)
{
    cpu->s.fpu.fsw &= FSW_CONDITION | FSW_TOP;
    error_may_be_gone(cpu);
    return true;
}
X87_EXPORTED_HANDLER(x87_fnclex, fnclex_body(cpu, insn))

static void initialize(FpuState *fpu)
{
    fpu->fcw = FCW_INIT;
    fpu->fsw = 0;
    fpu->ftw_abridged = 0;
    fpu->fop = 0;
    fpu->fip = fpu->fdp = 0;
}

static ALWAYS_INLINE bool fninit_body(SoftCpu *cpu, const Insn *insn)
{
    initialize(&cpu->s.fpu);
    error_may_be_gone(cpu);
    return true;
}
X87_EXPORTED_HANDLER(x87_fninit, fninit_body(cpu, insn))

/* FENI, FDISI, FSETPM of older coprocessors. */
void x87_nothing(SoftCpu *cpu, const Insn *insn)
{
    INSN_NEXT(cpu, insn);
}

static ALWAYS_INLINE bool fwait_body(SoftCpu *cpu, const Insn *insn)
{
    if ((cpu->s.cr0 & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS))
        INSN_RAISE(cpu, insn, EXC_NM);
    X87_WAIT(cpu, insn);
    return true;
}
X87_EXPORTED_HANDLER(x87_fwait, fwait_body(cpu, insn))

/* clang-format off */
/*
 * The environment in its four formats (SDM 1 figures 8-9 to 8-12); selectors are 0.
 *
 *              FCW FSW FTW  then
 *   32 bits      0   4   8  12 FIP        | 16 FCS, FOP in 26:16           | 20 FDP        | 24 FDS
 *   32, real     0   4   8  12 FIP (15:0) | 16 FOP, FIP (31:16) in 27:12   | 20 FDP (15:0) | 24 ...
 *   16 bits      0   2   4   6 FIP        |  8 FCS                         | 10 FDP        | 12 FDS
 *   16, real     0   2   4   6 FIP (15:0) |  8 FOP, FIP (19:16) in 15:12   | 10 FDP (15:0) | 12 ...
 *
 * Unused high halves of 32 bits are all ones.
 */
/* clang-format on */
static bool is_real_format(const SoftCpu *cpu)
{
    return cpu_is_real_mode(cpu) || cpu_is_vm86(cpu);
}

static unsigned environment_size(const Insn *insn)
{
    return insn->op_size == 2 ? 14 : 28;
}

static void environment_put32(const FpuState *fpu, uint8_t *image, bool real)
{
    uint32_t fip = fpu->fip, fdp = fpu->fdp;
    store_le32(image, fpu->fcw | 0xffff0000);
    store_le32(image + 4, fpu->fsw | 0xffff0000);
    store_le32(image + 8, x87_full_tags(fpu) | 0xffff0000);
    store_le32(image + 12, real ? (fip & 0xffff) | 0xffff0000 : fip);
    store_le32(image + 16, real ? fpu->fop | fip >> 16 << 12 : (uint32_t)fpu->fop << 16);
    store_le32(image + 20, real ? (fdp & 0xffff) | 0xffff0000 : fdp);
    store_le32(image + 24, real ? fdp >> 16 << 12 : 0xffff0000);
}

static void environment_put16(const FpuState *fpu, uint8_t *image, bool real)
{
    store_le16(image, fpu->fcw);
    store_le16(image + 2, fpu->fsw);
    store_le16(image + 4, x87_full_tags(fpu));
    store_le16(image + 6, fpu->fip);
    store_le16(image + 8, real ? fpu->fop | (fpu->fip >> 16 & 15) << 12 : 0);
    store_le16(image + 10, fpu->fdp);
    store_le16(image + 12, real ? (fpu->fdp >> 16 & 15) << 12 : 0);
}

static void environment_put(const SoftCpu *cpu, const Insn *insn, uint8_t *image)
{
    if (insn->op_size == 2)
        environment_put16(&cpu->s.fpu, image, is_real_format(cpu));
    else
        environment_put32(&cpu->s.fpu, image, is_real_format(cpu));
}

static void environment_get(SoftCpu *cpu, const Insn *insn, const uint8_t *image)
{
    FpuState *fpu = &cpu->s.fpu;
    bool narrow = insn->op_size == 2, real = is_real_format(cpu);
    fpu->fsw = load_le16(image + (narrow ? 2 : 4));
    fpu->ftw_abridged = x87_abridged_tags(load_le16(image + (narrow ? 4 : 8)));
    if (narrow) {
        fpu->fip = load_le16(image + 6) | (real ? (uint32_t)(image[9] >> 4) << 16 : 0);
        fpu->fdp = load_le16(image + 10) | (real ? (uint32_t)(image[13] >> 4) << 16 : 0);
        fpu->fop = real ? load_le16(image + 8) & 0x7ff : 0;
    } else {
        uint32_t fip_high = load_le32(image + 16) >> 12 & 0xffff,
                 fdp_high = load_le32(image + 24) >> 12 & 0xffff;
        fpu->fip = real ? load_le16(image + 12) | fip_high << 16 : load_le32(image + 12);
        fpu->fdp = real ? load_le16(image + 20) | fdp_high << 16 : load_le32(image + 20);
        fpu->fop = load_le16(image + (real ? 16 : 18)) & 0x7ff;
    }
    x87_set_control(cpu, load_le16(image));
}

static ALWAYS_INLINE bool fnstenv_body(SoftCpu *cpu, const Insn *insn)
{
    uint8_t image[28];
    environment_put(cpu, insn, image);
    store_bytes(cpu, insn, image, environment_size(insn));
    x87_set_control(cpu, cpu->s.fpu.fcw | FCW_MASKS);
    error_may_be_gone(cpu);
    return true;
}
X87_EXPORTED_HANDLER(x87_fnstenv, fnstenv_body(cpu, insn))

static ALWAYS_INLINE bool fldenv_body(SoftCpu *cpu, const Insn *insn)
{
    uint8_t image[28];
    X87_WAIT(cpu, insn);
    load_bytes(cpu, insn, image, environment_size(insn));
    environment_get(cpu, insn, image);
    return true;
}
X87_EXPORTED_HANDLER(x87_fldenv, fldenv_body(cpu, insn))

static ALWAYS_INLINE bool fnsave_body(SoftCpu *cpu, const Insn *insn)
{
    uint8_t image[108];
    unsigned head = environment_size(insn);
    environment_put(cpu, insn, image);
    for (unsigned i = 0; i < 8; i++)
        memcpy(image + head + i * 10, st(&cpu->s.fpu, i), 10);
    store_bytes(cpu, insn, image, head + 80);
    initialize(&cpu->s.fpu);
    error_may_be_gone(cpu);
    return true;
}
X87_EXPORTED_HANDLER(x87_fnsave, fnsave_body(cpu, insn))

static ALWAYS_INLINE bool frstor_body(SoftCpu *cpu, const Insn *insn)
{
    uint8_t image[108];
    unsigned head = environment_size(insn);
    X87_WAIT(cpu, insn);
    load_bytes(cpu, insn, image, head + 80);
    environment_get(cpu, insn, image);
    for (unsigned i = 0; i < 8; i++)
        memcpy(st(&cpu->s.fpu, i), image + head + i * 10, 10);
    return true;
}
X87_EXPORTED_HANDLER(x87_frstor, frstor_body(cpu, insn))
