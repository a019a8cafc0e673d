/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Arithmetic by the host's own instructions, so that every flag, "undefined" ones included, is the
 * host's.
 *
 * Flags travel in the layout of LAHF and SETO (cpu.h): AH = SF ZF 0 AF 0 PF 1 CF, AL = OF (0 or 1,
 * other bits clear). FLAGS_IN loads them into the host's EFLAGS: 0x7f + AL overflows exactly when
 * OF was set, SAHF restores the rest.
 */
#pragma once

#include "cpu/soft/cpu.h"

#define FLAGS_OUT "\n\tlahf\n\tseto %%al"
#define FLAGS_IN  "addb $0x7f, %%al\n\tsahf\n\t"

enum { /* bits of SoftCpu.flags */
       NATIVE_OF = 1 << 0,
       NATIVE_CF = 1 << 8,
       NATIVE_PF = 1 << 10,
       NATIVE_AF = 1 << 12,
       NATIVE_ZF = 1 << 14,
       NATIVE_SF = 1 << 15,
};

/* X(bits, type, signed type, suffix) for every operand size. */
#define FLAGS_SIZES(X)            \
    X(8, uint8_t, int8_t, "b")    \
    X(16, uint16_t, int16_t, "w") \
    X(32, uint32_t, int32_t, "l") \
    X(64, uint64_t, int64_t, "q")
#define FLAGS_WORD_SIZES(X)       \
    X(16, uint16_t, int16_t, "w") \
    X(32, uint32_t, int32_t, "l") \
    X(64, uint64_t, int64_t, "q")

