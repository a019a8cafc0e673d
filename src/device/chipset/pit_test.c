/* SPDX-License-Identifier: GPL-3.0-or-later */
/* 8254 against the data sheet: modes, latches, read-back, BCD, gates; and no drift. */
#include "device/chipset/pit.h"
#include "device/fuzz.h"
#include "device/test_board.h"

typedef struct Fixture {
    TestBoard *b;
    Pit *pit;
} Fixture;

static void set_up(Fixture *f, gconstpointer data)
{
    f->b = test_board_new();
    f->pit = device_new(&pit_type, &f->b->board, "pit");
    f->pit->irq = test_board_irq(f->b, 0);
    g_assert_true(device_create(&f->pit->device, NULL));
    device_reset(&f->pit->device);
    space_map(f->b->board.ports, 0x40, &f->pit->io, 0, 4, SPACE_PRIORITY_BOARD, false);
    space_map(f->b->board.ports, 0x61, &f->pit->port61, 0, 1, SPACE_PRIORITY_BOARD, false);
}

static void tear_down(Fixture *f, gconstpointer data)
{
    device_free(&f->pit->device);
    test_board_free(f->b);
}

static void out(Fixture *f, uint16_t port, uint8_t value)
{
    test_out(f->b, port, 1, value);
}

static void program(Fixture *f, unsigned n, unsigned mode, uint16_t count)
{
    out(f, 0x43, n << 6 | 0x30 | mode << 1);
    out(f, 0x40 + n, count);
    out(f, 0x40 + n, count >> 8);
}

/* To just after tick `n` of the 1.193182 MHz clock. */
static void go_to_tick(Fixture *f, int64_t n)
{
    int64_t ns = (n * NS_PER_S + PIT_HZ - 1) / PIT_HZ;
    clock_advance(f->b->board.clock, ns - clock_now_ns(f->b->board.clock));
}

static uint16_t count(Fixture *f, unsigned n)
{
    out(f, 0x43, n << 6);
    uint16_t low = test_in(f->b, 0x40 + n, 1);
    return low | test_in(f->b, 0x40 + n, 1) << 8;
}

static bool out2(Fixture *f)
{
    return test_in(f->b, 0x61, 1) & 0x20;
}

/* 100 Hz for 10 s of virtual time: exactly as many interrupts as whole periods. */
static void test_rate(Fixture *f, gconstpointer data)
{
    program(f, 0, 2, 11932);
    unsigned before = f->b->irq_edges[0];
    clock_advance(f->b->board.clock, 10 * NS_PER_S);
    g_assert_cmpuint(f->b->irq_edges[0] - before, ==, (10 * PIT_HZ - 1) / 11932);
}

/* A host that was late: the ticks come later, faster, and not without end. */
static void test_catch_up(Fixture *f, gconstpointer data)
{
    VmClock *clock = f->b->board.clock;
    program(f, 0, 2, 1193);
    unsigned before = f->b->irq_edges[0];
    clock_set_now_ns(clock, 10 * NS_PER_MS + NS_PER_MS / 2);
    clock_advance(clock, 0);
    g_assert_cmpuint(f->b->irq_edges[0] - before, ==, 1);
    clock_advance(clock, 30 * NS_PER_MS);
    g_assert_cmpuint(f->b->irq_edges[0] - before, ==, 40);
    before = f->b->irq_edges[0];
    clock_set_now_ns(clock, 10 * NS_PER_S);
    clock_advance(clock, NS_PER_S);
    g_assert_cmpuint(f->b->irq_edges[0] - before, >, 1000);
    g_assert_cmpuint(f->b->irq_edges[0] - before, <=, 1000 + PIT_MAX_OWED + 2);
}

static bool waiting;
static bool is_waiting(void *obj)
{
    return waiting;
}

