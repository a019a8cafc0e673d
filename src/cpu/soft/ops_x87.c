/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Handlers of x87 instructions.
 *
 * Two ways lead to the same result. The exact one loads the whole guest state into the host's x87,
 * runs the instruction and takes the state back: stack faults, unmasked exceptions and every flag
 * come out as hardware makes them, because hardware makes them. The fast one, for common
 * instructions with all exceptions masked and no stack fault, loads the operands alone and looks at
 * FSW afterwards; a flag that the guest has not yet got sends it the exact way.
 *
 * The host's x87 is empty, masked and at extended precision between instructions; its sticky flags
 * mean nothing.
 */
#include "cpu/soft/ops_x87.h"

#include "cpu/soft/stub.h"
#include "cpu/soft/x87_internal.h"

/* All but control instructions leave their address and opcode: offsets in the segments, linear in
 * real and virtual-8086 mode. */
static ALWAYS_INLINE void set_pointers(SoftCpu *cpu, const Insn *insn)
{
    bool linear = !(cpu->mode & MODE_PROTECTED);
    cpu->s.fpu.fip = INSN_RIP(cpu, insn) + (UNLIKELY(linear) ? cpu->seg_base[SEG_CS] : 0);
    cpu->s.fpu.fop = (insn->opcode & 7) << 8 | insn->modrm;
    if (insn->flags & INSN_MEMORY)
        cpu->s.fpu.fdp = insn_ea(cpu, insn) + (UNLIKELY(linear) ? cpu->seg_base[insn->segment] : 0);
}

/* ---- the exact way --------------------------------------------------------------------------- */

/* Memory forms: bytes read (positive) or written (negative) by [opcode - 0xd8][ModRM.reg]; 0: not
 * here. */
static const int8_t memory_sizes[8][8] = {
    {4, 4, 4, 4, 4, 4, 4, 4},       {4, 0, -4, -4, 0, 2, 0, -2},     {4, 4, 4, 4, 4, 4, 4, 4},
    {4, -4, -4, -4, 0, 10, 0, -10}, {8, 8, 8, 8, 8, 8, 8, 8},        {8, -8, -8, -8, 0, 0, 0, -2},
    {2, 2, 2, 2, 2, 2, 2, 2},       {2, -2, -2, -2, 10, 8, -10, -8},
};

int x87_memory_size(const Insn *insn)
{
    return insn->flags & INSN_MEMORY ? memory_sizes[insn->opcode & 7][insn_modrm_reg(insn)] : 0;
}

/* What FNSAVE stores outside real mode with 32-bit operands (SDM 1 figure 8-9). */
typedef struct __attribute__((packed)) SaveImage {
    uint16_t fcw, high0, fsw, high1, ftw, high2;
    uint32_t fip;
    uint16_t fcs, fop;
    uint32_t fdp;
    uint16_t fds, high3;
    uint8_t st[8][10]; /* relative to TOP */
} SaveImage;
_Static_assert(sizeof(SaveImage) == 108, "FNSAVE image");

static void image_put(FpuState *fpu, SaveImage *image)
{
    memset(image, 0, sizeof(*image));
    image->fcw = fpu->fcw;
    image->fsw = fpu->fsw;
    image->ftw = x87_full_tags(fpu);
    for (unsigned i = 0; i < 8; i++)
        memcpy(image->st[i], st(fpu, i), 10);
}

static void image_get(FpuState *fpu, const SaveImage *image)
{
    fpu->fcw = image->fcw;
    fpu->fsw = image->fsw;
    fpu->ftw_abridged = x87_abridged_tags(image->ftw);
    for (unsigned i = 0; i < 8; i++)
        memcpy(st(fpu, i), image->st[i], 10);
}

/* FCOMI and relatives. */
static bool writes_flags(const Insn *insn)
{
    return !(insn->flags & INSN_MEMORY) && (insn->opcode == 0xdb || insn->opcode == 0xdf) &&
           insn->modrm >= 0xe8;
}

