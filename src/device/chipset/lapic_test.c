/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Local APIC against SDM 3A chapter 10: registers, priorities, IPIs, MSIs, timer, x2APIC. */
#include "base/bits.h"
#include "device/chipset/lapic_test_cpu.h"
#include "device/fuzz.h"

#define CPUS 3

typedef struct Fixture {
    TestBoard *b;
    LapicBus bus;
    TestCpu cpu[CPUS];
    int eoi_vector, pic_acks;
} Fixture;

static void on_eoi(void *obj, uint8_t vector)
{
    ((Fixture *)obj)->eoi_vector = vector;
}

static int on_pic(void *obj)
{
    ((Fixture *)obj)->pic_acks++;
    return 0x08;
}

static void reg_write(Fixture *f, unsigned cpu, unsigned offset, uint32_t value)
{
    lapic_intc.mmio_write(f->cpu[cpu].lapic, offset, 4, value);
}

static uint32_t reg_read(Fixture *f, unsigned cpu, unsigned offset)
{
    return lapic_intc.mmio_read(f->cpu[cpu].lapic, offset, 4);
}

static bool msr_write(Fixture *f, unsigned cpu, uint32_t msr, uint64_t value)
{
    return lapic_intc.write_msr(f->cpu[cpu].lapic, msr, value);
}

static uint64_t msr_read(Fixture *f, unsigned cpu, uint32_t msr)
{
    uint64_t value = 0;
    g_assert_true(lapic_intc.read_msr(f->cpu[cpu].lapic, msr, &value));
    return value;
}

static int take(Fixture *f, unsigned cpu)
{
    return lapic_intc.has_interrupt(f->cpu[cpu].lapic)
               ? lapic_intc.take_interrupt(f->cpu[cpu].lapic)
               : -1;
}

static void set_up(Fixture *f, gconstpointer data)
{
    memset(f, 0, sizeof(*f));
    f->b = test_board_new();
    f->eoi_vector = -1;
    lapic_bus_init(&f->bus);
    f->bus.eoi = on_eoi;
    f->bus.acknowledge_pic = on_pic;
    f->bus.eoi_obj = f->bus.pic_obj = f;
    for (unsigned i = 0; i < CPUS; i++) {
        test_cpu_create(&f->cpu[i], f->b, &f->bus, i);
        reg_write(f, i, 0xf0, 0x1ff);
        reg_write(f, i, 0xd0, 0x01000000u << i);
    }
}

static void tear_down(Fixture *f, gconstpointer data)
{
    for (unsigned i = 0; i < CPUS; i++)
        device_free(&f->cpu[i].lapic->device);
    test_board_free(f->b);
}

static void to_x2apic(Fixture *f, unsigned cpu)
{
    g_assert_true(msr_write(f, cpu, 0x1b, msr_read(f, cpu, 0x1b) | 0x400));
}

static void self_ipi(Fixture *f, unsigned cpu, uint8_t vector)
{
    reg_write(f, cpu, 0x300, 0x44000 | vector);
}

static void test_reset(Fixture *f, gconstpointer data)
{
    lapic_intc.reset(f->cpu[1].lapic, false);
    g_assert_cmphex(reg_read(f, 1, 0x20), ==, 0x01000000);
    g_assert_cmphex(reg_read(f, 1, 0x30) & 0xff, ==, 0x14);
    g_assert_cmphex(reg_read(f, 1, 0xf0), ==, 0xff);
    g_assert_cmphex(reg_read(f, 1, 0xe0), ==, 0xffffffff);
    for (unsigned offset = 0x320; offset <= 0x370; offset += 0x10)
        g_assert_cmphex(reg_read(f, 1, offset), ==, 0x10000);
    g_assert_cmphex(msr_read(f, 0, 0x1b), ==, 0xfee00900);
    g_assert_cmphex(msr_read(f, 1, 0x1b), ==, 0xfee00800);
    /* Software-disabled: the mask bits can't be cleared. */
    reg_write(f, 1, 0x350, 0x700);
    g_assert_cmphex(reg_read(f, 1, 0x350), ==, 0x10700);
}

