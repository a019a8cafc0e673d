/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A row for every opcode (SDM 2D appendix A; aliases that the manual leaves out but CPUs have,
 * too).
 */
#include "cpu/soft/decode.h"
#include "cpu/soft/ops_system.h"

#define M      OPCODE_MODRM
#define B      OPCODE_BYTE
#define D64    OPCODE_D64
#define F64    OPCODE_F64
#define NOT64  OPCODE_NOT64
#define ONLY64 OPCODE_ONLY64
#define ENDS   OPCODE_ENDS
#define STACK  OPCODE_STACK

/* A table of forms; a pointer to one; a single handler; a group; a function that decides. */
#define F(table, attr)                          \
    {                                           \
        .forms = &(table), .attributes = (attr) \
    }
#define FX(table, attr, cpu_feature)                                          \
    {                                                                         \
        .forms = &(table), .attributes = (attr), .feature = (cpu_feature) + 1 \
    }
#define H(handler, attr)                      \
    {                                         \
        .fn = (handler), .attributes = (attr) \
    }
#define HX(handler, attr, cpu_feature)                                      \
    {                                                                       \
        .fn = (handler), .attributes = (attr), .feature = (cpu_feature) + 1 \
    }
#define G(rows, attr)                             \
    {                                             \
        .group = (rows), .attributes = (attr) | M \
    }
#define R(function, attr)                           \
    {                                               \
        .resolve = (function), .attributes = (attr) \
    }
#define SIMD                          \
    {                                 \
        .attributes = OPCODE_SIMD | M \
    }
#define SIMD_IMM                                 \
    {                                            \
        .attributes = OPCODE_SIMD | M | IMM_BYTE \
    }

/* ---- groups and rows that resolve themselves ------------------------------------------------- */

static const Opcode invalid = {0};

static const Opcode group_1[8] = {
    F(op_add_ei, 0), F(op_or_ei, 0),  F(op_adc_ei, 0), F(op_sbb_ei, 0),
    F(op_and_ei, 0), F(op_sub_ei, 0), F(op_xor_ei, 0), F(op_cmp_ei, 0),
};
static const Opcode group_1a[8] = {F(op_pop_e, 0)};
static const Opcode group_3[8] = {
    F(op_test_ei, IMM_Z), F(op_test_ei, IMM_Z), F(op_not_e, 0), F(op_neg_e, 0),
    F(op_mul_e, 0),       F(op_imul_e, 0),      F(op_div_e, 0), F(op_idiv_e, 0),
};
static const Opcode group_4[8] = {F(op_inc_e, 0), F(op_dec_e, 0)};
static const Opcode group_5[8] = {
    F(op_inc_e, 0),
    F(op_dec_e, 0),
    F(op_call_e, F64 | ENDS | STACK),
    H(op_far_call_mem, OPCODE_MEMORY | ENDS | STACK),
    F(op_jmp_e, F64 | ENDS),
    H(op_far_jmp_mem, OPCODE_MEMORY | ENDS),
    F(op_push_e, D64 | STACK),
};
static const Opcode group_6[8] = {
    H(op_sldt, 0), H(op_str, 0), H(op_lldt, ENDS), H(op_ltr, ENDS), H(op_verr, 0), H(op_verw, 0),
};
static const Opcode group_8[8] = {
    {0}, {0}, {0}, {0}, F(op_bt_ei, 0), F(op_bts_ei, 0), F(op_btr_ei, 0), F(op_btc_ei, 0),
};
static const Opcode group_11[8] = {F(op_mov_ei, 0)};

static const Opcode *resolve_shift(const Decoder *d)
{
    static Opcode rows[2][8];
    static gsize ready;
    if (g_once_init_enter(&ready)) {
        for (unsigned i = 0; i < 8; i++) {
            rows[0][i].forms = op_shift_ei[i];
            rows[1][i].forms = op_shift_ec[i];
        }
        g_once_init_leave(&ready, 1);
    }
    bool by_cl = d->insn->opcode == 0xd2 || d->insn->opcode == 0xd3;
    return &rows[by_cl][d->insn->modrm >> 3 & 7];
}

