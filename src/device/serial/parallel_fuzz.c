/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Register storms on the parallel port, whose printer is sometimes busy. */
#include "device/serial/parallel.h"
#include "device/test_board.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(TestBoard) board = test_board_new();
    g_autoptr(CharBackend) chr = char_memory_new(&board->lock);
    Parallel *parallel = device_new(&parallel_type, &board->board, "lpt1");
    parallel->chr = chr;
    parallel->irq = test_board_irq(board, 7);
    g_assert_true(device_create(&parallel->device, NULL));
    space_map(board->board.ports, 0x378, &parallel->io, 0, 3, SPACE_PRIORITY_BOARD, false);
    device_reset(&parallel->device);
    for (; size >= 48; data += 48, size -= 48) {
        char_memory_set_room(chr, data[0] & 3);
        test_register_storm(board, board->board.ports, 0x378, 3, data, 48);
    }
    test_state_round_trip(&parallel->device);
    device_free(&parallel->device);
    return 0;
}
