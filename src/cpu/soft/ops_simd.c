/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Handlers of MMX, SSE and AVX instructions: moves in C, operations through stubs (stub.h).
 *
 * A selected Insn keeps in imm the offsets of its register slots from the SoftCpu:
 *   register form: dst | a << 16 | b << 32 | fourth << 48
 *   memory form:   dst | a << 16 | fourth << 32 | size << 48 | alignment mask << 56
 */
#include "cpu/soft/ops_simd.h"

#include "base/bits.h"
#include "cpu/soft/access.h"
#include "cpu/soft/cpu.h"
#include "cpu/soft/ops_x87.h"
#include "cpu/soft/simd_masked.h"
#include "cpu/soft/simd_tables.h"
#include "cpu/soft/stub.h"
#include "cpu/soft/xsave.h"

#define ALWAYS_INLINE inline __attribute__((always_inline))
#define LIKELY(x)     __builtin_expect(!!(x), 1)
#define UNLIKELY(x)   __builtin_expect(!!(x), 0)

#define MXCSR_PRECOMPUTED 0x07u /* IE, DE, ZE: found before computing */
#define MXCSR_UE          (1u << 4)
#define MXCSR_UM          (1u << 11)
#define MXCSR_FTZ         (1u << 15)

#define HIGH_OFFSET (offsetof(FpuState, ymm_high) - offsetof(FpuState, xmm))

/* ---- operands -------------------------------------------------------------------------------- */

static ALWAYS_INLINE void *slot(SoftCpu *cpu, const Insn *insn, unsigned n)
{
    return (uint8_t *)cpu + (uint16_t)(insn->imm >> n * 16);
}

enum { SLOT_DST, SLOT_A, SLOT_B, SLOT_FOURTH };
#define SLOT_FOURTH_MEMORY SLOT_B

/* Operands that must be aligned raise #GP, also where #AC is on. */
static ALWAYS_INLINE uint64_t operand_linear(SoftCpu *cpu, const Insn *insn, unsigned size,
                                             unsigned align_mask, MmuAccess access)
{
    if (align_mask && (cpu->seg_base[insn->segment] + insn_ea(cpu, insn)) & align_mask)
        INSN_RAISE_GP0(cpu, insn);
    return insn_linear(cpu, insn, size, access);
}

static ALWAYS_INLINE const void *load_operand(SoftCpu *cpu, const Insn *insn, unsigned size,
                                              unsigned align_mask)
{
    uint64_t linear = operand_linear(cpu, insn, size, align_mask, MMU_READ);
    TlbEntry *entry = tlb_entry(cpu->tlb, linear);
    if (LIKELY((linear ^ entry->tag_read) <= GUEST_PAGE_SIZE - size))
        return (const void *)(linear + entry->addend);
    cpu->insn = insn;
    mmu_load_bytes(cpu, linear, cpu->bounce, size, cpu->mmu_index);
    return cpu->bounce;
}

/* Where a store may write at once; NULL: by mmu_store_bytes(). */
static ALWAYS_INLINE void *store_operand(SoftCpu *cpu, const Insn *insn, unsigned size,
                                         unsigned align_mask, uint64_t *ret_linear)
{
    uint64_t linear = operand_linear(cpu, insn, size, align_mask, MMU_WRITE);
    *ret_linear = linear;
    TlbEntry *entry = tlb_entry(cpu->tlb, linear);
    if (LIKELY((linear ^ entry->tag_write) <= GUEST_PAGE_SIZE - size))
        return (void *)(linear + entry->addend);
    return NULL;
}

static ALWAYS_INLINE void store_bytes(SoftCpu *cpu, const Insn *insn, const void *data,
                                      unsigned size, unsigned align_mask)
{
    uint64_t linear;
    void *host = store_operand(cpu, insn, size, align_mask, &linear);
    if (LIKELY(host != NULL)) {
        memcpy(host, data, size);
        return;
    }
    cpu->insn = insn;
    mmu_store_bytes(cpu, linear, data, size, cpu->mmu_index);
}

static ALWAYS_INLINE void zero_high(void *xmm)
{
    memset((uint8_t *)xmm + HIGH_OFFSET, 0, 16);
}

/* ---- SIMD floating-point exceptions ---------------------------------------------------------- */

static uint32_t mxcsr_get(void)
{
    uint32_t mxcsr;
    __asm__ volatile("stmxcsr %0" : "=m"(mxcsr));
    return mxcsr;
}

static void mxcsr_set(uint32_t mxcsr)
{
    __asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
}

