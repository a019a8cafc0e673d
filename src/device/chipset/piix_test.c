/* SPDX-License-Identifier: GPL-3.0-or-later */
/* PIIX3: interrupt steering and sharing, reset control. PIIX4: PM timer, events, S5, APM, SMBus. */
#include "base/bits.h"
#include "device/chipset/piix3.h"
#include "device/chipset/piix4_pm.h"
#include "device/test_board.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct Fixture {
    TestBoard *b;
    PciBus *bus;
    Piix3 *piix3;
    Piix4Pm *pm;
} Fixture;

static void setup(Fixture *f, gconstpointer data)
{
    f->b = test_board_new();
    Board *board = &f->b->board;
    f->piix3 = device_new(&piix3_type, board, "isa");
    for (unsigned n = 0; n < PIIX3_IRQS; n++)
        f->piix3->irq[n] = test_board_irq(f->b, n);
    f->pm = device_new(&piix4_pm_type, board, "pm");
    f->pm->sci = piix3_sci(f->piix3);
    f->bus = pci_bus_new(board, piix3_intx, f->piix3);
    g_assert_true(device_create(&f->piix3->pci.device, NULL));
    g_assert_true(device_create(&f->pm->pci.device, NULL));
    g_assert_true(pci_bus_add(f->bus, &f->piix3->pci, PCI_DEVFN(1, 0), NULL));
    g_assert_true(pci_bus_add(f->bus, &f->pm->pci, PCI_DEVFN(1, 3), NULL));
    pci_bus_set_reset_port(f->bus, &f->piix3->reset_control);
    space_map(board->ports, 0xcf8, pci_bus_config_ports(f->bus), 0, 8, SPACE_PRIORITY_BOARD, false);
    space_map(board->ports, PIIX4_APM_PORT, &f->pm->apm, 0, 2, SPACE_PRIORITY_BOARD, false);
    device_reset(&f->piix3->pci.device);
    device_reset(&f->pm->pci.device);
}

static void teardown(Fixture *f, gconstpointer data)
{
    pci_bus_free(f->bus);
    device_free(&f->pm->pci.device);
    device_free(&f->piix3->pci.device);
    test_board_free(f->b);
}

static void route(Fixture *f, unsigned pirq, uint8_t value)
{
    pci_config_write(&f->piix3->pci, 0x60 + pirq, 1, value);
}

static void test_steering(Fixture *f, gconstpointer data)
{
    /* Slot 3, INTA#: PIRQ (3 - 1 + 0) mod 4 = C. */
    piix3_intx(f->piix3, 3, 0, true);
    for (unsigned n = 0; n < 16; n++)
        g_assert_false(f->b->irq_level[n]); /* after reset nothing is routed */
    route(f, 2, 11);
    g_assert_true(f->b->irq_level[11]);
    route(f, 2, 10);
    g_assert_false(f->b->irq_level[11]);
    g_assert_true(f->b->irq_level[10]);
    route(f, 2, 8); /* reserved */
    g_assert_false(f->b->irq_level[8] || f->b->irq_level[10]);
    route(f, 2, 10);
    piix3_intx(f->piix3, 3, 0, false);
    g_assert_false(f->b->irq_level[10]);
}

static void test_sharing(Fixture *f, gconstpointer data)
{
    IrqLine isa = piix3_isa_irq(f->piix3, 10);

    route(f, 2, 10);
    route(f, 3, 10);
    piix3_intx(f->piix3, 3, 0, true); /* C */
    piix3_intx(f->piix3, 7, 0, true); /* C, another slot */
    piix3_intx(f->piix3, 4, 0, true); /* D */
    irq_set(isa, true);
    piix3_intx(f->piix3, 3, 0, false);
    piix3_intx(f->piix3, 7, 0, false);
    g_assert_true(f->b->irq_level[10]);
    piix3_intx(f->piix3, 4, 0, false);
    g_assert_true(f->b->irq_level[10]);
    irq_set(isa, false);
    g_assert_false(f->b->irq_level[10]);
    g_assert_cmpuint(f->b->irq_edges[10], ==, 1);
}

