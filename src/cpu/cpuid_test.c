/* SPDX-License-Identifier: GPL-3.0-or-later */
/* CPU models and CPUID leaves, against the manuals and against the host's own CPUID. */
#include "cpu/cpu_features.h"

#include <cpuid.h>
#include <string.h>

#include "cpu/state.h"
#include "cpu/tsc.h"

#define APIC_BASE 0xfee00900u

static bool everything[CPU_FEATURE_COUNT];

static CpuModel *new_model(const char *name, unsigned cpus)
{
    g_autoptr(GError) error = NULL;
    CpuModel *model = cpu_model_new(name, everything, cpus, NULL, &error);
    g_assert_no_error(error);
    return model;
}

static CpuidValue ask(const CpuModel *model, uint32_t leaf, uint32_t subleaf)
{
    return cpu_model_cpuid(model, 0, 0, XCR0_X87, APIC_BASE, leaf, subleaf);
}

static CpuidValue ask_model(void *model, uint32_t leaf, uint32_t subleaf)
{
    return ask(model, leaf, subleaf);
}

/* Each row's leaf, register and bit, as an operating system would find it. */
static void test_features(void)
{
    for (const char *const *name = cpu_model_names(); *name; name++) {
        g_autoptr(CpuModel) model = new_model(*name, 3);
        bool found[CPU_FEATURE_COUNT];
        cpu_features_decode(ask_model, model, found);
        for (int i = 0; i < CPU_FEATURE_COUNT; i++)
            if (found[i] != model->features[i])
                g_error("%s: %s", *name, cpu_feature_rows[i].name);
    }
}

/* The names are those that the host's kernel gives to the same bits. */
static void test_proc_cpuinfo(void)
{
    g_autofree char *text = NULL;
    bool host[CPU_FEATURE_COUNT];
    cpu_host_features(host);
    const char *flags = NULL;
    if (g_file_get_contents("/proc/cpuinfo", &text, NULL, NULL))
        flags = strstr(text, "\nflags");
    if (!flags) {
        g_test_skip("no flags in /proc/cpuinfo");
        return;
    }
    g_auto(GStrv) lines = g_strsplit(flags + 1, "\n", 2);
    g_auto(GStrv) words = g_strsplit_set(lines[0], " \t:", -1);
    for (int i = 0; i < CPU_FEATURE_COUNT; i++) {
        const char *name = cpu_feature_rows[i].name;
        if (!host[i] && g_strv_contains((const char *const *)words, name))
            g_error("the kernel sees %s, we don't", name);
    }
    const CpuFeature sure[] = {CPU_FPU, CPU_SSE2, CPU_CX8, CPU_CMOV, CPU_LM, CPU_NX, CPU_SYSCALL};
    for (size_t i = 0; i < G_N_ELEMENTS(sure); i++)
        g_assert_true(host[sure[i]]);
}

static void test_host(void)
{
    bool allowed[CPU_FEATURE_COUNT];
    uint32_t a, b, c, d;
    g_autoptr(GError) error = NULL;
    g_autofree char *missing = NULL;
    cpu_host_features(allowed);
    g_autoptr(CpuModel) model = cpu_model_new("host", allowed, 1, &missing, &error);
    g_assert_no_error(error);
    g_assert_null(missing);

    __cpuid(0, a, b, c, d);
    CpuidValue v = ask(model, 0, 0);
    g_assert_true(v.ebx == b && v.ecx == c && v.edx == d);
    __cpuid(1, a, b, c, d);
    v = ask(model, 1, 0);
    g_assert_cmphex(v.eax, ==, a & 0x0fff0fff);
    g_assert_cmphex(v.ecx & ~c, ==, 0);
    g_assert_cmphex(v.edx & ~d, ==, 0);
    g_assert_cmphex(v.ebx >> 8 & 0xff, ==, b >> 8 & 0xff); /* CLFLUSH line */
    __cpuid_count(7, 0, a, b, c, d);
    v = ask(model, 7, 0);
    g_assert_cmphex(v.ebx & ~b, ==, 0);
    g_assert_cmphex(v.ecx & ~c, ==, 0);
    g_assert_cmphex(v.edx & ~d, ==, 0);
    for (uint32_t leaf = 0x80000002; leaf <= 0x80000004; leaf++) {
        __cpuid(leaf, a, b, c, d);
        v = ask(model, leaf, 0);
        g_assert_true(v.eax == a && v.ebx == b && v.ecx == c && v.edx == d);
    }
    __cpuid(0x80000008, a, b, c, d);
    g_assert_cmphex(ask(model, 0x80000008, 0).eax & 0xff, ==, a & 0xff);
    if (cpu_has(model, CPU_AVX)) {
        __cpuid_count(0xd, 2, a, b, c, d);
        v = ask(model, 0xd, 2);
        g_assert_cmphex(v.eax, ==, a);
        g_assert_cmphex(v.ebx, ==, b);
    }
}

