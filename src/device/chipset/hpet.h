/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * High precision event timer (IA-PC HPET specification 1.0a): 64-bit counter of 100 MHz, 3 timers
 * that are periodic and 64-bit capable, with legacy replacement routing and FSB (MSI) delivery.
 *
 * Wiring: map io (1 KiB) at 0xfed00000; irq[n] is the wire to I/O APIC input n (only those in
 * option routing-cap are driven); isa_irq[0] and isa_irq[1] are IRQ 0 and IRQ 8. The PIT and the
 * RTC reach these through hpet_legacy_input(0) and (1), for legacy replacement disconnects them.
 *
 * Threads: board lock. MSIs go through board->send_msi.
 */
#pragma once

#include "device/device.h"

#define HPET_PERIOD_NS 10
#define HPET_TIMERS    3

typedef struct Hpet Hpet;

typedef struct HpetTimer {
    uint32_t config;
    uint64_t comparator;
    uint64_t period; /* of a periodic timer, in counts */
    uint64_t fsb;    /* address in the upper half, data in the lower */
    bool scheduled;
    uint64_t due; /* count at which it fires next, while scheduled */
    ClockTimer timer;
    Hpet *hpet; /* derived */
} HpetTimer;

struct Hpet {
    Device device;
    Region io;
    IrqLine irq[32], isa_irq[2];
    uint32_t routing_cap; /* option */

    uint64_t config;
    uint32_t status;       /* bit n: level-triggered timer n is active */
    uint64_t counter_base; /* the counter at base_ns, or while it is halted */
    int64_t base_ns;
    bool legacy_input[2]; /* levels from the PIT and the RTC */
    HpetTimer timers[HPET_TIMERS];
};

extern const DeviceType hpet_type;

/* 0: the PIT's output, 1: the RTC's. */
IrqLine hpet_legacy_input(Hpet *hpet, unsigned n);