static const Opcode *resolve_condition(const Decoder *d)
{
    static Opcode rows[3][16]; /* Jcc, SETcc, CMOVcc */
    static gsize ready;
    if (g_once_init_enter(&ready)) {
        for (unsigned i = 0; i < 16; i++) {
            rows[0][i].forms = op_jcc[i];
            rows[1][i].forms = op_setcc[i];
            rows[2][i] = (Opcode){.forms = op_cmov[i], .feature = CPU_CMOV + 1};
        }
        g_once_init_leave(&ready, 1);
    }
    const Insn *insn = d->insn;
    unsigned kind = insn->map == MAP_ONE_BYTE || insn->opcode >> 4 == 8 ? 0
                    : insn->opcode >> 4 == 9                            ? 1
                                                                        : 2;
    return &rows[kind][insn->opcode & 15];
}

/* 90: NOP, PAUSE, or with REX.B an exchange with R8. */
static const Opcode *resolve_90(const Decoder *d)
{
    static const Opcode nop = H(op_nop, 0), pause = H(op_pause, 0),
                        xchg = F(op_xchg_acc, OPCODE_IN_OPCODE);
    if (d->insn->rex & REX_B)
        return &xchg;
    return d->insn->prefixes & PREFIX_REPE ? &pause : &nop;
}

static const Opcode *resolve_63(const Decoder *d)
{
    static const Opcode arpl = H(op_arpl, OPCODE_PROTECTED), movsxd = F(op_movsxd, 0);
    return (d->mode & MODE_CODE_MASK) == MODE_CODE64 ? &movsxd : &arpl;
}

static const Opcode *resolve_8e(const Decoder *d)
{
    static const Opcode mov = H(op_mov_to_seg, OPCODE_SEGMENT_REG | ENDS);
    return (d->insn->modrm >> 3 & 7) == SEG_CS ? &invalid : &mov;
}

static const Opcode *resolve_0f01(const Decoder *d)
{
    static const Opcode memory[8] = {
        H(op_sgdt, 0), H(op_sidt, 0), H(op_lgdt, ENDS), H(op_lidt, ENDS),
        H(op_smsw, 0), {0},           H(op_lmsw, ENDS), H(op_invlpg, ENDS),
    };
    static const struct {
        uint8_t modrm;
        Opcode row;
    } registers[] = {
        {0xc1, HX(op_hypercall, 0, CPU_HYPERVISOR)}, /* VMCALL */
        {0xd9, HX(op_hypercall, 0, CPU_HYPERVISOR)}, /* VMMCALL */
        {0xca, HX(op_clac, 0, CPU_SMAP)},
        {0xcb, HX(op_stac, 0, CPU_SMAP)},
        {0xd0, HX(op_xgetbv, 0, CPU_XSAVE)},
        {0xd1, HX(op_xsetbv, ENDS, CPU_XSAVE)},
        {0xf8, H(op_swapgs, ONLY64)},
        {0xf9, HX(op_rdtscp, 0, CPU_RDTSCP)},
    };
    static const Opcode smsw = H(op_smsw, 0), lmsw = H(op_lmsw, ENDS);
    uint8_t modrm = d->insn->modrm, reg = modrm >> 3 & 7;
    if (modrm < 0xc0)
        return &memory[reg];
    if (reg == 4 || reg == 6)
        return reg == 4 ? &smsw : &lmsw;
    bool mandatory = d->insn->prefixes & (PREFIX_OPSIZE | PREFIX_REPE | PREFIX_REPNE);
    if (mandatory && modrm < 0xf8)
        return &invalid;
    for (unsigned i = 0; i < G_N_ELEMENTS(registers); i++) {
        if (registers[i].modrm == modrm)
            return &registers[i].row;
    }
    return &invalid;
}

static const Opcode *resolve_0fae(const Decoder *d)
{
    static const Opcode simd = {.attributes = OPCODE_SIMD};
    static const Opcode clflush = HX(op_clflush, 0, CPU_CLFLUSH),
                        clflushopt = HX(op_clflush, 0, CPU_CLFLUSHOPT),
                        clwb = HX(op_clflush, 0, CPU_CLWB), lfence = HX(op_fence, 0, CPU_SSE2),
                        sfence = HX(op_fence, 0, CPU_SSE);
    static const Opcode bases[4] = {
        HX(op_rdfsbase, ONLY64, CPU_FSGSBASE),
        HX(op_rdgsbase, ONLY64, CPU_FSGSBASE),
        HX(op_wrfsbase, ONLY64, CPU_FSGSBASE),
        HX(op_wrgsbase, ONLY64, CPU_FSGSBASE),
    };
    unsigned reg = d->insn->modrm >> 3 & 7;
    unsigned mandatory = d->insn->prefixes & (PREFIX_OPSIZE | PREFIX_REPE | PREFIX_REPNE);
    if (d->insn->flags & INSN_MEMORY) {
        if (mandatory == PREFIX_OPSIZE && reg >= 6)
            return reg == 6 ? &clwb : &clflushopt;
        return mandatory ? &invalid : reg == 7 ? &clflush : &simd;
    }
    if (mandatory & PREFIX_REPE && reg < 4)
        return &bases[reg];
    if (mandatory || reg < 5)
        return &invalid;
    return reg == 7 ? &sfence : &lfence;
}

