/* SPDX-License-Identifier: GPL-3.0-or-later */
/* 8259A pair against the data sheet: initialisation, priorities, EOI, rotation, masks, poll,
 * spurious. */
#include "device/chipset/pic.h"
#include "device/fuzz.h"
#include "device/test_board.h"

typedef struct Fixture {
    TestBoard *b;
    Pic *pic;
} Fixture;

static void initialise(Fixture *f, uint8_t icw4)
{
    static const struct {
        uint16_t port;
        uint8_t base, icw3;
    } chips[2] = {{0x20, 0x20, 4}, {0xa0, 0x28, 2}};
    for (unsigned i = 0; i < 2; i++) {
        test_out(f->b, chips[i].port, 1, 0x11);
        test_out(f->b, chips[i].port + 1, 1, chips[i].base);
        test_out(f->b, chips[i].port + 1, 1, chips[i].icw3);
        test_out(f->b, chips[i].port + 1, 1, icw4);
    }
}

static void set_up(Fixture *f, gconstpointer data)
{
    f->b = test_board_new();
    f->pic = device_new(&pic_type, &f->b->board, "pic");
    f->pic->intr = test_board_irq(f->b, 0);
    g_assert_true(device_create(&f->pic->device, NULL));
    device_reset(&f->pic->device);
    space_map(f->b->board.ports, 0x20, &f->pic->io[0], 0, 2, SPACE_PRIORITY_BOARD, false);
    space_map(f->b->board.ports, 0xa0, &f->pic->io[1], 0, 2, SPACE_PRIORITY_BOARD, false);
    space_map(f->b->board.ports, 0x4d0, &f->pic->elcr, 0, 2, SPACE_PRIORITY_BOARD, false);
    initialise(f, 1);
}

static void tear_down(Fixture *f, gconstpointer data)
{
    device_free(&f->pic->device);
    test_board_free(f->b);
}

static void pulse(Fixture *f, unsigned n)
{
    irq_pulse(pic_irq(f->pic, n));
}

static uint8_t read_isr(Fixture *f, uint16_t port)
{
    test_out(f->b, port, 1, 0x0b);
    return test_in(f->b, port, 1);
}

static void test_priorities(Fixture *f, gconstpointer data)
{
    pulse(f, 3);
    pulse(f, 1);
    g_assert_true(f->b->irq_level[0]);
    g_assert_cmpint(pic_acknowledge(f->pic), ==, 0x21);
    g_assert_false(f->b->irq_level[0]); /* 3 waits for the end of 1 */
    pulse(f, 0);
    g_assert_true(f->b->irq_level[0]); /* 0 interrupts it */
    g_assert_cmpint(pic_acknowledge(f->pic), ==, 0x20);
    g_assert_cmphex(read_isr(f, 0x20), ==, 0x03);
    test_out(f->b, 0x20, 1, 0x20); /* non-specific: the highest */
    g_assert_cmphex(read_isr(f, 0x20), ==, 0x02);
    test_out(f->b, 0x20, 1, 0x20);
    g_assert_cmpint(pic_acknowledge(f->pic), ==, 0x23);
    test_out(f->b, 0x20, 1, 0x63); /* specific */
    g_assert_cmphex(read_isr(f, 0x20), ==, 0);
}

static void test_cascade(Fixture *f, gconstpointer data)
{
    pulse(f, 12);
    pulse(f, 8);
    g_assert_cmpint(pic_acknowledge(f->pic), ==, 0x28);
    g_assert_cmphex(read_isr(f, 0x20), ==, 0x04);
    test_out(f->b, 0xa0, 1, 0x20);
    g_assert_false(f->b->irq_level[0]); /* the primary still serves its input 2 */
    test_out(f->b, 0x20, 1, 0x20);
    g_assert_true(f->b->irq_level[0]);
    g_assert_cmpint(pic_acknowledge(f->pic), ==, 0x2c);
}

/* Special fully nested: a higher request of the secondary passes the one in service. */
static void test_special_fully_nested(Fixture *f, gconstpointer data)
{
    initialise(f, 0x11);
    pulse(f, 12);
    g_assert_cmpint(pic_acknowledge(f->pic), ==, 0x2c);
    pulse(f, 9);
    g_assert_true(f->b->irq_level[0]);
    g_assert_cmpint(pic_acknowledge(f->pic), ==, 0x29);
}

static void test_mask_and_irr(Fixture *f, gconstpointer data)
{
    test_out(f->b, 0x21, 1, 0x08);
    pulse(f, 3);
    g_assert_false(f->b->irq_level[0]);
    test_out(f->b, 0x20, 1, 0x0a);
    g_assert_cmphex(test_in(f->b, 0x20, 1), ==, 0x08);
    g_assert_cmphex(test_in(f->b, 0x21, 1), ==, 0x08);
    test_out(f->b, 0x21, 1, 0);
    g_assert_true(f->b->irq_level[0]);
    test_out(f->b, 0x20, 1, 0x11); /* ICW1 clears the edge latches */
    g_assert_false(f->b->irq_level[0]);
}

static void test_spurious(Fixture *f, gconstpointer data)
{
    pulse(f, 4);
    test_out(f->b, 0x21, 1, 0x10); /* masked between INTR and INTA */
    g_assert_cmpint(pic_acknowledge(f->pic), ==, 0x27);
    g_assert_cmphex(read_isr(f, 0x20), ==, 0);
    test_out(f->b, 0x4d1, 1, 0x04);
    irq_set(pic_irq(f->pic, 10), true);
    irq_set(pic_irq(f->pic, 10), false); /* a level that goes away */
    g_assert_cmpint(pic_acknowledge(f->pic), ==, 0x27);
}

