/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * BMI1 and BMI2, run natively: the decoder only lets them through when the CPU model, a subset of
 * the host, has them. Operands of 16 bits do not exist; without VEX.W they are 32 bits wide.
 */
#include "cpu/soft/ops.h"

#define BMI_FORMS(op, form)                            \
    {                                                  \
        NULL, op##form##32, op##form##32, op##form##64 \
    }

/* Both forms of an operation on the ModRM operand `value`. */
#define BMI_SIZE(op, bits, type, body)                                                \
    static inline void op##_do##bits(SoftCpu *cpu, const Insn *insn, type value)      \
    {                                                                                 \
        body;                                                                         \
    }                                                                                 \
    static void op##_r##bits(SoftCpu *cpu, const Insn *insn)                          \
    {                                                                                 \
        op##_do##bits(cpu, insn, reg_read##bits(cpu, insn->rm));                      \
        INSN_NEXT(cpu, insn);                                                         \
    }                                                                                 \
    static void op##_m##bits(SoftCpu *cpu, const Insn *insn)                          \
    {                                                                                 \
        op##_do##bits(cpu, insn, mem_read##bits(cpu, insn, OPERAND(bits, MMU_READ))); \
        INSN_NEXT(cpu, insn);                                                         \
    }
#define BMI_ROW(op) const OpForms op_##op = {BMI_FORMS(op, _r), BMI_FORMS(op, _m)};

/* `text` computes %0 from %2 (the operand) and %3 (VEX.vvvv); %1 are the flags. */
#define BMI_FLAGS_SIZE(op, bits, type, text, target)           \
    BMI_SIZE(op, bits, type, {                                 \
        type result;                                           \
        uint32_t flags = cpu->flags;                           \
        asm(FLAGS_IN text FLAGS_OUT                            \
            : "=&r"(result), "+a"(flags)                       \
            : "r"(value), "r"(reg_read##bits(cpu, insn->vvvv)) \
            : "cc");                                           \
        cpu->flags = flags;                                    \
        reg_write##bits(cpu, insn->target, result);            \
    })
#define BMI_FLAGS(op, text, target)                \
    BMI_FLAGS_SIZE(op, 32, uint32_t, text, target) \
    BMI_FLAGS_SIZE(op, 64, uint64_t, text, target) \
    BMI_ROW(op)
BMI_FLAGS(andn, "andn %2, %3, %0", reg)
BMI_FLAGS(bextr, "bextr %3, %2, %0", reg)
BMI_FLAGS(bzhi, "bzhi %3, %2, %0", reg)
BMI_FLAGS(blsr, "blsr %2, %0", vvvv)
BMI_FLAGS(blsmsk, "blsmsk %2, %0", vvvv)
BMI_FLAGS(blsi, "blsi %2, %0", vvvv)

#define BMI_PLAIN_SIZE(op, bits, type, text)                                         \
    BMI_SIZE(op, bits, type, {                                                       \
        type result;                                                                 \
        asm(text : "=r"(result) : "r"(value), "r"(reg_read##bits(cpu, insn->vvvv))); \
        reg_write##bits(cpu, insn->reg, result);                                     \
    })
#define BMI_PLAIN(op, text)                \
    BMI_PLAIN_SIZE(op, 32, uint32_t, text) \
    BMI_PLAIN_SIZE(op, 64, uint64_t, text) \
    BMI_ROW(op)
BMI_PLAIN(pdep, "pdep %1, %2, %0")
BMI_PLAIN(pext, "pext %1, %2, %0")

#define BMI_SHIFT(op, type32, type64, operator)                                                \
    BMI_SIZE(op, 32, uint32_t,                                                                 \
             reg_write32(cpu, insn->reg, (type32)value operator(cpu->s.gpr[insn->vvvv] & 31))) \
    BMI_SIZE(op, 64, uint64_t,                                                                 \
             reg_write64(cpu, insn->reg, (type64)value operator(cpu->s.gpr[insn->vvvv] & 63))) \
    BMI_ROW(op)
BMI_SHIFT(sarx, int32_t, int64_t, >>)
BMI_SHIFT(shrx, uint32_t, uint64_t, >>)
BMI_SHIFT(shlx, uint32_t, uint64_t, <<)

BMI_SIZE(rorx, 32, uint32_t,
         reg_write32(cpu, insn->reg, value >> (insn->imm & 31) | value << (-insn->imm & 31)))
BMI_SIZE(rorx, 64, uint64_t,
         reg_write64(cpu, insn->reg, value >> (insn->imm & 63) | value << (-insn->imm & 63)))
BMI_ROW(rorx)

/* With both destinations the same, the high half stays. */
BMI_SIZE(mulx, 32, uint32_t, {
    uint64_t product = (uint64_t)reg_read32(cpu, GPR_RDX) * value;
    reg_write32(cpu, insn->vvvv, product);
    reg_write32(cpu, insn->reg, product >> 32);
})
BMI_SIZE(mulx, 64, uint64_t, {
    unsigned __int128 product = (unsigned __int128)reg_read64(cpu, GPR_RDX) * value;
    reg_write64(cpu, insn->vvvv, product);
    reg_write64(cpu, insn->reg, product >> 64);
})
BMI_ROW(mulx)