static void test_priorities(Fixture *f, gconstpointer data)
{
    self_ipi(f, 0, 0x41);
    self_ipi(f, 0, 0x62);
    self_ipi(f, 0, 0x65);
    g_assert_cmphex(reg_read(f, 0, 0x200 + 0x30), ==, 0x24);
    g_assert_cmpint(take(f, 0), ==, 0x65);
    g_assert_cmphex(reg_read(f, 0, 0xa0), ==, 0x60);
    g_assert_cmpint(take(f, 0), ==, -1); /* 0x62 is of the same class */
    self_ipi(f, 0, 0x71);
    g_assert_cmpint(take(f, 0), ==, 0x71);
    reg_write(f, 0, 0xb0, 0);
    reg_write(f, 0, 0xb0, 0);
    g_assert_cmpint(take(f, 0), ==, 0x62);
    reg_write(f, 0, 0xb0, 0);
    lapic_intc.set_cr8(f->cpu[0].lapic, 4);
    g_assert_cmphex(reg_read(f, 0, 0x80), ==, 0x40);
    g_assert_cmpint(take(f, 0), ==, -1);
    unsigned rechecks = f->cpu[0].rechecks;
    lapic_intc.set_cr8(f->cpu[0].lapic, 3);
    g_assert_cmpuint(f->cpu[0].rechecks, >, rechecks);
    g_assert_cmpint(take(f, 0), ==, 0x41);
    g_assert_cmpint(f->eoi_vector, ==, -1); /* edges are not broadcast */
}

static void test_destinations(Fixture *f, gconstpointer data)
{
    reg_write(f, 0, 0x310, 2u << 24);
    reg_write(f, 0, 0x300, 0x4050); /* physical 2 */
    g_assert_cmpint(take(f, 2), ==, 0x50);
    g_assert_cmpint(take(f, 1), ==, -1);
    reg_write(f, 0, 0x310, 6u << 24);
    reg_write(f, 0, 0x300, 0x4861); /* logical, flat: 1 and 2 */
    g_assert_cmpint(take(f, 0), ==, -1);
    g_assert_cmpint(take(f, 1), ==, 0x61);
    g_assert_cmpint(take(f, 2), ==, 0x61);
    reg_write(f, 0, 0x300, 0xc4072); /* all but self */
    g_assert_cmpint(take(f, 0), ==, -1);
    g_assert_cmpint(take(f, 1), ==, 0x72);
    reg_write(f, 1, 0x300, 0x84083); /* all */
    for (unsigned i = 0; i < CPUS; i++)
        g_assert_cmpint(take(f, i), ==, 0x83);
    reg_write(f, 2, 0xe0, 0x0fffffff); /* cluster model: cluster 3, member 2 */
    reg_write(f, 2, 0xd0, 0x32000000);
    reg_write(f, 0, 0x310, 0x32u << 24);
    reg_write(f, 0, 0x300, 0x4894);
    g_assert_cmpint(take(f, 2), ==, 0x94);
}

static void test_lowest_priority(Fixture *f, gconstpointer data)
{
    reg_write(f, 0, 0x80, 0x60);
    reg_write(f, 1, 0x80, 0x20);
    reg_write(f, 2, 0x80, 0x50);
    reg_write(f, 0, 0x310, 0xffu << 24);
    reg_write(f, 0, 0x300, 0x4971);
    g_assert_cmpint(take(f, 1), ==, 0x71);
    g_assert_cmpint(take(f, 0), ==, -1);
    g_assert_cmpint(take(f, 2), ==, -1);
}