static void __attribute__((noreturn, cold))
simd_fp_fault(SoftCpu *cpu, const Insn *insn, uint32_t flags, uint32_t unmasked)
{
    /* The operation is not even tried after an unmasked exception of its operands (SDM 1 11.5.2).
     */
    if (flags & unmasked & MXCSR_PRECOMPUTED)
        flags &= MXCSR_PRECOMPUTED;
    cpu->s.fpu.mxcsr |= flags;
    INSN_RAISE(cpu, insn, cpu->s.cr4 & CR4_OSXMMEXCPT ? EXC_XM : EXC_UD);
}

/*
 * Whether VCVTPS2PH makes an exact denormal of an element: those show in no flag when masked, and
 * MXCSR.FTZ does not work on it. They are multiples of 2^-24 below 2^-14.
 */
static bool has_tiny_half(const Insn *insn, const uint8_t *source)
{
    for (unsigned i = 0; i < (insn->rex & VEX_L ? 8 : 4); i++) {
        uint32_t bits = load_le32(source + (i < 4 ? 0 : HIGH_OFFSET) + i % 4 * 4);
        unsigned exponent = bits >> 23 & 0xff;
        if (exponent >= 103 && exponent < 113 && !(bits & ((1u << (23 - (exponent - 103))) - 1)))
            return true;
    }
    return false;
}

/* Unmasked, UE reports tiny results even when exact. Masked, only flushing to zero does. */
static uint32_t find_underflow(SoftCpu *cpu, const Insn *insn, StubFn stub, void *dst,
                               const void *a, const void *b, uint32_t control)
{
    if (insn->map == MAP_0F3A && insn->opcode == 0x1d)
        return has_tiny_half(insn, a) ? MXCSR_UE : 0;
    mxcsr_set(control | MXCSR_FTZ);
    stub(cpu, dst, a, b, 0, 1);
    return cpu->stub_mxcsr & MXCSR_UE;
}

/* Under the guest's own control bits and with exact flags. Runs masked; what the guest has unmasked
 * is found in the flags, and then nothing was stored. One difference to hardware is left: with an
 * unmasked OE or UE, PE tells whether the bounded result was inexact, not the one of unbounded
 * exponent. */
static void __attribute__((noinline))
simd_fp_exact(SoftCpu *cpu, const Insn *insn, StubFn stub, void *dst, const void *a, const void *b)
{
    uint32_t guest = cpu->s.fpu.mxcsr;
    uint32_t unmasked = ~guest >> 7 & MXCSR_FLAGS;
    uint32_t control = (guest & MXCSR_MASK & ~MXCSR_FLAGS) | MXCSR_INIT;
    uint32_t host = mxcsr_get() & ~MXCSR_FLAGS;
    uint32_t tiny = 0;
    if (!(guest & MXCSR_UM)) {
        tiny = find_underflow(cpu, insn, stub, dst, a, b, control);
        control &= ~MXCSR_FTZ;
    }
    mxcsr_set(control);
    stub(cpu, dst, a, b, tiny ? 0 : unmasked, tiny ? 1 : 0);
    mxcsr_set(host);
    uint32_t flags = (cpu->stub_mxcsr & MXCSR_FLAGS) | tiny;
    if (flags & unmasked)
        simd_fp_fault(cpu, insn, flags, unmasked);
    cpu->s.fpu.mxcsr |= flags;
}

/*
 * Loading MXCSR costs more than most operations. When the guest's control bits are the host's, the
 * operation runs as it is, and is good if it left no flag in the host's MXCSR that the guest has
 * not yet got; flags left there by others only send it the slow way, which clears them.
 */
static ALWAYS_INLINE void simd_fp(SoftCpu *cpu, const Insn *insn, StubFn stub, void *dst,
                                  const void *a, const void *b)
{
    uint32_t mxcsr = cpu->s.fpu.mxcsr;
    if (LIKELY((mxcsr & ~MXCSR_FLAGS) == MXCSR_INIT) &&
        LIKELY(stub(cpu, dst, a, b, ~(mxcsr & MXCSR_FLAGS), MXCSR_INIT) == 0))
        return;
    simd_fp_exact(cpu, insn, stub, dst, a, b);
}

/* ---- operations through stubs ---------------------------------------------------------------- */

static ALWAYS_INLINE void run_register(SoftCpu *cpu, const Insn *insn, bool fp)
{
    StubFn stub = (StubFn)insn->data;
    void *dst = slot(cpu, insn, SLOT_DST), *a = slot(cpu, insn, SLOT_A),
         *b = slot(cpu, insn, SLOT_B);
    if (fp)
        simd_fp(cpu, insn, stub, dst, a, b);
    else
        stub(cpu, dst, a, b, (uintptr_t)slot(cpu, insn, SLOT_FOURTH), 0);
}

