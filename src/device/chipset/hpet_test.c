/* SPDX-License-Identifier: GPL-3.0-or-later */
/* HPET against specification 1.0a: counter, one-shot, periodic, 32-bit, level, legacy and MSI
 * delivery. */
#include "device/chipset/hpet.h"
#include "device/fuzz.h"
#include "device/test_board.h"

#define BASE          UINT64_C(0xfed00000)
#define CONFIG        0x10
#define STATUS        0x20
#define COUNTER       0xf0
#define TIMER(n, reg) (0x100 + 0x20 * (n) + (reg))

typedef struct Fixture {
    TestBoard *b;
    Hpet *hpet;
} Fixture;

static void set_up(Fixture *f, gconstpointer data)
{
    f->b = test_board_new();
    f->hpet = device_new(&hpet_type, &f->b->board, "hpet");
    for (unsigned n = 0; n < 24; n++)
        f->hpet->irq[n] = test_board_irq(f->b, n);
    f->hpet->isa_irq[0] = test_board_irq(f->b, 30);
    f->hpet->isa_irq[1] = test_board_irq(f->b, 31);
    g_assert_true(device_create(&f->hpet->device, NULL));
    device_reset(&f->hpet->device);
    space_map(f->b->board.memory, BASE, &f->hpet->io, 0, 0x400, SPACE_PRIORITY_BOARD, false);
    clock_advance(f->b->board.clock, 12345);
}

static void tear_down(Fixture *f, gconstpointer data)
{
    device_free(&f->hpet->device);
    test_board_free(f->b);
}

static uint64_t get(Fixture *f, unsigned offset)
{
    return space_load(f->b->board.memory, BASE + offset, 8);
}

static void put(Fixture *f, unsigned offset, uint64_t value)
{
    space_store(f->b->board.memory, BASE + offset, 8, value);
}

static void advance(Fixture *f, int64_t ns)
{
    clock_advance(f->b->board.clock, ns);
}

static void test_counter(Fixture *f, gconstpointer data)
{
    uint64_t caps = get(f, 0);
    g_assert_cmpuint(caps >> 32, ==, 10000000); /* femtoseconds */
    g_assert_cmphex(caps & 0xffffffff, ==, 0x8086a201);
    advance(f, 1000);
    g_assert_cmpuint(get(f, COUNTER), ==, 0); /* halted */
    put(f, COUNTER, UINT64_C(0xfffffff0));
    put(f, CONFIG, 1);
    advance(f, 320);
    g_assert_cmphex(get(f, COUNTER), ==, UINT64_C(0x100000010));
    g_assert_cmphex(space_load(f->b->board.memory, BASE + COUNTER + 4, 4), ==, 1);
    put(f, CONFIG, 0);
    advance(f, 320);
    g_assert_cmphex(get(f, COUNTER), ==, UINT64_C(0x100000010));
}

/* Linux leaves its periodic timer running without interrupts when it has found a better one. */
static void test_silent(Fixture *f, gconstpointer data)
{
    put(f, TIMER(0, 0), 20 << 9 | 8 | 0x40);
    put(f, TIMER(0, 8), 500);
    put(f, TIMER(0, 8), 400000);
    put(f, CONFIG, 1);
    g_assert_cmpint(clock_next_deadline_ns(f->b->board.clock), ==, INT64_MAX);
    advance(f, NS_PER_S);
    g_assert_cmpuint(get(f, TIMER(0, 8)), ==, 500 + 250 * UINT64_C(400000)); /* as if it had run */
    put(f, TIMER(0, 0), 20 << 9 | 4 | 8);
    g_assert_cmpuint(f->b->irq_edges[20], ==, 0);
    advance(f, 4999);
    g_assert_cmpuint(f->b->irq_edges[20], ==, 0);
    advance(f, 1);
    g_assert_cmpuint(f->b->irq_edges[20], ==, 1);
    advance(f, 10 * 4 * NS_PER_MS);
    g_assert_cmpuint(f->b->irq_edges[20], ==, 11);
}

static void test_one_shot(Fixture *f, gconstpointer data)
{
    put(f, TIMER(2, 0), 21 << 9 | 4);
    put(f, TIMER(2, 8), 1000);
    put(f, CONFIG, 1);
    advance(f, 9990);
    g_assert_cmpuint(f->b->irq_edges[21], ==, 0);
    advance(f, 10);
    g_assert_cmpuint(f->b->irq_edges[21], ==, 1);
    advance(f, NS_PER_S);
    g_assert_cmpuint(f->b->irq_edges[21], ==, 1);
    g_assert_cmphex(get(f, STATUS), ==, 0); /* edges leave no status */
    put(f, TIMER(2, 0), 3 << 9 | 4);        /* a route that is not there does not read back */
    g_assert_cmphex(get(f, TIMER(2, 0)) & 0x3e00, ==, 21 << 9);
}