static void test_startup(Fixture *f, gconstpointer data)
{
    reg_write(f, 0, 0x310, 1u << 24);
    reg_write(f, 0, 0x300, 0xc500);
    reg_write(f, 0, 0x300, 0x8500); /* de-assert does nothing */
    g_assert_cmpuint(f->cpu[1].inits, ==, 1);
    lapic_intc.reset(f->cpu[1].lapic, true);
    g_assert_cmphex(reg_read(f, 1, 0x20), ==, 0x01000000);
    reg_write(f, 0, 0x300, 0x4699);
    g_assert_cmpuint(f->cpu[1].startups, ==, 1);
    g_assert_cmphex(f->cpu[1].startup_vector, ==, 0x99);
    reg_write(f, 0, 0x300, 0x4400);
    g_assert_cmpuint(f->cpu[1].nmis, ==, 1);
    reg_write(f, 0, 0x300, 0xc4500);
    g_assert_cmpuint(f->cpu[0].inits, ==, 0);
    g_assert_cmpuint(f->cpu[2].inits, ==, 1);
}

static void test_errors(Fixture *f, gconstpointer data)
{
    reg_write(f, 0, 0x370, 0xe1);
    self_ipi(f, 0, 5);
    g_assert_cmphex(reg_read(f, 0, 0x280), ==, 0); /* latched by a write only */
    g_assert_cmpint(take(f, 0), ==, 0xe1);
    reg_write(f, 0, 0xb0, 0);
    reg_read(f, 0, 0x40); /* reserved; not armed again before ESR is written */
    g_assert_cmpint(take(f, 0), ==, -1);
    reg_write(f, 0, 0x280, 0);
    g_assert_cmphex(reg_read(f, 0, 0x280), ==, 0xa0);
    lapic_bus_deliver_msi(&f->bus, 0xfee00000, 3);
    g_assert_cmpint(take(f, 0), ==, 0xe1);
    reg_write(f, 0, 0x280, 0);
    g_assert_cmphex(reg_read(f, 0, 0x280), ==, 0x40);
}

static void test_msi_and_eoi(Fixture *f, gconstpointer data)
{
    lapic_bus_deliver_msi(&f->bus, 0xfee01000, 0xc035); /* level, to 1 */
    g_assert_cmphex(reg_read(f, 1, 0x180 + 0x10), ==, 1u << 21);
    g_assert_cmpint(take(f, 1), ==, 0x35);
    reg_write(f, 1, 0xb0, 0);
    g_assert_cmpint(f->eoi_vector, ==, 0x35);
    f->eoi_vector = -1;
    reg_write(f, 1, 0xf0, 0x11ff); /* EOI broadcast suppressed */
    lapic_bus_deliver_msi(&f->bus, 0xfee01000, 0xc035);
    g_assert_cmpint(take(f, 1), ==, 0x35);
    reg_write(f, 1, 0xb0, 0);
    g_assert_cmpint(f->eoi_vector, ==, -1);
    reg_write(f, 1, 0xf0, 0xff); /* software-disabled: NMI yes, fixed no */
    lapic_bus_deliver_msi(&f->bus, 0xfee01000, 0x0035);
    lapic_bus_deliver_msi(&f->bus, 0xfee01000, 0x0400);
    g_assert_cmpint(take(f, 1), ==, -1);
    g_assert_cmpuint(f->cpu[1].nmis, ==, 1);
}

static void test_pic(Fixture *f, gconstpointer data)
{
    IrqLine intr = lapic_bus_lint(&f->bus, 0), nmi = lapic_bus_lint(&f->bus, 1);
    irq_set(intr, true);
    g_assert_cmpint(take(f, 0), ==, -1); /* LINT0 is masked */
    irq_set(intr, false);
    lapic_set_virtual_wire(f->cpu[0].lapic);
    irq_set(intr, true);
    g_assert_cmpint(take(f, 0), ==, 0x08);
    g_assert_cmpint(take(f, 1), ==, -1);
    g_assert_cmpint(f->pic_acks, ==, 1);
    g_assert_cmphex(reg_read(f, 0, 0x100), ==, 0); /* not in service here */
    irq_set(intr, false);
    g_assert_cmpint(take(f, 0), ==, -1);
    irq_pulse(nmi);
    g_assert_cmpuint(f->cpu[0].nmis, ==, 1);
    g_assert_cmpuint(f->cpu[1].nmis, ==, 0);
    /* With the APIC off the pins are the processor's own. */
    g_assert_true(msr_write(f, 0, 0x1b, 0xfee00100));
    irq_set(intr, true);
    g_assert_cmpint(take(f, 0), ==, 0x08);
    irq_pulse(nmi);
    g_assert_cmpuint(f->cpu[0].nmis, ==, 2);
    irq_set(intr, false);
    /* ExtINT as a message of an I/O APIC. */
    lapic_bus_deliver_msi(&f->bus, 0xfee01000, 0x0700);
    g_assert_cmpint(take(f, 1), ==, 0x08);
    g_assert_cmpint(take(f, 1), ==, -1);
}

