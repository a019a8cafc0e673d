/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * FXSAVE, FXRSTOR, XSAVE, XSAVEOPT, XSAVEC, XRSTOR, LDMXCSR, STMXCSR (SDM 1 10.5 and 13; SDM 2).
 *
 * The image, offsets in bytes:
 *     0 FCW FSW FTW(abridged) - FOP | 8 FIP | 16 FDP | 24 MXCSR MXCSR_MASK
 *    32 ST0 … ST7, 16 each | 160 XMM0 … XMM15 | 416 free
 *   512 XSTATE_BV XCOMP_BV, 48 bytes of zero | 576 upper halves of YMM0 … YMM15
 * AVX is the only extended component, so that the compacted format puts it at the same place.
 */
#include "cpu/soft/xsave.h"

#include "base/bits.h"
#include "cpu/soft/access.h"
#include "cpu/soft/ops_x87.h"

enum {
    IMAGE_FIP = 8,
    IMAGE_FDP = 16,
    IMAGE_MXCSR = 24,
    IMAGE_ST = 32,
    IMAGE_XMM = 160,
    IMAGE_LEGACY_USED = 416,
    IMAGE_LEGACY = 512,
    IMAGE_HEADER = 64,
    IMAGE_YMM = 576,
    IMAGE_MAX = 832,
};
/* Bodies with locals are inlined, so that their handlers can go on by tail calls. */
#define ALWAYS_INLINE   inline __attribute__((always_inline))
#define XCOMP_COMPACTED (UINT64_C(1) << 63)
#define FCW_INIT        0x37f

/* ---- state ↔ image --------------------------------------------------------------------------- */

static unsigned register_bytes(const SoftCpu *cpu)
{
    return cpu_is_64bit(cpu) ? 256 : 128;
}

/* Bytes 0 to 23 and the stack. `wide`: 64-bit pointers (REX.W); else offset and a selector of 0. */
static void image_put_x87(const SoftCpu *cpu, uint8_t *image, bool wide)
{
    FpuState fpu = cpu->s.fpu;
    x87_to_architectural(&fpu);
    store_le16(image, fpu.fcw);
    store_le16(image + 2, fpu.fsw);
    image[4] = fpu.ftw_abridged;
    image[5] = 0;
    store_le16(image + 6, fpu.fop);
    store_le64(image + IMAGE_FIP, wide ? fpu.fip : (uint32_t)fpu.fip);
    store_le64(image + IMAGE_FDP, wide ? fpu.fdp : (uint32_t)fpu.fdp);
    for (unsigned i = 0; i < 8; i++) {
        memcpy(image + IMAGE_ST + i * 16, fpu.st[i], 10);
        memset(image + IMAGE_ST + i * 16 + 10, 0, 6);
    }
}

static void image_get_x87(SoftCpu *cpu, const uint8_t *image, bool wide)
{
    FpuState *fpu = &cpu->s.fpu;
    fpu->fsw = load_le16(image + 2);
    fpu->ftw_abridged = image[4];
    fpu->fop = load_le16(image + 6) & 0x7ff;
    fpu->fip = wide ? load_le64(image + IMAGE_FIP) : load_le32(image + IMAGE_FIP);
    fpu->fdp = wide ? load_le64(image + IMAGE_FDP) : load_le32(image + IMAGE_FDP);
    memset(fpu->st, 0, sizeof(fpu->st));
    for (unsigned i = 0; i < 8; i++)
        memcpy(fpu->st[i], image + IMAGE_ST + i * 16, 10);
    x87_set_control(cpu, load_le16(image));
    x87_from_architectural(fpu);
}

static void image_put_mxcsr(const SoftCpu *cpu, uint8_t *image)
{
    store_le32(image + IMAGE_MXCSR, cpu->s.fpu.mxcsr);
    store_le32(image + IMAGE_MXCSR + 4, MXCSR_MASK);
}

static void init_x87(FpuState *fpu)
{
    fpu->fcw = FCW_INIT;
    fpu->fsw = 0;
    fpu->ftw_abridged = 0;
    fpu->fop = 0;
    fpu->fip = fpu->fdp = 0;
    memset(fpu->st, 0, sizeof(fpu->st));
}

static bool is_zero(const void *data, size_t size)
{
    const uint8_t *bytes = data;
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0;
}

