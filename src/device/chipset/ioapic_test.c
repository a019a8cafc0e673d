/* SPDX-License-Identifier: GPL-3.0-or-later */
/* I/O APIC against the 82093AA data sheet: entries, edges, levels with remote IRR, EOI. */
#include "base/bits.h"
#include "device/chipset/ioapic.h"
#include "device/fuzz.h"
#include "device/test_board.h"

#define BASE UINT64_C(0xfec00000)

typedef struct Fixture {
    TestBoard *b;
    IoApic *ioapic;
} Fixture;

static void set_up(Fixture *f, gconstpointer data)
{
    f->b = test_board_new();
    f->ioapic = device_new(&ioapic_type, &f->b->board, "ioapic");
    f->ioapic->deliver = f->b->board.send_msi;
    f->ioapic->deliver_obj = f->b->board.obj;
    g_assert_true(device_create(&f->ioapic->device, NULL));
    device_reset(&f->ioapic->device);
    space_map(f->b->board.memory, BASE, &f->ioapic->io, 0, 0x1000, SPACE_PRIORITY_BOARD, false);
}

static void tear_down(Fixture *f, gconstpointer data)
{
    device_free(&f->ioapic->device);
    test_board_free(f->b);
}

static uint32_t get(Fixture *f, unsigned index)
{
    space_store(f->b->board.memory, BASE, 4, index);
    return space_load(f->b->board.memory, BASE + 0x10, 4);
}

static void put(Fixture *f, unsigned index, uint32_t value)
{
    space_store(f->b->board.memory, BASE, 4, index);
    space_store(f->b->board.memory, BASE + 0x10, 4, value);
}

static void route(Fixture *f, unsigned pin, uint32_t low, uint32_t high)
{
    put(f, 0x11 + 2 * pin, high);
    put(f, 0x10 + 2 * pin, low);
}

static void set(Fixture *f, unsigned pin, bool level)
{
    irq_set(ioapic_irq(f->ioapic, pin), level);
}

static void test_registers(Fixture *f, gconstpointer data)
{
    g_assert_cmphex(get(f, 1), ==, 0x170020);
    put(f, 0, 0xffffffff);
    g_assert_cmphex(get(f, 0), ==, 0x0f000000);
    for (unsigned n = 0; n < 24; n++)
        g_assert_cmphex(get(f, 0x10 + 2 * n), ==, 0x10000);
    put(f, 0x10, 0xffffffff); /* delivery status and remote IRR are read-only */
    g_assert_cmphex(get(f, 0x10), ==, 0x1afff);
    put(f, 0x11, 0xffffffff);
    g_assert_cmphex(get(f, 0x11), ==, 0xff000000);
}

static bool is_43(void *obj, uint8_t vector)
{
    return vector == 0x43;
}

/* An end that was lost with the local APICs is made up for; what they still hold is not ended. */
static void test_end_others(Fixture *f, gconstpointer data)
{
    route(f, 10, 0xa042, 0x01000000);
    route(f, 11, 0xa043, 0x01000000);
    set(f, 10, true);
    set(f, 11, true);
    set(f, 10, false);
    g_assert_cmphex(get(f, 0x24), ==, 0xe042);
    ioapic_end_others(f->ioapic, is_43, NULL);
    g_assert_cmphex(get(f, 0x24), ==, 0xa042);
    g_assert_cmphex(get(f, 0x26), ==, 0xe043);
    g_assert_cmpuint(f->b->msi_count, ==, 2);
    set(f, 10, true);
    g_assert_cmpuint(f->b->msi_count, ==, 3);
}

static void test_edge(Fixture *f, gconstpointer data)
{
    set(f, 4, true);                 /* masked: lost */
    route(f, 4, 0x0831, 0x03000000); /* logical, fixed */
    g_assert_cmpuint(f->b->msi_count, ==, 0);
    set(f, 4, false);
    set(f, 4, true);
    set(f, 4, true);
    g_assert_cmpuint(f->b->msi_count, ==, 1);
    g_assert_cmphex(f->b->last_msi_address, ==, 0xfee03004);
    g_assert_cmphex(f->b->last_msi_data, ==, 0x0031);
    route(f, 4, 0x0700, 0); /* ExtINT */
    irq_pulse(ioapic_irq(f->ioapic, 4));
    irq_pulse(ioapic_irq(f->ioapic, 4));
    g_assert_cmphex(f->b->last_msi_data, ==, 0x0700);
}

static void test_level(Fixture *f, gconstpointer data)
{
    route(f, 10, 0xa042, 0x01000000);
    set(f, 10, true);
    g_assert_cmphex(f->b->last_msi_data, ==, 0xc042);
    g_assert_cmphex(get(f, 0x24), ==, 0xe042);
    set(f, 10, false);
    set(f, 10, true);
    g_assert_cmpuint(f->b->msi_count, ==, 1); /* not before the EOI */
    ioapic_eoi(f->ioapic, 0x43);
    g_assert_cmpuint(f->b->msi_count, ==, 1);
    ioapic_eoi(f->ioapic, 0x42);
    g_assert_cmpuint(f->b->msi_count, ==, 2); /* still up: again */
    set(f, 10, false);
    space_store(f->b->board.memory, BASE + 0x40, 4, 0x42); /* the EOI register */
    g_assert_cmphex(get(f, 0x24), ==, 0xa042);
    g_assert_cmpuint(f->b->msi_count, ==, 2);
    put(f, 0x24, 0x1a042); /* masked */
    set(f, 10, true);
    g_assert_cmpuint(f->b->msi_count, ==, 2);
    put(f, 0x24, 0x0a042); /* a level waits for the mask */
    g_assert_cmpuint(f->b->msi_count, ==, 3);
    put(f, 0x24, 0x12042); /* to edge: remote IRR goes */
    g_assert_cmphex(get(f, 0x24), ==, 0x12042);
}

static void test_version(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    IoApic *old = device_new(&ioapic_type, &f->b->board, "old");
    g_assert_true(device_set(&old->device, "version", "0x12", NULL));
    g_assert_false(device_create(&old->device, &error));
    g_assert_nonnull(strstr(error->message, "0x12"));
    device_free(&old->device);
}

static void test_state(Fixture *f, gconstpointer data)
{
    route(f, 10, 0xa042, 0x01000000);
    set(f, 10, true);
    put(f, 0, 0x05000000);
    test_state_round_trip(&f->ioapic->device);
}

static void test_storm(void)
{
    fuzz_random(20);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function) \
    g_test_add("/chipset/ioapic/" name, Fixture, NULL, set_up, function, tear_down)
    ADD("registers", test_registers);
    ADD("edge", test_edge);
    ADD("level", test_level);
    ADD("end-others", test_end_others);
    ADD("version", test_version);
    ADD("state", test_state);
    g_test_add_func("/chipset/ioapic/storm", test_storm);
    return g_test_run();
}
