/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Port 92, coprocessor error, debug console and debug exit. */
#include "device/chipset/debug_port.h"
#include "device/chipset/fpu_error.h"
#include "device/chipset/isa_debug_exit.h"
#include "device/chipset/port92.h"
#include "device/test_board.h"

/* In place of the character backends: what the debug console wrote. */
static GString *console;

size_t char_write(CharBackend *backend, const uint8_t *data, size_t size)
{
    g_string_append_len(console, (const char *)data, size);
    return size;
}

static void test_port92(void)
{
    g_autoptr(TestBoard) b = test_board_new();
    Port92 *port = device_new(&port92_type, &b->board, "port92");
    g_assert_true(device_create(&port->device, NULL));
    device_reset(&port->device);
    space_map(b->board.ports, 0x92, &port->io, 0, 1, SPACE_PRIORITY_BOARD, false);
    g_assert_true(b->a20);
    test_out(b, 0x92, 1, 0);
    g_assert_false(b->a20);
    test_out(b, 0x92, 1, 2);
    g_assert_true(b->a20);
    g_assert_cmpint(b->last_request, ==, -1);
    port92_a20_changed(port, false);
    g_assert_cmphex(test_in(b, 0x92, 1), ==, 0);
    test_state_round_trip(&port->device);
    test_out(b, 0x92, 1, 3);
    g_assert_cmpint(b->last_request, ==, BOARD_RESET);
    device_free(&port->device);
}

static void test_fpu_error(void)
{
    g_autoptr(TestBoard) b = test_board_new();
    FpuError *port = device_new(&fpu_error_type, &b->board, "fpu-error");
    port->irq = test_board_irq(b, 13);
    g_assert_true(device_create(&port->device, NULL));
    device_reset(&port->device);
    space_map(b->board.ports, 0xf0, &port->io, 0, 2, SPACE_PRIORITY_BOARD, false);
    test_out(b, 0xf0, 1, 0);
    g_assert_true(fpu_error_changed(port, true)); /* a write before the error ignores nothing */
    g_assert_true(b->irq_level[13]);
    test_state_round_trip(&port->device);
    test_out(b, 0xf0, 1, 0);
    g_assert_false(b->irq_level[13]);
    g_assert_false(fpu_error_changed(port, true));
    g_assert_false(b->irq_level[13]);
    g_assert_false(fpu_error_changed(port, false));
    g_assert_true(fpu_error_changed(port, true));
    g_assert_true(b->irq_level[13]);
    device_free(&port->device);
}

static void test_debug_exit(void)
{
    g_autoptr(TestBoard) b = test_board_new();
    g_autoptr(GError) error = NULL;
    IsaDebugExit *port = device_new(&isa_debug_exit_type, &b->board, "exit");
    g_assert_false(device_set(&port->device, "size", "5", NULL));
    g_assert_true(device_set(&port->device, "size", "2", NULL));
    g_assert_true(device_create(&port->device, NULL));
    g_assert_cmphex(port->port, ==, 0xf4);
    space_map(b->board.ports, port->port, &port->io, 0, port->io.size, SPACE_PRIORITY_BOARD, false);
    test_out(b, 0xf4, 1, 0x10);
    g_assert_cmpint(b->last_request, ==, BOARD_EXIT);
    g_assert_cmpint(b->last_request_value, ==, 0x21);
    test_out(b, 0xf4, 2, 0x1234);
    g_assert_cmpint(b->last_request_value, ==, 0x2469);
    device_free(&port->device);

    port = device_new(&isa_debug_exit_type, &b->board, "exit");
    g_assert_true(device_set(&port->device, "port", "0xfffd", NULL));
    g_assert_false(device_create(&port->device, &error));
    g_assert_nonnull(error);
    device_free(&port->device);
}

static void test_debug_port(void)
{
    g_autoptr(TestBoard) b = test_board_new();
    DebugPort *port = device_new(&debug_port_type, &b->board, "debug");
    g_assert_true(device_create(&port->device, NULL));
    space_map(b->board.ports, 0x402, &port->io, 0, 1, SPACE_PRIORITY_BOARD, false);
    g_assert_cmphex(test_in(b, 0x402, 1), ==, 0xe9);
    console = g_string_new(NULL);
    test_out(b, 0x402, 1, 'o');
    test_out(b, 0x402, 1, 'k');
    g_assert_cmpstr(console->str, ==, "ok");
    g_string_free(console, TRUE);
    device_free(&port->device);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/chipset/port92", test_port92);
    g_test_add_func("/chipset/fpu-error", test_fpu_error);
    g_test_add_func("/chipset/isa-debug-exit", test_debug_exit);
    g_test_add_func("/chipset/debug-port", test_debug_port);
    return g_test_run();
}
