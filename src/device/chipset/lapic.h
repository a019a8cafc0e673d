/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Local APIC (SDM 3A chapter 10): xAPIC registers in a page, x2APIC registers as MSRs, timer, local
 * vector table, and the bus that carries messages between the local APICs of a machine.
 *
 * Threads: every entry may be called from any thread. Each LAPIC has a small mutex (`lock`), a leaf
 * except for the clock's; it is never held while another LAPIC, the CPU or the board is called.
 * Only acknowledging the 8259A and ending a level-triggered interrupt reach callbacks that take the
 * board lock.
 *
 * Wiring:
 *     LapicBus bus;  lapic_bus_init(&bus);  bus.eoi = …;  bus.acknowledge_pic = …;
 *     Lapic *l = device_new(&lapic_type, board, "lapic0");
 *     l->apic_id = 0;  l->bsp = true;  l->cpu_ops = …;  l->vcpu = …;
 *     device_create(…);  lapic_bus_attach(&bus, l);  device_reset(…);
 *     pic->intr = lapic_bus_lint(&bus, 0);   // INTR of the 8259A pair
 *     nmi_source = lapic_bus_lint(&bus, 1);  // NMI
 *     vcpu->intc = &lapic_intc, obj = l;
 */
#pragma once

#include "cpu/intc.h"
#include "device/device.h"

#define LAPIC_BUS_HZ UINT64_C(1000000000)
#define LAPIC_BASE   UINT64_C(0xfee00000)
#define LAPIC_MAX    32

#define APIC_BASE_BSP    (UINT64_C(1) << 8)
#define APIC_BASE_X2APIC (UINT64_C(1) << 10)
#define APIC_BASE_ENABLE (UINT64_C(1) << 11)

typedef struct Lapic Lapic;

/* All local APICs of a machine. Filled before it runs, then constant but for the fields marked
 * atomic. */
typedef struct LapicBus {
    Lapic *lapics[LAPIC_MAX];
    unsigned count;
    void (*eoi)(void *obj,
                uint8_t vector); /* broadcast to the I/O APICs; takes the board lock itself */
    void *eoi_obj;
    int (*acknowledge_pic)(void *obj); /* INTA to the 8259A pair; takes the board lock itself */
    void *pic_obj;
    unsigned next_lowest; /* atomic: where lowest-priority arbitration begins, for fairness */
} LapicBus;

typedef enum LapicLvt {
    LAPIC_LVT_TIMER,
    LAPIC_LVT_THERMAL,
    LAPIC_LVT_PERF,
    LAPIC_LVT_LINT0,
    LAPIC_LVT_LINT1,
    LAPIC_LVT_ERROR,
    LAPIC_LVT_COUNT,
} LapicLvt;

struct Lapic {
    Device device;
    /* Wiring, constant while the machine runs. */
    uint32_t apic_id;
    bool bsp;
    uint32_t
        phys_bits; /* option: width of physical addresses, for IA32_APIC_BASE's reserved bits */
    bool x2apic;   /* option: the CPU model has x2APIC mode */
    bool absent;   /* option: it only passes the 8259A's INTR and NMI on to the CPU */
    const IntcCpuOps *cpu_ops;
    void *vcpu;
    LapicBus *bus;
    Region mmio; /* for debug access; vCPUs reach their own LAPIC through Intc */

    GMutex lock;       /* guards all below */
    uint64_t base_msr; /* atomic for readers */
    uint8_t tpr;
    uint32_t ldr, dfr, svr;
    uint32_t isr[8], irr[8], tmr[8];
    uint32_t esr;        /* what software reads */
    uint32_t esr_logged; /* errors since the last write of ESR */
    uint64_t icr;        /* x2APIC layout: destination in the upper half (xAPIC: its bits 31:24) */
    uint32_t lvt[LAPIC_LVT_COUNT];
    uint32_t timer_initial, timer_divide;
    bool timer_running;
    int64_t timer_start_ns; /* when the count of the running period was timer_initial */
    uint64_t tsc_deadline;
    bool extint_message; /* an ExtINT message was accepted and not yet acknowledged */
    bool lint_level[2];  /* state of the pins */
    ClockTimer timer;
    uint64_t eoi_bit; /* Intc.set_eoi_bit */
    bool eoi_bit_set; /* … and the interrupt in service may be ended there */
    unsigned actions; /* derived: LapicAction, what lapic_unlock() has yet to do */
    int pending;      /* atomic: derived; what to deliver: a vector, LAPIC_PENDING_* or -1 */
};

extern const DeviceType lapic_type;
extern const Intc lapic_intc; /* obj is a Lapic */

void lapic_bus_init(LapicBus *bus);
/* Before the machine runs; at most LAPIC_MAX. */
void lapic_bus_attach(LapicBus *bus, Lapic *lapic);
/* A message-signalled interrupt: SDM 3A 10.11. Any thread. */
void lapic_bus_deliver_msi(LapicBus *bus, uint64_t address, uint32_t data);
/* Whether a processor has accepted this vector and not begun to serve it. Any thread. */
bool lapic_bus_is_pending(LapicBus *bus, uint8_t vector);
/* Whether a processor has accepted this vector and not ended it. Any thread. */
bool lapic_bus_holds(LapicBus *bus, uint8_t vector);
/* The wire to pin LINT0 (n = 0) or LINT1 (n = 1) of all processors. */
IrqLine lapic_bus_lint(LapicBus *bus, unsigned n);

/* The register page: SDM 3A table 10-1. */
uint64_t lapic_mmio_read(Lapic *lapic, uint64_t offset, unsigned size);
void lapic_mmio_write(Lapic *lapic, uint64_t offset, unsigned size, uint64_t value);
/* What firmware leaves for an operating system, when a kernel is started without any: enabled,
 * LINT0 = ExtINT
 * ("virtual wire", MP specification 3.6.2), LINT1 = NMI. */
void lapic_set_virtual_wire(Lapic *lapic);
/* An interrupt source inside the CPU: LAPIC_LVT_THERMAL or LAPIC_LVT_PERF. */
void lapic_local_interrupt(Lapic *lapic, LapicLvt source);