/* The levels of the x86-64 psABI 1.0, table 3.1. */
static void test_levels(void)
{
    const CpuFeature v1[] = {CPU_CMOV, CPU_CX8,     CPU_FPU, CPU_FXSR,
                             CPU_MMX,  CPU_SYSCALL, CPU_SSE, CPU_SSE2};
    const CpuFeature v2[] = {CPU_CX16,  CPU_LAHF_LM, CPU_POPCNT, CPU_SSE3,
                             CPU_SSE41, CPU_SSE42,   CPU_SSSE3};
    const CpuFeature v3[] = {CPU_AVX, CPU_AVX2, CPU_BMI1,  CPU_BMI2, CPU_F16C,
                             CPU_FMA, CPU_ABM,  CPU_MOVBE, CPU_XSAVE};
    g_autoptr(CpuModel) m1 = new_model("x86-64-v1", 1);
    g_autoptr(CpuModel) m2 = new_model("x86-64-v2", 1);
    g_autoptr(CpuModel) m3 = new_model("x86-64-v3", 1);
    for (size_t i = 0; i < G_N_ELEMENTS(v1); i++)
        g_assert_true(cpu_has(m1, v1[i]) && cpu_has(m2, v1[i]) && cpu_has(m3, v1[i]));
    for (size_t i = 0; i < G_N_ELEMENTS(v2); i++)
        g_assert_true((v2[i] == CPU_LAHF_LM || !cpu_has(m1, v2[i])) && cpu_has(m2, v2[i]) &&
                      cpu_has(m3, v2[i]));
    for (size_t i = 0; i < G_N_ELEMENTS(v3); i++)
        g_assert_true((v3[i] == CPU_XSAVE || !cpu_has(m2, v3[i])) && cpu_has(m3, v3[i]));
}

static void test_old(void)
{
    g_autoptr(CpuModel) i486 = new_model("486", 1);
    g_assert_cmphex(ask(i486, 0, 0).eax, ==, 1);
    g_assert_cmphex(ask(i486, 1, 0).eax, ==, 0x480);
    g_assert_cmphex(ask(i486, 1, 0).edx, ==, 3); /* FPU, VME */
    g_assert_cmphex(ask(i486, 1, 0).ecx, ==, 0);
    g_assert_cmphex(ask(i486, 0x80000000, 0).eax, <, 0x80000000);

    g_autoptr(CpuModel) p3 = new_model("pentium3", 1);
    g_assert_cmphex(ask(p3, 1, 0).eax, ==, 0x683);
    g_assert_cmphex(ask(p3, 1, 0).edx, ==, 0x0383fbff);
    g_assert_cmphex(ask(p3, 0x80000000, 0).eax, <, 0x80000000);
    g_assert_false(cpu_has(p3, CPU_LM));
}

static void test_changes(void)
{
    g_autoptr(CpuModel) model = new_model("x86-64-v3,-xsave,+clwb,-hypervisor", 1);
    g_assert_false(cpu_has(model, CPU_AVX) || cpu_has(model, CPU_AVX2) || cpu_has(model, CPU_FMA));
    g_assert_false(cpu_has(model, CPU_XSAVEOPT));
    g_assert_true(cpu_has(model, CPU_SSE42) && cpu_has(model, CPU_CLWB));
    g_assert_cmphex(ask(model, 0xd, 0).eax, ==, 0);
    g_assert_cmphex(ask(model, 0x40000000, 0).ebx, ==, ask(model, 0x16, 0).ebx); /* no such leaf */

    bool allowed[CPU_FEATURE_COUNT];
    g_autofree char *missing = NULL;
    memset(allowed, true, sizeof(allowed));
    allowed[CPU_AVX] = allowed[CPU_AES] = false;
    g_autoptr(CpuModel) less = cpu_model_new("x86-64-v3", allowed, 1, &missing, NULL);
    g_assert_false(cpu_has(less, CPU_AVX2));
    g_assert_cmpstr(missing, ==, "avx"); /* AES was not promised, AVX2 could be had */
}

static void test_bad_names(void)
{
    const char *bad[] = {"pentium9", "", "host,avx", "host,+nothing", "host,", "486,+"};
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_null(cpu_model_new(bad[i], everything, 1, NULL, &error));
        g_assert_nonnull(error);
    }
    g_autoptr(GError) error = NULL;
    cpu_model_new("pentium9", everything, 1, NULL, &error);
    g_assert_nonnull(strstr(error->message, "x86-64-v2"));
}

/* What depends on the running CPU. SDM 2A: OSXSAVE mirrors CR4, APIC goes with IA32_APIC_BASE.EN,
 * ECX is ignored in leaf 1. */