uint64_t xsave_in_use(const SoftCpu *cpu)
{
    const FpuState *fpu = &cpu->s.fpu;
    bool x87_initial = fpu->fcw == FCW_INIT && fpu->fsw == 0 && fpu->ftw_abridged == 0 &&
                       fpu->fop == 0 && fpu->fip == 0 && fpu->fdp == 0 &&
                       is_zero(fpu->st, sizeof(fpu->st));
    return (x87_initial ? 0 : XCR0_X87) | (is_zero(fpu->xmm, register_bytes(cpu)) ? 0 : XCR0_SSE) |
           (is_zero(fpu->ymm_high, register_bytes(cpu)) ? 0 : XCR0_AVX);
}

/* ---- memory ---------------------------------------------------------------------------------- */

static uint64_t image_linear(SoftCpu *cpu, const Insn *insn, unsigned size, unsigned alignment,
                             MmuAccess access)
{
    uint64_t linear = insn_linear(cpu, insn, size, access);
    if (linear & (alignment - 1))
        INSN_RAISE_GP0(cpu, insn);
    cpu->insn = insn;
    return linear;
}

static void check_mxcsr(SoftCpu *cpu, const Insn *insn, uint32_t mxcsr)
{
    if (mxcsr & ~MXCSR_MASK)
        INSN_RAISE_GP0(cpu, insn);
}

/* ---- FXSAVE ---------------------------------------------------------------------------------- */

static void check_fxsave(SoftCpu *cpu, const Insn *insn)
{
    if (cpu->s.cr0 & (CR0_EM | CR0_TS))
        INSN_RAISE(cpu, insn, EXC_NM);
}

static ALWAYS_INLINE void fxsave_body(SoftCpu *cpu, const Insn *insn)
{
    uint8_t image[IMAGE_LEGACY_USED];
    check_fxsave(cpu, insn);
    uint64_t linear = image_linear(cpu, insn, IMAGE_LEGACY, 16, MMU_WRITE);
    image_put_x87(cpu, image, insn->rex & REX_W);
    image_put_mxcsr(cpu, image);
    memcpy(image + IMAGE_XMM, cpu->s.fpu.xmm, register_bytes(cpu));
    mmu_store_bytes(cpu, linear, image, IMAGE_XMM + register_bytes(cpu), cpu->mmu_index);
}

static void fxsave(SoftCpu *cpu, const Insn *insn)
{
    fxsave_body(cpu, insn);
    INSN_NEXT(cpu, insn);
}

static ALWAYS_INLINE void fxrstor_body(SoftCpu *cpu, const Insn *insn)
{
    uint8_t image[IMAGE_LEGACY];
    check_fxsave(cpu, insn);
    uint64_t linear = image_linear(cpu, insn, IMAGE_LEGACY, 16, MMU_READ);
    mmu_load_bytes(cpu, linear, image, IMAGE_LEGACY, cpu->mmu_index);
    check_mxcsr(cpu, insn, load_le32(image + IMAGE_MXCSR));
    image_get_x87(cpu, image, insn->rex & REX_W);
    cpu->s.fpu.mxcsr = load_le32(image + IMAGE_MXCSR);
    memcpy(cpu->s.fpu.xmm, image + IMAGE_XMM, register_bytes(cpu));
}

static void fxrstor(SoftCpu *cpu, const Insn *insn)
{
    fxrstor_body(cpu, insn);
    INSN_NEXT(cpu, insn);
}

/* ---- XSAVE ----------------------------------------------------------------------------------- */

static uint64_t requested_components(SoftCpu *cpu, const Insn *insn)
{
    if (!(cpu->s.cr4 & CR4_OSXSAVE))
        INSN_RAISE(cpu, insn, EXC_UD);
    if (cpu->s.cr0 & CR0_TS)
        INSN_RAISE(cpu, insn, EXC_NM);
    uint64_t mask = (uint32_t)cpu->s.gpr[GPR_RAX] | cpu->s.gpr[GPR_RDX] << 32;
    return mask & cpu->s.xcr0;
}

/* Stores the components in `saved`; MXCSR, too, if `mxcsr`. */
static void save_components(SoftCpu *cpu, const Insn *insn, uint64_t linear, uint64_t saved,
                            bool mxcsr)
{
    uint8_t image[IMAGE_XMM];
    if (saved & XCR0_X87) {
        image_put_x87(cpu, image, insn->rex & REX_W);
        mmu_store_bytes(cpu, linear, image, IMAGE_MXCSR, cpu->mmu_index);
        mmu_store_bytes(cpu, linear + IMAGE_ST, image + IMAGE_ST, 128, cpu->mmu_index);
    }
    if (mxcsr) {
        image_put_mxcsr(cpu, image);
        mmu_store_bytes(cpu, linear + IMAGE_MXCSR, image + IMAGE_MXCSR, 8, cpu->mmu_index);
    }
    if (saved & XCR0_SSE)
        mmu_store_bytes(cpu, linear + IMAGE_XMM, cpu->s.fpu.xmm, register_bytes(cpu),
                        cpu->mmu_index);
    if (saved & XCR0_AVX)
        mmu_store_bytes(cpu, linear + IMAGE_YMM, cpu->s.fpu.ymm_high, register_bytes(cpu),
                        cpu->mmu_index);
}

