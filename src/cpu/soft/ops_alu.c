/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Integer arithmetic and logic: each operation for every size, for register and memory operands,
 * with and without LOCK.
 */
#include "cpu/soft/ops.h"

#define REG_WRITE(bits, n, value) reg_write##bits(cpu, n, value)
#define NO_WRITE(bits, n, value)  ((void)(value))

/* Register forms and G,E from memory: the same for operations that keep their result and those that
 * don't. */
#define BINARY_SIZE(op, bits, type, WRITE)                                                    \
    static void op##_rr##bits(SoftCpu *cpu, const Insn *insn)                                 \
    {                                                                                         \
        WRITE(bits, insn->rm,                                                                 \
              flags_##op##bits(&cpu->flags, reg_read##bits(cpu, insn->rm),                    \
                               reg_read##bits(cpu, insn->reg)));                              \
        INSN_NEXT(cpu, insn);                                                                 \
    }                                                                                         \
    static void op##_ri##bits(SoftCpu *cpu, const Insn *insn)                                 \
    {                                                                                         \
        WRITE(bits, insn->rm,                                                                 \
              flags_##op##bits(&cpu->flags, reg_read##bits(cpu, insn->rm), (type)insn->imm)); \
        INSN_NEXT(cpu, insn);                                                                 \
    }                                                                                         \
    static void op##_rm##bits(SoftCpu *cpu, const Insn *insn)                                 \
    {                                                                                         \
        type value = mem_read##bits(cpu, insn, OPERAND(bits, MMU_READ));                      \
        WRITE(bits, insn->reg,                                                                \
              flags_##op##bits(&cpu->flags, reg_read##bits(cpu, insn->reg), value));          \
        INSN_NEXT(cpu, insn);                                                                 \
    }

#define MEMORY_STORE(op, bits, type, suffix, form, source)                             \
    static void op##_m##form##bits(SoftCpu *cpu, const Insn *insn)                     \
    {                                                                                  \
        type value = source;                                                           \
        OPERAND_RMW(bits, type, flags_##op##bits(&flags, old, value));                 \
        INSN_NEXT(cpu, insn);                                                          \
    }                                                                                  \
    static void op##_lock_m##form##bits(SoftCpu *cpu, const Insn *insn)                \
    {                                                                                  \
        type value = source;                                                           \
        OPERAND_LOCKED(bits, type,                                                     \
                       asm volatile(FLAGS_IN "lock; " #op suffix " %2, (%1)" FLAGS_OUT \
                                    : "+a"(flags)                                      \
                                    : "r"(host), "r"(value)                            \
                                    : "cc", "memory"),                                 \
                       flags_##op##bits(&flags, old, value));                          \
        INSN_NEXT(cpu, insn);                                                          \
    }
#define MEMORY_COMPARE(op, bits, type, form, source)                   \
    static void op##_m##form##bits(SoftCpu *cpu, const Insn *insn)     \
    {                                                                  \
        type value = source;                                           \
        type old = mem_read##bits(cpu, insn, OPERAND(bits, MMU_READ)); \
        (void)flags_##op##bits(&cpu->flags, old, value);               \
        INSN_NEXT(cpu, insn);                                          \
    }

#define FORMS(op, form)                                       \
    {                                                         \
        op##form##8, op##form##16, op##form##32, op##form##64 \
    }
/* In G,E with two registers the decoder swaps them, so that form is E,G's. */
#define BINARY_ROWS(op)                                                                 \
    const OpForms op_##op##_eg = {FORMS(op, _rr), FORMS(op, _mr), FORMS(op, _lock_mr)}; \
    const OpForms op_##op##_ge = {FORMS(op, _rr), FORMS(op, _rm)};                      \
    const OpForms op_##op##_ei = {FORMS(op, _ri), FORMS(op, _mi), FORMS(op, _lock_mi)};

#define BINARY(op)                                                     \
    BINARY_SIZE(op, 8, uint8_t, REG_WRITE)                             \
    BINARY_SIZE(op, 16, uint16_t, REG_WRITE)                           \
    BINARY_SIZE(op, 32, uint32_t, REG_WRITE)                           \
    BINARY_SIZE(op, 64, uint64_t, REG_WRITE)                           \
    MEMORY_STORE(op, 8, uint8_t, "b", r, reg_read8(cpu, insn->reg))    \
    MEMORY_STORE(op, 16, uint16_t, "w", r, reg_read16(cpu, insn->reg)) \
    MEMORY_STORE(op, 32, uint32_t, "l", r, reg_read32(cpu, insn->reg)) \
    MEMORY_STORE(op, 64, uint64_t, "q", r, reg_read64(cpu, insn->reg)) \
    MEMORY_STORE(op, 8, uint8_t, "b", i, (uint8_t)insn->imm)           \
    MEMORY_STORE(op, 16, uint16_t, "w", i, (uint16_t)insn->imm)        \
    MEMORY_STORE(op, 32, uint32_t, "l", i, (uint32_t)insn->imm)        \
    MEMORY_STORE(op, 64, uint64_t, "q", i, insn->imm)                  \
    BINARY_ROWS(op)

BINARY(add)
BINARY(or)
BINARY(adc)
BINARY(sbb)
BINARY(and)
BINARY(sub)
BINARY(xor)

#define COMPARISON(op)                                       \
    BINARY_SIZE(op, 8, uint8_t, NO_WRITE)                    \
    BINARY_SIZE(op, 16, uint16_t, NO_WRITE)                  \
    BINARY_SIZE(op, 32, uint32_t, NO_WRITE)                  \
    BINARY_SIZE(op, 64, uint64_t, NO_WRITE)                  \
    MEMORY_COMPARE(op, 8, uint8_t, i, (uint8_t)insn->imm)    \
    MEMORY_COMPARE(op, 16, uint16_t, i, (uint16_t)insn->imm) \
    MEMORY_COMPARE(op, 32, uint32_t, i, (uint32_t)insn->imm) \
    MEMORY_COMPARE(op, 64, uint64_t, i, insn->imm)

COMPARISON(cmp)
COMPARISON(test)
MEMORY_COMPARE(cmp, 8, uint8_t, r, reg_read8(cpu, insn->reg))
MEMORY_COMPARE(cmp, 16, uint16_t, r, reg_read16(cpu, insn->reg))
MEMORY_COMPARE(cmp, 32, uint32_t, r, reg_read32(cpu, insn->reg))
MEMORY_COMPARE(cmp, 64, uint64_t, r, reg_read64(cpu, insn->reg))
const OpForms op_cmp_eg = {FORMS(cmp, _rr), FORMS(cmp, _mr)};
const OpForms op_cmp_ge = {FORMS(cmp, _rr), FORMS(cmp, _rm)};
const OpForms op_cmp_ei = {FORMS(cmp, _ri), FORMS(cmp, _mi)};
const OpForms op_test_eg = {FORMS(test, _rr), FORMS(test, _rm)};
const OpForms op_test_ei = {FORMS(test, _ri), FORMS(test, _mi)};

/* ---- one operand ----------------------------------------------------------------------------- */

#define UNARY_SIZE(op, bits, type, suffix, compute)                                \
    static void op##_r##bits(SoftCpu *cpu, const Insn *insn)                       \
    {                                                                              \
        type old = reg_read##bits(cpu, insn->rm);                                  \
        uint32_t flags = cpu->flags;                                               \
        reg_write##bits(cpu, insn->rm, compute);                                   \
        cpu->flags = flags;                                                        \
        INSN_NEXT(cpu, insn);                                                      \
    }                                                                              \
    static void op##_m##bits(SoftCpu *cpu, const Insn *insn)                       \
    {                                                                              \
        OPERAND_RMW(bits, type, compute);                                          \
        INSN_NEXT(cpu, insn);                                                      \
    }                                                                              \
    static void op##_lock_m##bits(SoftCpu *cpu, const Insn *insn)                  \
    {                                                                              \
        OPERAND_LOCKED(bits, type,                                                 \
                       asm volatile(FLAGS_IN "lock; " #op suffix " (%1)" FLAGS_OUT \
                                    : "+a"(flags)                                  \
                                    : "r"(host)                                    \
                                    : "cc", "memory"),                             \
                       compute);                                                   \
        INSN_NEXT(cpu, insn);                                                      \
    }
#define UNARY_FLAGS(bits, type, stype, suffix)                        \
    UNARY_SIZE(inc, bits, type, suffix, flags_inc##bits(&flags, old)) \
    UNARY_SIZE(dec, bits, type, suffix, flags_dec##bits(&flags, old)) \
    UNARY_SIZE(neg, bits, type, suffix, flags_neg##bits(&flags, old)) \
    UNARY_SIZE(not, bits, type, suffix, (type)~old)
FLAGS_SIZES(UNARY_FLAGS)
#define UNARY_ROW(op) \
    const OpForms op_##op##_e = {FORMS(op, _r), FORMS(op, _m), FORMS(op, _lock_m)};
UNARY_ROW(inc)
UNARY_ROW(dec)
UNARY_ROW(neg)
UNARY_ROW(not )

/* ---- multiplication and division ------------------------------------------------------------- */

/* Both forms of an operation whose only ModRM operand is read; `body` uses `value`. */
#define SOURCE_HANDLERS(name, bits, type, body)                          \
    static void name##_r##bits(SoftCpu *cpu, const Insn *insn)           \
    {                                                                    \
        type value = reg_read##bits(cpu, insn->rm);                      \
        body;                                                            \
        INSN_NEXT(cpu, insn);                                            \
    }                                                                    \
    static void name##_m##bits(SoftCpu *cpu, const Insn *insn)           \
    {                                                                    \
        type value = mem_read##bits(cpu, insn, OPERAND(bits, MMU_READ)); \
        body;                                                            \
        INSN_NEXT(cpu, insn);                                            \
    }

/* One-operand MUL and IMUL of 16 to 64 bits; the flags go through RCX because RAX and RDX are
 * taken. */
#define MULTIPLY(op, bits, type, suffix)                                                           \
    static inline void op##_pair##bits(SoftCpu *cpu, type value)                                   \
    {                                                                                              \
        type low = reg_read##bits(cpu, GPR_RAX), high;                                             \
        uint64_t flags;                                                                            \
        asm("mov" suffix " %[value], %[high]\n\t"                                                  \
            "mov %q[low], %[flags]\n\t"                                                            \
            "mov %[old], %%eax\n\t" FLAGS_IN "mov %[flags], %q[low]\n\t" #op suffix " %[high]\n\t" \
            "mov %q[low], %[flags]" FLAGS_OUT "\n\t"                                               \
            "xchg %[flags], %q[low]"                                                               \
            : [low] "+&a"(low), [high] "=&d"(high), [flags] "=&r"(flags)                           \
            : [value] "r"(value), [old] "r"(cpu->flags)                                            \
            : "cc");                                                                               \
        cpu->flags = flags;                                                                        \
        reg_write##bits(cpu, GPR_RAX, low);                                                        \
        reg_write##bits(cpu, GPR_RDX, high);                                                       \
    }                                                                                              \
    SOURCE_HANDLERS(op, bits, type, op##_pair##bits(cpu, value))
MULTIPLY(mul, 16, uint16_t, "w")
MULTIPLY(mul, 32, uint32_t, "l")
MULTIPLY(mul, 64, uint64_t, "q")
MULTIPLY(imul, 16, uint16_t, "w")
MULTIPLY(imul, 32, uint32_t, "l")
MULTIPLY(imul, 64, uint64_t, "q")

#define MULTIPLY_BYTE(op)                                                                    \
    static inline void op##_byte(SoftCpu *cpu, uint8_t value)                                \
    {                                                                                        \
        uint16_t ax = reg_read16(cpu, GPR_RAX);                                              \
        uint64_t flags;                                                                      \
        asm("movzwl %w[ax], %k[flags]\n\t"                                                   \
            "mov %[old], %%eax\n\t" FLAGS_IN "mov %k[flags], %%eax\n\t" #op "b %[value]\n\t" \
            "mov %q[ax], %[flags]" FLAGS_OUT "\n\t"                                          \
            "xchg %[flags], %q[ax]"                                                          \
            : [ax] "+&a"(ax), [flags] "=&r"(flags)                                           \
            : [value] "r"(value), [old] "r"(cpu->flags)                                      \
            : "cc");                                                                         \
        cpu->flags = flags;                                                                  \
        reg_write16(cpu, GPR_RAX, ax);                                                       \
    }                                                                                        \
    SOURCE_HANDLERS(op, 8, uint8_t, op##_byte(cpu, value))
MULTIPLY_BYTE(mul)
MULTIPLY_BYTE(imul)

/* Quotients that do not fit are #DE, so the host's instruction is only reached with ones that do.
 * It gives the flags, too. */
#define DIVIDE_NATIVE(op, bits, type, suffix)                                         \
    static inline void op##_native##bits(SoftCpu *cpu, type value)                    \
    {                                                                                 \
        type low = reg_read##bits(cpu, GPR_RAX), high = reg_read##bits(cpu, GPR_RDX); \
        uint64_t flags;                                                               \
        asm("mov %q[low], %[flags]\n\t"                                               \
            "mov %[old], %%eax\n\t" FLAGS_IN "mov %[flags], %q[low]\n\t" #op suffix   \
            " %[value]\n\t"                                                           \
            "mov %q[low], %[flags]" FLAGS_OUT "\n\t"                                  \
            "xchg %[flags], %q[low]"                                                  \
            : [low] "+&a"(low), [high] "+&d"(high), [flags] "=&r"(flags)              \
            : [value] "r"(value), [old] "r"(cpu->flags)                               \
            : "cc");                                                                  \
        cpu->flags = flags;                                                           \
        reg_write##bits(cpu, GPR_RAX, low);                                           \
        reg_write##bits(cpu, GPR_RDX, high);                                          \
    }
#define DIVIDE(bits, type, stype, wide, swide, suffix)                                             \
    DIVIDE_NATIVE(div, bits, type, suffix)                                                         \
    DIVIDE_NATIVE(idiv, bits, type, suffix)                                                        \
    static inline void div_pair##bits(SoftCpu *cpu, const Insn *insn, type value)                  \
    {                                                                                              \
        if (reg_read##bits(cpu, GPR_RDX) >= value)                                                 \
            INSN_RAISE(cpu, insn, EXC_DE);                                                         \
        div_native##bits(cpu, value);                                                              \
    }                                                                                              \
    static inline void idiv_pair##bits(SoftCpu *cpu, const Insn *insn, type value)                 \
    {                                                                                              \
        wide dividend = (wide)reg_read##bits(cpu, GPR_RDX) << bits | reg_read##bits(cpu, GPR_RAX); \
        bool negative = (swide)dividend < 0, opposite = negative != ((stype)value < 0);            \
        wide magnitude = negative ? -dividend : dividend;                                          \
        type divisor = (stype)value < 0 ? -value : value;                                          \
        /* The quotient is at most 2^(bits-1) - 1, or 2^(bits-1) when negative. */                 \
        wide limit = (wide)divisor * (((type)1 << (bits - 1)) + opposite);                         \
        if (!value || magnitude >= limit)                                                          \
            INSN_RAISE(cpu, insn, EXC_DE);                                                         \
        idiv_native##bits(cpu, value);                                                             \
    }                                                                                              \
    SOURCE_HANDLERS(div, bits, type, div_pair##bits(cpu, insn, value))                             \
    SOURCE_HANDLERS(idiv, bits, type, idiv_pair##bits(cpu, insn, value))
DIVIDE(16, uint16_t, int16_t, uint32_t, int32_t, "w")
DIVIDE(32, uint32_t, int32_t, uint64_t, int64_t, "l")
DIVIDE(64, uint64_t, int64_t, unsigned __int128, __int128, "q")

#define DIVIDE_BYTE(op)                                                                     \
    static inline void op##_native_byte(SoftCpu *cpu, uint8_t value)                        \
    {                                                                                       \
        uint64_t ax = reg_read16(cpu, GPR_RAX), flags;                                      \
        asm("mov %[ax], %[flags]\n\t"                                                       \
            "mov %[old], %%eax\n\t" FLAGS_IN "mov %[flags], %[ax]\n\t" #op "b %[value]\n\t" \
            "mov %[ax], %[flags]" FLAGS_OUT "\n\t"                                          \
            "xchg %[flags], %[ax]"                                                          \
            : [ax] "+&a"(ax), [flags] "=&r"(flags)                                          \
            : [value] "r"(value), [old] "r"(cpu->flags)                                     \
            : "cc");                                                                        \
        cpu->flags = flags;                                                                 \
        reg_write16(cpu, GPR_RAX, ax);                                                      \
    }
DIVIDE_BYTE(div)
DIVIDE_BYTE(idiv)
static inline void div_byte(SoftCpu *cpu, const Insn *insn, uint8_t value)
{
    if (!value || reg_read16(cpu, GPR_RAX) / value > UINT8_MAX)
        INSN_RAISE(cpu, insn, EXC_DE);
    div_native_byte(cpu, value);
}
static inline void idiv_byte(SoftCpu *cpu, const Insn *insn, uint8_t value)
{
    int ax = (int16_t)reg_read16(cpu, GPR_RAX), divisor = (int8_t)value;
    if (!divisor || ax / divisor != (int8_t)(ax / divisor))
        INSN_RAISE(cpu, insn, EXC_DE);
    idiv_native_byte(cpu, value);
}
SOURCE_HANDLERS(div, 8, uint8_t, div_byte(cpu, insn, value))
SOURCE_HANDLERS(idiv, 8, uint8_t, idiv_byte(cpu, insn, value))

#define SOURCE_ROW(op) const OpForms op_##op##_e = {FORMS(op, _r), FORMS(op, _m)};
SOURCE_ROW(mul)
SOURCE_ROW(imul)
SOURCE_ROW(div)
SOURCE_ROW(idiv)

#define IMUL_SIZE(bits, type, stype, suffix)                                                      \
    SOURCE_HANDLERS(imul_ge, bits, type,                                                          \
                    reg_write##bits(cpu, insn->reg,                                               \
                                    flags_imul##bits(&cpu->flags, cpu->s.gpr[insn->reg], value))) \
    SOURCE_HANDLERS(                                                                              \
        imul_gei, bits, type,                                                                     \
        reg_write##bits(cpu, insn->reg, flags_imul##bits(&cpu->flags, insn->imm, value)))
FLAGS_WORD_SIZES(IMUL_SIZE)
#define WORD_FORMS(op, form)                           \
    {                                                  \
        NULL, op##form##16, op##form##32, op##form##64 \
    }
const OpForms op_imul_ge = {WORD_FORMS(imul_ge, _r), WORD_FORMS(imul_ge, _m)};
const OpForms op_imul_gei = {WORD_FORMS(imul_gei, _r), WORD_FORMS(imul_gei, _m)};

/* ---- exchange and add, compare and exchange -------------------------------------------------- */

#define XADD_SIZE(bits, type, stype, suffix)                                                    \
    static void xadd_r##bits(SoftCpu *cpu, const Insn *insn)                                    \
    {                                                                                           \
        type old = reg_read##bits(cpu, insn->rm);                                               \
        type sum = flags_add##bits(&cpu->flags, old, reg_read##bits(cpu, insn->reg));           \
        reg_write##bits(cpu, insn->reg, old);                                                   \
        reg_write##bits(cpu, insn->rm, sum);                                                    \
        INSN_NEXT(cpu, insn);                                                                   \
    }                                                                                           \
    static void xadd_m##bits(SoftCpu *cpu, const Insn *insn)                                    \
    {                                                                                           \
        type value = reg_read##bits(cpu, insn->reg), before;                                    \
        OPERAND_RMW(bits, type, (before = old, flags_add##bits(&flags, old, value)));           \
        reg_write##bits(cpu, insn->reg, before);                                                \
        INSN_NEXT(cpu, insn);                                                                   \
    }                                                                                           \
    static void xadd_lock_m##bits(SoftCpu *cpu, const Insn *insn)                               \
    {                                                                                           \
        type value = reg_read##bits(cpu, insn->reg), before;                                    \
        OPERAND_LOCKED(bits, type,                                                              \
                       (before = __atomic_fetch_add((type *)host, value, __ATOMIC_SEQ_CST),     \
                        (void)flags_add##bits(&flags, before, value)),                          \
                       (before = old, flags_add##bits(&flags, old, value)));                    \
        reg_write##bits(cpu, insn->reg, before);                                                \
        INSN_NEXT(cpu, insn);                                                                   \
    }                                                                                           \
    static void cmpxchg_r##bits(SoftCpu *cpu, const Insn *insn)                                 \
    {                                                                                           \
        type old = reg_read##bits(cpu, insn->rm), expected = reg_read##bits(cpu, 0);            \
        (void)flags_cmp##bits(&cpu->flags, expected, old);                                      \
        if (expected == old)                                                                    \
            reg_write##bits(cpu, insn->rm, reg_read##bits(cpu, insn->reg));                     \
        else                                                                                    \
            reg_write##bits(cpu, 0, old);                                                       \
        INSN_NEXT(cpu, insn);                                                                   \
    }                                                                                           \
    static void cmpxchg_m##bits(SoftCpu *cpu, const Insn *insn)                                 \
    {                                                                                           \
        type value = reg_read##bits(cpu, insn->reg), expected = reg_read##bits(cpu, 0), before; \
        /* The store takes place in any case (SDM 2A CMPXCHG). */                               \
        OPERAND_RMW(bits, type, (before = old, old == expected ? value : old));                 \
        (void)flags_cmp##bits(&cpu->flags, expected, before);                                   \
        if (before != expected)                                                                 \
            reg_write##bits(cpu, 0, before);                                                    \
        INSN_NEXT(cpu, insn);                                                                   \
    }                                                                                           \
    static void cmpxchg_lock_m##bits(SoftCpu *cpu, const Insn *insn)                            \
    {                                                                                           \
        type value = reg_read##bits(cpu, insn->reg), expected = reg_read##bits(cpu, 0);         \
        type before = expected;                                                                 \
        OPERAND_LOCKED(bits, type,                                                              \
                       __atomic_compare_exchange_n((type *)host, &before, value, false,         \
                                                   __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST),         \
                       (before = old, old == expected ? value : old));                          \
        (void)flags_cmp##bits(&cpu->flags, expected, before);                                   \
        if (before != expected)                                                                 \
            reg_write##bits(cpu, 0, before);                                                    \
        INSN_NEXT(cpu, insn);                                                                   \
    }
FLAGS_SIZES(XADD_SIZE)
const OpForms op_xadd_eg = {FORMS(xadd, _r), FORMS(xadd, _m), FORMS(xadd, _lock_m)};
const OpForms op_cmpxchg_eg = {FORMS(cmpxchg, _r), FORMS(cmpxchg, _m), FORMS(cmpxchg, _lock_m)};

static void cmpxchg_pair_set_zf(SoftCpu *cpu, bool equal)
{
    cpu->flags = (cpu->flags & ~NATIVE_ZF) | (equal ? NATIVE_ZF : 0);
}

/* With or without LOCK: a locked one is a correct unlocked one. */
static void cmpxchg8b(SoftCpu *cpu, const Insn *insn)
{
    uint64_t expected = (uint64_t)reg_read32(cpu, GPR_RDX) << 32 | reg_read32(cpu, GPR_RAX),
             before = expected;
    uint64_t value = (uint64_t)reg_read32(cpu, GPR_RCX) << 32 | reg_read32(cpu, GPR_RBX);
    OPERAND_LOCKED(64, uint64_t,
                   __atomic_compare_exchange_n((uint64_t *)host, &before, value, false,
                                               __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST),
                   (before = old, old == expected ? value : old));
    cmpxchg_pair_set_zf(cpu, before == expected);
    if (before != expected) {
        reg_write32(cpu, GPR_RAX, before);
        reg_write32(cpu, GPR_RDX, before >> 32);
    }
    INSN_NEXT(cpu, insn);
}

static void cmpxchg16b(SoftCpu *cpu, const Insn *insn)
{
    uint64_t linear = OPERAND(128, MMU_WRITE);
    if (linear & 15)
        INSN_RAISE_GP0(cpu, insn);
    void *host = mem_rmw(cpu, insn, linear, 16);
    uint64_t low = cpu->s.gpr[GPR_RAX], high = cpu->s.gpr[GPR_RDX];
    bool equal;
    if (host) {
        asm volatile("lock; cmpxchg16b (%[host])"
                     : "+a"(low), "+d"(high), "=@ccz"(equal)
                     : [host] "r"(host), "b"(cpu->s.gpr[GPR_RBX]), "c"(cpu->s.gpr[GPR_RCX])
                     : "memory");
    } else {
        uint64_t value[2], new_value[2] = {cpu->s.gpr[GPR_RBX], cpu->s.gpr[GPR_RCX]};
        lock_begin(cpu, insn, linear, 16);
        mmu_load_bytes(cpu, linear, value, 16, cpu->mmu_index);
        equal = value[0] == low && value[1] == high;
        mmu_store_bytes(cpu, linear, equal ? new_value : value, 16, cpu->mmu_index);
        lock_end(cpu);
        low = value[0];
        high = value[1];
    }
    cmpxchg_pair_set_zf(cpu, equal);
    if (!equal) {
        cpu->s.gpr[GPR_RAX] = low;
        cpu->s.gpr[GPR_RDX] = high;
    }
    INSN_NEXT(cpu, insn);
}
const OpForms op_cmpxchg_pair = {
    .mem = {NULL, cmpxchg8b, cmpxchg8b, cmpxchg16b},
    .lock = {NULL, cmpxchg8b, cmpxchg8b, cmpxchg16b},
};

/* ---- ADX ------------------------------------------------------------------------------------- */

#define ADX(name, bits, type, wide, FLAG, shift)                                             \
    SOURCE_HANDLERS(name, bits, type, {                                                      \
        wide sum = (wide)reg_read##bits(cpu, insn->reg) + value + (cpu->flags >> shift & 1); \
        cpu->flags = (cpu->flags & ~FLAG) | (uint32_t)(sum >> bits) << shift;                \
        reg_write##bits(cpu, insn->reg, sum);                                                \
    })
ADX(adcx, 32, uint32_t, uint64_t, NATIVE_CF, 8)
ADX(adcx, 64, uint64_t, unsigned __int128, NATIVE_CF, 8)
ADX(adox, 32, uint32_t, uint64_t, NATIVE_OF, 0)
ADX(adox, 64, uint64_t, unsigned __int128, NATIVE_OF, 0)
const OpForms op_adcx_ge = {{NULL, adcx_r32, adcx_r32, adcx_r64},
                            {NULL, adcx_m32, adcx_m32, adcx_m64}};
const OpForms op_adox_ge = {{NULL, adox_r32, adox_r32, adox_r64},
                            {NULL, adox_m32, adox_m32, adox_m64}};

/* ---- decimal adjustment (no 64-bit host has these; SDM 2A, with the flags of real CPUs) ------ */

/* SF, ZF and PF of `al`, with the given CF and AF; OF as passed. */
static void decimal_flags(SoftCpu *cpu, uint8_t al, bool carry, bool adjust, bool overflow)
{
    uint32_t flags;
    (void)flags_test8(&flags, al, al);
    cpu->flags = (flags & (NATIVE_SF | NATIVE_ZF | NATIVE_PF)) | 0x200 | (carry ? NATIVE_CF : 0) |
                 (adjust ? NATIVE_AF : 0) | (overflow ? NATIVE_OF : 0);
}

static uint8_t daa_das(SoftCpu *cpu, bool subtract)
{
    uint8_t old = reg_read8(cpu, GPR_RAX * 8), al = old;
    bool carry = cpu->flags & NATIVE_CF, adjust = (old & 15) > 9 || cpu->flags & NATIVE_AF,
         out = false;
    if (adjust) {
        out = carry || (subtract ? old < 6 : old > 0xf9);
        al = subtract ? al - 6 : al + 6;
    }
    if (old > 0x99 || carry) {
        al = subtract ? al - 0x60 : al + 0x60;
        out = true;
    }
    reg_write8(cpu, GPR_RAX * 8, al);
    decimal_flags(cpu, al, out, adjust, false);
    return al;
}

void op_daa(SoftCpu *cpu, const Insn *insn)
{
    daa_das(cpu, false);
    INSN_NEXT(cpu, insn);
}

void op_das(SoftCpu *cpu, const Insn *insn)
{
    daa_das(cpu, true);
    INSN_NEXT(cpu, insn);
}

static void aaa_aas(SoftCpu *cpu, int sign)
{
    uint16_t ax = reg_read16(cpu, GPR_RAX);
    bool adjust = (ax & 15) > 9 || cpu->flags & NATIVE_AF;
    if (adjust)
        ax += sign * 0x106;
    reg_write16(cpu, GPR_RAX, ax & 0xff0f);
    decimal_flags(cpu, ax & 0x0f, adjust, adjust, false);
}

void op_aaa(SoftCpu *cpu, const Insn *insn)
{
    aaa_aas(cpu, 1);
    INSN_NEXT(cpu, insn);
}

void op_aas(SoftCpu *cpu, const Insn *insn)
{
    aaa_aas(cpu, -1);
    INSN_NEXT(cpu, insn);
}

void op_aam(SoftCpu *cpu, const Insn *insn)
{
    uint8_t base = insn->imm, al = reg_read8(cpu, GPR_RAX * 8);
    if (!base)
        INSN_RAISE(cpu, insn, EXC_DE);
    reg_write16(cpu, GPR_RAX, (al / base) << 8 | al % base);
    decimal_flags(cpu, al % base, false, false, false);
    INSN_NEXT(cpu, insn);
}

void op_aad(SoftCpu *cpu, const Insn *insn)
{
    uint16_t ax = reg_read16(cpu, GPR_RAX);
    uint8_t al = ax + (ax >> 8) * (uint8_t)insn->imm;
    reg_write16(cpu, GPR_RAX, al);
    decimal_flags(cpu, al, false, false, false);
    INSN_NEXT(cpu, insn);
}