/* A CPU that the host holds up gets each missed tick when it has taken the one before. */
static void test_untaken(Fixture *f, gconstpointer data)
{
    VmClock *clock = f->b->board.clock;
    f->pit->irq_untaken = is_waiting;
    program(f, 0, 2, 11932);
    clock_advance(clock, 11 * NS_PER_MS);
    unsigned before = f->b->irq_edges[0];
    waiting = true;
    clock_advance(clock, 50 * NS_PER_MS);
    g_assert_cmpuint(f->b->irq_edges[0] - before, <=, 1);
    waiting = false;
    clock_advance(clock, 4 * NS_PER_MS);
    g_assert_cmpuint(f->b->irq_edges[0] - before, ==, 5);
}

static void test_mode0(Fixture *f, gconstpointer data)
{
    out(f, 0x61, 1);
    program(f, 2, 0, 100);
    g_assert_false(out2(f));
    go_to_tick(f, 1 + 40);
    g_assert_cmpuint(count(f, 2), ==, 60);
    out(f, 0x61, 0); /* the gate holds it */
    go_to_tick(f, 1 + 50);
    g_assert_cmpuint(count(f, 2), ==, 60);
    out(f, 0x61, 1);
    go_to_tick(f, 1 + 50 + 59);
    g_assert_false(out2(f));
    go_to_tick(f, 1 + 50 + 60);
    g_assert_true(out2(f));
    go_to_tick(f, 1 + 50 + 61);
    g_assert_cmpuint(count(f, 2), ==, 0xffff); /* goes on counting */
}

static void test_mode0_interrupts_once(Fixture *f, gconstpointer data)
{
    program(f, 0, 0, 1000);
    g_assert_false(f->b->irq_level[0]);
    go_to_tick(f, 1000);
    g_assert_false(f->b->irq_level[0]);
    go_to_tick(f, 1001);
    g_assert_true(f->b->irq_level[0]);
    unsigned edges = f->b->irq_edges[0];
    go_to_tick(f, 200000);
    g_assert_cmpuint(f->b->irq_edges[0], ==, edges);
}

static void test_mode1(Fixture *f, gconstpointer data)
{
    program(f, 2, 1, 50);
    go_to_tick(f, 10);
    g_assert_true(out2(f));
    out(f, 0x61, 1); /* the trigger */
    go_to_tick(f, 11);
    g_assert_false(out2(f));
    out(f, 0x61, 0);
    go_to_tick(f, 40);
    out(f, 0x61, 1); /* again: a new full pulse */
    go_to_tick(f, 90);
    g_assert_false(out2(f));
    go_to_tick(f, 91);
    g_assert_true(out2(f));
}

static void test_mode2(Fixture *f, gconstpointer data)
{
    out(f, 0x61, 1);
    program(f, 2, 2, 10);
    go_to_tick(f, 1);
    g_assert_cmpuint(count(f, 2), ==, 10);
    go_to_tick(f, 1 + 8);
    g_assert_true(out2(f));
    go_to_tick(f, 1 + 9);
    g_assert_cmpuint(count(f, 2), ==, 1);
    g_assert_false(out2(f));
    go_to_tick(f, 1 + 10);
    g_assert_true(out2(f));
    out(f, 0x42, 4); /* takes over at the end of this period */
    out(f, 0x42, 0);
    go_to_tick(f, 1 + 15);
    g_assert_cmpuint(count(f, 2), ==, 5);
    go_to_tick(f, 1 + 20);
    g_assert_cmpuint(count(f, 2), ==, 4);
    go_to_tick(f, 1 + 23);
    g_assert_false(out2(f));
    out(f, 0x61, 0);
    g_assert_true(out2(f)); /* a low gate raises OUT at once */
}

static void test_mode3(Fixture *f, gconstpointer data)
{
    out(f, 0x61, 1);
    program(f, 2, 3, 7); /* high for 4, low for 3 */
    for (unsigned i = 0; i < 14; i++) {
        go_to_tick(f, 1 + i);
        g_assert_cmpint(out2(f), ==, i % 7 < 4);
        g_assert_cmpuint(count(f, 2) & 1, ==, 0);
    }
}

static void test_mode4(Fixture *f, gconstpointer data)
{
    out(f, 0x61, 1);
    program(f, 2, 4, 20);
    go_to_tick(f, 20);
    g_assert_true(out2(f));
    go_to_tick(f, 21);
    g_assert_false(out2(f));
    go_to_tick(f, 22);
    g_assert_true(out2(f));
}

