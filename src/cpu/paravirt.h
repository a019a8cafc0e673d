/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a guest that knows it is one is offered: KVM's clock and end of interrupt (Linux,
 * Documentation/virt/kvm/x86/cpuid.rst and msr.rst), Hyper-V's (Microsoft, Hypervisor Top-Level
 * Functional Specification 6.0). CPUID tells of it (cpuid.c); KVM does it itself, soft/paravirt.c
 * for the software engines.
 */
#pragma once

#include <gio/gio.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum Paravirt {
    PARAVIRT_NONE = 0,
    PARAVIRT_KVM = 1 << 0,
    PARAVIRT_HYPERV = 1 << 1,
    PARAVIRT_BOTH = PARAVIRT_KVM | PARAVIRT_HYPERV, /* Hyper-V's leaves first, then KVM's */
} Paravirt;

/* What `--paravirt` and the setting take, separated by spaces, in the order of the values. */
#define PARAVIRT_NAMES "none kvm hyperv both"

/* Of one of the names. */
Paravirt paravirt_from_name(const char *name);

/* ---- CPUID ----------------------------------------------------------------------------------- */

#define HYPERVISOR_LEAF     0x40000000u
#define HYPERVISOR_TSC_LEAF 0x40000010u /* kHz of the TSC and of the local APIC's timer */
/* KVM's leaves where Hyper-V's have the first place. */
#define HYPERVISOR_SECOND_LEAF 0x40000100u
#define HYPERV_LAST_LEAF       0x40000005u

enum { /* 4000_0001 EAX */
       KVM_FEATURE_NO_IO_DELAY = 1 << 1,
       KVM_FEATURE_CLOCK = 1 << 3,
       KVM_FEATURE_EOI = 1 << 6,
       KVM_FEATURE_CLOCK_STABLE = 1 << 24,
       KVM_FEATURES_OFFERED =
           KVM_FEATURE_NO_IO_DELAY | KVM_FEATURE_CLOCK | KVM_FEATURE_EOI | KVM_FEATURE_CLOCK_STABLE,
};

/* ---- registers ------------------------------------------------------------------------------- */

enum {
    MSR_KVM_WALL_CLOCK = 0x4b564d00,
    MSR_KVM_SYSTEM_TIME = 0x4b564d01,
    MSR_KVM_EOI = 0x4b564d04,

    MSR_HYPERV_GUEST_OS = 0x40000000,
    MSR_HYPERV_HYPERCALL = 0x40000001,
    MSR_HYPERV_VP_INDEX = 0x40000002,
    MSR_HYPERV_TIME_COUNTER = 0x40000020,
    MSR_HYPERV_REFERENCE_TSC = 0x40000021,
    MSR_HYPERV_TSC_HZ = 0x40000022,
    MSR_HYPERV_APIC_HZ = 0x40000023,
    MSR_HYPERV_EOI = 0x40000070,
    MSR_HYPERV_ICR = 0x40000071,
    MSR_HYPERV_TPR = 0x40000072,
    MSR_HYPERV_ASSIST_PAGE = 0x40000073,
};

/* ---- time ------------------------------------------------------------------------------------ */

/* Nanoseconds are ticks << shift (>> -shift), then × multiplier >> 32: pvclock's way. */
typedef struct ClockScale {
    uint32_t multiplier;
    int8_t shift;
} ClockScale;
ClockScale clock_scale(uint64_t hz);
uint64_t clock_scale_ns(ClockScale scale, uint64_t ticks);
/* Units of 100 ns are ticks × this >> 64: Hyper-V's way. */
uint64_t clock_reference_scale(uint64_t hz);