static ALWAYS_INLINE void run_load(SoftCpu *cpu, const Insn *insn, bool fp)
{
    StubFn stub = (StubFn)insn->data;
    void *dst = slot(cpu, insn, SLOT_DST), *a = slot(cpu, insn, SLOT_A);
    const void *b = load_operand(cpu, insn, insn->imm >> 48 & 0xff, insn->imm >> 56);
    if (fp)
        simd_fp(cpu, insn, stub, dst, a, b);
    else
        stub(cpu, dst, a, b, (uintptr_t)slot(cpu, insn, SLOT_FOURTH_MEMORY), 0);
}

static void simd_register(SoftCpu *cpu, const Insn *insn)
{
    run_register(cpu, insn, false);
    INSN_NEXT(cpu, insn);
}

static void simd_load(SoftCpu *cpu, const Insn *insn)
{
    run_load(cpu, insn, false);
    INSN_NEXT(cpu, insn);
}

static void simd_store(SoftCpu *cpu, const Insn *insn)
{
    StubFn stub = (StubFn)insn->data;
    unsigned size = insn->imm >> 48 & 0xff;
    uint64_t linear;
    void *host = store_operand(cpu, insn, size, insn->imm >> 56, &linear);
    stub(cpu, host ? host : cpu->bounce, slot(cpu, insn, SLOT_A), NULL, 0, 0);
    if (!host) {
        cpu->insn = insn;
        mmu_store_bytes(cpu, linear, cpu->bounce, size, cpu->mmu_index);
    }
    INSN_NEXT(cpu, insn);
}

static void simd_register_fp(SoftCpu *cpu, const Insn *insn)
{
    run_register(cpu, insn, true);
    INSN_NEXT(cpu, insn);
}

static void simd_load_fp(SoftCpu *cpu, const Insn *insn)
{
    run_load(cpu, insn, true);
    INSN_NEXT(cpu, insn);
}

/* The stub stores before it looks at MXCSR: never into guest memory. */
static void simd_store_fp(SoftCpu *cpu, const Insn *insn)
{
    simd_fp(cpu, insn, (StubFn)insn->data, cpu->bounce, slot(cpu, insn, SLOT_A), NULL);
    store_bytes(cpu, insn, cpu->bounce, insn->imm >> 48 & 0xff, 0);
    INSN_NEXT(cpu, insn);
}

/* ---- MMX ------------------------------------------------------------------------------------- */

#define MMX_HANDLER(name, run, fp)                   \
    static void name(SoftCpu *cpu, const Insn *insn) \
    {                                                \
        MMX_CHECK(cpu, insn);                        \
        run(cpu, insn, fp);                          \
        mmx_enter(cpu);                              \
        INSN_NEXT(cpu, insn);                        \
    }
MMX_HANDLER(mmx_register, run_register, false)
MMX_HANDLER(mmx_load, run_load, false)
MMX_HANDLER(mmx_register_fp, run_register, true)
MMX_HANDLER(mmx_load_fp, run_load, true)

static ALWAYS_INLINE void mm_write(void *mm, uint64_t value)
{
    memcpy(mm, &value, 8);
    memset((uint8_t *)mm + 8, 0xff, 2);
}

static void mmx_move(SoftCpu *cpu, const Insn *insn)
{
    MMX_CHECK(cpu, insn);
    uint64_t value;
    memcpy(&value, slot(cpu, insn, SLOT_B), 8);
    mm_write(slot(cpu, insn, SLOT_DST), value);
    mmx_enter(cpu);
    INSN_NEXT(cpu, insn);
}

static void mmx_from_gpr32(SoftCpu *cpu, const Insn *insn)
{
    MMX_CHECK(cpu, insn);
    mm_write(slot(cpu, insn, SLOT_DST), (uint32_t) * (uint64_t *)slot(cpu, insn, SLOT_B));
    mmx_enter(cpu);
    INSN_NEXT(cpu, insn);
}

static void mmx_to_gpr32(SoftCpu *cpu, const Insn *insn)
{
    MMX_CHECK(cpu, insn);
    *(uint64_t *)slot(cpu, insn, SLOT_DST) = *(uint32_t *)slot(cpu, insn, SLOT_B);
    mmx_enter(cpu);
    INSN_NEXT(cpu, insn);
}

static void mmx_to_gpr64(SoftCpu *cpu, const Insn *insn)
{
    MMX_CHECK(cpu, insn);
    memcpy(slot(cpu, insn, SLOT_DST), slot(cpu, insn, SLOT_B), 8);
    mmx_enter(cpu);
    INSN_NEXT(cpu, insn);
}