static void test_timer_one_shot(Fixture *f, gconstpointer data)
{
    reg_write(f, 0, 0x320, 0x45);
    reg_write(f, 0, 0x3e0, 0x3); /* by 16 */
    reg_write(f, 0, 0x380, 1000);
    clock_advance(f->b->board.clock, 16 * 400);
    g_assert_cmpuint(reg_read(f, 0, 0x390), ==, 600);
    reg_write(f, 0, 0x3e0, 0xb); /* by 1: the count goes on */
    g_assert_cmpuint(reg_read(f, 0, 0x390), ==, 600);
    clock_advance(f->b->board.clock, 599);
    g_assert_cmpint(take(f, 0), ==, -1);
    clock_advance(f->b->board.clock, 1);
    g_assert_cmpint(take(f, 0), ==, 0x45);
    g_assert_cmpuint(reg_read(f, 0, 0x390), ==, 0);
    reg_write(f, 0, 0xb0, 0);
    clock_advance(f->b->board.clock, NS_PER_S);
    g_assert_cmpint(take(f, 0), ==, -1);
}

static void test_timer_periodic(Fixture *f, gconstpointer data)
{
    unsigned fired = 0;
    reg_write(f, 0, 0x320, 0x20045);
    reg_write(f, 0, 0x3e0, 0xb);
    reg_write(f, 0, 0x380, 1000000);
    for (unsigned i = 0; i < 50; i++) {
        clock_advance(f->b->board.clock, NS_PER_MS);
        fired += take(f, 0) == 0x45;
        reg_write(f, 0, 0xb0, 0);
    }
    g_assert_cmpuint(fired, ==, 50);
    clock_advance(f->b->board.clock, NS_PER_MS / 2);
    reg_write(f, 0, 0x320, 0x00045); /* to one-shot: this period ends, no other begins */
    g_assert_cmpuint(reg_read(f, 0, 0x390), ==, 500000);
    clock_advance(f->b->board.clock, NS_PER_MS);
    g_assert_cmpint(take(f, 0), ==, 0x45);
    g_assert_cmpuint(reg_read(f, 0, 0x390), ==, 0);
    reg_write(f, 0, 0x320, 0x20045); /* a count that ended stays ended */
    g_assert_cmpuint(reg_read(f, 0, 0x390), ==, 0);
    reg_write(f, 0, 0x380, 1); /* the shortest period does not hang the host */
    clock_advance(f->b->board.clock, NS_PER_MS);
}

static void test_timer_deadline(Fixture *f, gconstpointer data)
{
    g_assert_true(msr_write(f, 0, 0x6e0, 1000)); /* ignored in another mode */
    g_assert_cmpuint(msr_read(f, 0, 0x6e0), ==, 0);
    reg_write(f, 0, 0x320, 0x40045);
    g_assert_true(msr_write(f, 0, 0x6e0, 2000000)); /* 2 GHz: 1 ms */
    g_assert_cmpuint(msr_read(f, 0, 0x6e0), ==, 2000000);
    clock_advance(f->b->board.clock, NS_PER_MS - 10);
    g_assert_cmpint(take(f, 0), ==, -1);
    clock_advance(f->b->board.clock, 20);
    g_assert_cmpint(take(f, 0), ==, 0x45);
    g_assert_cmpuint(msr_read(f, 0, 0x6e0), ==, 0);
    reg_write(f, 0, 0xb0, 0);
    g_assert_true(msr_write(f, 0, 0x6e0, 1)); /* past: at once */
    g_assert_cmpint(take(f, 0), ==, 0x45);
    reg_write(f, 0, 0xb0, 0);
    g_assert_true(msr_write(f, 0, 0x6e0, 9000000));
    reg_write(f, 0, 0x320, 0x45); /* leaving the mode disarms */
    clock_advance(f->b->board.clock, NS_PER_S);
    g_assert_cmpint(take(f, 0), ==, -1);
}

