/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Register storms on the UART, with input arriving and a backend that takes a few bytes at a time.
 */
#include "device/serial/uart16550.h"
#include "device/test_board.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(TestBoard) board = test_board_new();
    g_autoptr(CharBackend) chr = char_memory_new(&board->lock);
    Uart16550 *uart = device_new(&uart16550_type, &board->board, "com1");
    uart->chr = chr;
    uart->irq = test_board_irq(board, 4);
    g_assert_true(device_create(&uart->device, NULL));
    space_map(board->board.ports, 0x3f8, &uart->io, 0, 8, SPACE_PRIORITY_BOARD, false);
    device_reset(&uart->device);
    for (; size >= 96; data += 96, size -= 96) {
        char_memory_set_room(chr, data[0] & 0x1f);
        char_memory_feed(chr, data, data[1] & 0x1f);
        if (data[2] & 1)
            uart16550_receive_break(uart);
        test_register_storm(board, board->board.ports, 0x3f8, 8, data, 96);
    }
    test_register_storm(board, board->board.ports, 0x3f8, 8, data, size);
    test_state_round_trip(&uart->device);
    device_free(&uart->device);
    return 0;
}