static void test_dynamic(void)
{
    g_autoptr(CpuModel) model = new_model("x86-64-v3", 6);
    CpuidValue v = cpu_model_cpuid(model, 5, CR4_OSXSAVE, 7, APIC_BASE, 1, 77);
    g_assert_true(v.ecx & bit_OSXSAVE && v.edx & 1 << 9);
    g_assert_cmphex(v.ebx >> 24, ==, 5);
    g_assert_cmphex(v.ebx >> 16 & 0xff, ==, 8);
    g_assert_true(v.edx & 1 << 28);
    v = cpu_model_cpuid(model, 5, 0, 7, 0xfee00000, 1, 0);
    g_assert_false(v.ecx & bit_OSXSAVE || v.edx & 1 << 9);

    g_assert_cmpuint(cpu_model_cpuid(model, 0, CR4_OSXSAVE, 7, APIC_BASE, 0xd, 0).ebx, ==, 832);
    g_assert_cmpuint(cpu_model_cpuid(model, 0, CR4_OSXSAVE, 3, APIC_BASE, 0xd, 0).ebx, ==, 576);
    g_assert_cmpuint(cpu_model_cpuid(model, 0, CR4_OSXSAVE, 3, APIC_BASE, 0xd, 0).ecx, ==, 832);

    v = cpu_model_cpuid(model, 5, 0, 1, APIC_BASE, 0xb, 0);
    g_assert_true(v.eax == 0 && v.ebx == 1 && v.ecx == 0x100 && v.edx == 5);
    v = cpu_model_cpuid(model, 5, 0, 1, APIC_BASE, 0xb, 1);
    g_assert_true(v.eax == 3 && v.ebx == 6 && v.ecx == 0x201 && v.edx == 5);
    v = cpu_model_cpuid(model, 5, 0, 1, APIC_BASE, 0xb, 2);
    g_assert_true(v.eax == 0 && v.ebx == 0 && v.ecx == 2 && v.edx == 5);
}

/* As Linux computes it, in 32 bits (native_calibrate_tsc). */
static void test_tsc_leaves(void)
{
    g_autoptr(CpuModel) model = new_model("x86-64-v2", 1);
    const uint64_t rates[] = {999999999,  1000000000, 1996249000, 2595123000,
                              2600000000, 3792871000, 4200000001};
    for (size_t i = 0; i < G_N_ELEMENTS(rates); i++) {
        model->tsc_hz = rates[i];
        CpuidValue v = ask(model, 0x15, 0);
        uint32_t khz = v.ecx / 1000 * v.ebx / v.eax;
        g_assert_cmpfloat_with_epsilon(khz * 1000.0, rates[i], rates[i] * 2e-6);
        g_assert_cmpuint(ask(model, 0x16, 0).eax, ==, (rates[i] + 500000) / 1000000);
        g_assert_cmpuint(ask(model, 0x40000010, 0).eax, ==, rates[i] / 1000);
    }
    CpuidValue v = ask(model, 0x40000000, 0);
    g_assert_cmphex(v.eax, ==, 0x40000010);
    g_assert_true(!memcmp(&v.ebx, "Ospi", 4) && !memcmp(&v.ecx, "teOs", 4) &&
                  !memcmp(&v.edx, "pite", 4));
}

static void assert_signature(CpuidValue v, uint32_t last, const char *signature)
{
    uint32_t words[] = {v.ebx, v.ecx, v.edx};
    g_assert_cmphex(v.eax, ==, last);
    g_assert_cmpmem(words, sizeof(words), signature, sizeof(words));
}

/* Linux, Documentation/virt/kvm/x86/cpuid.rst; TLFS 2.4. */
static void test_paravirt(void)
{
    g_autoptr(CpuModel) model = new_model("x86-64-v2", 2);
    g_assert_true(cpu_has(model, CPU_INVARIANT_TSC));
    cpu_model_set_paravirt(model, PARAVIRT_KVM);
    g_assert_false(cpu_has(model, CPU_INVARIANT_TSC));
    assert_signature(ask(model, 0x40000000, 0), 0x40000010, "KVMKVMKVM\0\0");
    g_assert_cmphex(ask(model, 0x40000001, 0).eax, ==, 1 << 1 | 1 << 3 | 1 << 6 | 1 << 24);
    g_assert_cmpuint(ask(model, 0x40000010, 0).eax, ==, model->tsc_hz / 1000);

    cpu_model_set_paravirt(model, PARAVIRT_HYPERV);
    assert_signature(ask(model, 0x40000000, 0), 0x40000005, "Microsoft Hv");
    g_assert_cmphex(ask(model, 0x40000001, 0).eax, ==, 0x31237648);
    g_assert_cmphex(ask(model, 0x40000003, 0).eax, ==,
                    1 << 1 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 9 | 1 << 11);
    g_assert_false(cpu_model_has_hypervisor_leaf(model, 0x40000100));

    cpu_model_set_paravirt(model, PARAVIRT_BOTH);
    assert_signature(ask(model, 0x40000000, 0), 0x40000005, "Microsoft Hv");
    assert_signature(ask(model, 0x40000100, 0), 0x40000110, "KVMKVMKVM\0\0");
    g_assert_cmpuint(ask(model, 0x40000110, 0).eax, ==, model->tsc_hz / 1000);

    g_autoptr(CpuModel) asked = new_model("x86-64-v2,+nonstop_tsc", 1);
    cpu_model_set_paravirt(asked, PARAVIRT_KVM);
    g_assert_true(cpu_has(asked, CPU_INVARIANT_TSC));
    g_autoptr(CpuModel) hidden = new_model("x86-64-v2,-hypervisor", 1);
    cpu_model_set_paravirt(hidden, PARAVIRT_BOTH);
    g_assert_false(cpu_model_has_hypervisor_leaf(hidden, 0x40000000));
    g_assert_false(cpu_model_offers(hidden, PARAVIRT_KVM));
}

