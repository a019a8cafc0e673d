/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * CPU models: which CPU the guest sees.
 *
 * A model is a set of features and a table of CPUID leaves made from it. Features that the host or
 * the engine lacks are taken out, with a line for the user when the model promised them.
 */
#pragma once

#include <gio/gio.h>
#include <stdbool.h>
#include <stdint.h>

#include "cpu/paravirt.h"

/* Features that code asks for by name; values index CpuModel.features. One row each in cpuid.c says
 * in which leaf, register and bit it is (SDM 2A CPUID; APM 3 for 8000_0001). */
typedef enum CpuFeature {
    CPU_FPU,
    CPU_VME,
    CPU_DE,
    CPU_PSE,
    CPU_TSC,
    CPU_MSR,
    CPU_PAE,
    CPU_MCE,
    CPU_CX8,
    CPU_APIC,
    CPU_SEP,
    CPU_MTRR,
    CPU_PGE,
    CPU_MCA,
    CPU_CMOV,
    CPU_PAT,
    CPU_PSE36,
    CPU_CLFLUSH,
    CPU_MMX,
    CPU_FXSR,
    CPU_SSE,
    CPU_SSE2,
    CPU_SSE3,
    CPU_PCLMULQDQ,
    CPU_MONITOR,
    CPU_SSSE3,
    CPU_FMA,
    CPU_CX16,
    CPU_PCID,
    CPU_SSE41,
    CPU_SSE42,
    CPU_X2APIC,
    CPU_MOVBE,
    CPU_POPCNT,
    CPU_TSC_DEADLINE,
    CPU_AES,
    CPU_XSAVE,
    CPU_AVX,
    CPU_F16C,
    CPU_RDRAND,
    CPU_HYPERVISOR,
    CPU_FSGSBASE,
    CPU_TSC_ADJUST,
    CPU_BMI1,
    CPU_AVX2,
    CPU_SMEP,
    CPU_BMI2,
    CPU_ERMS,
    CPU_INVPCID,
    CPU_ZERO_FCS_FDS,
    CPU_RDSEED,
    CPU_ADX,
    CPU_SMAP,
    CPU_CLFLUSHOPT,
    CPU_CLWB,
    CPU_SHA,
    CPU_UMIP,
    CPU_RDPID,
    CPU_VAES,
    CPU_VPCLMULQDQ,
    CPU_GFNI,
    CPU_FSRM,
    CPU_SPEC_CTRL,
    CPU_ARCH_CAPABILITIES,
    CPU_XSAVEOPT,
    CPU_XSAVEC,
    CPU_XGETBV1,
    CPU_LAHF_LM,
    CPU_ABM /* LZCNT */,
    CPU_PREFETCHW,
    CPU_SYSCALL,
    CPU_NX,
    CPU_PDPE1GB,
    CPU_RDTSCP,
    CPU_LM,
    CPU_INVARIANT_TSC,
    CPU_AMD_SSB_NO,
    CPU_BTC_NO,
    CPU_AUTOIBRS,
    CPU_SRSO_NO,
    CPU_TSA_SQ_NO,
    CPU_TSA_L1_NO,
    CPU_FEATURE_COUNT
} CpuFeature;

/* IA32_ARCH_CAPABILITIES of guests on a software engine (SDM 4 table 2-2): their code runs
 * translated or interpreted, where retpolines, untrained returns and cleared buffers change nothing
 * but the time they take. AMD's CPUs say the same in CPUID (CPU_AMD_SSB_NO … CPU_TSA_L1_NO).
 * RDCL_NO IBRS_ALL SKIP_L1DFL SSB_NO MDS_NO PSCHANGE_MC_NO TAA_NO SBDR_SSDP_NO FBSDP_NO PSDP_NO
 * BHI_NO PBRSB_NO GDS_NO RFDS_NO ITS_NO */
#define CPU_ARCH_CAPABILITIES_VALUE                                                      \
    (UINT64_C(0x1) | 0x2 | 0x8 | 0x10 | 0x20 | 0x40 | 0x100 | 0x2000 | 0x4000 | 0x8000 | \
     0x100000 | 0x1000000 | 0x4000000 | 0x8000000 | UINT64_C(1) << 62)
/* The core crystal clock that leaf 15h tells: local APIC timers count at this rate (SDM 3A 10.5.4).
 */
#define CPU_CRYSTAL_HZ 1000000000u

typedef struct CpuidValue {
    uint32_t eax, ebx, ecx, edx;
} CpuidValue;

typedef struct CpuModel {
    char *name;
    char vendor[13];
    unsigned family, model, stepping;
    char brand[49];
    bool features[CPU_FEATURE_COUNT];
    unsigned physical_address_bits, linear_address_bits;
    unsigned vcpu_count;
    uint64_t tsc_hz;
    Paravirt paravirt; /* PARAVIRT_NONE at first; counts where there is CPU_HYPERVISOR */
} CpuModel;

/*
 * The model of that name ("host", "x86-64-v1" … "x86-64-v3", "486", "pentium3", each optionally
 * followed by
 * ",+feature,-feature") for a VM of `vcpu_count` CPUs. `allowed` (CPU_FEATURE_COUNT long) is what
 * the engine can do on this host. Fails on an unknown name or feature, listing the choices.
 * `ret_missing` (may be NULL): names of features the model has but the engine can't give, or NULL.
 */
CpuModel *cpu_model_new(const char *name, const bool *allowed, unsigned vcpu_count,
                        char **ret_missing, GError **error);
void cpu_model_free(CpuModel *model);
/* Before the VM is made. Beside KVM's clock the TSC is no longer called invariant, unless the user
 * asked for that by name: Linux takes the clock then, which survives a change of the host. */
/* The CPU has no local APIC. Before the first VM. */
void cpu_model_remove_apic(CpuModel *model);
void cpu_model_set_paravirt(CpuModel *model, Paravirt paravirt);
/* What the model has of it in truth: nothing without CPU_HYPERVISOR. */
bool cpu_model_offers(const CpuModel *model, Paravirt paravirt);
/* Whether `leaf` is one of 4000_0000 and up that the guest sees. */
bool cpu_model_has_hypervisor_leaf(const CpuModel *model, uint32_t leaf);
static inline bool cpu_has(const CpuModel *model, CpuFeature feature)
{
    return model->features[feature];
}
/* The names of all models, NULL-terminated, static. */
const char *const *cpu_model_names(void);
/* What the host CPU has. */
void cpu_host_features(bool *ret_features);

/* What the CPUID instruction of vCPU `index` returns, given its CR4 and XCR0 (OSXSAVE, XSAVE
 * sizes). Any thread. */
CpuidValue cpu_model_cpuid(const CpuModel *model, unsigned index, uint64_t cr4, uint64_t xcr0,
                           uint64_t apic_base, uint32_t leaf, uint32_t subleaf);

/* AMD and Hygon: what APM says of "AMD" processors. */
bool cpu_model_is_amd(const CpuModel *model);

/* Family, model and stepping as CPUID.1:EAX and EDX after a reset tell them. */
uint32_t cpu_model_signature(const CpuModel *model);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(CpuModel, cpu_model_free)
