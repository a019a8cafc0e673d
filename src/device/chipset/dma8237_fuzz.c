/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Register storm on the DMA controllers. */
#include "device/chipset/dma8237.h"
#include "device/fuzz.h"
#include "device/test_board.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(TestBoard) b = test_board_new();
    Dma *d = device_new(&dma_type, &b->board, "fuzz");

    device_create(&d->device, NULL);
    device_reset(&d->device);
    space_map(b->board.ports, 0, &d->io[0], 0, 16, SPACE_PRIORITY_BOARD, false);
    space_map(b->board.ports, 16, &d->io[1], 0, 32, SPACE_PRIORITY_BOARD, false);
    space_map(b->board.ports, 48, &d->pages, 0, 16, SPACE_PRIORITY_BOARD, false);
    for (; size >= 16; data += 16, size -= 16) {
        uint8_t buffer[64] = {0};
        bool tc;
        if (data[0] & 1)
            dma_transfer_write(d, data[1] & 7, buffer, data[2] & 63, &tc);
        else
            dma_transfer_read(d, data[1] & 7, buffer, data[2] & 63, &tc);
        test_register_storm(b, b->board.ports, 0, 64, data + 4, 12);
    }
    device_free(&d->device);
    return 0;
}
