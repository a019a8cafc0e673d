/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Shifts and rotates. The host masks counts as the guest's CPU does, and keeps the flags for a
 * count of 0.
 */
#include "cpu/soft/ops.h"

#define FORMS(op, form)                                       \
    {                                                         \
        op##form##8, op##form##16, op##form##32, op##form##64 \
    }
#define WORD_FORMS(op, form)                           \
    {                                                  \
        NULL, op##form##16, op##form##32, op##form##64 \
    }

#define SHIFT_FORM(op, form, bits, type, count)                                               \
    static void op##_r##form##bits(SoftCpu *cpu, const Insn *insn)                            \
    {                                                                                         \
        reg_write##bits(cpu, insn->rm,                                                        \
                        flags_##op##bits(&cpu->flags, reg_read##bits(cpu, insn->rm), count)); \
        INSN_NEXT(cpu, insn);                                                                 \
    }                                                                                         \
    static void op##_m##form##bits(SoftCpu *cpu, const Insn *insn)                            \
    {                                                                                         \
        OPERAND_RMW(bits, type, flags_##op##bits(&flags, old, count));                        \
        INSN_NEXT(cpu, insn);                                                                 \
    }
#define SHIFT_SIZE(op, bits, type)                    \
    SHIFT_FORM(op, i, bits, type, (uint8_t)insn->imm) \
    SHIFT_FORM(op, c, bits, type, reg_read8(cpu, GPR_RCX * 8))
#define SHIFT(op)                                                   \
    SHIFT_SIZE(op, 8, uint8_t)                                      \
    SHIFT_SIZE(op, 16, uint16_t)                                    \
    SHIFT_SIZE(op, 32, uint32_t)                                    \
    SHIFT_SIZE(op, 64, uint64_t)                                    \
    static const OpForms op##_i = {FORMS(op, _ri), FORMS(op, _mi)}; \
    static const OpForms op##_c = {FORMS(op, _rc), FORMS(op, _mc)};
SHIFT(rol)
SHIFT(ror)
SHIFT(rcl)
SHIFT(rcr)
SHIFT(shl)
SHIFT(shr)
SHIFT(sar)
/* By ModRM.reg; 6 is an alias of SHL. */
const OpForms *const op_shift_ei[8] = {&rol_i, &ror_i, &rcl_i, &rcr_i,
                                       &shl_i, &shr_i, &shl_i, &sar_i};
const OpForms *const op_shift_ec[8] = {&rol_c, &ror_c, &rcl_c, &rcr_c,
                                       &shl_c, &shr_c, &shl_c, &sar_c};

#define DOUBLE_FORM(op, form, bits, type, count)                                     \
    static void op##_r##form##bits(SoftCpu *cpu, const Insn *insn)                   \
    {                                                                                \
        reg_write##bits(cpu, insn->rm,                                               \
                        flags_##op##bits(&cpu->flags, reg_read##bits(cpu, insn->rm), \
                                         reg_read##bits(cpu, insn->reg), count));    \
        INSN_NEXT(cpu, insn);                                                        \
    }                                                                                \
    static void op##_m##form##bits(SoftCpu *cpu, const Insn *insn)                   \
    {                                                                                \
        type value = reg_read##bits(cpu, insn->reg);                                 \
        OPERAND_RMW(bits, type, flags_##op##bits(&flags, old, value, count));        \
        INSN_NEXT(cpu, insn);                                                        \
    }
#define DOUBLE_SIZE(bits, type, stype, suffix)                    \
    DOUBLE_FORM(shld, i, bits, type, (uint8_t)insn->imm)          \
    DOUBLE_FORM(shld, c, bits, type, reg_read8(cpu, GPR_RCX * 8)) \
    DOUBLE_FORM(shrd, i, bits, type, (uint8_t)insn->imm)          \
    DOUBLE_FORM(shrd, c, bits, type, reg_read8(cpu, GPR_RCX * 8))
FLAGS_WORD_SIZES(DOUBLE_SIZE)
const OpForms op_shld_i = {WORD_FORMS(shld, _ri), WORD_FORMS(shld, _mi)};
const OpForms op_shld_c = {WORD_FORMS(shld, _rc), WORD_FORMS(shld, _mc)};
const OpForms op_shrd_i = {WORD_FORMS(shrd, _ri), WORD_FORMS(shrd, _mi)};
const OpForms op_shrd_c = {WORD_FORMS(shrd, _rc), WORD_FORMS(shrd, _mc)};
