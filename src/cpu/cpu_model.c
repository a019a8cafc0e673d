/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * CPU models: names, feature sets, what the user adds and takes away.
 *
 * The made-up models are GenuineIntel CPUs whose family and model Linux has no workarounds for that
 * IA32_ARCH_CAPABILITIES can't call off (arch/x86/kernel/cpu/common.c, cpu_vuln_blacklist): its
 * guests then run without page table isolation, retpolines and buffer clearing, each of which costs
 * a software engine much.
 */
#include "cpu/cpu_features.h"

#include <string.h>

#include "base/i18n.h"
#include "cpu/tsc.h"

typedef struct ModelRow {
    const char *name;
    unsigned mask; /* MODEL_* */
    unsigned family, model, stepping;
    unsigned physical_address_bits;
    const char *brand;
} ModelRow;

static const ModelRow models[] = {
    {"486", MODEL_486, 4, 8, 0, 32, "Ospite 486DX4"},
    {"pentium3", MODEL_P3, 6, 8, 3, 36, "Ospite Pentium III"},
    {"x86-64-v1", MODEL_V1, 6, 44, 2, 40, "Ospite CPU x86-64-v1"},
    {"x86-64-v2", MODEL_V2, 6, 44, 2, 40, "Ospite CPU x86-64-v2"},
    {"x86-64-v3", MODEL_V3, 6, 63, 2, 40, "Ospite CPU x86-64-v3"},
    {"host", MODEL_HOST, 0, 0, 0, 0, NULL},
};

static const char *const model_names[] = {"486",       "pentium3", "x86-64-v1", "x86-64-v2",
                                          "x86-64-v3", "host",     NULL};

const char *const *cpu_model_names(void)
{
    return model_names;
}

/* ---- features that stand on others ----------------------------------------------------------- */

static const struct {
    CpuFeature feature, needs;
} dependencies[] = {
    {CPU_MMX, CPU_FPU},
    {CPU_FXSR, CPU_FPU},
    {CPU_SSE, CPU_FXSR},
    {CPU_SSE2, CPU_SSE},
    {CPU_SSE3, CPU_SSE2},
    {CPU_SSSE3, CPU_SSE3},
    {CPU_SSE41, CPU_SSSE3},
    {CPU_SSE42, CPU_SSE41},
    {CPU_PCLMULQDQ, CPU_SSE2},
    {CPU_AES, CPU_SSE2},
    {CPU_SHA, CPU_SSE2},
    {CPU_GFNI, CPU_SSE2},
    {CPU_XSAVE, CPU_FXSR},
    {CPU_AVX, CPU_XSAVE},
    {CPU_AVX, CPU_SSE42},
    {CPU_AVX2, CPU_AVX},
    {CPU_FMA, CPU_AVX},
    {CPU_F16C, CPU_AVX},
    {CPU_VAES, CPU_AVX},
    {CPU_VAES, CPU_AES},
    {CPU_VPCLMULQDQ, CPU_AVX},
    {CPU_VPCLMULQDQ, CPU_PCLMULQDQ},
    {CPU_XSAVEOPT, CPU_XSAVE},
    {CPU_XSAVEC, CPU_XSAVE},
    {CPU_XGETBV1, CPU_XSAVE},
    {CPU_LM, CPU_PAE},
    {CPU_LM, CPU_SSE2},
    {CPU_LM, CPU_MSR},
    {CPU_LM, CPU_CX8},
    {CPU_LM, CPU_PGE},
    {CPU_NX, CPU_PAE},
    {CPU_NX, CPU_MSR},
    {CPU_PDPE1GB, CPU_LM},
    {CPU_LAHF_LM, CPU_LM},
    {CPU_CX16, CPU_LM},
    {CPU_FSGSBASE, CPU_LM},
    {CPU_PCID, CPU_LM},
    {CPU_SYSCALL, CPU_MSR},
    {CPU_SEP, CPU_MSR},
    {CPU_PSE36, CPU_PSE},
    {CPU_MTRR, CPU_MSR},
    {CPU_PAT, CPU_MSR},
    {CPU_MCE, CPU_MSR},
    {CPU_MCA, CPU_MCE},
    {CPU_APIC, CPU_MSR},
    {CPU_X2APIC, CPU_APIC},
    {CPU_TSC_DEADLINE, CPU_APIC},
    {CPU_TSC_DEADLINE, CPU_TSC},
    {CPU_TSC_ADJUST, CPU_TSC},
    {CPU_RDTSCP, CPU_TSC},
    {CPU_INVARIANT_TSC, CPU_TSC},
    {CPU_SPEC_CTRL, CPU_MSR},
    {CPU_ARCH_CAPABILITIES, CPU_MSR},
    {CPU_CLFLUSHOPT, CPU_CLFLUSH},
    {CPU_CLWB, CPU_CLFLUSH},
};

