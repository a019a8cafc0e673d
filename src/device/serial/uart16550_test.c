/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The UART against the PC16550D data sheet. */
#include "device/serial/uart16550.h"
#include "device/test_board.h"

enum { BASE = 0x3f8, RBR = BASE, THR = BASE, IER, IIR, FCR = IIR, LCR, MCR, LSR, MSR, SCR };

typedef struct Fixture {
    TestBoard *board;
    CharBackend *chr;
    Uart16550 *uart;
} Fixture;

static void set_up(Fixture *f, gconstpointer unused)
{
    f->board = test_board_new();
    f->chr = char_memory_new(&f->board->lock);
    f->uart = device_new(&uart16550_type, &f->board->board, "com1");
    f->uart->chr = f->chr;
    f->uart->irq = test_board_irq(f->board, 4);
    g_assert_true(device_create(&f->uart->device, NULL));
    space_map(f->board->board.ports, BASE, &f->uart->io, 0, 8, SPACE_PRIORITY_BOARD, false);
    device_reset(&f->uart->device);
}

static void tear_down(Fixture *f, gconstpointer unused)
{
    device_free(&f->uart->device);
    char_free(f->chr);
    test_board_free(f->board);
}

static uint8_t in(Fixture *f, unsigned port)
{
    return test_in(f->board, port, 1);
}

static void out(Fixture *f, unsigned port, uint8_t value)
{
    test_out(f->board, port, 1, value);
}

static bool irq(Fixture *f)
{
    return f->board->irq_level[4];
}

static void feed(Fixture *f, const char *text)
{
    char_memory_feed(f->chr, (const uint8_t *)text, strlen(text));
}

/* Data sheet, table 1: master reset. */
static void test_reset(Fixture *f, gconstpointer unused)
{
    g_assert_cmphex(in(f, IER), ==, 0x00);
    g_assert_cmphex(in(f, IIR), ==, 0x01);
    g_assert_cmphex(in(f, LCR), ==, 0x00);
    g_assert_cmphex(in(f, MCR), ==, 0x00);
    g_assert_cmphex(in(f, LSR), ==, 0x60);
    g_assert_cmphex(in(f, MSR) & 0x0f, ==, 0x00);
    g_assert_false(irq(f));
    out(f, SCR, 0x5a);
    g_assert_cmphex(in(f, SCR), ==, 0x5a);
    out(f, IER, 0xff);
    g_assert_cmphex(in(f, IER), ==, 0x0f);
}

static void test_divisor_latch(Fixture *f, gconstpointer unused)
{
    out(f, IER, 0x05);
    out(f, LCR, 0x83);
    out(f, BASE, 0x34);
    out(f, BASE + 1, 0x12);
    g_assert_cmphex(in(f, BASE), ==, 0x34);
    g_assert_cmphex(in(f, BASE + 1), ==, 0x12);
    out(f, LCR, 0x03);
    g_assert_cmphex(in(f, IER), ==, 0x05);
    g_assert_cmpuint(char_memory_output(f->chr)->len, ==, 0);
}

/* Linux tells a 16550A from its elders by IIR bits 6 and 7. */
static void test_fifo_identity(Fixture *f, gconstpointer unused)
{
    out(f, FCR, 0x01);
    g_assert_cmphex(in(f, IIR), ==, 0xc1);
    out(f, FCR, 0x00);
    g_assert_cmphex(in(f, IIR), ==, 0x01);
}

/* THRE: on enabling, on emptying; cleared by reading the IIR or writing the THR. */
static void test_transmit_interrupt(Fixture *f, gconstpointer unused)
{
    out(f, IER, 0x02);
    g_assert_true(irq(f));
    g_assert_cmphex(in(f, IIR), ==, 0x02);
    g_assert_false(irq(f));
    g_assert_cmphex(in(f, IIR), ==, 0x01);
    out(f, THR, 'x');
    g_assert_true(irq(f));
    g_assert_cmphex(in(f, LSR), ==, 0x60);
    g_assert_true(irq(f)); /* the LSR does not clear it */
    g_assert_cmphex(in(f, IIR), ==, 0x02);
    g_assert_false(irq(f));
    out(f, IER, 0x00);
    out(f, IER, 0x02);
    g_assert_true(irq(f)); /* enabling with an empty THR asks again */
    g_assert_cmpmem(char_memory_output(f->chr)->data, char_memory_output(f->chr)->len, "x", 1);
}

