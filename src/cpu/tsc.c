/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The host's time stamp counter.
 *
 * What is found out about the host is computed once and never changes.
 */
#include "cpu/tsc.h"

#include <cpuid.h>
#include <glib.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <x86intrin.h>

#define HYPERVISOR_TSC_LEAF 0x40000010u /* EAX: TSC in kHz; VMware, KVM, Xen, Firecracker */
#define NS                  1000000000u

static bool cpuid_says_invariant(void)
{
    uint32_t a, b, c, d;
    return __get_cpuid(0x80000007, &a, &b, &c, &d) && d & 1u << 8;
}

static bool kernel_trusts_tsc(void)
{
    g_autofree char *source = NULL;
    if (!g_file_get_contents("/sys/devices/system/clocksource/clocksource0/available_clocksource",
                             &source, NULL, NULL))
        return true; /* a container without /sys */
    g_auto(GStrv) words = g_strsplit_set(source, " \n", -1);
    return g_strv_contains((const char *const *)words, "tsc");
}

bool tsc_host_is_invariant(void)
{
    static gsize once;
    if (g_once_init_enter(&once))
        g_once_init_leave(&once, cpuid_says_invariant() && kernel_trusts_tsc() ? 2 : 1);
    return once == 2;
}

/* SDM 2A CPUID 15h: TSC = crystal × EBX / EAX; where the crystal isn't told, 16h gives the base
 * frequency in MHz. */
static uint64_t hz_from_cpuid(void)
{
    uint32_t a, b, c, d, base_mhz, max_mhz, bus_mhz;
    if (!__get_cpuid(0x15, &a, &b, &c, &d) || !a || !b)
        return 0;
    if (c)
        return (uint64_t)c * b / a;
    if (__get_cpuid(0x16, &base_mhz, &max_mhz, &bus_mhz, &d))
        return (uint64_t)base_mhz * 1000000;
    return 0;
}

static uint64_t hz_from_hypervisor(void)
{
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & 1u << 31))
        return 0;
    __cpuid(0x40000000, a, b, c, d);
    if (a < HYPERVISOR_TSC_LEAF || a > 0x400000ff)
        return 0;
    __cpuid(HYPERVISOR_TSC_LEAF, a, b, c, d);
    return (uint64_t)a * 1000;
}

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * NS + now.tv_nsec;
}

typedef struct Sample {
    uint64_t ns, tsc, width;
} Sample;

/* The TSC at a time: of several tries the one with the least between two readings. */
static Sample sample(void)
{
    Sample best = {.width = UINT64_MAX};
    for (int i = 0; i < 20; i++) {
        uint64_t before = __rdtsc();
        uint64_t ns = clock_ns(CLOCK_MONOTONIC_RAW);
        uint64_t after = __rdtsc();
        if (after - before < best.width)
            best = (Sample){ns, before + (after - before) / 2, after - before};
    }
    return best;
}

static uint64_t hz_measured(void)
{
    Sample start = sample();
    g_usleep(50000);
    Sample end = sample();
    return (unsigned __int128)(end.tsc - start.tsc) * NS / (end.ns - start.ns);
}

static bool plausible(uint64_t hz)
{
    return hz >= 100000000 && hz <= 20000000000;
}

static uint64_t find_hz(void)
{
    if (!tsc_host_is_invariant())
        return NS;
    uint64_t hz = hz_from_cpuid();
    if (!plausible(hz))
        hz = hz_from_hypervisor();
    return plausible(hz) ? hz : hz_measured();
}

uint64_t tsc_host_hz(void)
{
    static gsize hz;
    if (g_once_init_enter(&hz))
        g_once_init_leave(&hz, find_hz());
    return hz;
}

/* The fence keeps the reading behind loads that were before it in program order (SDM 2B RDTSC). */
uint64_t tsc_host_now(void)
{
    if (!tsc_host_is_invariant())
        return clock_ns(CLOCK_MONOTONIC);
    _mm_lfence();
    return __rdtsc();
}