static void remove_unsupported(bool *features)
{
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t i = 0; i < G_N_ELEMENTS(dependencies); i++) {
            if (features[dependencies[i].feature] && !features[dependencies[i].needs]) {
                features[dependencies[i].feature] = false;
                changed = true;
            }
        }
    }
}

/* Guests take a bit of the other vendor's for something else. */
static void remove_foreign(CpuModel *model)
{
    unsigned vendor = !strcmp(model->vendor, "GenuineIntel") ? INTEL_ONLY
                      : cpu_model_is_amd(model)              ? AMD_ONLY
                                                             : 0;
    for (int i = 0; i < CPU_FEATURE_COUNT; i++)
        if (cpu_feature_rows[i].vendor && cpu_feature_rows[i].vendor != vendor)
            model->features[i] = false;
}

/* ---- parsing --------------------------------------------------------------------------------- */

static const ModelRow *find_model(const char *name, GError **error)
{
    for (size_t i = 0; i < G_N_ELEMENTS(models); i++)
        if (!strcmp(models[i].name, name))
            return &models[i];
    g_autofree char *names = g_strjoinv(", ", (char **)model_names);
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                _("unknown CPU model '%s'; there are: %s"), name, names);
    return NULL;
}

static char *feature_names(void)
{
    GString *names = g_string_new(NULL);
    for (int i = 0; i < CPU_FEATURE_COUNT; i++)
        g_string_append_printf(names, "%s%s", i ? " " : "", cpu_feature_rows[i].name);
    return g_string_free(names, FALSE);
}

static int find_feature(const char *name, GError **error)
{
    for (int i = 0; i < CPU_FEATURE_COUNT; i++)
        if (!strcmp(cpu_feature_rows[i].name, name))
            return i;
    g_autofree char *names = feature_names();
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                _("unknown CPU feature '%s'; the names are those of /proc/cpuinfo: %s"), name,
                names);
    return -1;
}

typedef struct FeatureSets {
    bool promised[CPU_FEATURE_COUNT];
    bool wanted[CPU_FEATURE_COUNT];
} FeatureSets;

static void base_features(const ModelRow *row, FeatureSets *sets)
{
    bool host[CPU_FEATURE_COUNT] = {0};
    if (row->mask == MODEL_HOST)
        cpu_host_features(host);
    for (int i = 0; i < CPU_FEATURE_COUNT; i++) {
        sets->promised[i] = cpu_feature_rows[i].promised & row->mask;
        sets->wanted[i] = sets->promised[i] || cpu_feature_rows[i].optional & row->mask || host[i];
    }
}

/* "+name" or "-name". */
static bool apply_change(FeatureSets *sets, const char *change, GError **error)
{
    if (*change != '+' && *change != '-') {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    _("CPU option '%s' is neither +feature nor -feature"), change);
        return false;
    }
    int feature = find_feature(change + 1, error);
    if (feature < 0)
        return false;
    sets->wanted[feature] = sets->promised[feature] = *change == '+';
    return true;
}

static char *missing_features(const FeatureSets *sets, const bool *features, const bool *allowed)
{
    GString *names = g_string_new(NULL);
    for (int i = 0; i < CPU_FEATURE_COUNT; i++)
        if (sets->promised[i] && !features[i] && !allowed[i])
            g_string_append_printf(names, "%s%s", names->len ? " " : "", cpu_feature_rows[i].name);
    return g_string_free(names, !names->len);
}

/* ---- identity -------------------------------------------------------------------------------- */