static void test_base_transitions(Fixture *f, gconstpointer data)
{
    g_assert_false(msr_write(f, 1, 0x1b, 0xfee00400));       /* x2APIC without enable */
    g_assert_false(msr_write(f, 1, 0x1b, 0xfee00801));       /* reserved bit */
    g_assert_false(msr_write(f, 1, 0x1b, 0x800000fee00800)); /* beyond the physical address */
    to_x2apic(f, 1);
    g_assert_false(msr_write(f, 1, 0x1b, 0xfee00800)); /* back to xAPIC only through off */
    g_assert_true(msr_write(f, 1, 0x1b, 0xfee00000));
    g_assert_false(msr_write(f, 1, 0x1b, 0xfee00c00)); /* off to x2APIC */
    g_assert_true(msr_write(f, 1, 0x1b, 0xfee00800));
    g_assert_cmphex(reg_read(f, 1, 0xf0), ==, 0xff); /* as after power-on */
}

static void test_x2apic(Fixture *f, gconstpointer data)
{
    uint64_t value;
    g_assert_false(lapic_intc.read_msr(f->cpu[0].lapic, 0x802, &value)); /* not in this mode */
    for (unsigned i = 0; i < CPUS; i++)
        to_x2apic(f, i);
    g_assert_cmphex(reg_read(f, 0, 0x20), ==, 0xffffffff); /* no page any more */
    g_assert_cmphex(msr_read(f, 2, 0x802), ==, 2);
    g_assert_cmphex(msr_read(f, 2, 0x80d), ==, 4);
    g_assert_cmphex(msr_read(f, 2, 0x80f), ==, 0x1ff); /* kept over the change */
    g_assert_false(msr_write(f, 0, 0x80d, 1));         /* read-only */
    g_assert_false(msr_write(f, 0, 0x80b, 1));         /* EOI takes 0 only */
    g_assert_false(msr_write(f, 0, 0x828, 1));
    g_assert_false(msr_write(f, 0, 0x808, 0x100));
    g_assert_false(msr_write(f, 0, 0x80e, 0)); /* no DFR */
    g_assert_false(msr_write(f, 0, 0x831, 0));
    g_assert_false(msr_write(f, 0, 0x840, 0));
    g_assert_false(lapic_intc.read_msr(f->cpu[0].lapic, 0x80b, &value));
    g_assert_false(lapic_intc.read_msr(f->cpu[0].lapic, 0x83f, &value));
    g_assert_true(msr_write(f, 0, 0x83f, 0x55));
    g_assert_cmpint(take(f, 0), ==, 0x55);
    g_assert_true(msr_write(f, 0, 0x80b, 0));
    g_assert_true(msr_write(f, 0, 0x830, UINT64_C(0x200000056))); /* physical 2 */
    g_assert_cmpint(take(f, 2), ==, 0x56);
    g_assert_cmphex(msr_read(f, 0, 0x830), ==, UINT64_C(0x200000056));
    g_assert_true(msr_write(f, 0, 0x830, UINT64_C(0x600000867))); /* cluster 0, members 1 and 2 */
    g_assert_cmpint(take(f, 1), ==, 0x67);
    g_assert_cmpint(take(f, 2), ==, 0x67);
    g_assert_true(msr_write(f, 0, 0x830, UINT64_C(0xffffffff00000078)));
    for (unsigned i = 0; i < CPUS; i++)
        g_assert_cmpint(take(f, i), ==, 0x78);
}