#define MMX_MEMORY(bits)                                                        \
    static void mmx_load##bits(SoftCpu *cpu, const Insn *insn)                  \
    {                                                                           \
        MMX_CHECK(cpu, insn);                                                   \
        uint64_t linear = insn_linear(cpu, insn, bits / 8, MMU_READ);           \
        mm_write(slot(cpu, insn, SLOT_DST), mem_read##bits(cpu, insn, linear)); \
        mmx_enter(cpu);                                                         \
        INSN_NEXT(cpu, insn);                                                   \
    }                                                                           \
    static void mmx_store##bits(SoftCpu *cpu, const Insn *insn)                 \
    {                                                                           \
        MMX_CHECK(cpu, insn);                                                   \
        store_bytes(cpu, insn, slot(cpu, insn, SLOT_A), bits / 8, 0);           \
        mmx_enter(cpu);                                                         \
        INSN_NEXT(cpu, insn);                                                   \
    }
MMX_MEMORY(32)
MMX_MEMORY(64)

static void mmx_empty(SoftCpu *cpu, const Insn *insn)
{
    MMX_CHECK(cpu, insn);
    cpu->s.fpu.fsw &= ~FSW_TOP;
    cpu->s.fpu.ftw_abridged = 0;
    INSN_NEXT(cpu, insn);
}

/* ---- moves ----------------------------------------------------------------------------------- */

/*
 * The low `size` bytes from `from`, the rest zero; `vex`: the upper half of YMM, too, from `high`
 * if not NULL. Parts are as wide as they were probably written, or the load could not be forwarded
 * from the store.
 */
static ALWAYS_INLINE void move_put(uint8_t *to, const uint8_t *from, unsigned size, bool vex,
                                   const uint8_t *high)
{
    uint64_t low = 0;
    if (size >= 16) {
        memmove(to, from, 16);
    } else {
        memcpy(&low, from, size);
        memcpy(to, &low, 8);
        memset(to + 8, 0, 8);
    }
    if (vex && high)
        memmove(to + HIGH_OFFSET, high, 16);
    else if (vex)
        zero_high(to);
}

#define MOVE_LOAD(name, size, align_mask, vex)                                               \
    static void name(SoftCpu *cpu, const Insn *insn)                                         \
    {                                                                                        \
        const uint8_t *from = load_operand(cpu, insn, size, align_mask);                     \
        move_put(slot(cpu, insn, SLOT_DST), from, size, vex, size == 32 ? from + 16 : NULL); \
        INSN_NEXT(cpu, insn);                                                                \
    }
MOVE_LOAD(move_load4, 4, 0, false)
MOVE_LOAD(move_load4_vex, 4, 0, true)
MOVE_LOAD(move_load8, 8, 0, false)
MOVE_LOAD(move_load8_vex, 8, 0, true)
MOVE_LOAD(move_load16, 16, 0, false)
MOVE_LOAD(move_load16_vex, 16, 0, true)
MOVE_LOAD(move_load16_aligned, 16, 15, false)
MOVE_LOAD(move_load16_aligned_vex, 16, 15, true)
MOVE_LOAD(move_load32_vex, 32, 0, true)
MOVE_LOAD(move_load32_aligned_vex, 32, 31, true)

#define MOVE_STORE(name, size, align_mask)                    \
    static void name(SoftCpu *cpu, const Insn *insn)          \
    {                                                         \
        const uint8_t *from = slot(cpu, insn, SLOT_A);        \
        if (size == 32) {                                     \
            memcpy(cpu->bounce, from, 16);                    \
            memcpy(cpu->bounce + 16, from + HIGH_OFFSET, 16); \
            from = cpu->bounce;                               \
        }                                                     \
        store_bytes(cpu, insn, from, size, align_mask);       \
        INSN_NEXT(cpu, insn);                                 \
    }
MOVE_STORE(move_store4, 4, 0)
MOVE_STORE(move_store8, 8, 0)
MOVE_STORE(move_store16, 16, 0)
MOVE_STORE(move_store16_aligned, 16, 15)
MOVE_STORE(move_store32, 32, 0)
MOVE_STORE(move_store32_aligned, 32, 31)

/* Between registers: `size` bytes of b, the rest zero. */
#define MOVE_REGISTER(name, size, vex)                       \
    static void name(SoftCpu *cpu, const Insn *insn)         \
    {                                                        \
        const uint8_t *from = slot(cpu, insn, SLOT_B);       \
        move_put(slot(cpu, insn, SLOT_DST), from, size, vex, \
                 size == 32 ? from + HIGH_OFFSET : NULL);    \
        INSN_NEXT(cpu, insn);                                \
    }
MOVE_REGISTER(move4, 4, false)
MOVE_REGISTER(move4_vex, 4, true)
MOVE_REGISTER(move8, 8, false)
MOVE_REGISTER(move8_vex, 8, true)
MOVE_REGISTER(move16, 16, false)
MOVE_REGISTER(move16_vex, 16, true)
MOVE_REGISTER(move32_vex, 32, true)

/* MOVSS, MOVSD between registers: the low part of b, the rest of a. */
#define MOVE_MERGE(name, size, vex)                               \
    static void name(SoftCpu *cpu, const Insn *insn)              \
    {                                                             \
        uint8_t *to = slot(cpu, insn, SLOT_DST);                  \
        uint64_t low, high;                                       \
        memcpy(&low, slot(cpu, insn, SLOT_A), 8);                 \
        memcpy(&high, (uint8_t *)slot(cpu, insn, SLOT_A) + 8, 8); \
        memcpy(&low, slot(cpu, insn, SLOT_B), size);              \
        memcpy(to, &low, 8);                                      \
        memcpy(to + 8, &high, 8);                                 \
        if (vex)                                                  \
            zero_high(to);                                        \
        INSN_NEXT(cpu, insn);                                     \
    }
MOVE_MERGE(move_merge4, 4, false)
MOVE_MERGE(move_merge4_vex, 4, true)
MOVE_MERGE(move_merge8, 8, false)
MOVE_MERGE(move_merge8_vex, 8, true)

static void move_to_gpr32(SoftCpu *cpu, const Insn *insn)
{
    *(uint64_t *)slot(cpu, insn, SLOT_DST) = *(uint32_t *)slot(cpu, insn, SLOT_B);
    INSN_NEXT(cpu, insn);
}

static void move_to_gpr64(SoftCpu *cpu, const Insn *insn)
{
    memcpy(slot(cpu, insn, SLOT_DST), slot(cpu, insn, SLOT_B), 8);
    INSN_NEXT(cpu, insn);
}

static void clear16(SoftCpu *cpu, const Insn *insn)
{
    memset(slot(cpu, insn, SLOT_DST), 0, 16);
    INSN_NEXT(cpu, insn);
}

static void clear_vex(SoftCpu *cpu, const Insn *insn)
{
    void *to = slot(cpu, insn, SLOT_DST);
    memset(to, 0, 16);
    zero_high(to);
    INSN_NEXT(cpu, insn);
}

static void move_nontemporal_integer(SoftCpu *cpu, const Insn *insn)
{
    store_bytes(cpu, insn, &cpu->s.gpr[insn->reg], insn->op_size == 8 ? 8 : 4, 0);
    INSN_NEXT(cpu, insn);
}

static void vzeroupper(SoftCpu *cpu, const Insn *insn)
{
    memset(cpu->s.fpu.ymm_high, 0, cpu_is_64bit(cpu) ? 256 : 128);
    INSN_NEXT(cpu, insn);
}

static void vzeroall(SoftCpu *cpu, const Insn *insn)
{
    unsigned bytes = cpu_is_64bit(cpu) ? 256 : 128;
    memset(cpu->s.fpu.ymm_high, 0, bytes);
    memset(cpu->s.fpu.xmm, 0, bytes);
    INSN_NEXT(cpu, insn);
}

/* ---- traps ----------------------------------------------------------------------------------- */

static void trap_mmx(SoftCpu *cpu, const Insn *insn)
{
    INSN_RAISE(cpu, insn, cpu->s.cr0 & CR0_EM ? EXC_UD : EXC_NM);
}

static void trap_sse(SoftCpu *cpu, const Insn *insn)
{
    bool off = (cpu->s.cr0 & CR0_EM) || !(cpu->s.cr4 & CR4_OSFXSR);
    INSN_RAISE(cpu, insn, off ? EXC_UD : EXC_NM);
}

static void trap_avx(SoftCpu *cpu, const Insn *insn)
{
    uint64_t need = XCR0_SSE | XCR0_AVX;
    bool off = !(cpu->s.cr4 & CR4_OSXSAVE) || (cpu->s.xcr0 & need) != need;
    INSN_RAISE(cpu, insn, off || !(cpu->s.cr0 & CR0_TS) ? EXC_UD : EXC_NM);
}

/* ---- selection ------------------------------------------------------------------------------- */

typedef struct Choice {
    const SimdRow *row;
    bool vex, l, w, memory;
} Choice;

static uint64_t register_slot(unsigned flags, unsigned mm_flag, unsigned gpr_flag, unsigned n)
{
    if (flags & mm_flag)
        return offsetof(SoftCpu, s.fpu.st) + (n & 7) * 16;
    if (flags & gpr_flag)
        return offsetof(SoftCpu, s.gpr) + n * 8;
    return offsetof(SoftCpu, s.fpu.xmm) + n * 16;
}

/* Fills imm as the head of this file says. */
static void bind_slots(const Choice *choice, Insn *insn)
{
    unsigned flags = choice->row->flags;
    uint64_t reg = register_slot(flags, SIMD_REG_MM, SIMD_REG_GPR, insn->reg);
    uint64_t rm = register_slot(flags, SIMD_RM_MM, SIMD_RM_GPR, insn->rm);
    uint64_t vvvv = register_slot(0, 0, 0, insn->vvvv);
    uint64_t fourth = register_slot(0, 0, 0, insn->imm >> 4 & 15);
    uint64_t dst = reg, a = vvvv, b = rm;
    if (flags & SIMD_STORE) {
        dst = rm;
        a = reg;
        b = reg;
    } else if (flags & SIMD_NDD) {
        dst = choice->vex ? vvvv : rm;
    }
    if (choice->memory) {
        unsigned size = simd_memory_size(choice->row, choice->l, choice->w);
        bool aligned =
            choice->vex ? (flags & SIMD_ALIGNED_VEX) != 0 : size == 16 && !(flags & SIMD_UNALIGNED);
        insn->imm = dst | a << 16 | fourth << 32 | (uint64_t)size << 48 |
                    (uint64_t)(aligned ? size - 1 : 0) << 56;
    } else {
        insn->imm = dst | a << 16 | b << 32 | fourth << 48;
    }
}

static bool select_stub(const Choice *choice, Insn *insn)
{
    unsigned flags = choice->row->flags;
    bool fp = flags & SIMD_FP, mm = flags & (SIMD_REG_MM | SIMD_RM_MM);
    /* CVTPI2PS and CVTPI2PD from memory touch no MMX register. */
    if (choice->memory && !(flags & SIMD_REG_MM))
        mm = false;
    StubKey key = {
        .row = choice->row,
        .vex = choice->vex,
        .l = choice->l,
        .memory = choice->memory,
        .w = choice->w && (flags & (SIMD_W | SIMD_WVEX | SIMD_W1)),
        .imm = (flags & SIMD_IMM) && !(flags & SIMD_IS4) ? insn->imm : 0,
    };
    if (flags & SIMD_W1)
        key.w = choice->vex; /* legacy GFNI has no W */
    insn->data = stub_get(&key);
    bind_slots(choice, insn);
    if (!choice->memory)
        insn->fn = mm   ? (fp ? mmx_register_fp : mmx_register)
                   : fp ? simd_register_fp
                        : simd_register;
    else if (flags & SIMD_STORE)
        insn->fn = fp ? simd_store_fp : simd_store;
    else
        insn->fn = mm ? (fp ? mmx_load_fp : mmx_load) : fp ? simd_load_fp : simd_load;
    return insn->data != NULL;
}

static bool is_clearing(const Choice *choice, const Insn *insn)
{
    const SimdRow *row = choice->row;
    bool xor = row->map == MAP_0F && (row->opcode == 0x57 || row->opcode == 0xef) &&
               !(row->flags & SIMD_REG_MM);
    return xor&&!choice->memory && (choice->vex ? insn->vvvv : insn->reg) == insn->rm;
}

static InsnFn move_load_fn(unsigned size, bool vex, bool aligned)
{
    switch (size) {
    case 4:
        return vex ? move_load4_vex : move_load4;
    case 8:
        return vex ? move_load8_vex : move_load8;
    case 16:
        if (aligned)
            return vex ? move_load16_aligned_vex : move_load16_aligned;
        return vex ? move_load16_vex : move_load16;
    default:
        return aligned ? move_load32_aligned_vex : move_load32_vex;
    }
}

static InsnFn move_store_fn(unsigned size, bool aligned)
{
    switch (size) {
    case 4:
        return move_store4;
    case 8:
        return move_store8;
    case 16:
        return aligned ? move_store16_aligned : move_store16;
    default:
        return aligned ? move_store32_aligned : move_store32;
    }
}

static InsnFn move_register_fn(const Choice *choice, unsigned size)
{
    unsigned flags = choice->row->flags;
    bool vex = choice->vex, store = flags & SIMD_STORE;
    if (flags & SIMD_RM_GPR) {
        if (store)
            return size == 8 ? move_to_gpr64 : move_to_gpr32;
        return size == 8 ? (vex ? move8_vex : move8) : vex ? move4_vex : move4;
    }
    if (flags & SIMD_NDS)
        return size == 8 ? (vex ? move_merge8_vex : move_merge8)
               : vex     ? move_merge4_vex
                         : move_merge4;
    if (size == 8)
        return vex ? move8_vex : move8;
    return size == 32 ? move32_vex : vex ? move16_vex : move16;
}

static InsnFn mmx_move_fn(const Choice *choice, unsigned size)
{
    bool store = choice->row->flags & SIMD_STORE;
    if (choice->memory)
        return size == 8 ? (store ? mmx_store64 : mmx_load64) : store ? mmx_store32 : mmx_load32;
    if (!(choice->row->flags & SIMD_RM_GPR))
        return mmx_move;
    if (store)
        return size == 8 ? mmx_to_gpr64 : mmx_to_gpr32;
    return size == 8 ? mmx_move : mmx_from_gpr32;
}

static bool select_move(const Choice *choice, Insn *insn)
{
    unsigned flags = choice->row->flags, size = simd_memory_size(choice->row, choice->l, choice->w);
    bool store = flags & SIMD_STORE;
    if (choice->memory && (flags & SIMD_NDS) && insn->vvvv)
        return false; /* MOVSS, MOVSD: three operands between registers only */
    bind_slots(choice, insn);
    bool aligned = choice->memory && insn->imm >> 56;
    if (!choice->memory && (flags & SIMD_NDS)) /* where MOVSS and MOVSD take the rest from */
        insn->imm = bits_set(insn->imm, 16, 16,
                             choice->vex ? register_slot(0, 0, 0, insn->vvvv) : insn->imm & 0xffff);
    if (flags & SIMD_REG_MM)
        insn->fn = mmx_move_fn(choice, size);
    else if (!choice->memory)
        insn->fn = move_register_fn(choice, size);
    else
        insn->fn = store ? move_store_fn(size, aligned) : move_load_fn(size, choice->vex, aligned);
    return true;
}

static bool select_gather(const Choice *choice, Insn *insn)
{
    unsigned index = simd_gather_index(insn);
    bool has_sib = (insn->modrm & 7) == 4;
    if (!has_sib || insn->addr_size == 2 || insn->reg == index || insn->reg == insn->vvvv ||
        index == insn->vvvv)
        return false;
    insn->fn = simd_gather;
    return true;
}

static bool select_row(const Choice *choice, Insn *insn)
{
    switch ((SimdSpecial)choice->row->special) {
    case SPECIAL_NONE:
        if (is_clearing(choice, insn)) {
            bind_slots(choice, insn);
            insn->fn = choice->vex ? clear_vex : clear16;
            return true;
        }
        return select_stub(choice, insn);
    case SPECIAL_MOVE_LOAD:
    case SPECIAL_MOVE_STORE:
        return select_move(choice, insn);
    case SPECIAL_MASKMOV_IMPLICIT:
        insn->fn = choice->row->flags & SIMD_RM_MM ? simd_mask_move_mmx : simd_mask_move;
        return true;
    case SPECIAL_MASK_LOAD:
        insn->fn = simd_mask_load;
        return true;
    case SPECIAL_MASK_STORE:
        insn->fn = simd_mask_store;
        return true;
    case SPECIAL_GATHER:
        return select_gather(choice, insn);
    }
    return false;
}

/* What stands in for the handler while the operating system has the unit switched off; NULL:
 * nothing. */
static InsnFn trap_for(uint32_t mode, bool vex, bool mmx_only)
{
    if (vex)
        return mode & (MODE_AVX_OFF | MODE_FPU_TRAP) ? trap_avx : NULL;
    if (mmx_only)
        return mode & MODE_FPU_TRAP ? trap_mmx : NULL;
    return mode & (MODE_SSE_OFF | MODE_FPU_TRAP) ? trap_sse : NULL;
}

static bool row_offered(const Choice *choice, const CpuModel *model)
{
    const SimdRow *row = choice->row;
    if (!choice->vex)
        return cpu_has(model, row->legacy);
    return cpu_has(model, CPU_AVX) && cpu_has(model, choice->l ? row->vex256 : row->vex128);
}

/* Only MMX registers and memory or general registers: not an SSE instruction to CR4.OSFXSR. */
static bool is_mmx_only(const SimdRow *row)
{
    bool reg = row->flags & (SIMD_REG_MM | SIMD_REG_GPR) || row->ext != SIMD_NO_EXT;
    bool rm = row->flags & (SIMD_RM_MM | SIMD_RM_GPR);
    return row->prefix == SIMD_NP && reg && rm;
}

static bool select_movnti(const CpuModel *model, Insn *insn)
{
    if (!(insn->flags & INSN_MEMORY) || !cpu_has(model, CPU_SSE2) ||
        (insn->prefixes & (PREFIX_VEX | PREFIX_OPSIZE | PREFIX_REPE | PREFIX_REPNE)))
        return false;
    insn->op_size = insn->rex & REX_W ? 8 : 4;
    insn->fn = move_nontemporal_integer;
    return true;
}

static bool select_empty(uint32_t mode, const CpuModel *model, Insn *insn)
{
    bool vex = insn->prefixes & PREFIX_VEX;
    if ((insn->prefixes & (PREFIX_OPSIZE | PREFIX_REPE | PREFIX_REPNE)) ||
        !cpu_has(model, vex ? CPU_AVX : CPU_MMX) || (vex && insn->vvvv))
        return false;
    InsnFn trap = trap_for(mode, vex, true);
    insn->fn = trap ? trap : !vex ? mmx_empty : insn->rex & VEX_L ? vzeroall : vzeroupper;
    return true;
}

static unsigned mandatory_prefix(const Insn *insn)
{
    if (insn->prefixes & PREFIX_REPE)
        return SIMD_F3;
    if (insn->prefixes & PREFIX_REPNE)
        return SIMD_F2;
    return insn->prefixes & PREFIX_OPSIZE ? SIMD_66 : SIMD_NP;
}

bool simd_select(uint32_t mode, const CpuModel *model, Insn *insn)
{
    bool vex = insn->prefixes & PREFIX_VEX, mode64 = (mode & MODE_CODE_MASK) == MODE_CODE64;
    if ((insn->prefixes & PREFIX_LOCK) || (vex && !(mode & MODE_PROTECTED)))
        return false;
    if (!mode64)
        insn->vvvv &= 7; /* its top bit means nothing outside 64-bit mode */
    if (insn->map == MAP_0F && (insn->opcode == 0xae || insn->opcode == 0xc7))
        return xsave_select(mode, model, insn);
    if (insn->map == MAP_0F && insn->opcode == 0xc3)
        return select_movnti(model, insn);
    if (insn->map == MAP_0F && insn->opcode == 0x77)
        return select_empty(mode, model, insn);

    Choice choice = {
        .vex = vex,
        .l = vex && (insn->rex & VEX_L),
        .w = insn->rex & REX_W,
        .memory = insn->flags & INSN_MEMORY,
    };
    choice.row = simd_find_row(insn->map, insn->opcode, mandatory_prefix(insn), insn->modrm, vex,
                               choice.l, choice.w);
    if (!choice.row)
        return false;
    unsigned flags = choice.row->flags;
    if (flags & SIMD_LIG)
        choice.l = false;
    if ((flags & SIMD_W) && !mode64)
        choice.w = false;
    if (!mode64 && (flags & SIMD_IS4))
        insn->imm &= 0x7f;
    if (!row_offered(&choice, model) || (vex && !(flags & (SIMD_NDS | SIMD_NDD)) && insn->vvvv))
        return false;
    if (!select_row(&choice, insn))
        return false;
    InsnFn trap = trap_for(mode, vex, is_mmx_only(choice.row));
    if (trap)
        insn->fn = trap;
    return true;
}

void simd_features(bool *ret_features)
{
    static const CpuFeature done_in_c[] = {CPU_FPU,      CPU_MMX,    CPU_FXSR,   CPU_XSAVE,
                                           CPU_XSAVEOPT, CPU_XSAVEC, CPU_XGETBV1};
    static const CpuFeature legacy[] = {CPU_SSE,   CPU_SSE2, CPU_SSE3,      CPU_SSSE3, CPU_SSE41,
                                        CPU_SSE42, CPU_AES,  CPU_PCLMULQDQ, CPU_SHA,   CPU_GFNI};
    static const CpuFeature with_avx[] = {CPU_AVX,  CPU_AVX2, CPU_FMA,
                                          CPU_F16C, CPU_VAES, CPU_VPCLMULQDQ};
    bool host[CPU_FEATURE_COUNT] = {false};
    cpu_host_features(host);
    if (!stub_available())
        return;
    for (unsigned i = 0; i < G_N_ELEMENTS(done_in_c); i++)
        ret_features[done_in_c[i]] = true;
    for (unsigned i = 0; i < G_N_ELEMENTS(legacy); i++)
        ret_features[legacy[i]] = host[legacy[i]];
    bool avx = __builtin_cpu_supports("avx"); /* the host's kernel keeps YMM */
    for (unsigned i = 0; i < G_N_ELEMENTS(with_avx); i++)
        ret_features[with_avx[i]] = avx && host[with_avx[i]];
}