static void host_brand(char *brand)
{
    uint32_t words[12] = {0};
    if (cpu_host_cpuid(0x80000000, 0).eax >= 0x80000004) {
        for (int i = 0; i < 3; i++) {
            CpuidValue v = cpu_host_cpuid(0x80000002 + i, 0);
            memcpy(words + 4 * i, &v, sizeof(v));
        }
    }
    memcpy(brand, words, 48);
}

static void host_vendor(char *vendor)
{
    CpuidValue v = cpu_host_cpuid(0, 0);
    memcpy(vendor, &v.ebx, 4);
    memcpy(vendor + 4, &v.edx, 4);
    memcpy(vendor + 8, &v.ecx, 4);
}

static unsigned host_physical_bits(void)
{
    if (cpu_host_cpuid(0x80000000, 0).eax < 0x80000008)
        return 36;
    return cpu_host_cpuid(0x80000008, 0).eax & 0xff;
}

static void identify_as_host(CpuModel *model)
{
    uint32_t signature = cpu_host_cpuid(1, 0).eax;
    host_vendor(model->vendor);
    host_brand(model->brand);
    model->family = signature >> 8 & 0xf;
    model->model = signature >> 4 & 0xf;
    model->stepping = signature & 0xf;
    if (model->family == 6 || model->family == 0xf)
        model->model |= signature >> 12 & 0xf0;
    if (model->family == 0xf)
        model->family += signature >> 20 & 0xff;
    model->physical_address_bits = host_physical_bits();
}

static void identify(CpuModel *model, const ModelRow *row)
{
    if (row->mask == MODEL_HOST) {
        identify_as_host(model);
    } else {
        g_strlcpy(model->vendor, "GenuineIntel", sizeof(model->vendor));
        g_strlcpy(model->brand, row->brand, sizeof(model->brand));
        model->family = row->family;
        model->model = row->model;
        model->stepping = row->stepping;
        model->physical_address_bits = MIN(row->physical_address_bits, host_physical_bits());
    }
}

CpuModel *cpu_model_new(const char *name, const bool *allowed, unsigned vcpu_count,
                        char **ret_missing, GError **error)
{
    g_auto(GStrv) parts = g_strsplit(name, ",", -1);
    const ModelRow *row = find_model(parts[0] ? parts[0] : "", error);
    if (!row)
        return NULL;
    FeatureSets sets;
    base_features(row, &sets);
    for (char **change = parts + 1; *change; change++)
        if (!apply_change(&sets, *change, error))
            return NULL;

    CpuModel *model = g_new0(CpuModel, 1);
    model->name = g_strdup(name);
    model->vcpu_count = vcpu_count;
    model->tsc_hz = tsc_host_hz();
    for (int i = 0; i < CPU_FEATURE_COUNT; i++)
        model->features[i] = sets.wanted[i] && allowed[i];
    identify(model, row);
    remove_foreign(model);
    remove_unsupported(model->features);
    model->linear_address_bits = model->features[CPU_LM] ? 48 : 32;
    if (ret_missing)
        *ret_missing = missing_features(&sets, model->features, allowed);
    return model;
}

void cpu_model_set_paravirt(CpuModel *model, Paravirt paravirt)
{
    g_auto(GStrv) parts = g_strsplit(model->name, ",", -1);

    model->paravirt = paravirt;
    if (paravirt & PARAVIRT_KVM && !g_strv_contains((const char *const *)parts, "+nonstop_tsc"))
        model->features[CPU_INVARIANT_TSC] = false;
}

void cpu_model_remove_apic(CpuModel *model)
{
    static const CpuFeature features[] = {CPU_APIC, CPU_X2APIC, CPU_TSC_DEADLINE};

    for (unsigned i = 0; i < G_N_ELEMENTS(features); i++)
        model->features[features[i]] = false;
}

bool cpu_model_offers(const CpuModel *model, Paravirt paravirt)
{
    return cpu_has(model, CPU_HYPERVISOR) && cpu_has(model, CPU_MSR) && model->paravirt & paravirt;
}

void cpu_model_free(CpuModel *model)
{
    if (!model)
        return;
    g_free(model->name);
    g_free(model);
}