static void test_mode5(Fixture *f, gconstpointer data)
{
    program(f, 2, 5, 20);
    go_to_tick(f, 100);
    g_assert_true(out2(f));
    out(f, 0x61, 1); /* the trigger */
    go_to_tick(f, 120);
    g_assert_true(out2(f));
    go_to_tick(f, 121);
    g_assert_false(out2(f));
    go_to_tick(f, 122);
    g_assert_true(out2(f));
}

static void test_bcd(Fixture *f, gconstpointer data)
{
    out(f, 0x61, 1);
    out(f, 0x43, 0xb0 | 1);
    out(f, 0x42, 0x00);
    out(f, 0x42, 0x10); /* one thousand */
    go_to_tick(f, 1 + 1);
    g_assert_cmphex(count(f, 2), ==, 0x0999);
    go_to_tick(f, 1 + 1001);
    g_assert_cmphex(count(f, 2), ==, 0x9999);
}

static void test_latch_and_read_back(Fixture *f, gconstpointer data)
{
    program(f, 0, 2, 0); /* 65536 */
    go_to_tick(f, 1 + 0x1234);
    out(f, 0x43, 0xc2); /* read back channel 0: count and status */
    go_to_tick(f, 5000);
    out(f, 0x43, 0x00);                                       /* a second latch changes nothing */
    g_assert_cmphex(test_in(f->b, 0x40, 1), ==, 0x80 | 0x34); /* OUT high, both bytes, mode 2 */
    g_assert_cmphex(test_in(f->b, 0x40, 1), ==, 0xcc);
    g_assert_cmphex(test_in(f->b, 0x40, 1), ==, 0xed);
    out(f, 0x43, 0x34);
    out(f, 0x43, 0xe2);
    g_assert_cmphex(test_in(f->b, 0x40, 1) & 0x40, ==, 0x40); /* null count until it is written */
}

static void test_byte_access(Fixture *f, gconstpointer data)
{
    out(f, 0x43, 0x80 | 0x20 | 4); /* channel 2, high byte only, mode 2 */
    out(f, 0x61, 1);
    out(f, 0x42, 0x02);
    go_to_tick(f, 1 + 0x100);
    g_assert_cmphex(test_in(f->b, 0x42, 1), ==, 0x01);
    g_assert_cmphex(test_in(f->b, 0x42, 1), ==, 0x01);
}

static void test_port61(Fixture *f, gconstpointer data)
{
    out(f, 0x61, 0xff);
    g_assert_cmphex(test_in(f->b, 0x61, 1) & 0xcf, ==, 0x0f);
    unsigned toggles = 0;
    for (unsigned i = 0, last = 0; i < 100; i++) {
        clock_advance(f->b->board.clock, 15085);
        unsigned bit = test_in(f->b, 0x61, 1) & 0x10;
        toggles += bit != last;
        last = bit;
    }
    g_assert_cmpuint(toggles, >, 95);
}

static void test_state(Fixture *f, gconstpointer data)
{
    program(f, 0, 3, 1000);
    program(f, 2, 0, 5000);
    go_to_tick(f, 1500);
    out(f, 0x40, 7); /* half of a count */
    test_state_round_trip(&f->pit->device);
}

static void test_storm(void)
{
    fuzz_random(5);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function) \
    g_test_add("/chipset/pit/" name, Fixture, NULL, set_up, function, tear_down)
    ADD("rate", test_rate);
    ADD("catch-up", test_catch_up);
    ADD("untaken", test_untaken);
    ADD("mode0", test_mode0);
    ADD("mode0-irq", test_mode0_interrupts_once);
    ADD("mode1", test_mode1);
    ADD("mode2", test_mode2);
    ADD("mode3", test_mode3);
    ADD("mode4", test_mode4);
    ADD("mode5", test_mode5);
    ADD("bcd", test_bcd);
    ADD("read-back", test_latch_and_read_back);
    ADD("byte-access", test_byte_access);
    ADD("port61", test_port61);
    ADD("state", test_state);
    g_test_add_func("/chipset/pit/storm", test_storm);
    return g_test_run();
}
