/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Where CPUID tells of each feature, and which models have it. SDM 2A CPUID; APM 3 appendix E for
 * 8000_0001.
 */
#include "cpu/cpu_features.h"

#include <cpuid.h>

/* What the engines make rather than the host's CPU: there on every model of this age. */
#define SYSTEM_V1 (FROM_V1 | MODEL_HOST)

const CpuFeatureRow cpu_feature_rows[CPU_FEATURE_COUNT] = {
    [CPU_FPU] = {"fpu", 1, 0, REG_EDX, 0, FROM_486, 0},
    [CPU_VME] = {"vme", 1, 0, REG_EDX, 1, FROM_486, 0},
    [CPU_DE] = {"de", 1, 0, REG_EDX, 2, FROM_P3, 0},
    [CPU_PSE] = {"pse", 1, 0, REG_EDX, 3, FROM_P3, 0},
    [CPU_TSC] = {"tsc", 1, 0, REG_EDX, 4, FROM_P3, 0},
    [CPU_MSR] = {"msr", 1, 0, REG_EDX, 5, FROM_P3, 0},
    [CPU_PAE] = {"pae", 1, 0, REG_EDX, 6, FROM_P3, 0},
    [CPU_MCE] = {"mce", 1, 0, REG_EDX, 7, FROM_P3, 0},
    [CPU_CX8] = {"cx8", 1, 0, REG_EDX, 8, FROM_P3, 0},
    [CPU_APIC] = {"apic", 1, 0, REG_EDX, 9, FROM_P3, MODEL_HOST},
    [CPU_SEP] = {"sep", 1, 0, REG_EDX, 11, FROM_P3, 0},
    [CPU_MTRR] = {"mtrr", 1, 0, REG_EDX, 12, FROM_P3, 0},
    [CPU_PGE] = {"pge", 1, 0, REG_EDX, 13, FROM_P3, 0},
    [CPU_MCA] = {"mca", 1, 0, REG_EDX, 14, FROM_P3, 0},
    [CPU_CMOV] = {"cmov", 1, 0, REG_EDX, 15, FROM_P3, 0},
    [CPU_PAT] = {"pat", 1, 0, REG_EDX, 16, FROM_P3, 0},
    [CPU_PSE36] = {"pse36", 1, 0, REG_EDX, 17, FROM_P3, 0},
    [CPU_CLFLUSH] = {"clflush", 1, 0, REG_EDX, 19, FROM_V1, 0},
    [CPU_MMX] = {"mmx", 1, 0, REG_EDX, 23, FROM_P3, 0},
    [CPU_FXSR] = {"fxsr", 1, 0, REG_EDX, 24, FROM_P3, 0},
    [CPU_SSE] = {"sse", 1, 0, REG_EDX, 25, FROM_P3, 0},
    [CPU_SSE2] = {"sse2", 1, 0, REG_EDX, 26, FROM_V1, 0},
    [CPU_SSE3] = {"pni", 1, 0, REG_ECX, 0, FROM_V2, 0},
    [CPU_PCLMULQDQ] = {"pclmulqdq", 1, 0, REG_ECX, 1, 0, FROM_V3},
    [CPU_MONITOR] = {"monitor", 1, 0, REG_ECX, 3, 0, 0},
    [CPU_SSSE3] = {"ssse3", 1, 0, REG_ECX, 9, FROM_V2, 0},
    [CPU_FMA] = {"fma", 1, 0, REG_ECX, 12, FROM_V3, 0},
    [CPU_CX16] = {"cx16", 1, 0, REG_ECX, 13, FROM_V2, 0},
    [CPU_PCID] = {"pcid", 1, 0, REG_ECX, 17, 0, SYSTEM_V1},
    [CPU_SSE41] = {"sse4_1", 1, 0, REG_ECX, 19, FROM_V2, 0},
    [CPU_SSE42] = {"sse4_2", 1, 0, REG_ECX, 20, FROM_V2, 0},
    [CPU_X2APIC] = {"x2apic", 1, 0, REG_ECX, 21, 0, SYSTEM_V1},
    [CPU_MOVBE] = {"movbe", 1, 0, REG_ECX, 22, FROM_V3, 0},
    [CPU_POPCNT] = {"popcnt", 1, 0, REG_ECX, 23, FROM_V2, 0},
    [CPU_TSC_DEADLINE] = {"tsc_deadline_timer", 1, 0, REG_ECX, 24, 0, SYSTEM_V1},
    [CPU_AES] = {"aes", 1, 0, REG_ECX, 25, 0, FROM_V3},
    [CPU_XSAVE] = {"xsave", 1, 0, REG_ECX, 26, FROM_V3, FROM_V2},
    [CPU_AVX] = {"avx", 1, 0, REG_ECX, 28, FROM_V3, 0},
    [CPU_F16C] = {"f16c", 1, 0, REG_ECX, 29, FROM_V3, 0},
    [CPU_RDRAND] = {"rdrand", 1, 0, REG_ECX, 30, 0, FROM_V1},
    [CPU_HYPERVISOR] = {"hypervisor", 1, 0, REG_ECX, 31, 0, SYSTEM_V1},
    [CPU_FSGSBASE] = {"fsgsbase", 7, 0, REG_EBX, 0, 0, SYSTEM_V1},
    [CPU_TSC_ADJUST] = {"tsc_adjust", 7, 0, REG_EBX, 1, 0, SYSTEM_V1},
    [CPU_BMI1] = {"bmi1", 7, 0, REG_EBX, 3, FROM_V3, 0},
    [CPU_AVX2] = {"avx2", 7, 0, REG_EBX, 5, FROM_V3, 0},
    [CPU_SMEP] = {"smep", 7, 0, REG_EBX, 7, 0, SYSTEM_V1},
    [CPU_BMI2] = {"bmi2", 7, 0, REG_EBX, 8, FROM_V3, 0},
    [CPU_ERMS] = {"erms", 7, 0, REG_EBX, 9, 0, SYSTEM_V1},
    [CPU_INVPCID] = {"invpcid", 7, 0, REG_EBX, 10, 0, SYSTEM_V1},
    [CPU_ZERO_FCS_FDS] = {"zero_fcs_fds", 7, 0, REG_EBX, 13, 0, SYSTEM_V1},
    [CPU_RDSEED] = {"rdseed", 7, 0, REG_EBX, 18, 0, FROM_V3},
    [CPU_ADX] = {"adx", 7, 0, REG_EBX, 19, 0, FROM_V3},
    [CPU_SMAP] = {"smap", 7, 0, REG_EBX, 20, 0, SYSTEM_V1},
    [CPU_CLFLUSHOPT] = {"clflushopt", 7, 0, REG_EBX, 23, 0, FROM_V3},
    [CPU_CLWB] = {"clwb", 7, 0, REG_EBX, 24, 0, 0},
    [CPU_SHA] = {"sha_ni", 7, 0, REG_EBX, 29, 0, FROM_V3},
    [CPU_UMIP] = {"umip", 7, 0, REG_ECX, 2, 0, SYSTEM_V1},
    [CPU_GFNI] = {"gfni", 7, 0, REG_ECX, 8, 0, 0},
    [CPU_VAES] = {"vaes", 7, 0, REG_ECX, 9, 0, 0},
    [CPU_VPCLMULQDQ] = {"vpclmulqdq", 7, 0, REG_ECX, 10, 0, 0},
    [CPU_RDPID] = {"rdpid", 7, 0, REG_ECX, 22, 0, FROM_V3},
    [CPU_FSRM] = {"fsrm", 7, 0, REG_EDX, 4, 0, SYSTEM_V1},
    [CPU_SPEC_CTRL] = {"spec_ctrl", 7, 0, REG_EDX, 26, 0, FROM_V1},
    [CPU_ARCH_CAPABILITIES] = {"arch_capabilities", 7, 0, REG_EDX, 29, 0, SYSTEM_V1, INTEL_ONLY},
    [CPU_XSAVEOPT] = {"xsaveopt", 0xd, 1, REG_EAX, 0, 0, FROM_V3},
    [CPU_XSAVEC] = {"xsavec", 0xd, 1, REG_EAX, 1, 0, FROM_V3},
    [CPU_XGETBV1] = {"xgetbv1", 0xd, 1, REG_EAX, 2, 0, FROM_V3},
    [CPU_LAHF_LM] = {"lahf_lm", 0x80000001, 0, REG_ECX, 0, FROM_V2, MODEL_V1},
    [CPU_ABM] = {"abm", 0x80000001, 0, REG_ECX, 5, FROM_V3, 0},
    [CPU_PREFETCHW] = {"3dnowprefetch", 0x80000001, 0, REG_ECX, 8, 0, FROM_V2},
    [CPU_SYSCALL] = {"syscall", 0x80000001, 0, REG_EDX, 11, FROM_V1, 0},
    [CPU_NX] = {"nx", 0x80000001, 0, REG_EDX, 20, FROM_V1, 0},
    [CPU_PDPE1GB] = {"pdpe1gb", 0x80000001, 0, REG_EDX, 26, 0, SYSTEM_V1},
    [CPU_RDTSCP] = {"rdtscp", 0x80000001, 0, REG_EDX, 27, 0, SYSTEM_V1},
    [CPU_LM] = {"lm", 0x80000001, 0, REG_EDX, 29, FROM_V1, 0},
    [CPU_INVARIANT_TSC] = {"nonstop_tsc", 0x80000007, 0, REG_EDX, 8, 0, SYSTEM_V1},
    [CPU_AMD_SSB_NO] = {"amd_ssb_no", 0x80000008, 0, REG_EBX, 26, 0, MODEL_HOST, AMD_ONLY},
    [CPU_BTC_NO] = {"btc_no", 0x80000008, 0, REG_EBX, 29, 0, MODEL_HOST, AMD_ONLY},
    [CPU_AUTOIBRS] = {"autoibrs", 0x80000021, 0, REG_EAX, 8, 0, MODEL_HOST, AMD_ONLY},
    [CPU_SRSO_NO] = {"srso_no", 0x80000021, 0, REG_EAX, 29, 0, MODEL_HOST, AMD_ONLY},
    [CPU_TSA_SQ_NO] = {"tsa_sq_no", 0x80000021, 0, REG_ECX, 1, 0, MODEL_HOST, AMD_ONLY},
    [CPU_TSA_L1_NO] = {"tsa_l1_no", 0x80000021, 0, REG_ECX, 2, 0, MODEL_HOST, AMD_ONLY},
};