static void test_periodic(Fixture *f, gconstpointer data)
{
    put(f, TIMER(0, 0), 20 << 9 | 4 | 8 | 0x40);
    put(f, TIMER(0, 8), 500);    /* the first match … */
    put(f, TIMER(0, 8), 100000); /* … and the period: 1 ms */
    put(f, CONFIG, 1);
    advance(f, 5000);
    g_assert_cmpuint(f->b->irq_edges[20], ==, 1);
    advance(f, 100 * NS_PER_MS);
    g_assert_cmpuint(f->b->irq_edges[20], ==, 101);
    g_assert_cmpuint(get(f, TIMER(0, 8)), ==, 500 + 101 * 100000);
    put(f, TIMER(0, 0), 20 << 9 | 4 | 8 | 0x40);
    put(f, TIMER(0, 8), get(f, COUNTER) + 1);
    put(f, TIMER(0, 8), 1); /* 10 ns: the host is not drowned */
    advance(f, NS_PER_MS);
    g_assert_cmpuint(f->b->irq_edges[20], <, 200);
}

/* The PIT's output, high most of the time, must not hide the first edge of a one-shot timer. */
static void test_legacy_takes_wire_over(Fixture *f, gconstpointer data)
{
    irq_set(hpet_legacy_input(f->hpet, 0), true);
    g_assert_cmpuint(f->b->irq_edges[30], ==, 1);
    put(f, TIMER(0, 0), 4);
    put(f, TIMER(0, 8), 1000);
    put(f, CONFIG, 3);
    g_assert_false(f->b->irq_level[30]);
    advance(f, 10000);
    g_assert_cmpuint(f->b->irq_edges[30], ==, 2);
    put(f, CONFIG, 1);
    g_assert_true(f->b->irq_level[30]); /* the PIT's again */
    put(f, CONFIG, 3);
    device_reset(&f->hpet->device);
    g_assert_true(f->b->irq_level[30]);
}

static void test_32bit_wraps(Fixture *f, gconstpointer data)
{
    put(f, COUNTER, UINT64_C(0xffffff00));
    put(f, TIMER(1, 0), 22 << 9 | 4 | 0x100);
    put(f, TIMER(1, 8), 0x10);
    put(f, CONFIG, 1);
    advance(f, 0x10f * 10);
    g_assert_cmpuint(f->b->irq_edges[22], ==, 0);
    advance(f, 10);
    g_assert_cmpuint(f->b->irq_edges[22], ==, 1);
    advance(f, (INT64_C(1) << 32) * 10);
    g_assert_cmpuint(f->b->irq_edges[22], ==, 2);
}

static void test_level(Fixture *f, gconstpointer data)
{
    put(f, TIMER(1, 0), 22 << 9 | 4 | 2);
    put(f, TIMER(1, 8), 100);
    put(f, CONFIG, 1);
    advance(f, 2000);
    g_assert_true(f->b->irq_level[22]);
    g_assert_cmphex(get(f, STATUS), ==, 2);
    put(f, STATUS, 1);
    g_assert_true(f->b->irq_level[22]);
    put(f, STATUS, 2);
    g_assert_false(f->b->irq_level[22]);
}

static void test_legacy(Fixture *f, gconstpointer data)
{
    IrqLine pit = hpet_legacy_input(f->hpet, 0);
    irq_set(pit, true);
    g_assert_true(f->b->irq_level[30]); /* passed through */
    irq_set(pit, false);
    put(f, TIMER(0, 0), 20 << 9 | 4);
    put(f, TIMER(0, 8), 100);
    put(f, CONFIG, 3);
    unsigned edges = f->b->irq_edges[30];
    irq_pulse(pit);
    g_assert_cmpuint(f->b->irq_edges[30], ==, edges);
    advance(f, 2000);
    g_assert_cmpuint(f->b->irq_edges[30], ==, edges + 1);
    g_assert_cmpuint(f->b->irq_edges[20], ==, 0);
}

static void test_msi(Fixture *f, gconstpointer data)
{
    put(f, TIMER(2, 0x10), UINT64_C(0xfee0100000000051));
    put(f, TIMER(2, 0), 4 | 0x4000);
    put(f, TIMER(2, 8), 100);
    put(f, CONFIG, 1);
    advance(f, 2000);
    g_assert_cmpuint(f->b->msi_count, ==, 1);
    g_assert_cmphex(f->b->last_msi_address, ==, 0xfee01000);
    g_assert_cmphex(f->b->last_msi_data, ==, 0x51);
}

static void test_state(Fixture *f, gconstpointer data)
{
    put(f, TIMER(0, 0), 20 << 9 | 4 | 8 | 0x40);
    put(f, TIMER(0, 8), 500);
    put(f, TIMER(0, 8), 100000);
    put(f, CONFIG, 1);
    advance(f, 7000);
    test_state_round_trip(&f->hpet->device);
}

static void test_storm(void)
{
    fuzz_random(5);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function) \
    g_test_add("/chipset/hpet/" name, Fixture, NULL, set_up, function, tear_down)
    ADD("counter", test_counter);
    ADD("silent", test_silent);
    ADD("one-shot", test_one_shot);
    ADD("periodic", test_periodic);
    ADD("32-bit", test_32bit_wraps);
    ADD("level", test_level);
    ADD("legacy", test_legacy);
    ADD("legacy-takes-wire-over", test_legacy_takes_wire_over);
    ADD("msi", test_msi);
    ADD("state", test_state);
    g_test_add_func("/chipset/hpet/storm", test_storm);
    return g_test_run();
}