/* Against the same in more bits. */
static void test_clock_scales(void)
{
    const uint64_t rates[] = {100000000,  999999999,  1000000000,
                              1996249000, 2600000000, 20000000000};
    for (size_t i = 0; i < G_N_ELEMENTS(rates); i++) {
        uint64_t ticks = rates[i] * 1000000; /* eleven days */
        double ns = (double)clock_scale_ns(clock_scale(rates[i]), ticks);
        g_assert_cmpfloat_with_epsilon(ns, 1e15, 1e15 * 1e-9);
        uint64_t units = (unsigned __int128)ticks * clock_reference_scale(rates[i]) >> 64;
        g_assert_cmpfloat_with_epsilon((double)units, 1e13, 2);
    }
}

/* Windows stops at IA32_ARCH_CAPABILITIES on an AMD CPU, and AMD's leaves are Intel's to define. */
static void test_vendors(void)
{
    for (const char *const *name = cpu_model_names(); *name; name++) {
        g_autoptr(CpuModel) model = new_model(*name, 1);
        for (int i = 0; i < CPU_FEATURE_COUNT; i++) {
            unsigned vendor = cpu_feature_rows[i].vendor;
            bool foreign = vendor && (vendor == AMD_ONLY) != cpu_model_is_amd(model);
            if (foreign && model->features[i])
                g_error("%s: %s", *name, cpu_feature_rows[i].name);
        }
        if (cpu_model_is_amd(model))
            g_assert_true(ask(model, 0x80000021, 0).eax & 1u << 29); /* SRSO_NO */
    }
}

/* Every leaf answers, for hostile leaf numbers too. */
static void test_all_leaves(void)
{
    for (const char *const *name = cpu_model_names(); *name; name++) {
        g_autoptr(CpuModel) model = new_model(*name, 32);
        for (unsigned i = 0; i < 20000; i++) {
            uint32_t leaf = g_test_rand_int();
            ask(model, i & 1 ? leaf : (leaf & 0xc000003f), g_test_rand_int() & 0xff);
        }
    }
}

static void test_tsc(void)
{
    uint64_t start = tsc_host_now();
    gint64 start_us = g_get_monotonic_time();
    g_usleep(50000);
    uint64_t end = tsc_host_now();
    double hz = (end - start) * 1e6 / (g_get_monotonic_time() - start_us);
    g_assert_cmpfloat_with_epsilon(hz, tsc_host_hz(), tsc_host_hz() * 0.02);
    for (uint64_t last = end, now; last < end + 1000000; last = now)
        g_assert_cmpuint((now = tsc_host_now()), >=, last);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    memset(everything, true, sizeof(everything));
    g_test_add_func("/cpu/cpuid/features", test_features);
    g_test_add_func("/cpu/cpuid/proc-cpuinfo", test_proc_cpuinfo);
    g_test_add_func("/cpu/cpuid/host", test_host);
    g_test_add_func("/cpu/cpuid/levels", test_levels);
    g_test_add_func("/cpu/cpuid/old", test_old);
    g_test_add_func("/cpu/cpuid/changes", test_changes);
    g_test_add_func("/cpu/cpuid/bad-names", test_bad_names);
    g_test_add_func("/cpu/cpuid/dynamic", test_dynamic);
    g_test_add_func("/cpu/cpuid/tsc-leaves", test_tsc_leaves);
    g_test_add_func("/cpu/cpuid/paravirt", test_paravirt);
    g_test_add_func("/cpu/cpuid/clock-scales", test_clock_scales);
    g_test_add_func("/cpu/cpuid/vendors", test_vendors);
    g_test_add_func("/cpu/cpuid/all-leaves", test_all_leaves);
    g_test_add_func("/cpu/tsc", test_tsc);
    return g_test_run();
}