static void __attribute__((noinline)) run_exact(SoftCpu *cpu, const Insn *insn)
{
    FpuState *fpu = &cpu->s.fpu;
    int size = x87_memory_size(insn);
    uint8_t operand[16] = {0};
    SaveImage image;
    if (size > 0)
        load_bytes(cpu, insn, operand, size);
    image_put(fpu, &image);
    /* With FERR# ignored an old error may still wait: the host must not see it. Its flags come back
     * below. */
    uint16_t waiting = fpu->fsw & FSW_ES ? fpu->fsw & FSW_FLAGS & ~fpu->fcw : 0;
    image.fsw &= ~(waiting | FSW_ES | FSW_B);
    uint32_t flags = ((X87Fn)insn->data)(&image, operand, cpu->flags);
    /* Such an unmasked exception leaves the destination in memory alone; inexactness does not. */
    bool stores = !(image.fsw & ~image.fcw & FSW_FLAGS & ~(1 << 5));
    if (size < 0 && stores)
        store_bytes(cpu, insn, operand, -size);
    else if (size < 0)
        x87_probe_store(cpu, insn, -size);
    image_get(fpu, &image);
    fpu->fsw |= waiting;
    x87_update_summary(fpu);
    if (writes_flags(insn)) {
        cpu->flags = flags;
        fpu->fsw &= ~FSW_C1; /* AMD's CPUs leave it as it was */
    }
    set_pointers(cpu, insn);
}

static ALWAYS_INLINE bool x87_exact_body(SoftCpu *cpu, const Insn *insn)
{
    X87_WAIT(cpu, insn);
    run_exact(cpu, insn);
    return true;
}
X87_HANDLER(x87_exact, x87_exact_body(cpu, insn))

/* ---- the fast way ---------------------------------------------------------------------------- */

/*
 * One operation: a, b operands (80 bits in registers, or memory), result where it goes. Returns
 * FSW, taken right after the operation. The host's register stack is as before.
 */
typedef uint16_t (*FastFn)(const void *a, const void *b, void *result);

#define FAST_DEFINE(name, code)                                                               \
    static uint16_t name(const void *a, const void *b, void *result)                          \
    {                                                                                         \
        uint16_t fsw;                                                                         \
        __asm__ volatile(code                                                                 \
                         : "=&a"(fsw)                                                         \
                         : "d"(a), "c"(b), "D"(result)                                        \
                         : "memory", "cc", "st", "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", \
                           "st(6)", "st(7)");                                                 \
        return fsw;                                                                           \
    }

/* n: ModRM.reg of ADD MUL COM COMP SUB SUBR DIV DIVR; ST(0) is a, ST(1) is b */
#define ARITH_ST0(n)                                                                         \
    FAST_DEFINE(arith_st0_##n, "fldt (%%rcx); fldt (%%rdx); .byte 0xd8, 0xc1 | " #n " << 3;" \
                               "fnstsw %%ax; fstpt (%%rdi); fstp %%st(0)")
#define ARITH_STI(n)                                                                         \
    FAST_DEFINE(arith_sti_##n, "fldt (%%rcx); fldt (%%rdx); .byte 0xdc, 0xc1 | " #n " << 3;" \
                               "fnstsw %%ax; fstp %%st(0); fstpt (%%rdi)")