static void test_transmit_back_pressure(Fixture *f, gconstpointer unused)
{
    out(f, FCR, 0x01);
    out(f, IER, 0x02);
    in(f, IIR);
    char_memory_set_room(f->chr, 3);
    for (unsigned i = 0; i < 19; i++)
        out(f, THR, 'a' + i);
    g_assert_cmphex(in(f, LSR), ==, 0x00);
    g_assert_false(irq(f));
    test_state_round_trip(&f->uart->device);
    char_memory_set_room(f->chr, 5);
    g_assert_cmphex(in(f, LSR), ==, 0x00);
    char_memory_set_room(f->chr, SIZE_MAX);
    g_assert_cmphex(in(f, LSR), ==, 0x60);
    g_assert_true(irq(f));
    GByteArray *output = char_memory_output(f->chr);
    g_assert_cmpmem(output->data, output->len, "abcdefghijklmnopqrs", 19);
    char_memory_set_room(f->chr, 0);
    for (unsigned i = 0; i < 5; i++)
        out(f, THR, '!');
    out(f, FCR, 0x05); /* clears the transmit FIFO */
    g_assert_cmphex(in(f, LSR), ==, 0x60);
    char_memory_set_room(f->chr, SIZE_MAX);
    g_assert_cmpuint(output->len, ==, 19);
}

/* A handler that writes as long as it is asked must come to an end, and be called again. */
static void test_long_output(Fixture *f, gconstpointer unused)
{
    unsigned sent = 0, visits = 0;
    out(f, FCR, 0x01);
    out(f, IER, 0x02);
    while (sent < 100000) {
        g_assert_true(irq(f));
        unsigned passes = 0;
        while ((in(f, IIR) & 0x0f) == 0x02) {
            for (unsigned i = 0; i < 16; i++)
                out(f, THR, sent++);
            g_assert_cmpuint(++passes, <, 256);
        }
        g_assert_false(irq(f));
        visits++;
        clock_advance(f->board->board.clock, NS_PER_MS);
    }
    g_assert_cmpuint(visits, >, 10);
    g_assert_cmpuint(char_memory_output(f->chr)->len, ==, sent);
}

static void test_receive(Fixture *f, gconstpointer unused)
{
    out(f, IER, 0x01);
    feed(f, "ab");
    g_assert_true(irq(f));
    g_assert_cmphex(in(f, IIR), ==, 0x04);
    g_assert_cmphex(in(f, LSR), ==, 0x61);
    g_assert_cmphex(in(f, RBR), ==, 'a');
    g_assert_cmphex(in(f, RBR), ==, 'b'); /* waited in the backend */
    g_assert_false(irq(f));
    g_assert_cmphex(in(f, LSR), ==, 0x60);
}

static void test_trigger_levels(Fixture *f, gconstpointer unused)
{
    static const struct {
        uint8_t fcr;
        unsigned level;
    } rows[] = {{0x01, 1}, {0x41, 4}, {0x81, 8}, {0xc1, 14}};
    out(f, IER, 0x01);
    for (unsigned row = 0; row < G_N_ELEMENTS(rows); row++) {
        out(f, FCR, rows[row].fcr | 0x02);
        for (unsigned i = 1; i < rows[row].level; i++) {
            feed(f, "-");
            g_assert_false(irq(f));
        }
        feed(f, "+");
        g_assert_true(irq(f));
        g_assert_cmphex(in(f, IIR), ==, 0xc4);
        in(f, RBR); /* below the level again: the interrupt goes */
        g_assert_false(irq(f));
    }
}

/* Bytes below the trigger are reported after four character times (here 4 × 10 bits at 9600). */
static void test_receive_timeout(Fixture *f, gconstpointer unused)
{
    out(f, FCR, 0xc1);
    out(f, IER, 0x01);
    feed(f, "ab");
    clock_advance(f->board->board.clock, 4 * NS_PER_MS);
    g_assert_false(irq(f));
    clock_advance(f->board->board.clock, 200 * NS_PER_US);
    g_assert_true(irq(f));
    g_assert_cmphex(in(f, IIR), ==, 0xcc);
    g_assert_cmphex(in(f, IIR), ==, 0xcc); /* only reading the FIFO clears it */
    test_state_round_trip(&f->uart->device);
    g_assert_cmphex(in(f, RBR), ==, 'a');
    g_assert_false(irq(f));
    clock_advance(f->board->board.clock, 5 * NS_PER_MS);
    g_assert_cmphex(in(f, IIR), ==, 0xcc);
    g_assert_cmphex(in(f, RBR), ==, 'b');
    clock_advance(f->board->board.clock, 50 * NS_PER_MS);
    g_assert_cmphex(in(f, IIR), ==, 0xc1);
}

static void test_fifo_flow(Fixture *f, gconstpointer unused)
{
    out(f, FCR, 0x01);
    feed(f, "0123456789abcdefghijklmnopqrstuvwxyz");
    for (const char *c = "0123456789abcdefghijklmnopqrstuvwxyz"; *c; c++) {
        g_assert_cmphex(in(f, LSR), ==, 0x61);
        g_assert_cmphex(in(f, RBR), ==, *c);
    }
    g_assert_cmphex(in(f, LSR), ==, 0x60);
}