#define FLAGS_BINARY(op, bits, type, suffix)                                       \
    static inline type flags_##op##bits(uint32_t *flags, type a, type b)           \
    {                                                                              \
        uint32_t out;                                                              \
        asm(#op suffix " %2, %0" FLAGS_OUT : "+r"(a), "=&a"(out) : "r"(b) : "cc"); \
        *flags = out;                                                              \
        return a;                                                                  \
    }
#define FLAGS_CARRY(op, bits, type, suffix)                              \
    static inline type flags_##op##bits(uint32_t *flags, type a, type b) \
    {                                                                    \
        uint32_t out;                                                    \
        asm("btl $8, %3\n\t" #op suffix " %2, %0" FLAGS_OUT              \
            : "+&r"(a), "=&a"(out)                                       \
            : "r"(b), "r"(*flags)                                        \
            : "cc");                                                     \
        *flags = out;                                                    \
        return a;                                                        \
    }
/* INC and DEC keep CF. */
#define FLAGS_STEP(op, bits, type, suffix)                       \
    static inline type flags_##op##bits(uint32_t *flags, type a) \
    {                                                            \
        uint32_t out;                                            \
        asm("btl $8, %2\n\t" #op suffix " %0" FLAGS_OUT          \
            : "+&r"(a), "=&a"(out)                               \
            : "r"(*flags)                                        \
            : "cc");                                             \
        *flags = out;                                            \
        return a;                                                \
    }
#define FLAGS_SHIFT(op, bits, type, suffix)                                                        \
    static inline type flags_##op##bits(uint32_t *flags, type a, uint8_t count)                    \
    {                                                                                              \
        uint32_t inout = *flags;                                                                   \
        asm(FLAGS_IN #op suffix " %%cl, %0" FLAGS_OUT : "+r"(a), "+a"(inout) : "c"(count) : "cc"); \
        *flags = inout;                                                                            \
        return a;                                                                                  \
    }
#define FLAGS_DOUBLE_SHIFT(op, bits, type, suffix)                                      \
    static inline type flags_##op##bits(uint32_t *flags, type a, type b, uint8_t count) \
    {                                                                                   \
        uint32_t inout = *flags;                                                        \
        asm(FLAGS_IN #op suffix " %%cl, %2, %0" FLAGS_OUT                               \
            : "+r"(a), "+a"(inout)                                                      \
            : "r"(b), "c"(count)                                                        \
            : "cc");                                                                    \
        *flags = inout;                                                                 \
        return a;                                                                       \
    }
/* Destination read and written, source read, all flags kept unless the host changes them. The whole
 * 64-bit destination goes in and out, as the host leaves it (BSF of 0). */
#define FLAGS_UNARY_SOURCE(op, bits, type, suffix)                               \
    static inline uint64_t flags_##op##bits(uint32_t *flags, uint64_t a, type b) \
    {                                                                            \
        uint32_t inout = *flags;                                                 \
        asm(FLAGS_IN #op suffix " %2, %" FLAGS_REG_##bits "0" FLAGS_OUT          \
            : "+&r"(a), "+a"(inout)                                              \
            : "r"(b)                                                             \
            : "cc");                                                             \
        *flags = inout;                                                          \
        return a;                                                                \
    }
#define FLAGS_REG_16 "w"
#define FLAGS_REG_32 "k"
#define FLAGS_REG_64 "q"
/* BT family on a value; the bit number is taken modulo the size. */
#define FLAGS_BIT(op, bits, type, suffix)                                                      \
    static inline type flags_##op##bits(uint32_t *flags, type a, type bit)                     \
    {                                                                                          \
        uint32_t inout = *flags;                                                               \
        asm(FLAGS_IN #op suffix " %2, %0" FLAGS_OUT : "+r"(a), "+a"(inout) : "r"(bit) : "cc"); \
        *flags = inout;                                                                        \
        return a;                                                                              \
    }

#define FLAGS_DEFINE(bits, type, stype, suffix)                           \
    FLAGS_BINARY(add, bits, type, suffix)                                 \
    FLAGS_BINARY(or, bits, type, suffix)                                  \
    FLAGS_CARRY(adc, bits, type, suffix)                                  \
    FLAGS_CARRY(sbb, bits, type, suffix)                                  \
    FLAGS_BINARY(and, bits, type, suffix)                                 \
    FLAGS_BINARY(sub, bits, type, suffix)                                 \
    FLAGS_BINARY(xor, bits, type, suffix)                                 \
    FLAGS_BINARY(cmp, bits, type, suffix)                                 \
    FLAGS_BINARY(test, bits, type, suffix)                                \
    FLAGS_STEP(inc, bits, type, suffix)                                   \
    FLAGS_STEP(dec, bits, type, suffix)                                   \
    FLAGS_SHIFT(rol, bits, type, suffix)                                  \
    FLAGS_SHIFT(ror, bits, type, suffix)                                  \
    FLAGS_SHIFT(rcl, bits, type, suffix)                                  \
    FLAGS_SHIFT(rcr, bits, type, suffix)                                  \
    FLAGS_SHIFT(shl, bits, type, suffix)                                  \
    FLAGS_SHIFT(shr, bits, type, suffix)                                  \
    FLAGS_SHIFT(sar, bits, type, suffix)                                  \
    static inline type flags_neg##bits(uint32_t *flags, type a)           \
    {                                                                     \
        uint32_t out;                                                     \
        asm("neg" suffix " %0" FLAGS_OUT : "+r"(a), "=&a"(out) : : "cc"); \
        *flags = out;                                                     \
        return a;                                                         \
    }
FLAGS_SIZES(FLAGS_DEFINE)
#undef FLAGS_DEFINE

#define FLAGS_DEFINE(bits, type, stype, suffix)    \
    FLAGS_DOUBLE_SHIFT(shld, bits, type, suffix)   \
    FLAGS_DOUBLE_SHIFT(shrd, bits, type, suffix)   \
    FLAGS_UNARY_SOURCE(bsf, bits, type, suffix)    \
    FLAGS_UNARY_SOURCE(bsr, bits, type, suffix)    \
    FLAGS_UNARY_SOURCE(imul, bits, type, suffix)   \
    FLAGS_UNARY_SOURCE(popcnt, bits, type, suffix) \
    FLAGS_UNARY_SOURCE(lzcnt, bits, type, suffix)  \
    FLAGS_UNARY_SOURCE(tzcnt, bits, type, suffix)  \
    FLAGS_BIT(bt, bits, type, suffix)              \
    FLAGS_BIT(bts, bits, type, suffix)             \
    FLAGS_BIT(btr, bits, type, suffix)             \
    FLAGS_BIT(btc, bits, type, suffix)
FLAGS_WORD_SIZES(FLAGS_DEFINE)
#undef FLAGS_DEFINE

/* The condition of Jcc, SETcc and CMOVcc, by the low 4 bits of the opcode (SDM 1 appendix B). With
 * a constant `condition` this is one or two instructions. */
static inline bool flags_condition(uint32_t flags, unsigned condition)
{
    bool result;
    switch (condition >> 1) {
    case 0:
        result = flags & NATIVE_OF;
        break;
    case 1:
        result = flags & NATIVE_CF;
        break;
    case 2:
        result = flags & NATIVE_ZF;
        break;
    case 3:
        result = flags & (NATIVE_CF | NATIVE_ZF);
        break;
    case 4:
        result = flags & NATIVE_SF;
        break;
    case 5:
        result = flags & NATIVE_PF;
        break;
    case 6:
        result = (flags >> 15 ^ flags) & 1;
        break;
    default:
        result = ((flags >> 15 ^ flags) & 1) | (flags & NATIVE_ZF);
        break;
    }
    return result ^ (condition & 1);
}
#define FLAGS_CONDITIONS(X) \
    X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