static const Opcode *resolve_0fc7(const Decoder *d)
{
    static const Opcode simd = {.attributes = OPCODE_SIMD};
    static const Opcode pair8 = FX(op_cmpxchg_pair, 0, CPU_CX8),
                        pair16 = FX(op_cmpxchg_pair, 0, CPU_CX16);
    static const Opcode rdrand = FX(op_rdrand, 0, CPU_RDRAND),
                        rdseed = FX(op_rdseed, 0, CPU_RDSEED), rdpid = HX(op_rdpid, 0, CPU_RDPID);
    unsigned reg = d->insn->modrm >> 3 & 7;
    if (d->insn->flags & INSN_MEMORY) {
        bool wide = (d->mode & MODE_CODE_MASK) == MODE_CODE64 && d->insn->rex & REX_W;
        return reg == 1 ? (wide ? &pair16 : &pair8) : reg >= 3 && reg <= 5 ? &simd : &invalid;
    }
    if (d->insn->prefixes & PREFIX_REPE)
        return reg == 7 ? &rdpid : &invalid;
    if (d->insn->prefixes & PREFIX_REPNE)
        return &invalid;
    return reg == 6 ? &rdrand : reg == 7 ? &rdseed : &invalid;
}

/* B8: POPCNT with F3, else the reserved JMPE. */
static const Opcode *resolve_0fb8(const Decoder *d)
{
    static const Opcode popcnt = FX(op_popcnt, 0, CPU_POPCNT);
    return d->insn->prefixes & PREFIX_REPE ? &popcnt : &invalid;
}

/* BC, BD: without the feature F3 is ignored. */
static const Opcode *resolve_scan(const Decoder *d)
{
    static const Opcode bsf = F(op_bsf, 0), bsr = F(op_bsr, 0), tzcnt = F(op_tzcnt, 0),
                        lzcnt = F(op_lzcnt, 0);
    bool forward = d->insn->opcode == 0xbc;
    bool count = d->insn->prefixes & PREFIX_REPE && cpu_has(d->model, forward ? CPU_BMI1 : CPU_ABM);
    return forward ? (count ? &tzcnt : &bsf) : (count ? &lzcnt : &bsr);
}

/* ---- maps ------------------------------------------------------------------------------------ */