static uint64_t xsave_area(SoftCpu *cpu, const Insn *insn, uint64_t requested)
{
    unsigned size = requested & XCR0_AVX ? IMAGE_YMM + register_bytes(cpu) : IMAGE_YMM;
    uint64_t linear = image_linear(cpu, insn, size, 64, MMU_WRITE);
    mmu_probe(cpu, linear, size, MMU_WRITE, cpu->mmu_index);
    return linear;
}

static void xsave_standard(SoftCpu *cpu, const Insn *insn, bool optimized)
{
    uint64_t requested = requested_components(cpu, insn), in_use = xsave_in_use(cpu);
    uint64_t linear = xsave_area(cpu, insn, requested);
    uint64_t header = mmu_load(cpu, linear + IMAGE_LEGACY, 8, cpu->mmu_index);
    save_components(cpu, insn, linear, optimized ? requested & in_use : requested,
                    requested & (XCR0_SSE | XCR0_AVX));
    mmu_store(cpu, linear + IMAGE_LEGACY, 8, (header & ~requested) | (requested & in_use),
              cpu->mmu_index);
}

static void xsave(SoftCpu *cpu, const Insn *insn)
{
    xsave_standard(cpu, insn, false);
    INSN_NEXT(cpu, insn);
}

static void xsaveopt(SoftCpu *cpu, const Insn *insn)
{
    xsave_standard(cpu, insn, true);
    INSN_NEXT(cpu, insn);
}

static ALWAYS_INLINE void xsavec_body(SoftCpu *cpu, const Insn *insn)
{
    uint64_t requested = requested_components(cpu, insn), in_use = xsave_in_use(cpu);
    if (cpu->s.fpu.mxcsr != MXCSR_INIT)
        in_use |= XCR0_SSE;
    uint64_t saved = requested & in_use, linear = xsave_area(cpu, insn, requested);
    save_components(cpu, insn, linear, saved, saved & XCR0_SSE);
    uint8_t header[16];
    store_le64(header, saved);
    store_le64(header + 8, requested | XCOMP_COMPACTED);
    mmu_store_bytes(cpu, linear + IMAGE_LEGACY, header, sizeof(header), cpu->mmu_index);
}

static void xsavec(SoftCpu *cpu, const Insn *insn)
{
    xsavec_body(cpu, insn);
    INSN_NEXT(cpu, insn);
}

/* The rules of SDM 1 13.8.1 and 13.8.2. */
static bool header_is_valid(const SoftCpu *cpu, const uint8_t *header)
{
    uint64_t present = load_le64(header), layout = load_le64(header + 8);
    if (layout & XCOMP_COMPACTED) {
        layout &= ~XCOMP_COMPACTED;
        return cpu_has(cpu->model, CPU_XSAVEC) && !(layout & ~cpu->s.xcr0) &&
               !(present & ~layout) && is_zero(header + 16, 48);
    }
    return !(present & ~cpu->s.xcr0) && is_zero(header + 8, 16);
}

static void restore_components(SoftCpu *cpu, const uint8_t *image, uint64_t requested,
                               uint64_t present, bool wide)
{
    FpuState *fpu = &cpu->s.fpu;
    if (requested & present & XCR0_X87)
        image_get_x87(cpu, image, wide);
    else if (requested & XCR0_X87)
        init_x87(fpu);
    if (requested & present & XCR0_SSE)
        memcpy(fpu->xmm, image + IMAGE_XMM, register_bytes(cpu));
    else if (requested & XCR0_SSE)
        memset(fpu->xmm, 0, register_bytes(cpu));
    if (requested & present & XCR0_AVX)
        memcpy(fpu->ymm_high, image + IMAGE_YMM, register_bytes(cpu));
    else if (requested & XCR0_AVX)
        memset(fpu->ymm_high, 0, register_bytes(cpu));
}

