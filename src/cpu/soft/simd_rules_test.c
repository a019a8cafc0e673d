/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What stops SIMD and x87 instructions: traps, modes, models; see simd_kit.h. */
#include "cpu/soft/simd_kit.h"

#include <sys/resource.h>

/* ---- rules ----------------------------------------------------------------------------------- */

/* SDM 3A tables 2-2 and 2-3, SDM 2 2.4; 1: FXSAVE and relatives by their own pages. */
static void test_traps(void)
{
    enum {
        MMX_INSN,
        SSE_INSN,
        AVX_INSN,
        X87_INSN,
        FWAIT_INSN,
        EMMS_INSN,
        STMXCSR_INSN,
        FXSAVE_INSN,
        XSAVE_INSN,
        MOVNTI_INSN
    };
    const uint64_t all = CR4_OSFXSR | CR4_OSXSAVE;
    const struct {
        int insn;
        uint64_t cr0, cr4, xcr0;
        int vector;
    } cases[] = {
        {MMX_INSN, 0, 0, 1, -1},
        {MMX_INSN, CR0_TS, 0, 1, EXC_NM},
        {MMX_INSN, CR0_EM | CR0_TS, all, 7, EXC_UD},
        {SSE_INSN, 0, all, 7, -1},
        {SSE_INSN, 0, 0, 1, EXC_UD},
        {SSE_INSN, CR0_TS, all, 7, EXC_NM},
        {SSE_INSN, CR0_EM | CR0_TS, all, 7, EXC_UD},
        {SSE_INSN, CR0_TS, 0, 7, EXC_UD},
        {AVX_INSN, 0, all, 7, -1},
        {AVX_INSN, 0, CR4_OSFXSR, 7, EXC_UD},
        {AVX_INSN, 0, all, 3, EXC_UD},
        {AVX_INSN, CR0_TS, all, 7, EXC_NM},
        {AVX_INSN, CR0_TS, all, 1, EXC_UD},
        {X87_INSN, 0, 0, 1, -1},
        {X87_INSN, CR0_TS, all, 7, EXC_NM},
        {X87_INSN, CR0_EM, all, 7, EXC_NM},
        {FWAIT_INSN, 0, 0, 1, -1},
        {FWAIT_INSN, CR0_TS, all, 7, -1},
        {FWAIT_INSN, CR0_TS | CR0_MP, all, 7, EXC_NM},
        {FWAIT_INSN, CR0_EM, all, 7, -1},
        {EMMS_INSN, 0, 0, 1, -1},
        {EMMS_INSN, CR0_TS, all, 7, EXC_NM},
        {EMMS_INSN, CR0_EM, all, 7, EXC_UD},
        {STMXCSR_INSN, 0, all, 7, -1},
        {STMXCSR_INSN, 0, 0, 7, EXC_UD},
        {STMXCSR_INSN, CR0_TS, all, 7, EXC_NM},
        {FXSAVE_INSN, 0, 0, 1, -1},
        {FXSAVE_INSN, CR0_TS, all, 7, EXC_NM},
        {FXSAVE_INSN, CR0_EM, all, 7, EXC_NM},
        {XSAVE_INSN, 0, all, 7, -1},
        {XSAVE_INSN, 0, CR4_OSFXSR, 7, EXC_UD},
        {XSAVE_INSN, CR0_TS, all, 7, EXC_NM},
        {MOVNTI_INSN, CR0_TS | CR0_EM, 0, 1, -1},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        Insn insns[2] = {{0}};
        int insn = cases[i].insn;
        switch (insn) {
        case MMX_INSN:
            simd_insn(insns, 0xfc, SIMD_NP, false, false);
            break;
        case SSE_INSN:
            simd_insn(insns, 0x58, SIMD_NP, false, false);
            break;
        case AVX_INSN:
            simd_insn(insns, 0x58, SIMD_NP, true, false);
            break;
        case X87_INSN:
            x87_insn(insns, 0xd9, 0xe8);
            break;
        case FWAIT_INSN:
            x87_insn(insns, 0x9b, 0xc0);
            break;
        case EMMS_INSN:
            simd_insn(insns, 0x77, SIMD_NP, false, false);
            break;
        case MOVNTI_INSN:
            simd_insn(insns, 0xc3, SIMD_NP, false, true);
            break;
        default:
            simd_insn(insns, 0xae, SIMD_NP, false, true);
            insns[0].modrm = (insn == STMXCSR_INSN ? 3 : insn == FXSAVE_INSN ? 0 : 4) << 3 | 3;
        }
        if ((insn == AVX_INSN || insn == XSAVE_INSN) && !cpu_has(&model, CPU_AVX))
            continue;
        g_test_message("case %u", i);
        g_assert_cmpint(outcome(insns, insn == X87_INSN || insn == FWAIT_INSN, cases[i].cr0,
                                cases[i].cr4, cases[i].xcr0),
                        ==, cases[i].vector);
    }
}