/* Two ISA devices on one interrupt: either holds it up, and a quiet one leaves the other alone. */
static void test_isa_sharing(Fixture *f, gconstpointer data)
{
    IrqLine com1 = piix3_isa_irq(f->piix3, 4), com3 = piix3_isa_irq_shared(f->piix3, 4);

    irq_set(com1, true);
    irq_set(com3, false);
    g_assert_true(f->b->irq_level[4]);
    irq_set(com3, true);
    irq_set(com1, false);
    g_assert_true(f->b->irq_level[4]);
    irq_set(com3, false);
    g_assert_false(f->b->irq_level[4]);
    g_assert_cmpuint(f->b->irq_edges[4], ==, 1);
}

static void test_reset_control(Fixture *f, gconstpointer data)
{
    test_out(f->b, 0xcf8, 4, 0x80000800);
    test_out(f->b, 0xcf9, 1, 0x02);
    g_assert_cmpint(f->b->last_request, ==, -1);
    g_assert_cmphex(test_in(f->b, 0xcf9, 1), ==, 0x02);
    g_assert_cmphex(test_in(f->b, 0xcf8, 4), ==, 0x80000800);
    test_out(f->b, 0xcf9, 1, 0x06);
    g_assert_cmpint(f->b->last_request, ==, BOARD_RESET);
}

static void enable_pm(Fixture *f, uint16_t base)
{
    pci_config_write(&f->pm->pci, 0x40, 4, base);
    pci_config_write(&f->pm->pci, 0x80, 1, 1);
}

static void test_pm_base(Fixture *f, gconstpointer data)
{
    g_assert_cmphex(pci_config_read(&f->pm->pci, 0, 4), ==, 0x71138086);
    g_assert_cmphex(pci_config_read(&f->pm->pci, 0x5b, 1) & 2, ==, 2); /* APMC_EN */
    g_assert_cmphex(test_in(f->b, 0x600, 2), ==, 0xffff);
    enable_pm(f, 0x600);
    g_assert_cmphex(pci_config_read(&f->pm->pci, 0x40, 4), ==, 0x601);
    g_assert_cmphex(test_in(f->b, 0x600, 2), ==, 0);
    enable_pm(f, 0xb000);
    g_assert_cmphex(test_in(f->b, 0x600, 2), ==, 0xffff);
    g_assert_cmphex(test_in(f->b, 0xb000, 2), ==, 0);
    pci_config_write(&f->pm->pci, 0x80, 1, 0);
    g_assert_cmphex(test_in(f->b, 0xb000, 2), ==, 0xffff);
}

/* 3.579545 MHz, 24 bits: 16777216 ticks are 4.68697 s. */
static void test_timer(Fixture *f, gconstpointer data)
{
    enable_pm(f, 0x600);
    clock_advance(f->b->board.clock, NS_PER_S);
    g_assert_cmpuint(test_in(f->b, 0x608, 4), ==, 3579545);
    g_assert_cmpuint(test_in(f->b, 0x609, 1), ==, 3579545 >> 8 & 0xff);
    clock_advance(f->b->board.clock, 4 * NS_PER_S);
    g_assert_cmpuint(test_in(f->b, 0x608, 4), ==, 5 * 3579545 - 16777216);
}

static void test_overflow(Fixture *f, gconstpointer data)
{
    enable_pm(f, 0x600);
    test_out(f->b, PIIX4_APM_PORT, 1, PIIX4_ACPI_ENABLE);
    g_assert_cmphex(test_in(f->b, 0x604, 2) & 1, ==, 1);
    /* The top bit changes every 2^23 ticks = 2.343484 s. */
    clock_advance(f->b->board.clock, 2343 * NS_PER_MS);
    g_assert_cmphex(test_in(f->b, 0x600, 2), ==, 0);
    clock_advance(f->b->board.clock, 1 * NS_PER_MS);
    g_assert_cmphex(test_in(f->b, 0x600, 2), ==, 1);
    g_assert_false(f->b->irq_level[9]);
    test_out(f->b, 0x602, 2, 1);
    g_assert_true(f->b->irq_level[9]);
    test_out(f->b, 0x600, 2, 1);
    g_assert_false(f->b->irq_level[9]);
    test_state_round_trip(&f->pm->pci.device);
    clock_advance(f->b->board.clock, 2342 * NS_PER_MS);
    g_assert_false(f->b->irq_level[9]);
    clock_advance(f->b->board.clock, 1 * NS_PER_MS);
    g_assert_true(f->b->irq_level[9]);
}

