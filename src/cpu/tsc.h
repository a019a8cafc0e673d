/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The host's time stamp counter: its frequency and a reading that never goes backward. Any thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Whether RDTSC counts at one rate in all power states and alike on all cores (CPUID 8000_0007
 * EDX[8] or a hypervisor that vouches for it, and the kernel trusts it). If not, tsc_host_now()
 * counts nanoseconds instead. */
bool tsc_host_is_invariant(void);
/* Counts per second of tsc_host_now(): from CPUID 15h/16h or 4000_0010h, else measured. The first
 * call may take 50 ms. */
uint64_t tsc_host_hz(void);
/* Never less than a reading that happened before, on whatever core. */
uint64_t tsc_host_now(void);