static void test_loop(Fixture *f, gconstpointer unused)
{
    in(f, MSR);
    out(f, MCR, 0x10);
    g_assert_cmphex(in(f, MSR) & 0xf0, ==, 0x00);
    out(f, MCR, 0x1a); /* RTS and OUT2 come back as CTS and DCD */
    g_assert_cmphex(in(f, MSR), ==, 0x99);
    g_assert_cmphex(in(f, MSR), ==, 0x90);
    out(f, MCR, 0x15); /* DTR and OUT1 as DSR and RI; RI's beginning is no event */
    g_assert_cmphex(in(f, MSR), ==, 0x6b);
    out(f, MCR, 0x11);
    g_assert_cmphex(in(f, MSR), ==, 0x24); /* its end is */
    out(f, THR, 0x42);
    g_assert_cmphex(in(f, LSR), ==, 0x61);
    out(f, THR, 0x43); /* without FIFO the newer byte wins */
    g_assert_cmphex(in(f, LSR), ==, 0x63);
    g_assert_cmphex(in(f, LSR), ==, 0x61);
    g_assert_cmphex(in(f, RBR), ==, 0x43);
    g_assert_cmpuint(char_memory_output(f->chr)->len, ==, 0);
    feed(f, "z"); /* the line is cut off */
    g_assert_cmphex(in(f, LSR), ==, 0x60);
    out(f, MCR, 0x00);
    g_assert_cmphex(in(f, RBR), ==, 'z');
    g_assert_cmphex(in(f, MSR) & 0xf0, ==, 0xb0);
}

static void test_overrun_keeps_fifo(Fixture *f, gconstpointer unused)
{
    out(f, FCR, 0x01);
    out(f, MCR, 0x10);
    for (unsigned i = 0; i < 17; i++)
        out(f, THR, i);
    g_assert_cmphex(in(f, LSR), ==, 0x63);
    for (unsigned i = 0; i < 16; i++)
        g_assert_cmphex(in(f, RBR), ==, i);
    g_assert_cmphex(in(f, LSR), ==, 0x60);
}

static void test_break(Fixture *f, gconstpointer unused)
{
    out(f, FCR, 0x01);
    out(f, IER, 0x05);
    feed(f, "a");
    uart16550_receive_break(f->uart);
    g_assert_cmphex(in(f, LSR), ==, 0xe1); /* in the FIFO, but not its next byte */
    g_assert_cmphex(in(f, IIR), ==, 0xc4);
    g_assert_cmphex(in(f, RBR), ==, 'a');
    g_assert_cmphex(in(f, IIR), ==, 0xc6);
    test_state_round_trip(&f->uart->device);
    g_assert_cmphex(in(f, LSR), ==, 0xf1);
    g_assert_cmphex(in(f, LSR), ==, 0x61);
    g_assert_cmphex(in(f, IIR), ==, 0xc4);
    g_assert_cmphex(in(f, RBR), ==, 0);
    g_assert_cmphex(in(f, IIR), ==, 0xc1);
}

/* Table 4: line status, received data, transmitter, modem. */
static void test_priorities(Fixture *f, gconstpointer unused)
{
    in(f, MSR);
    out(f, IER, 0x0f);
    in(f, IIR);
    out(f, MCR, 0x10); /* modem deltas */
    out(f, THR, 1);
    out(f, THR, 2); /* overrun */
    g_assert_cmphex(in(f, IIR), ==, 0x06);
    in(f, LSR);
    g_assert_cmphex(in(f, IIR), ==, 0x04);
    in(f, RBR);
    g_assert_cmphex(in(f, IIR), ==, 0x02);
    g_assert_cmphex(in(f, IIR), ==, 0x00);
    g_assert_true(irq(f));
    in(f, MSR);
    g_assert_cmphex(in(f, IIR), ==, 0x01);
    g_assert_false(irq(f));
}

static void test_bad_state(Fixture *f, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) state = NULL;
    f->uart->rx.count = 17;
    state = g_variant_ref_sink(device_save(&f->uart->device));
    f->uart->rx.count = 0;
    g_assert_false(device_load(&f->uart->device, state, &error));
    g_assert_nonnull(error);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void test_storm(void)
{
    uint8_t data[12 * 400];
    for (unsigned round = 0; round < 20; round++) {
        for (unsigned i = 0; i < sizeof(data); i++)
            data[i] = g_test_rand_int();
        LLVMFuzzerTestOneInput(data, sizeof(data));
    }
}

#define ADD(name) g_test_add("/uart/" #name, Fixture, NULL, set_up, test_##name, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD(reset);
    ADD(divisor_latch);
    ADD(fifo_identity);
    ADD(transmit_interrupt);
    ADD(transmit_back_pressure);
    ADD(long_output);
    ADD(receive);
    ADD(trigger_levels);
    ADD(receive_timeout);
    ADD(fifo_flow);
    ADD(loop);
    ADD(overrun_keeps_fifo);
    ADD(break);
    ADD(priorities);
    ADD(bad_state);
    g_test_add_func("/uart/storm", test_storm);
    return g_test_run();
}
