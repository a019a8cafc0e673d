/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The parallel port against the handshake of a Centronics printer. */
#include "device/serial/parallel.h"
#include "device/test_board.h"

typedef struct Fixture {
    TestBoard *board;
    CharBackend *chr;
    Parallel *parallel;
} Fixture;

static void set_up(Fixture *f, gconstpointer unused)
{
    f->board = test_board_new();
    f->chr = char_memory_new(&f->board->lock);
    f->parallel = device_new(&parallel_type, &f->board->board, "lpt1");
    f->parallel->chr = f->chr;
    f->parallel->irq = test_board_irq(f->board, 7);
    g_assert_true(device_create(&f->parallel->device, NULL));
    space_map(f->board->board.ports, 0x378, &f->parallel->io, 0, 3, SPACE_PRIORITY_BOARD, false);
    device_reset(&f->parallel->device);
}

static void tear_down(Fixture *f, gconstpointer unused)
{
    device_free(&f->parallel->device);
    char_free(f->chr);
    test_board_free(f->board);
}

static void strobe(Fixture *f, uint8_t byte, uint8_t control)
{
    test_out(f->board, 0x378, 1, byte);
    test_out(f->board, 0x37a, 1, control | 1);
    test_out(f->board, 0x37a, 1, control);
}

static void test_print(Fixture *f, gconstpointer unused)
{
    g_assert_cmphex(test_in(f->board, 0x379, 1) & 0xf8, ==, 0xd8);
    strobe(f, 'O', 0x0c);
    strobe(f, 'k', 0x0c);
    GByteArray *output = char_memory_output(f->chr);
    g_assert_cmpmem(output->data, output->len, "Ok", 2);
    g_assert_cmpuint(f->board->irq_edges[7], ==, 0);
    strobe(f, '!', 0x1c);
    g_assert_cmpuint(f->board->irq_edges[7], ==, 1);
    g_assert_false(f->board->irq_level[7]);
    g_assert_cmphex(test_in(f->board, 0x378, 1), ==, '!');
    g_assert_cmphex(test_in(f->board, 0x37a, 1), ==, 0xdc);
}

static void test_busy(Fixture *f, gconstpointer unused)
{
    char_memory_set_room(f->chr, 0);
    strobe(f, 'a', 0x1c);
    g_assert_cmphex(test_in(f->board, 0x379, 1) & 0x80, ==, 0);
    strobe(f, 'b', 0x1c); /* a busy printer does not see it */
    test_state_round_trip(&f->parallel->device);
    g_assert_cmpuint(f->board->irq_edges[7], ==, 0);
    char_memory_set_room(f->chr, 5);
    GByteArray *output = char_memory_output(f->chr);
    g_assert_cmpmem(output->data, output->len, "a", 1);
    g_assert_cmphex(test_in(f->board, 0x379, 1) & 0x80, ==, 0x80);
    g_assert_cmpuint(f->board->irq_edges[7], ==, 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void test_storm(void)
{
    uint8_t data[48 * 50];
    for (unsigned i = 0; i < sizeof(data); i++)
        data[i] = g_test_rand_int();
    LLVMFuzzerTestOneInput(data, sizeof(data));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add("/parallel/print", Fixture, NULL, set_up, test_print, tear_down);
    g_test_add("/parallel/busy", Fixture, NULL, set_up, test_busy, tear_down);
    g_test_add_func("/parallel/storm", test_storm);
    return g_test_run();
}