/* Rows stand in order of their leaves as far as possible: each leaf is asked few times, since CPUID
 * traps under a hypervisor. */
void cpu_features_decode(CpuidValue (*cpuid)(void *obj, uint32_t leaf, uint32_t subleaf), void *obj,
                         bool *ret_features)
{
    uint32_t max_basic = cpuid(obj, 0, 0).eax, max_extended = cpuid(obj, 0x80000000, 0).eax;
    const CpuFeatureRow *asked = NULL;
    CpuidValue value = {0};
    for (int i = 0; i < CPU_FEATURE_COUNT; i++) {
        const CpuFeatureRow *row = &cpu_feature_rows[i];
        if (!asked || asked->leaf != row->leaf || asked->subleaf != row->subleaf) {
            bool there = row->leaf <= (row->leaf >> 31 ? max_extended : max_basic);
            value = there ? cpuid(obj, row->leaf, row->subleaf) : (CpuidValue){0};
            asked = row;
        }
        ret_features[i] = cpuid_register(value, row->reg) >> row->bit & 1;
    }
}

CpuidValue cpu_host_cpuid(uint32_t leaf, uint32_t subleaf)
{
    CpuidValue value;
    __cpuid_count(leaf, subleaf, value.eax, value.ebx, value.ecx, value.edx);
    return value;
}

static CpuidValue host_cpuid(void *obj, uint32_t leaf, uint32_t subleaf)
{
    return cpu_host_cpuid(leaf, subleaf);
}

/* AVX can be used only when the host's kernel saves its state (SDM 1 14.3). */
static bool host_kernel_saves_avx(void)
{
    uint32_t low, high;
    if (!(cpu_host_cpuid(1, 0).ecx & bit_OSXSAVE))
        return false;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & 6) == 6;
}

void cpu_host_features(bool *ret_features)
{
    cpu_features_decode(host_cpuid, NULL, ret_features);
    if (!host_kernel_saves_avx())
        ret_features[CPU_AVX] = ret_features[CPU_AVX2] = ret_features[CPU_FMA] =
            ret_features[CPU_F16C] = ret_features[CPU_VAES] = ret_features[CPU_VPCLMULQDQ] = false;
}