#define ALU(base, op)                                                     \
    [base + 0] = F(op_##op##_eg, M | B), [base + 1] = F(op_##op##_eg, M), \
            [base + 2] = F(op_##op##_ge, M | B | OPCODE_SWAP),            \
            [base + 3] = F(op_##op##_ge, M | OPCODE_SWAP),                \
            [base + 4] = F(op_##op##_ei, B | OPCODE_ACCUMULATOR | IMM_Z), \
            [base + 5] = F(op_##op##_ei, OPCODE_ACCUMULATOR | IMM_Z)
#define EIGHT(base, row)       [base... base + 7] = row
#define SIXTEEN(base, row)     [base... base + 15] = row
#define STRING(base, op, attr) [base] = F(op, B | (attr)), [base + 1] = F(op, attr)

const Opcode opcode_one_byte[256] = {
    ALU(0x00, add),
    ALU(0x08, or),
    ALU(0x10, adc),
    ALU(0x18, sbb),
    ALU(0x20, and),
    ALU(0x28, sub),
    ALU(0x30, xor),
    ALU(0x38, cmp),
    [0x06] = H(op_push_seg, OPCODE_SEGMENT_IN_OPCODE | NOT64 | STACK),
    [0x07] = H(op_pop_seg, OPCODE_SEGMENT_IN_OPCODE | NOT64 | STACK | ENDS),
    [0x0e] = H(op_push_seg, OPCODE_SEGMENT_IN_OPCODE | NOT64 | STACK),
    [0x16] = H(op_push_seg, OPCODE_SEGMENT_IN_OPCODE | NOT64 | STACK),
    [0x17] = H(op_pop_seg, OPCODE_SEGMENT_IN_OPCODE | NOT64 | STACK | ENDS),
    [0x1e] = H(op_push_seg, OPCODE_SEGMENT_IN_OPCODE | NOT64 | STACK),
    [0x1f] = H(op_pop_seg, OPCODE_SEGMENT_IN_OPCODE | NOT64 | STACK | ENDS),
    [0x27] = H(op_daa, NOT64),
    [0x2f] = H(op_das, NOT64),
    [0x37] = H(op_aaa, NOT64),
    [0x3f] = H(op_aas, NOT64),
    EIGHT(0x40, F(op_inc_e, OPCODE_IN_OPCODE)),
    EIGHT(0x48, F(op_dec_e, OPCODE_IN_OPCODE)),
    EIGHT(0x50, F(op_push_e, OPCODE_IN_OPCODE | D64 | STACK)),
    EIGHT(0x58, F(op_pop_e, OPCODE_IN_OPCODE | D64 | STACK)),
    [0x60] = F(op_pusha, NOT64 | STACK),
    [0x61] = F(op_popa, NOT64 | STACK),
    [0x62] = H(op_bound, M | NOT64 | OPCODE_MEMORY),
    [0x63] = R(resolve_63, M),
    [0x68] = F(op_push_imm, D64 | STACK | IMM_Z),
    [0x69] = F(op_imul_gei, M | IMM_Z),
    [0x6a] = F(op_push_imm, D64 | STACK | IMM_SIGNED),
    [0x6b] = F(op_imul_gei, M | IMM_SIGNED),
    STRING(0x6c, op_ins, OPCODE_TARGET | OPCODE_NO_W),
    STRING(0x6e, op_outs, OPCODE_SOURCE | OPCODE_NO_W),
    SIXTEEN(0x70, R(resolve_condition, F64 | IMM_REL8)),
    [0x80] = G(group_1, B | IMM_BYTE),
    [0x81] = G(group_1, IMM_Z),
    [0x82] = G(group_1, B | NOT64 | IMM_BYTE),
    [0x83] = G(group_1, IMM_SIGNED),
    [0x84] = F(op_test_eg, M | B),
    [0x85] = F(op_test_eg, M),
    [0x86] = F(op_xchg_eg, M | B),
    [0x87] = F(op_xchg_eg, M),
    [0x88] = F(op_mov_eg, M | B),
    [0x89] = F(op_mov_eg, M),
    [0x8a] = F(op_mov_ge, M | B | OPCODE_SWAP),
    [0x8b] = F(op_mov_ge, M | OPCODE_SWAP),
    [0x8c] = H(op_mov_from_seg, M | OPCODE_SEGMENT_REG),
    [0x8d] = F(op_lea, M | OPCODE_MEMORY),
    [0x8e] = R(resolve_8e, M),
    [0x8f] = G(group_1a, D64 | STACK),
    [0x90] = R(resolve_90, 0),
    [0x91 ... 0x97] = F(op_xchg_acc, OPCODE_IN_OPCODE),
    [0x98] = F(op_cbw, 0),
    [0x99] = F(op_cwd, 0),
    [0x9a] = H(op_far_call_imm, NOT64 | ENDS | STACK | IMM_FAR),
    [0x9b] = {.attributes = OPCODE_X87},
    [0x9c] = H(op_pushf, D64 | STACK),
    [0x9d] = H(op_popf, D64 | STACK | ENDS),
    [0x9e] = H(op_sahf, 0),
    [0x9f] = H(op_lahf, 0),
    [0xa0] = F(op_mov_load_moffs, B | OPCODE_SOURCE | IMM_OFFSET),
    [0xa1] = F(op_mov_load_moffs, OPCODE_SOURCE | IMM_OFFSET),
    [0xa2] = F(op_mov_store_moffs, B | OPCODE_SOURCE | IMM_OFFSET),
    [0xa3] = F(op_mov_store_moffs, OPCODE_SOURCE | IMM_OFFSET),
    STRING(0xa4, op_movs, OPCODE_SOURCE | OPCODE_TARGET),
    STRING(0xa6, op_cmps, OPCODE_SOURCE | OPCODE_TARGET),
    [0xa8] = F(op_test_ei, B | OPCODE_ACCUMULATOR | IMM_Z),
    [0xa9] = F(op_test_ei, OPCODE_ACCUMULATOR | IMM_Z),
    STRING(0xaa, op_stos, OPCODE_TARGET),
    STRING(0xac, op_lods, OPCODE_SOURCE),
    STRING(0xae, op_scas, OPCODE_TARGET),
    EIGHT(0xb0, F(op_mov_ei, B | OPCODE_IN_OPCODE | IMM_BYTE)),
    EIGHT(0xb8, F(op_mov_ei, OPCODE_IN_OPCODE | IMM_V)),
    [0xc0] = R(resolve_shift, M | B | IMM_BYTE),
    [0xc1] = R(resolve_shift, M | IMM_BYTE),
    [0xc2] = F(op_ret_imm, F64 | ENDS | STACK | IMM_WORD),
    [0xc3] = F(op_ret, F64 | ENDS | STACK),
    [0xc4] = H(op_load_far_pointer, M | NOT64 | OPCODE_MEMORY | ENDS),
    [0xc5] = H(op_load_far_pointer, M | NOT64 | OPCODE_MEMORY | ENDS),
    [0xc6] = G(group_11, B | IMM_BYTE),
    [0xc7] = G(group_11, IMM_Z),
    [0xc8] = H(op_enter, D64 | STACK | IMM_ENTER),
    [0xc9] = F(op_leave, D64 | STACK),
    [0xca] = H(op_far_ret_imm, ENDS | STACK | IMM_WORD),
    [0xcb] = H(op_far_ret, ENDS | STACK),
    [0xcc] = H(op_int3, ENDS),
    [0xcd] = H(op_int, ENDS | IMM_BYTE),
    [0xce] = H(op_into, NOT64 | ENDS),
    [0xcf] = H(op_iret, ENDS | STACK),
    [0xd0] = R(resolve_shift, M | B | OPCODE_ONE),
    [0xd1] = R(resolve_shift, M | OPCODE_ONE),
    [0xd2] = R(resolve_shift, M | B),
    [0xd3] = R(resolve_shift, M),
    [0xd4] = H(op_aam, NOT64 | IMM_BYTE),
    [0xd5] = H(op_aad, NOT64 | IMM_BYTE),
    [0xd6] = H(op_salc, NOT64),
    [0xd7] = H(op_xlat, OPCODE_SOURCE),
    EIGHT(0xd8, {.attributes = OPCODE_X87 | M}),
    [0xe0] = F(op_loopne, F64 | IMM_REL8),
    [0xe1] = F(op_loope, F64 | IMM_REL8),
    [0xe2] = F(op_loop, F64 | IMM_REL8),
    [0xe3] = F(op_jcxz, F64 | IMM_REL8),
    [0xe4] = H(op_in_imm, B | IMM_BYTE),
    [0xe5] = H(op_in_imm, OPCODE_NO_W | IMM_BYTE),
    [0xe6] = H(op_out_imm, B | ENDS | IMM_BYTE),
    [0xe7] = H(op_out_imm, OPCODE_NO_W | ENDS | IMM_BYTE),
    [0xe8] = F(op_call_rel, F64 | ENDS | STACK | IMM_RELZ),
    [0xe9] = F(op_jmp_rel, F64 | ENDS | IMM_RELZ),
    [0xea] = H(op_far_jmp_imm, NOT64 | ENDS | IMM_FAR),
    [0xeb] = F(op_jmp_rel, F64 | ENDS | IMM_REL8),
    [0xec] = H(op_in_dx, B),
    [0xed] = H(op_in_dx, OPCODE_NO_W),
    [0xee] = H(op_out_dx, B | ENDS),
    [0xef] = H(op_out_dx, OPCODE_NO_W | ENDS),
    [0xf1] = H(op_int1, ENDS),
    [0xf4] = H(op_hlt, ENDS),
    [0xf5] = H(op_cmc, 0),
    [0xf6] = G(group_3, B),
    [0xf7] = G(group_3, 0),
    [0xf8] = H(op_clc, 0),
    [0xf9] = H(op_stc, 0),
    [0xfa] = H(op_cli, 0),
    [0xfb] = H(op_sti, 0),
    [0xfc] = H(op_cld, 0),
    [0xfd] = H(op_std, 0),
    [0xfe] = G(group_4, B),
    [0xff] = G(group_5, 0),
};

#define SYSTEM_REGISTER (M | OPCODE_MOD_IGNORED | F64)

const Opcode opcode_0f[256] = {
    [0x00] = G(group_6, OPCODE_PROTECTED),
    [0x01] = R(resolve_0f01, M),
    [0x02] = H(op_lar, M | OPCODE_PROTECTED),
    [0x03] = H(op_lsl, M | OPCODE_PROTECTED),
    [0x05] = HX(op_syscall, ENDS, CPU_SYSCALL),
    [0x06] = H(op_clts, ENDS),
    [0x07] = HX(op_sysret, ENDS, CPU_SYSCALL),
    [0x08] = H(op_invd, 0),
    [0x09] = H(op_wbinvd, 0),
    [0x0b] = H(op_ud, ENDS),
    [0x0d] = H(op_nop, M),
    [0x10 ... 0x17] = SIMD,
    [0x18 ... 0x1f] = HX(op_nop, M, CPU_CMOV),
    [0x20] = H(op_mov_from_cr, SYSTEM_REGISTER),
    [0x21] = H(op_mov_from_dr, SYSTEM_REGISTER),
    [0x22] = H(op_mov_to_cr, SYSTEM_REGISTER | ENDS),
    [0x23] = H(op_mov_to_dr, SYSTEM_REGISTER | ENDS),
    [0x28 ... 0x2f] = SIMD,
    [0x30] = HX(op_wrmsr, ENDS, CPU_MSR),
    [0x31] = HX(op_rdtsc, 0, CPU_TSC),
    [0x32] = HX(op_rdmsr, ENDS, CPU_MSR),
    [0x33] = H(op_rdpmc, 0),
    [0x34] = HX(op_sysenter, ENDS, CPU_SEP),
    [0x35] = HX(op_sysexit, ENDS, CPU_SEP),
    [0x37] = H(op_getsec, ENDS),
    SIXTEEN(0x40, R(resolve_condition, M)),
    [0x50 ... 0x6f] = SIMD,
    [0x70 ... 0x73] = SIMD_IMM,
    [0x74 ... 0x76] = SIMD,
    [0x77] = {.attributes = OPCODE_SIMD},
    [0x7c ... 0x7f] = SIMD,
    SIXTEEN(0x80, R(resolve_condition, F64 | IMM_RELZ)),
    SIXTEEN(0x90, R(resolve_condition, M | B)),
    [0xa0] = H(op_push_seg, OPCODE_SEGMENT_IN_OPCODE | D64 | STACK),
    [0xa1] = H(op_pop_seg, OPCODE_SEGMENT_IN_OPCODE | D64 | STACK | ENDS),
    [0xa2] = H(op_cpuid, 0),
    [0xa3] = F(op_bt_eg, M),
    [0xa4] = F(op_shld_i, M | IMM_BYTE),
    [0xa5] = F(op_shld_c, M),
    [0xa8] = H(op_push_seg, OPCODE_SEGMENT_IN_OPCODE | D64 | STACK),
    [0xa9] = H(op_pop_seg, OPCODE_SEGMENT_IN_OPCODE | D64 | STACK | ENDS),
    [0xaa] = H(op_rsm, ENDS),
    [0xab] = F(op_bts_eg, M),
    [0xac] = F(op_shrd_i, M | IMM_BYTE),
    [0xad] = F(op_shrd_c, M),
    [0xae] = R(resolve_0fae, M),
    [0xaf] = F(op_imul_ge, M),
    [0xb0] = F(op_cmpxchg_eg, M | B),
    [0xb1] = F(op_cmpxchg_eg, M),
    [0xb2] = H(op_load_far_pointer, M | OPCODE_MEMORY | ENDS),
    [0xb3] = F(op_btr_eg, M),
    [0xb4] = H(op_load_far_pointer, M | OPCODE_MEMORY | ENDS),
    [0xb5] = H(op_load_far_pointer, M | OPCODE_MEMORY | ENDS),
    [0xb6] = F(op_movzx8, M | OPCODE_RM8),
    [0xb7] = F(op_movzx16, M),
    [0xb8] = R(resolve_0fb8, M),
    [0xb9] = H(op_ud, M | ENDS),
    [0xba] = G(group_8, IMM_BYTE),
    [0xbb] = F(op_btc_eg, M),
    [0xbc] = R(resolve_scan, M),
    [0xbd] = R(resolve_scan, M),
    [0xbe] = F(op_movsx8, M | OPCODE_RM8),
    [0xbf] = F(op_movsx16, M),
    [0xc0] = F(op_xadd_eg, M | B),
    [0xc1] = F(op_xadd_eg, M),
    [0xc2] = SIMD_IMM,
    [0xc3] = SIMD,
    [0xc4 ... 0xc6] = SIMD_IMM,
    [0xc7] = R(resolve_0fc7, M),
    EIGHT(0xc8, F(op_bswap, OPCODE_IN_OPCODE)),
    [0xd0 ... 0xfe] = SIMD,
    [0xff] = H(op_ud, M | ENDS),
};

const Opcode *opcode_0f38(const Decoder *d)
{
    static const Opcode movbe_load = FX(op_movbe_load, M, CPU_MOVBE),
                        movbe_store = FX(op_movbe_store, M, CPU_MOVBE),
                        crc32_8 = FX(op_crc32_8, M | OPCODE_RM8, CPU_SSE42),
                        crc32 = FX(op_crc32, M, CPU_SSE42), adcx = FX(op_adcx_ge, M, CPU_ADX),
                        adox = FX(op_adox_ge, M, CPU_ADX),
                        invpcid = HX(op_invpcid, M | OPCODE_MEMORY | ENDS, CPU_INVPCID);
    const Insn *insn = d->insn;
    unsigned mandatory = insn->prefixes & (PREFIX_OPSIZE | PREFIX_REPE | PREFIX_REPNE);
    switch (insn->opcode) {
    case 0x82:
        return mandatory == PREFIX_OPSIZE ? &invpcid : &invalid;
    case 0xf0:
    case 0xf1:
        if (mandatory & PREFIX_REPNE)
            return insn->opcode == 0xf0 ? &crc32_8 : &crc32;
        return mandatory & PREFIX_REPE ? &invalid
               : insn->opcode == 0xf0  ? &movbe_load
                                       : &movbe_store;
    case 0xf6:
        return mandatory & PREFIX_REPE ? &adox : mandatory == PREFIX_OPSIZE ? &adcx : &invalid;
    default:
        return NULL;
    }
}

#define VEX(table, attr, feature) FX(table, M | OPCODE_VVVV | (attr), feature)

const Opcode *opcode_vex(const Decoder *d)
{
    static const Opcode andn = VEX(op_andn, 0, CPU_BMI1), bextr = VEX(op_bextr, 0, CPU_BMI1),
                        bzhi = VEX(op_bzhi, 0, CPU_BMI2), pext = VEX(op_pext, 0, CPU_BMI2),
                        pdep = VEX(op_pdep, 0, CPU_BMI2), mulx = VEX(op_mulx, 0, CPU_BMI2),
                        shlx = VEX(op_shlx, 0, CPU_BMI2), sarx = VEX(op_sarx, 0, CPU_BMI2),
                        shrx = VEX(op_shrx, 0, CPU_BMI2),
                        rorx = FX(op_rorx, M | IMM_BYTE, CPU_BMI2);
    static const Opcode group_17[8] = {
        {0},
        VEX(op_blsr, 0, CPU_BMI1),
        VEX(op_blsmsk, 0, CPU_BMI1),
        VEX(op_blsi, 0, CPU_BMI1),
    };
    const Insn *insn = d->insn;
    unsigned mandatory = insn->prefixes & (PREFIX_OPSIZE | PREFIX_REPE | PREFIX_REPNE);
    bool f3 = mandatory == PREFIX_REPE, f2 = mandatory == PREFIX_REPNE,
         p66 = mandatory == PREFIX_OPSIZE;
    if (insn->map == MAP_0F3A && insn->opcode == 0xf0)
        return f2 ? &rorx : &invalid;
    if (insn->map != MAP_0F38)
        return NULL;
    switch (insn->opcode) {
    case 0xf2:
        return mandatory ? &invalid : &andn;
    case 0xf3:
        return mandatory ? &invalid : &group_17[insn->modrm >> 3 & 7];
    case 0xf5:
        return !mandatory ? &bzhi : f3 ? &pext : f2 ? &pdep : &invalid;
    case 0xf6:
        return f2 ? &mulx : &invalid;
    case 0xf7:
        return !mandatory ? &bextr : p66 ? &shlx : f3 ? &sarx : &shrx;
    default:
        return NULL;
    }
}