static void test_level(Fixture *f, gconstpointer data)
{
    test_out(f->b, 0x4d0, 1, 0xff);
    g_assert_cmphex(test_in(f->b, 0x4d0, 1), ==, 0xf8); /* 0, 1, 2 stay edges */
    test_out(f->b, 0x4d1, 1, 0xff);
    g_assert_cmphex(test_in(f->b, 0x4d1, 1), ==, 0xde);
    irq_set(pic_irq(f->pic, 5), true);
    g_assert_cmpint(pic_acknowledge(f->pic), ==, 0x25);
    test_out(f->b, 0x20, 1, 0x20);
    g_assert_true(f->b->irq_level[0]); /* still up: again */
    g_assert_cmpint(pic_acknowledge(f->pic), ==, 0x25);
    irq_set(pic_irq(f->pic, 5), false);
    test_out(f->b, 0x20, 1, 0x20);
    g_assert_false(f->b->irq_level[0]);
}

static void test_edge_needs_edge(Fixture *f, gconstpointer data)
{
    irq_set(pic_irq(f->pic, 6), true);
    g_assert_cmpint(pic_acknowledge(f->pic), ==, 0x26);
    test_out(f->b, 0x20, 1, 0x20);
    g_assert_false(f->b->irq_level[0]);
    irq_set(pic_irq(f->pic, 6), false);
    irq_set(pic_irq(f->pic, 6), true);
    g_assert_true(f->b->irq_level[0]);
}

static void test_rotation(Fixture *f, gconstpointer data)
{
    pulse(f, 0);
    g_assert_cmpint(pic_acknowledge(f->pic), ==, 0x20);
    test_out(f->b, 0x20, 1, 0xa0); /* rotate on non-specific EOI: 0 is the lowest now */
    pulse(f, 0);
    pulse(f, 7);
    g_assert_cmpint(pic_acknowledge(f->pic), ==, 0x27);
    test_out(f->b, 0x20, 1, 0x20);
    test_out(f->b, 0x20, 1, 0xc4); /* set priority: 4 lowest, 5 highest */
    pulse(f, 4);
    pulse(f, 5);
    g_assert_cmpint(pic_acknowledge(f->pic), ==, 0x25);
}

static void test_auto_eoi(Fixture *f, gconstpointer data)
{
    initialise(f, 3);
    test_out(f->b, 0x20, 1, 0x80); /* rotate in automatic EOI */
    pulse(f, 1);
    g_assert_cmpint(pic_acknowledge(f->pic), ==, 0x21);
    g_assert_cmphex(read_isr(f, 0x20), ==, 0);
    pulse(f, 1);
    pulse(f, 3);
    g_assert_cmpint(pic_acknowledge(f->pic), ==, 0x23);
}

/* Masking an input in service lets lower ones in; a non-specific EOI leaves it. */
static void test_special_mask(Fixture *f, gconstpointer data)
{
    pulse(f, 1);
    g_assert_cmpint(pic_acknowledge(f->pic), ==, 0x21);
    pulse(f, 6);
    g_assert_false(f->b->irq_level[0]);
    test_out(f->b, 0x21, 1, 0x02);
    test_out(f->b, 0x20, 1, 0x68);
    g_assert_true(f->b->irq_level[0]);
    g_assert_cmpint(pic_acknowledge(f->pic), ==, 0x26);
    test_out(f->b, 0x20, 1, 0x20);
    g_assert_cmphex(read_isr(f, 0x20), ==, 0x02);
    test_out(f->b, 0x20, 1, 0x48); /* special mask off */
    test_out(f->b, 0x20, 1, 0x20);
    g_assert_cmphex(read_isr(f, 0x20), ==, 0x00);
}

static void test_poll(Fixture *f, gconstpointer data)
{
    test_out(f->b, 0x20, 1, 0x0c);
    g_assert_cmphex(test_in(f->b, 0x20, 1) & 0x80, ==, 0);
    pulse(f, 5);
    test_out(f->b, 0x20, 1, 0x0c);
    g_assert_cmphex(test_in(f->b, 0x20, 1), ==, 0x85);
    g_assert_false(f->b->irq_level[0]);
    g_assert_cmphex(read_isr(f, 0x20), ==, 0x20);
}

static void test_state(Fixture *f, gconstpointer data)
{
    pulse(f, 3);
    pulse(f, 10);
    pic_acknowledge(f->pic);
    test_out(f->b, 0x4d0, 1, 0x20);
    test_out(f->b, 0xa0, 1, 0x11);
    test_state_round_trip(&f->pic->device);
}

static void test_storm(void)
{
    fuzz_random(20);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function) \
    g_test_add("/chipset/pic/" name, Fixture, NULL, set_up, function, tear_down)
    ADD("priorities", test_priorities);
    ADD("cascade", test_cascade);
    ADD("special-fully-nested", test_special_fully_nested);
    ADD("mask", test_mask_and_irr);
    ADD("spurious", test_spurious);
    ADD("level", test_level);
    ADD("edge", test_edge_needs_edge);
    ADD("rotation", test_rotation);
    ADD("auto-eoi", test_auto_eoi);
    ADD("special-mask", test_special_mask);
    ADD("poll", test_poll);
    ADD("state", test_state);
    g_test_add_func("/chipset/pic/storm", test_storm);
    return g_test_run();
}
