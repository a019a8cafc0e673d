/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A CPU for tests of the local APIC: it counts what it is told; its TSC follows the clock at 2 GHz.
 */
#pragma once

#include "device/chipset/lapic.h"
#include "device/test_board.h"

typedef struct TestCpu {
    TestBoard *board;
    Lapic *lapic;
    unsigned rechecks, nmis, inits, startups;
    uint8_t startup_vector;
} TestCpu;

static inline void test_cpu_recheck(void *obj)
{
    ((TestCpu *)obj)->rechecks++;
}
static inline void test_cpu_nmi(void *obj)
{
    ((TestCpu *)obj)->nmis++;
}
static inline void test_cpu_init(void *obj)
{
    ((TestCpu *)obj)->inits++;
}
static inline void test_cpu_startup(void *obj, uint8_t vector)
{
    ((TestCpu *)obj)->startups++;
    ((TestCpu *)obj)->startup_vector = vector;
}
static inline uint64_t test_cpu_tsc(void *obj)
{
    return clock_now_ns(((TestCpu *)obj)->board->board.clock) * 2;
}
static inline uint64_t test_cpu_tsc_hz(void *obj)
{
    return 2000000000;
}

static const IntcCpuOps test_cpu_ops = {
    .interrupt_pending = test_cpu_recheck,
    .nmi = test_cpu_nmi,
    .init = test_cpu_init,
    .startup = test_cpu_startup,
    .tsc = test_cpu_tsc,
    .tsc_hz = test_cpu_tsc_hz,
};

static inline void test_cpu_create(TestCpu *cpu, TestBoard *board, LapicBus *bus, unsigned index)
{
    cpu->board = board;
    cpu->lapic = device_new(&lapic_type, &board->board, "lapic");
    cpu->lapic->apic_id = index;
    cpu->lapic->bsp = index == 0;
    cpu->lapic->cpu_ops = &test_cpu_ops;
    cpu->lapic->vcpu = cpu;
    lapic_bus_attach(bus, cpu->lapic);
    device_create(&cpu->lapic->device, NULL);
    device_reset(&cpu->lapic->device);
}