static void test_power_button(Fixture *f, gconstpointer data)
{
    enable_pm(f, 0x600);
    piix4_pm_power_button(f->pm);
    g_assert_cmphex(test_in(f->b, 0x600, 2), ==, 0x100);
    test_out(f->b, 0x602, 2, 0x100);
    g_assert_false(f->b->irq_level[9]); /* ACPI mode is off */
    test_out(f->b, PIIX4_APM_PORT, 1, PIIX4_ACPI_ENABLE);
    g_assert_true(f->b->irq_level[9]);
    test_out(f->b, 0x600, 2, 0x100);
    g_assert_false(f->b->irq_level[9]);
    piix4_pm_power_button(f->pm);
    g_assert_true(f->b->irq_level[9]);
    test_out(f->b, PIIX4_APM_PORT, 1, PIIX4_ACPI_DISABLE);
    g_assert_false(f->b->irq_level[9]);
}

static void test_soft_off(Fixture *f, gconstpointer data)
{
    enable_pm(f, 0x600);
    test_out(f->b, 0x604, 2, 5 << 10);
    g_assert_cmpint(f->b->last_request, ==, -1);
    test_out(f->b, 0x604, 2, 1 << 10 | 1 << 13); /* suspend to RAM: not offered */
    g_assert_cmpint(f->b->last_request, ==, -1);
    test_out(f->b, 0x604, 2, 0 << 10 | 1 << 13);
    g_assert_cmpint(f->b->last_request, ==, BOARD_POWEROFF);
    g_assert_cmphex(test_in(f->b, 0x604, 2), ==, 0); /* SLP_EN reads as 0 */
}

/* As ACPI interpreters may: the sleep enable bit in a byte of its own. */
static void test_soft_off_bytes(Fixture *f, gconstpointer data)
{
    enable_pm(f, 0x600);
    test_out(f->b, 0x605, 1, 0x20);
    g_assert_cmpint(f->b->last_request, ==, BOARD_POWEROFF);
}

static void test_smbus(Fixture *f, gconstpointer data)
{
    pci_config_write(&f->pm->pci, 0x90, 4, 0x700);
    pci_config_write(&f->pm->pci, 0xd2, 1, 9);
    test_out(f->b, 0x704, 1, 0xa1);
    test_out(f->b, 0x702, 1, 0x48);
    g_assert_cmphex(test_in(f->b, 0x700, 1), ==, 0x04); /* device error, not busy */
    test_out(f->b, 0x700, 1, 0x04);
    g_assert_cmphex(test_in(f->b, 0x700, 1), ==, 0);
    g_assert_cmphex(test_in(f->b, 0x704, 1), ==, 0xa1);
}

static void test_setup(Fixture *f, gconstpointer data)
{
    piix4_pm_setup(f->pm);
    g_assert_cmphex(test_in(f->b, 0x600, 2), ==, 0);
    g_assert_cmphex(test_in(f->b, 0x700, 1), ==, 0);
    g_assert_cmphex(pci_config_read(&f->pm->pci, PCI_INTERRUPT_LINE, 2), ==, 0x0109);
    device_reset(&f->pm->pci.device);
    g_assert_cmphex(test_in(f->b, 0x600, 2), ==, 0xffff);
}

static void test_state(Fixture *f, gconstpointer data)
{
    route(f, 1, 5);
    piix3_intx(f->piix3, 2, 0, true);
    enable_pm(f, 0x600);
    test_out(f->b, 0x602, 2, 0x101);
    test_state_round_trip(&f->piix3->pci.device);
    test_state_round_trip(&f->pm->pci.device);
}

static void test_storm(Fixture *f, gconstpointer data)
{
    uint8_t bytes[4096];

    enable_pm(f, 0x600);
    for (unsigned round = 0; round < 4; round++) {
        for (unsigned i = 0; i < sizeof(bytes); i++)
            bytes[i] = g_test_rand_int();
        test_register_storm(f->b, f->b->board.ports, 0x600, 64, bytes, sizeof(bytes));
        LLVMFuzzerTestOneInput(bytes, sizeof(bytes));
    }
    test_state_round_trip(&f->pm->pci.device);
}

#define ADD(name) g_test_add("/piix/" #name, Fixture, NULL, setup, test_##name, teardown)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD(steering);
    ADD(sharing);
    ADD(isa_sharing);
    ADD(reset_control);
    ADD(pm_base);
    ADD(timer);
    ADD(overflow);
    ADD(power_button);
    ADD(soft_off);
    ADD(soft_off_bytes);
    ADD(smbus);
    ADD(setup);
    ADD(state);
    ADD(storm);
    return g_test_run();
}