#define ARITH_MEMORY(n, kind, opcode) \
    FAST_DEFINE(arith_##kind##_##n,   \
                "fldt (%%rdx); .byte " #opcode ", 0x01 | " #n " << 3; fnstsw %%ax; fstpt (%%rdi)")
#define ARITH(n)               \
    ARITH_ST0(n)               \
    ARITH_STI(n)               \
    ARITH_MEMORY(n, m32, 0xd8) \
    ARITH_MEMORY(n, m64, 0xdc) ARITH_MEMORY(n, i32, 0xda) ARITH_MEMORY(n, i16, 0xde)
ARITH(0)
ARITH(1)
ARITH(2)
ARITH(4)
ARITH(5)
ARITH(6)
ARITH(7)
/* COM does not write ST(0): the result is a again. COMP's pop is the handler's, so it is COM here.
 */
#define ARITH_ROW(kind)                                                                           \
    {                                                                                             \
        arith_##kind##_0, arith_##kind##_1, arith_##kind##_2, arith_##kind##_2, arith_##kind##_4, \
            arith_##kind##_5, arith_##kind##_6, arith_##kind##_7                                  \
    }
static const FastFn arith_st0[8] = ARITH_ROW(st0), arith_sti[8] = ARITH_ROW(sti),
                    arith_m32[8] = ARITH_ROW(m32), arith_m64[8] = ARITH_ROW(m64),
                    arith_i32[8] = ARITH_ROW(i32), arith_i16[8] = ARITH_ROW(i16);

FAST_DEFINE(compare_unordered,
            "fldt (%%rcx); fldt (%%rdx); fucom %%st(1); fnstsw %%ax; fstp %%st(0); fstp %%st(0)")
FAST_DEFINE(load_m32, "flds (%%rcx); fnstsw %%ax; fstpt (%%rdi)")
FAST_DEFINE(load_m64, "fldl (%%rcx); fnstsw %%ax; fstpt (%%rdi)")
FAST_DEFINE(load_i16, "filds (%%rcx); fnstsw %%ax; fstpt (%%rdi)")
FAST_DEFINE(load_i32, "fildl (%%rcx); fnstsw %%ax; fstpt (%%rdi)")
FAST_DEFINE(load_i64, "fildll (%%rcx); fnstsw %%ax; fstpt (%%rdi)")
FAST_DEFINE(store_m32, "fldt (%%rdx); fstps (%%rdi); fnstsw %%ax")
FAST_DEFINE(store_m64, "fldt (%%rdx); fstpl (%%rdi); fnstsw %%ax")
FAST_DEFINE(store_i16, "fldt (%%rdx); fistps (%%rdi); fnstsw %%ax")
FAST_DEFINE(store_i32, "fldt (%%rdx); fistpl (%%rdi); fnstsw %%ax")
FAST_DEFINE(store_i64, "fldt (%%rdx); fistpll (%%rdi); fnstsw %%ax")
FAST_DEFINE(truncate_i16, "fldt (%%rdx); fisttps (%%rdi); fnstsw %%ax")
FAST_DEFINE(truncate_i32, "fldt (%%rdx); fisttpl (%%rdi); fnstsw %%ax")
FAST_DEFINE(truncate_i64, "fldt (%%rdx); fisttpll (%%rdi); fnstsw %%ax")
FAST_DEFINE(square_root, "fldt (%%rdx); fsqrt; fnstsw %%ax; fstpt (%%rdi)")
FAST_DEFINE(round_integer, "fldt (%%rdx); frndint; fnstsw %%ax; fstpt (%%rdi)")

static ALWAYS_INLINE void fcw_load(uint16_t fcw)
{
    __asm__ volatile("fldcw %0" : : "m"(fcw));
}

/* False: go the exact way. True: the result and FSW's condition codes are good. */
static ALWAYS_INLINE bool run_fast(FpuState *fpu, FastFn fn, const void *a, const void *b,
                                   void *result, uint16_t condition)
{
    if (UNLIKELY((fpu->fcw & FCW_MASKS) != FCW_MASKS))
        return false;
    uint16_t fsw;
    if (LIKELY(fpu->fcw == FCW_INIT)) {
        fsw = fn(a, b, result);
    } else {
        fcw_load(fpu->fcw);
        fsw = fn(a, b, result);
        fcw_load(FCW_INIT);
    }
    if (UNLIKELY(fsw & (FSW_FLAGS | FSW_SF) & ~fpu->fsw))
        return false;
    fpu->fsw = (fpu->fsw & ~condition) | (fsw & condition);
    return true;
}

static ALWAYS_INLINE unsigned rm_sti(const Insn *insn)
{
    return insn->modrm & 7;
}

#define FAST_FN(insn) ((FastFn)(uintptr_t)(insn)->imm)
/* Goes on at the exact way. */
#define X87_EXACT(cpu, insn) return run_exact(cpu, insn), true

/* Handlers of one shape each; `pops` and `dst_sti` are constants. */
static ALWAYS_INLINE bool arithmetic(SoftCpu *cpu, const Insn *insn, bool dst_sti, unsigned pops)
{
    FpuState *fpu = &cpu->s.fpu;
    X87_WAIT(cpu, insn);
    unsigned i = rm_sti(insn);
    uint8_t result[16];
    if (UNLIKELY(!st_used(fpu, 0) || !st_used(fpu, i)) ||
        !run_fast(fpu, FAST_FN(insn), st(fpu, 0), st(fpu, i), result, FSW_C1))
        X87_EXACT(cpu, insn);
    memcpy(st(fpu, dst_sti ? i : 0), result, 10);
    if (pops)
        pop(fpu);
    set_pointers(cpu, insn);
    return true;
}
X87_HANDLER(arithmetic_st0, arithmetic(cpu, insn, false, 0))
X87_HANDLER(arithmetic_sti, arithmetic(cpu, insn, true, 0))
X87_HANDLER(arithmetic_pop, arithmetic(cpu, insn, true, 1))

static ALWAYS_INLINE bool arithmetic_memory_body(SoftCpu *cpu, const Insn *insn)
{
    FpuState *fpu = &cpu->s.fpu;
    X87_WAIT(cpu, insn);
    uint8_t operand[8], result[16];
    load_bytes(cpu, insn, operand, x87_memory_size(insn));
    if (UNLIKELY(!st_used(fpu, 0)) ||
        !run_fast(fpu, FAST_FN(insn), st(fpu, 0), operand, result, FSW_C1))
        X87_EXACT(cpu, insn);
    memcpy(st(fpu, 0), result, 10);
    set_pointers(cpu, insn);
    return true;
}
X87_HANDLER(arithmetic_memory, arithmetic_memory_body(cpu, insn))

static ALWAYS_INLINE bool compare(SoftCpu *cpu, const Insn *insn, unsigned pops)
{
    FpuState *fpu = &cpu->s.fpu;
    X87_WAIT(cpu, insn);
    unsigned i = rm_sti(insn);
    uint8_t unchanged[16];
    if (UNLIKELY(!st_used(fpu, 0) || !st_used(fpu, i)) ||
        !run_fast(fpu, FAST_FN(insn), st(fpu, 0), st(fpu, i), unchanged, FSW_CONDITION))
        X87_EXACT(cpu, insn);
    for (unsigned n = 0; n < pops; n++)
        pop(fpu);
    set_pointers(cpu, insn);
    return true;
}
X87_HANDLER(compare_keep, compare(cpu, insn, 0))
X87_HANDLER(compare_pop, compare(cpu, insn, 1))
X87_HANDLER(compare_pop2, compare(cpu, insn, 2))

/* FCOMI's answer in EFLAGS follows from FCOM's in C3, C2, C0: ZF, PF, CF. */
static ALWAYS_INLINE bool compare_eflags(SoftCpu *cpu, const Insn *insn, bool pops)
{
    FpuState *fpu = &cpu->s.fpu;
    X87_WAIT(cpu, insn);
    unsigned i = rm_sti(insn);
    uint16_t before = fpu->fsw;
    uint8_t unchanged[16];
    if (UNLIKELY(!st_used(fpu, 0) || !st_used(fpu, i)) ||
        !run_fast(fpu, FAST_FN(insn), st(fpu, 0), st(fpu, i), unchanged, FSW_CONDITION))
        X87_EXACT(cpu, insn);
    cpu->flags = 0x200 | (fpu->fsw & (FSW_C0 | FSW_C2 | FSW_C3));
    fpu->fsw = before & ~FSW_C1;
    if (pops)
        pop(fpu);
    set_pointers(cpu, insn);
    return true;
}
X87_HANDLER(compare_eflags_keep, compare_eflags(cpu, insn, false))
X87_HANDLER(compare_eflags_pop, compare_eflags(cpu, insn, true))

static ALWAYS_INLINE bool compare_memory(SoftCpu *cpu, const Insn *insn, bool pops)
{
    FpuState *fpu = &cpu->s.fpu;
    X87_WAIT(cpu, insn);
    uint8_t operand[8], unchanged[16];
    load_bytes(cpu, insn, operand, x87_memory_size(insn));
    if (UNLIKELY(!st_used(fpu, 0)) ||
        !run_fast(fpu, FAST_FN(insn), st(fpu, 0), operand, unchanged, FSW_CONDITION))
        X87_EXACT(cpu, insn);
    if (pops)
        pop(fpu);
    set_pointers(cpu, insn);
    return true;
}
X87_HANDLER(compare_memory_keep, compare_memory(cpu, insn, false))
X87_HANDLER(compare_memory_pop, compare_memory(cpu, insn, true))

static ALWAYS_INLINE bool unary_body(SoftCpu *cpu, const Insn *insn)
{
    FpuState *fpu = &cpu->s.fpu;
    X87_WAIT(cpu, insn);
    uint8_t result[16];
    if (UNLIKELY(!st_used(fpu, 0)) ||
        !run_fast(fpu, FAST_FN(insn), st(fpu, 0), NULL, result, FSW_C1))
        X87_EXACT(cpu, insn);
    memcpy(st(fpu, 0), result, 10);
    set_pointers(cpu, insn);
    return true;
}
X87_HANDLER(unary, unary_body(cpu, insn))

static ALWAYS_INLINE bool load_body(SoftCpu *cpu, const Insn *insn)
{
    FpuState *fpu = &cpu->s.fpu;
    X87_WAIT(cpu, insn);
    uint8_t operand[16], result[16];
    load_bytes(cpu, insn, operand, x87_memory_size(insn));
    if (UNLIKELY(st_used(fpu, 7)) || !run_fast(fpu, FAST_FN(insn), NULL, operand, result, FSW_C1))
        X87_EXACT(cpu, insn);
    push(fpu, result);
    set_pointers(cpu, insn);
    return true;
}
X87_HANDLER(load, load_body(cpu, insn))

static ALWAYS_INLINE bool load_m80_body(SoftCpu *cpu, const Insn *insn)
{
    FpuState *fpu = &cpu->s.fpu;
    X87_WAIT(cpu, insn);
    uint8_t operand[16];
    if (UNLIKELY(st_used(fpu, 7)))
        X87_EXACT(cpu, insn);
    load_bytes(cpu, insn, operand, 10);
    fpu->fsw &= ~FSW_C1;
    push(fpu, operand);
    set_pointers(cpu, insn);
    return true;
}
X87_HANDLER(load_m80, load_m80_body(cpu, insn))

static ALWAYS_INLINE bool load_sti_body(SoftCpu *cpu, const Insn *insn)
{
    FpuState *fpu = &cpu->s.fpu;
    X87_WAIT(cpu, insn);
    if (UNLIKELY(st_used(fpu, 7) || !st_used(fpu, rm_sti(insn))))
        X87_EXACT(cpu, insn);
    fpu->fsw &= ~FSW_C1;
    push(fpu, st(fpu, rm_sti(insn)));
    set_pointers(cpu, insn);
    return true;
}
X87_HANDLER(load_sti, load_sti_body(cpu, insn))

static ALWAYS_INLINE bool load_constant(SoftCpu *cpu, const Insn *insn, uint64_t mantissa,
                                        uint16_t exponent)
{
    FpuState *fpu = &cpu->s.fpu;
    uint8_t value[10];
    X87_WAIT(cpu, insn);
    if (UNLIKELY(st_used(fpu, 7)))
        X87_EXACT(cpu, insn);
    store_le64(value, mantissa);
    store_le16(value + 8, exponent);
    fpu->fsw &= ~FSW_C1;
    push(fpu, value);
    set_pointers(cpu, insn);
    return true;
}
X87_HANDLER(load_one, load_constant(cpu, insn, UINT64_C(1) << 63, 0x3fff))
X87_HANDLER(load_zero, load_constant(cpu, insn, 0, 0))

static ALWAYS_INLINE bool store(SoftCpu *cpu, const Insn *insn, bool pops)
{
    FpuState *fpu = &cpu->s.fpu;
    X87_WAIT(cpu, insn);
    uint16_t before = fpu->fsw;
    uint8_t result[16];
    if (UNLIKELY(!st_used(fpu, 0)) ||
        !run_fast(fpu, FAST_FN(insn), st(fpu, 0), NULL, result, FSW_C1))
        X87_EXACT(cpu, insn);
    uint16_t after = fpu->fsw;
    fpu->fsw = before; /* the store may fault */
    store_bytes(cpu, insn, result, -x87_memory_size(insn));
    fpu->fsw = after;
    if (pops)
        pop(fpu);
    set_pointers(cpu, insn);
    return true;
}
X87_HANDLER(store_keep, store(cpu, insn, false))
X87_HANDLER(store_pop, store(cpu, insn, true))

static ALWAYS_INLINE bool store_pop_m80_body(SoftCpu *cpu, const Insn *insn)
{
    FpuState *fpu = &cpu->s.fpu;
    X87_WAIT(cpu, insn);
    if (UNLIKELY(!st_used(fpu, 0)))
        X87_EXACT(cpu, insn);
    store_bytes(cpu, insn, st(fpu, 0), 10);
    fpu->fsw &= ~FSW_C1;
    pop(fpu);
    set_pointers(cpu, insn);
    return true;
}
X87_HANDLER(store_pop_m80, store_pop_m80_body(cpu, insn))

static ALWAYS_INLINE bool store_sti(SoftCpu *cpu, const Insn *insn, bool pops)
{
    FpuState *fpu = &cpu->s.fpu;
    X87_WAIT(cpu, insn);
    if (UNLIKELY(!st_used(fpu, 0)))
        X87_EXACT(cpu, insn);
    unsigned to = physical(fpu, rm_sti(insn));
    memmove(fpu->st[to], st(fpu, 0), 10);
    fpu->ftw_abridged |= 1 << to;
    fpu->fsw &= ~FSW_C1;
    if (pops)
        pop(fpu);
    set_pointers(cpu, insn);
    return true;
}
X87_HANDLER(store_sti_keep, store_sti(cpu, insn, false))
X87_HANDLER(store_sti_pop, store_sti(cpu, insn, true))

static ALWAYS_INLINE bool exchange_body(SoftCpu *cpu, const Insn *insn)
{
    FpuState *fpu = &cpu->s.fpu;
    X87_WAIT(cpu, insn);
    if (UNLIKELY(!st_used(fpu, 0) || !st_used(fpu, rm_sti(insn))))
        X87_EXACT(cpu, insn);
    uint8_t old[10], *a = st(fpu, 0), *b = st(fpu, rm_sti(insn));
    memcpy(old, a, 10);
    memmove(a, b, 10);
    memcpy(b, old, 10);
    fpu->fsw &= ~FSW_C1;
    set_pointers(cpu, insn);
    return true;
}
X87_HANDLER(exchange, exchange_body(cpu, insn))

/* FCMOVcc: B E BE U by ModRM.reg, DB: the opposite. */
static ALWAYS_INLINE bool move_if_body(SoftCpu *cpu, const Insn *insn)
{
    static const uint16_t conditions[4] = {FSW_C0, FSW_C3, FSW_C0 | FSW_C3,
                                           FSW_C2}; /* places of CF, ZF, PF in flags */
    FpuState *fpu = &cpu->s.fpu;
    X87_WAIT(cpu, insn);
    if (UNLIKELY(!st_used(fpu, 0) || !st_used(fpu, rm_sti(insn))))
        X87_EXACT(cpu, insn);
    bool holds = cpu->flags & conditions[insn_modrm_reg(insn)];
    if (holds == (insn->opcode == 0xda))
        memmove(st(fpu, 0), st(fpu, rm_sti(insn)), 10);
    set_pointers(cpu, insn);
    return true;
}
X87_HANDLER(move_if, move_if_body(cpu, insn))

/* FCHS, FABS */
static ALWAYS_INLINE bool change_sign_body(SoftCpu *cpu, const Insn *insn)
{
    FpuState *fpu = &cpu->s.fpu;
    X87_WAIT(cpu, insn);
    if (UNLIKELY(!st_used(fpu, 0)))
        X87_EXACT(cpu, insn);
    uint8_t *sign = (uint8_t *)st(fpu, 0) + 9;
    *sign = insn->modrm == 0xe0 ? *sign ^ 0x80 : *sign & 0x7f;
    fpu->fsw &= ~FSW_C1;
    set_pointers(cpu, insn);
    return true;
}
X87_HANDLER(change_sign, change_sign_body(cpu, insn))

static void trap_nm(SoftCpu *cpu, const Insn *insn)
{
    INSN_RAISE(cpu, insn, EXC_NM);
}

/* ---- selection ------------------------------------------------------------------------------- */

/* One opcode: `first` to `last` are ModRM bytes of register forms, or ModRM.reg of memory forms.
 * The first row that matches counts; fn NULL: #UD. `fast` is indexed by ModRM.reg when
 * `fast_by_reg`. */
typedef struct X87Row {
    uint8_t opcode, first, last;
    InsnFn fn;
    FastFn fast;
    const FastFn *fast_by_reg;
} X87Row;

static const X87Row register_rows[] = {
    {0xd8, 0xd0, 0xd7, compare_keep, NULL, arith_st0},
    {0xd8, 0xd8, 0xdf, compare_pop, NULL, arith_st0},
    {0xd8, 0xc0, 0xff, arithmetic_st0, NULL, arith_st0},
    {0xd9, 0xc0, 0xc7, load_sti},
    {0xd9, 0xc8, 0xcf, exchange},
    {0xd9, 0xd0, 0xd0, x87_exact}, /* FNOP */
    {0xd9, 0xd1, 0xd7, NULL},
    {0xd9, 0xd8, 0xdf, x87_exact}, /* FSTP again, without stack underflow */
    {0xd9, 0xe0, 0xe1, change_sign},
    {0xd9, 0xe2, 0xe3, NULL},
    {0xd9, 0xe6, 0xe7, NULL},
    {0xd9, 0xe8, 0xe8, load_one},
    {0xd9, 0xee, 0xee, load_zero},
    {0xd9, 0xef, 0xef, NULL},
    {0xd9, 0xfa, 0xfa, unary, square_root},
    {0xd9, 0xfc, 0xfc, unary, round_integer},
    {0xd9, 0xe4, 0xff, x87_exact},
    {0xda, 0xc0, 0xdf, move_if},
    {0xda, 0xe9, 0xe9, compare_pop2, compare_unordered},
    {0xdb, 0xc0, 0xdf, move_if},
    {0xdb, 0xe0, 0xe1, x87_nothing},
    {0xdb, 0xe2, 0xe2, x87_fnclex},
    {0xdb, 0xe3, 0xe3, x87_fninit},
    {0xdb, 0xe4, 0xe4, x87_nothing},
    {0xdb, 0xe8, 0xef, compare_eflags_keep, compare_unordered},
    {0xdb, 0xf0, 0xf7, compare_eflags_keep, arith_st0_2},
    {0xdc, 0xd0, 0xd7, compare_keep, arith_st0_2}, /* FCOM again */
    {0xdc, 0xd8, 0xdf, compare_pop, arith_st0_2},
    {0xdc, 0xc0, 0xff, arithmetic_sti, NULL, arith_sti},
    {0xdd, 0xc0, 0xc7, x87_exact}, /* FFREE */
    {0xdd, 0xc8, 0xcf, exchange},  /* again */
    {0xdd, 0xd0, 0xd7, store_sti_keep},
    {0xdd, 0xd8, 0xdf, store_sti_pop},
    {0xdd, 0xe0, 0xe7, compare_keep, compare_unordered},
    {0xdd, 0xe8, 0xef, compare_pop, compare_unordered},
    {0xde, 0xd0, 0xd7, compare_pop, arith_st0_2}, /* FCOMP again */
    {0xde, 0xd9, 0xd9, compare_pop2, arith_st0_2},
    {0xde, 0xd8, 0xdf, NULL},
    {0xde, 0xc0, 0xff, arithmetic_pop, NULL, arith_sti},
    {0xdf, 0xc0, 0xc7, x87_exact}, /* FFREEP */
    {0xdf, 0xc8, 0xcf, exchange},  /* again */
    {0xdf, 0xd0, 0xdf, store_sti_pop},
    {0xdf, 0xe0, 0xe0, x87_fnstsw_ax},
    {0xdf, 0xe8, 0xef, compare_eflags_pop, compare_unordered},
    {0xdf, 0xf0, 0xf7, compare_eflags_pop, arith_st0_2},
};

static const X87Row memory_rows[] = {
    {0xd8, 2, 2, compare_memory_keep, NULL, arith_m32},
    {0xd8, 3, 3, compare_memory_pop, NULL, arith_m32},
    {0xd8, 0, 7, arithmetic_memory, NULL, arith_m32},
    {0xd9, 0, 0, load, load_m32},
    {0xd9, 2, 2, store_keep, store_m32},
    {0xd9, 3, 3, store_pop, store_m32},
    {0xd9, 4, 4, x87_fldenv},
    {0xd9, 5, 5, x87_fldcw},
    {0xd9, 6, 6, x87_fnstenv},
    {0xd9, 7, 7, x87_fnstcw},
    {0xda, 2, 2, compare_memory_keep, NULL, arith_i32},
    {0xda, 3, 3, compare_memory_pop, NULL, arith_i32},
    {0xda, 0, 7, arithmetic_memory, NULL, arith_i32},
    {0xdb, 0, 0, load, load_i32},
    {0xdb, 1, 1, store_pop, truncate_i32},
    {0xdb, 2, 2, store_keep, store_i32},
    {0xdb, 3, 3, store_pop, store_i32},
    {0xdb, 5, 5, load_m80},
    {0xdb, 7, 7, store_pop_m80},
    {0xdc, 2, 2, compare_memory_keep, NULL, arith_m64},
    {0xdc, 3, 3, compare_memory_pop, NULL, arith_m64},
    {0xdc, 0, 7, arithmetic_memory, NULL, arith_m64},
    {0xdd, 0, 0, load, load_m64},
    {0xdd, 1, 1, store_pop, truncate_i64},
    {0xdd, 2, 2, store_keep, store_m64},
    {0xdd, 3, 3, store_pop, store_m64},
    {0xdd, 4, 4, x87_frstor},
    {0xdd, 6, 6, x87_fnsave},
    {0xdd, 7, 7, x87_fnstsw},
    {0xde, 2, 2, compare_memory_keep, NULL, arith_i16},
    {0xde, 3, 3, compare_memory_pop, NULL, arith_i16},
    {0xde, 0, 7, arithmetic_memory, NULL, arith_i16},
    {0xdf, 0, 0, load, load_i16},
    {0xdf, 1, 1, store_pop, truncate_i16},
    {0xdf, 2, 2, store_keep, store_i16},
    {0xdf, 3, 3, store_pop, store_i16},
    {0xdf, 4, 4, x87_exact}, /* FBLD */
    {0xdf, 5, 5, load, load_i64},
    {0xdf, 6, 6, x87_exact}, /* FBSTP */
    {0xdf, 7, 7, store_pop, store_i64},
};

static const X87Row *find_row(const Insn *insn)
{
    bool memory = insn->flags & INSN_MEMORY;
    const X87Row *rows = memory ? memory_rows : register_rows;
    unsigned count = memory ? G_N_ELEMENTS(memory_rows) : G_N_ELEMENTS(register_rows);
    unsigned value = memory ? insn_modrm_reg(insn) : insn->modrm;
    for (unsigned i = 0; i < count; i++)
        if (rows[i].opcode == insn->opcode && value >= rows[i].first && value <= rows[i].last)
            return rows[i].fn ? &rows[i] : NULL;
    return NULL;
}

/* FCMOVcc, FCOMI and relatives came with CMOV; FISTTP with SSE3. */
static bool is_offered(const CpuModel *model, const Insn *insn)
{
    bool memory = insn->flags & INSN_MEMORY;
    unsigned reg = insn_modrm_reg(insn);
    if (memory && reg == 1 && insn->opcode >= 0xdb && (insn->opcode & 1))
        return cpu_has(model, CPU_SSE3);
    bool cmov = !memory && ((insn->opcode == 0xda && reg < 4) ||
                            (insn->opcode == 0xdb && (reg < 4 || reg == 5 || reg == 6)) ||
                            (insn->opcode == 0xdf && (reg == 5 || reg == 6)));
    return !cmov || cpu_has(model, CPU_CMOV);
}

bool x87_select(uint32_t mode, const CpuModel *model, Insn *insn)
{
    if (insn->prefixes & PREFIX_LOCK)
        return false;
    if (insn->opcode == 0x9b) {
        insn->fn = x87_fwait;
        return true;
    }
    const X87Row *row = find_row(insn);
    if (mode & MODE_FPU_TRAP) { /* even if undefined: #NM comes first */
        insn->fn = trap_nm;
        return true;
    }
    if (!row || !is_offered(model, insn))
        return false;
    insn->fn = row->fn;
    insn->imm = (uintptr_t)(row->fast_by_reg ? row->fast_by_reg[insn_modrm_reg(insn)] : row->fast);
    insn->data = stub_get_x87(insn->opcode, insn->modrm);
    return insn->data != NULL;
}
