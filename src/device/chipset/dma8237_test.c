/* SPDX-License-Identifier: GPL-3.0-or-later */
/* 8237A pair against the data sheet: programming, both directions, terminal count, autoinit,
 * decrement, words. */
#include "device/chipset/dma8237.h"
#include "device/fuzz.h"
#include "device/test_board.h"

typedef struct Fixture {
    TestBoard *b;
    Dma *dma;
} Fixture;

static void set_up(Fixture *f, gconstpointer data)
{
    f->b = test_board_new();
    f->dma = device_new(&dma_type, &f->b->board, "dma");
    g_assert_true(device_create(&f->dma->device, NULL));
    device_reset(&f->dma->device);
    space_map(f->b->board.ports, 0x00, &f->dma->io[0], 0, 16, SPACE_PRIORITY_BOARD, false);
    space_map(f->b->board.ports, 0xc0, &f->dma->io[1], 0, 32, SPACE_PRIORITY_BOARD, false);
    space_map(f->b->board.ports, 0x80, &f->dma->pages, 0, 16, SPACE_PRIORITY_BOARD, false);
    test_out(f->b, 0xd6, 1, 0xc0); /* the cascade */
    test_out(f->b, 0xd4, 1, 0x00);
}

static void tear_down(Fixture *f, gconstpointer data)
{
    device_free(&f->dma->device);
    test_board_free(f->b);
}

/* Channel 2, page 0x12. */
static void program(Fixture *f, uint8_t mode, uint16_t address, uint16_t count)
{
    test_out(f->b, 0x0a, 1, 6);
    test_out(f->b, 0x0c, 1, 0);
    test_out(f->b, 0x0b, 1, mode | 2);
    test_out(f->b, 0x04, 1, address & 0xff);
    test_out(f->b, 0x04, 1, address >> 8);
    test_out(f->b, 0x05, 1, count & 0xff);
    test_out(f->b, 0x05, 1, count >> 8);
    test_out(f->b, 0x81, 1, 0x12);
    test_out(f->b, 0x0a, 1, 2);
}

static void ram_get(Fixture *f, uint64_t address, void *data, size_t size)
{
    g_assert_true(space_read(f->b->board.memory, address, data, size));
}

static void test_write(Fixture *f, gconstpointer data)
{
    char seen[9] = "";
    bool tc;
    program(f, 0x44, 0x3456, 7);                                         /* 8 bytes into memory */
    g_assert_cmpuint(dma_transfer_read(f->dma, 2, seen, 4, &tc), ==, 0); /* the other direction */
    g_assert_cmpuint(dma_transfer_write(f->dma, 2, "abcd", 4, &tc), ==, 4);
    g_assert_false(tc);
    test_out(f->b, 0x0c, 1, 0);
    g_assert_cmphex(test_in(f->b, 0x05, 1) | test_in(f->b, 0x05, 1) << 8, ==, 3);
    g_assert_cmphex(test_in(f->b, 0x04, 1) | test_in(f->b, 0x04, 1) << 8, ==, 0x345a);
    g_assert_cmpuint(dma_transfer_write(f->dma, 2, "efghij", 6, &tc), ==, 4);
    g_assert_true(tc);
    ram_get(f, 0x123456, seen, 8);
    g_assert_cmpstr(seen, ==, "abcdefgh");
    g_assert_cmphex(test_in(f->b, 0x08, 1), ==, 0x04);
    g_assert_cmphex(test_in(f->b, 0x08, 1), ==, 0x00);      /* reading clears */
    g_assert_cmphex(test_in(f->b, 0x0f, 1) & 0xf, ==, 0xf); /* masked at the end */
    g_assert_cmpuint(dma_transfer_write(f->dma, 2, "k", 1, &tc), ==, 0);
}