static void test_state(Fixture *f, gconstpointer data)
{
    reg_write(f, 0, 0x320, 0x20045);
    reg_write(f, 0, 0x380, 1000000);
    self_ipi(f, 0, 0x41);
    self_ipi(f, 0, 0x99);
    take(f, 0);
    test_state_round_trip(&f->cpu[0].lapic->device);
    reg_write(f, 0, 0xb0, 0);
    g_assert_cmpint(take(f, 0), ==, 0x41);
}

/* What an engine with a local APIC of its own would do, between giving and getting. */
static void carry(Fixture *f, IntcState *state)
{
    lapic_intc.get_state(f->cpu[0].lapic, state);
    lapic_intc.reset(f->cpu[0].lapic, false);
    g_assert_cmpint(take(f, 0), ==, -1);
    lapic_intc.set_state(f->cpu[0].lapic, state);
}

/* Interrupts that wait and that are served, and what is left of a count, survive it. */
static void test_hand_over(Fixture *f, gconstpointer data)
{
    IntcState state;
    reg_write(f, 0, 0x320, 0x45);
    reg_write(f, 0, 0x3e0, 0x3); /* by 16 */
    reg_write(f, 0, 0x380, 1000);
    reg_write(f, 0, 0x340, 0x10400);
    lapic_bus_deliver_msi(&f->bus, 0xfee00000, 0x93 | 3 << 14); /* level */
    g_assert_cmpint(take(f, 0), ==, 0x93);
    self_ipi(f, 0, 0x41);
    clock_advance(f->b->board.clock, 16 * 400);
    carry(f, &state);
    g_assert_cmphex(state.base, ==, 0xfee00900);
    g_assert_cmphex(load_le32(state.regs + INTC_ISR + 4 * 16), ==, 1 << 0x13);
    g_assert_cmphex(load_le32(state.regs + INTC_TMR + 4 * 16), ==, 1 << 0x13);
    g_assert_cmphex(load_le32(state.regs + INTC_IRR + 2 * 16), ==, 1 << 1);
    g_assert_cmpuint(load_le32(state.regs + INTC_TIMER_CURRENT), ==, 600);
    g_assert_true(lapic_bus_holds(&f->bus, 0x93));
    g_assert_true(lapic_bus_holds(&f->bus, 0x41));
    g_assert_false(lapic_bus_holds(&f->bus, 0x42));
    g_assert_cmphex(reg_read(f, 0, 0x340), ==, 0x10400);
    g_assert_cmpuint(reg_read(f, 0, 0x390), ==, 600);
    clock_advance(f->b->board.clock, 16 * 600 - 1);
    g_assert_cmphex(reg_read(f, 0, 0x220), ==, 1 << 1); /* 0x41 alone waits */
    clock_advance(f->b->board.clock, 1);
    g_assert_cmphex(reg_read(f, 0, 0x220), ==, 1 << 1 | 1 << 5);
    g_assert_cmpint(take(f, 0), ==, -1); /* 0x93 is served */
    reg_write(f, 0, 0xb0, 0);
    g_assert_cmpint(f->eoi_vector, ==, 0x93);
    g_assert_cmpint(take(f, 0), ==, 0x45);
}

/* In x2APIC mode, with a deadline, and one that another engine's time has passed. */
static void test_hand_over_deadline(Fixture *f, gconstpointer data)
{
    IntcState state;
    g_assert_true(msr_write(f, 0, 0x1b, 0xfee00d00));
    g_assert_true(msr_write(f, 0, 0x832, 0x40045));
    g_assert_true(msr_write(f, 0, 0x6e0, 2000000)); /* 2 GHz: 1 ms */
    carry(f, &state);
    g_assert_cmphex(msr_read(f, 0, 0x1b), ==, 0xfee00d00);
    g_assert_cmpuint(msr_read(f, 0, 0x6e0), ==, 2000000);
    clock_advance(f->b->board.clock, NS_PER_MS + 10);
    g_assert_cmpint(take(f, 0), ==, 0x45);
    g_assert_true(msr_write(f, 0, 0x80b, 0));
    state.tsc_deadline = 1;
    lapic_intc.set_state(f->cpu[0].lapic, &state);
    g_assert_cmpint(take(f, 0), ==, 0x45);
}

