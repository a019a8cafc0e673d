/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The table of CPU features, for cpu_model.c and cpuid.c (and engines that turn CPUID into
 * features). */
#pragma once

#include "cpu/cpuid.h"

enum { /* bits of CpuFeatureRow.promised and .optional */
       MODEL_486 = 1 << 0,
       MODEL_P3 = 1 << 1,
       MODEL_V1 = 1 << 2,
       MODEL_V2 = 1 << 3,
       MODEL_V3 = 1 << 4,
       MODEL_HOST = 1 << 5, /* whether the host's own CPUID has it or not */
       FROM_V3 = MODEL_V3,
       FROM_V2 = MODEL_V2 | FROM_V3,
       FROM_V1 = MODEL_V1 | FROM_V2,
       FROM_P3 = MODEL_P3 | FROM_V1,
       FROM_486 = MODEL_486 | FROM_P3,
};

enum { INTEL_ONLY = 1, AMD_ONLY }; /* CpuFeatureRow.vendor */

typedef enum CpuidRegister { REG_EAX, REG_EBX, REG_ECX, REG_EDX } CpuidRegister;

typedef struct CpuFeatureRow {
    const char *name; /* as in Linux's /proc/cpuinfo */
    uint32_t leaf, subleaf;
    CpuidRegister reg;
    uint8_t bit;
    uint8_t promised; /* models whose name promises it: the user is told when it is missing */
    uint8_t optional; /* models that have it where the engine can */
    uint8_t vendor;   /* whose CPUs alone know the bit; 0: anybody's */
} CpuFeatureRow;

extern const CpuFeatureRow cpu_feature_rows[CPU_FEATURE_COUNT];

static inline uint32_t cpuid_register(CpuidValue value, CpuidRegister reg)
{
    const uint32_t registers[] = {value.eax, value.ebx, value.ecx, value.edx};
    return registers[reg];
}
/* The features in a CPUID that `cpuid` answers; leaves beyond its maxima are not asked. */
void cpu_features_decode(CpuidValue (*cpuid)(void *obj, uint32_t leaf, uint32_t subleaf), void *obj,
                         bool *ret_features);
CpuidValue cpu_host_cpuid(uint32_t leaf, uint32_t subleaf);