static ALWAYS_INLINE void xrstor_body(SoftCpu *cpu, const Insn *insn)
{
    uint8_t image[IMAGE_MAX];
    uint64_t requested = requested_components(cpu, insn);
    uint64_t linear = image_linear(cpu, insn, IMAGE_YMM, 64, MMU_READ);
    mmu_load_bytes(cpu, linear, image, IMAGE_YMM, cpu->mmu_index);
    if (!header_is_valid(cpu, image + IMAGE_LEGACY))
        INSN_RAISE_GP0(cpu, insn);
    uint64_t present = load_le64(image + IMAGE_LEGACY);
    bool compacted = load_le64(image + IMAGE_LEGACY + 8) & XCOMP_COMPACTED;
    if (requested & present & XCR0_AVX)
        mmu_load_bytes(
            cpu, insn_linear(cpu, insn, IMAGE_YMM + register_bytes(cpu), MMU_READ) + IMAGE_YMM,
            image + IMAGE_YMM, register_bytes(cpu), cpu->mmu_index);
    uint32_t mxcsr = cpu->s.fpu.mxcsr;
    if (compacted ? requested & present & XCR0_SSE : requested & (XCR0_SSE | XCR0_AVX))
        mxcsr = load_le32(image + IMAGE_MXCSR);
    else if (compacted && (requested & XCR0_SSE))
        mxcsr = MXCSR_INIT;
    check_mxcsr(cpu, insn, mxcsr);
    cpu->s.fpu.mxcsr = mxcsr;
    restore_components(cpu, image, requested, present, insn->rex & REX_W);
}

static void xrstor(SoftCpu *cpu, const Insn *insn)
{
    xrstor_body(cpu, insn);
    INSN_NEXT(cpu, insn);
}

/* ---- MXCSR ----------------------------------------------------------------------------------- */

static void check_sse(SoftCpu *cpu, const Insn *insn)
{
    if (insn->prefixes & PREFIX_VEX) {
        uint64_t need = XCR0_SSE | XCR0_AVX;
        if (!(cpu->s.cr4 & CR4_OSXSAVE) || (cpu->s.xcr0 & need) != need)
            INSN_RAISE(cpu, insn, EXC_UD);
    } else if ((cpu->s.cr0 & CR0_EM) || !(cpu->s.cr4 & CR4_OSFXSR)) {
        INSN_RAISE(cpu, insn, EXC_UD);
    }
    if (cpu->s.cr0 & CR0_TS)
        INSN_RAISE(cpu, insn, EXC_NM);
}

static void load_mxcsr(SoftCpu *cpu, const Insn *insn)
{
    check_sse(cpu, insn);
    uint32_t mxcsr = mem_read32(cpu, insn, insn_linear(cpu, insn, 4, MMU_READ));
    check_mxcsr(cpu, insn, mxcsr);
    cpu->s.fpu.mxcsr = mxcsr;
    INSN_NEXT(cpu, insn);
}

static void store_mxcsr(SoftCpu *cpu, const Insn *insn)
{
    check_sse(cpu, insn);
    mem_write32(cpu, insn, insn_linear(cpu, insn, 4, MMU_WRITE), cpu->s.fpu.mxcsr);
    INSN_NEXT(cpu, insn);
}

bool xsave_select(uint32_t mode, const CpuModel *model, Insn *insn)
{
    static const struct {
        uint8_t opcode, reg, feature;
        bool vex;
        InsnFn fn;
    } rows[] = {
        {0xae, 0, CPU_FXSR, false, fxsave},       {0xae, 1, CPU_FXSR, false, fxrstor},
        {0xae, 2, CPU_SSE, false, load_mxcsr},    {0xae, 3, CPU_SSE, false, store_mxcsr},
        {0xae, 4, CPU_XSAVE, false, xsave},       {0xae, 5, CPU_XSAVE, false, xrstor},
        {0xae, 6, CPU_XSAVEOPT, false, xsaveopt}, {0xc7, 4, CPU_XSAVEC, false, xsavec},
        {0xae, 2, CPU_AVX, true, load_mxcsr},     {0xae, 3, CPU_AVX, true, store_mxcsr},
    };
    bool vex = insn->prefixes & PREFIX_VEX;
    if (!(insn->flags & INSN_MEMORY) ||
        (insn->prefixes & (PREFIX_OPSIZE | PREFIX_REPE | PREFIX_REPNE)) ||
        (vex && (insn->vvvv || (insn->rex & VEX_L))))
        return false;
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (rows[i].opcode != insn->opcode || rows[i].reg != insn_modrm_reg(insn) ||
            rows[i].vex != vex)
            continue;
        insn->fn = rows[i].fn;
        return cpu_has(model, rows[i].feature);
    }
    return false;
}