static void test_storm(void)
{
    fuzz_random(20);
}

/* KVM's documentation of MSR_KVM_PV_EOI_EN; TLFS 10.3.5 of the "No EOI Required" bit. */
static void test_eoi_bit(Fixture *f, gconstpointer data)
{
    const uint64_t address = 0x2000;
    AddressSpace *memory = f->b->board.memory;
    uint32_t word = 0x55555554;

    g_assert_true(space_write(memory, address, &word, 4));
    lapic_intc.set_eoi_bit(f->cpu[0].lapic, address);
    self_ipi(f, 0, 0x40);
    g_assert_cmpint(take(f, 0), ==, 0x40);
    g_assert_cmphex(space_load(memory, address, 4), ==, 0x55555555);
    /* Not ended: a second one waits, and must be told of the end of the first. */
    lapic_bus_deliver_msi(&f->bus, 0xfee00000, 0x41);
    g_assert_true(lapic_intc.has_interrupt(f->cpu[0].lapic)); /* perhaps */
    g_assert_cmpint(take(f, 0), ==, -1);
    g_assert_cmphex(space_load(memory, address, 4), ==, 0x55555554);
    g_assert_false(lapic_intc.has_interrupt(f->cpu[0].lapic));
    reg_write(f, 0, 0xb0, 0);
    /* Ended by the bit: the next one is asked for and comes. */
    g_assert_cmpint(take(f, 0), ==, 0x41);
    space_store(memory, address, 4, 0x55555554);
    unsigned rechecks = f->cpu[0].rechecks;
    lapic_bus_deliver_msi(&f->bus, 0xfee00000, 0x42);
    g_assert_cmpuint(f->cpu[0].rechecks, >, rechecks);
    g_assert_cmpint(take(f, 0), ==, 0x42);
    g_assert_cmphex(reg_read(f, 0, 0x120), ==, 1 << 2);              /* 0x42 alone is in service */
    g_assert_cmphex(space_load(memory, address, 4), ==, 0x55555554); /* it was looked at */
    reg_write(f, 0, 0xb0, 0);
    /* The I/O APICs hear of a level-triggered one. */
    lapic_bus_deliver_msi(&f->bus, 0xfee00000, 0x43 | 3 << 14);
    g_assert_cmpint(take(f, 0), ==, 0x43);
    g_assert_cmphex(space_load(memory, address, 4), ==, 0x55555554);
    reg_write(f, 0, 0xb0, 0);
    g_assert_cmpint(f->eoi_vector, ==, 0x43);
    /* Off; and nothing of a reset's past. */
    lapic_intc.set_eoi_bit(f->cpu[0].lapic, UINT64_MAX);
    self_ipi(f, 0, 0x40);
    g_assert_cmpint(take(f, 0), ==, 0x40);
    g_assert_cmphex(space_load(memory, address, 4), ==, 0x55555554);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function) \
    g_test_add("/chipset/lapic/" name, Fixture, NULL, set_up, function, tear_down)
    ADD("reset", test_reset);
    ADD("priorities", test_priorities);
    ADD("destinations", test_destinations);
    ADD("lowest-priority", test_lowest_priority);
    ADD("startup", test_startup);
    ADD("errors", test_errors);
    ADD("msi-eoi", test_msi_and_eoi);
    ADD("pic", test_pic);
    ADD("timer-one-shot", test_timer_one_shot);
    ADD("timer-periodic", test_timer_periodic);
    ADD("timer-deadline", test_timer_deadline);
    ADD("base-transitions", test_base_transitions);
    ADD("x2apic", test_x2apic);
    ADD("eoi-bit", test_eoi_bit);
    ADD("state", test_state);
    ADD("hand-over", test_hand_over);
    ADD("hand-over-deadline", test_hand_over_deadline);
    g_test_add_func("/chipset/lapic/storm", test_storm);
    return g_test_run();
}