/* Faults leave everything as it was. */
static void test_precise(void)
{
    static Native native;
    Insn store[2] = {{0}}, add[2] = {{0}};
    prepare_plain(&native);
    cpu->s.fpu.ftw_abridged = 1;
    cpu->s.gpr[GPR_RBX] += GUEST_PAGE_SIZE;
    x87_insn(store, 0xdd, 0x18); /* fstp m64 */
    g_assert_true(x87_select(MODE_TEST, &model, store));
    g_assert_false(emulate(store));
    g_assert_cmpint(raised, ==, EXC_PF);
    g_assert_cmphex(cpu->s.fpu.ftw_abridged, ==, 1);
    g_assert_cmphex(cpu->s.fpu.fsw, ==, 0);

    uint8_t before[16];
    prepare_plain(&native);
    simd_insn(add, 0x5e, SIMD_NP, false, false); /* divps xmm1, xmm2 */
    memset(cpu->s.fpu.xmm[1], 0x3f, 16);
    memset(cpu->s.fpu.xmm[2], 0, 16);
    memcpy(before, cpu->s.fpu.xmm[1], 16);
    cpu->s.fpu.mxcsr = 0x1d80; /* ZE unmasked */
    g_assert_true(simd_select(MODE_TEST, &model, add));
    g_assert_false(emulate(add));
    g_assert_cmpint(raised, ==, EXC_XM);
    g_assert_cmpmem(before, 16, cpu->s.fpu.xmm[1], 16);
    g_assert_cmphex(cpu->s.fpu.mxcsr, ==, 0x1d84);
    cpu->s.cr4 &= ~(uint64_t)CR4_OSXMMEXCPT;
    g_assert_false(emulate(add));
    g_assert_cmpint(raised, ==, EXC_UD);
    cpu->s.cr4 |= CR4_OSXMMEXCPT;
}

/* What a model lacks, and what a mode has not, is #UD. */
static void test_models_and_modes(void)
{
    CpuModel old = model;
    Insn insn;
    memset(old.features, 0, sizeof(old.features));
    old.features[CPU_FPU] = old.features[CPU_MMX] = old.features[CPU_SSE] = true;
    simd_insn(&insn, 0x58, SIMD_NP, false, false);
    g_assert_true(simd_select(MODE_TEST, &old, &insn));
    simd_insn(&insn, 0x58, SIMD_66, false, false);
    g_assert_false(simd_select(MODE_TEST, &old, &insn));
    simd_insn(&insn, 0xd4, SIMD_NP, false, false); /* PADDQ mm came with SSE2 */
    g_assert_false(simd_select(MODE_TEST, &old, &insn));
    simd_insn(&insn, 0x58, SIMD_NP, true, false);
    g_assert_false(simd_select(MODE_TEST, &old, &insn));
    x87_insn(&insn, 0xda, 0xc1); /* FCMOVB */
    g_assert_false(x87_select(MODE_TEST, &old, &insn));
    x87_insn(&insn, 0xdb, 0x08); /* FISTTP */
    g_assert_false(x87_select(MODE_TEST, &old, &insn));
    x87_insn(&insn, 0xd8, 0xc1);
    insn.prefixes = PREFIX_LOCK;
    g_assert_false(x87_select(MODE_TEST, &old, &insn));
    if (!cpu_has(&model, CPU_AVX))
        return;
    simd_insn(&insn, 0x58, SIMD_NP, true, false);
    g_assert_true(simd_select(MODE_CODE32 | MODE_PROTECTED, &model, &insn));
    g_assert_false(simd_select(MODE_CODE16, &model, &insn));
    simd_insn(&insn, 0x51, SIMD_NP, true,
              false); /* VSQRTPS has no vvvv; its top bit counts in 64-bit mode only */
    insn.vvvv = 8;
    g_assert_false(simd_select(MODE_TEST, &model, &insn));
    g_assert_true(simd_select(MODE_CODE32 | MODE_PROTECTED, &model, &insn));
}

static void test_features(void)
{
    bool features[CPU_FEATURE_COUNT] = {false};
    simd_features(features);
    g_assert_true(features[CPU_FPU] && features[CPU_MMX] && features[CPU_SSE2] &&
                  features[CPU_XSAVE]);
    g_assert_cmpint(features[CPU_AVX], ==, __builtin_cpu_supports("avx") != 0);
    g_assert_false(features[CPU_POPCNT]);
}

static void test_capacity(void)
{
    g_test_message("%zu of %zu bytes", stub_capacity_needed(), stub_capacity());
    g_assert_cmpuint(stub_capacity_needed(), <=, stub_capacity());
}

/* Where no memfd may be had, the area is made of single pages: more than one of them here. */
static void test_without_memfd(void)
{
    static Native native;
    if (!g_test_subprocess()) {
        g_test_trap_subprocess(NULL, 0, G_TEST_SUBPROCESS_DEFAULT);
        g_test_trap_assert_passed();
        return;
    }
    struct rlimit old, none;
    g_assert_cmpint(getrlimit(RLIMIT_NOFILE, &old), ==, 0);
    none = (struct rlimit){0, old.rlim_max};
    g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &none), ==, 0);
    g_assert_true(stub_available());
    g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &old), ==, 0);
    for (unsigned imm = 0; imm < 256; imm++) {
        Encoding e = {.map = MAP_0F,
                      .opcode = 0x70,
                      .prefix = SIMD_66,
                      .reg = 1,
                      .rm = 2,
                      .has_imm = true,
                      .imm = imm};
        Insn insns[2] = {{0}};
        encode(&e);
        decode(&e, insns);
        g_assert_true(simd_select(MODE_TEST, &model, insns));
        prepare_plain(&native);
        g_assert_true(emulate(insns));
        for (unsigned i = 0; i < 4; i++)
            g_assert_cmphex(load_le32(cpu->s.fpu.xmm[1] + i * 4), ==,
                            load_le32(native.before + 160 + 2 * 16 + (imm >> i * 2 & 3) * 4));
    }
}

void simd_rules_add_tests(void)
{
    g_test_add_func("/cpu/soft/simd/traps", test_traps);
    g_test_add_func("/cpu/soft/simd/precise", test_precise);
    g_test_add_func("/cpu/soft/simd/models-and-modes", test_models_and_modes);
    g_test_add_func("/cpu/soft/simd/features", test_features);
    g_test_add_func("/cpu/soft/stub/capacity", test_capacity);
    g_test_add_func("/cpu/soft/stub/without-memfd", test_without_memfd);
}
