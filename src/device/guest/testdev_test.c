/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the suites' own libraries do with the device. */
#include "device/fuzz.h"
#include "device/guest/testdev.h"
#include "device/test_board.h"

static void test_all(void)
{
    g_autoptr(TestBoard) b = test_board_new();
    Testdev *d = device_new(&testdev_type, &b->board, "testdev");
    for (unsigned n = 0; n < TESTDEV_IRQS; n++)
        d->irq[n] = test_board_irq(b, n);
    g_assert_true(device_create(&d->device, NULL));
    device_reset(&d->device);
    space_map(b->board.ports, TESTDEV_PORTS, &d->ports, 0, 8, SPACE_PRIORITY_BOARD, false);
    space_map(b->board.ports, TESTDEV_LINES, &d->lines, 0, TESTDEV_IRQS, SPACE_PRIORITY_BOARD,
              false);
    space_map(b->board.memory, TESTDEV_MEMORY, &d->memory, 0, TESTDEV_MEMORY_SIZE,
              SPACE_PRIORITY_BOARD, false);

    test_out(b, 0xe0, 4, 0x12345678);
    g_assert_cmphex(test_in(b, 0xe0, 4), ==, 0x12345678);
    test_out(b, 0xe0, 1, 0x9a);
    g_assert_cmphex(test_in(b, 0xe0, 2), ==, 0x569a);
    test_out(b, 0xe4, 4, 0xb8000);
    g_assert_cmphex(test_in(b, 0xe0, 4), ==, 0x1234569a);

    test_out(b, 0x200e, 1, 1);
    g_assert_true(b->irq_level[14]);
    test_state_round_trip(&d->device);
    g_assert_true(b->irq_level[14]);
    test_out(b, 0x200e, 1, 0);
    g_assert_false(b->irq_level[14]);
    g_assert_cmpuint(b->irq_edges[15], ==, 0);

    space_store(b->board.memory, 0xff000ff8, 8, UINT64_C(0x1122334455667788));
    g_assert_cmphex(space_load(b->board.memory, 0xff000ffc, 4), ==, 0x11223344);
    device_free(&d->device);
}

static void test_storm(void)
{
    uint8_t data[4096];
    for (unsigned i = 0; i < sizeof(data); i++)
        data[i] = g_test_rand_int_range(0, 256);
    LLVMFuzzerTestOneInput(data, sizeof(data));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/testdev/all", test_all);
    g_test_add_func("/testdev/storm", test_storm);
    return g_test_run();
}