static void test_read_autoinit(Fixture *f, gconstpointer data)
{
    char seen[7] = "";
    bool tc;
    g_assert_true(space_write(f->b->board.memory, 0x120000, "xyz", 3));
    program(f, 0x58, 0, 2);
    g_assert_cmpuint(dma_transfer_read(f->dma, 2, seen, 6, &tc), ==, 3);
    g_assert_true(tc);
    g_assert_cmpuint(dma_transfer_read(f->dma, 2, seen + 3, 3, &tc), ==, 3);
    g_assert_cmpstr(seen, ==, "xyzxyz");
}

static void test_wrap_and_decrement(Fixture *f, gconstpointer data)
{
    char seen[3] = "";
    bool tc;
    program(f, 0x44, 0xffff, 1); /* wraps within the page */
    dma_transfer_write(f->dma, 2, "pq", 2, &tc);
    ram_get(f, 0x12ffff, seen, 1);
    ram_get(f, 0x120000, seen + 1, 1);
    g_assert_cmpstr(seen, ==, "pq");
    program(f, 0x64, 0x0101, 1);
    dma_transfer_write(f->dma, 2, "rs", 2, &tc);
    ram_get(f, 0x120100, seen, 2);
    g_assert_cmpstr(seen, ==, "sr");
}

static void test_verify(Fixture *f, gconstpointer data)
{
    uint8_t seen;
    bool tc;
    program(f, 0x40, 0x200, 0);
    g_assert_cmpuint(dma_transfer_write(f->dma, 2, "v", 1, &tc), ==, 1);
    g_assert_true(tc);
    ram_get(f, 0x120200, &seen, 1);
    g_assert_cmphex(seen, ==, 0);
}

static void test_words(Fixture *f, gconstpointer data)
{
    static const uint8_t setup[][2] = {{0xd8, 0}, {0xd6, 0x45}, {0xc4, 0x00}, {0xc4, 0x80},
                                       {0xc6, 1}, {0xc6, 0},    {0x8b, 0x21}, {0xd4, 0x01}};
    char seen[5] = "";
    bool tc;
    for (unsigned i = 0; i < G_N_ELEMENTS(setup); i++)
        test_out(f->b, setup[i][0], 1, setup[i][1]);
    g_assert_cmpuint(dma_transfer_write(f->dma, 5, "wordy", 5, &tc), ==, 4);
    g_assert_true(tc);
    ram_get(f, 0x210000, seen, 4); /* page bit 0 is ignored, 0x8000 words are 64 KiB */
    g_assert_cmpstr(seen, ==, "word");
}

static void test_disabled(Fixture *f, gconstpointer data)
{
    bool tc;
    program(f, 0x44, 0, 9);
    g_assert_true(dma_is_ready(f->dma, 2));
    test_out(f->b, 0x08, 1, 4);
    g_assert_cmpuint(dma_transfer_write(f->dma, 2, "n", 1, &tc), ==, 0);
    test_out(f->b, 0x08, 1, 0);
    dma_set_request(f->dma, 2, true);
    g_assert_cmphex(test_in(f->b, 0x08, 1), ==, 0x40);
    test_out(f->b, 0x0d, 1, 0); /* master clear masks all */
    g_assert_false(dma_is_ready(f->dma, 2));
    test_out(f->b, 0x80, 1, 0x5a); /* POST codes are storage */
    g_assert_cmphex(test_in(f->b, 0x80, 1), ==, 0x5a);
}

static void test_state(Fixture *f, gconstpointer data)
{
    program(f, 0x54, 0x1234, 100);
    test_out(f->b, 0x04, 1, 0x55);
    test_state_round_trip(&f->dma->device);
}

static void test_storm(void)
{
    fuzz_random(20);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function) \
    g_test_add("/chipset/dma/" name, Fixture, NULL, set_up, function, tear_down)
    ADD("write", test_write);
    ADD("autoinit", test_read_autoinit);
    ADD("wrap", test_wrap_and_decrement);
    ADD("verify", test_verify);
    ADD("words", test_words);
    ADD("disabled", test_disabled);
    ADD("state", test_state);
    g_test_add_func("/chipset/dma/storm", test_storm);
    return g_test_run();
}
