/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Register storm on the 8259A pair. */
#include "device/chipset/pic.h"
#include "device/fuzz.h"
#include "device/test_board.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(TestBoard) b = test_board_new();
    Pic *d = device_new(&pic_type, &b->board, "fuzz");
    d->intr = test_board_irq(b, 0);
    device_create(&d->device, NULL);
    device_reset(&d->device);
    space_map(b->board.ports, 0, &d->io[0], 0, 2, SPACE_PRIORITY_BOARD, false);
    space_map(b->board.ports, 2, &d->io[1], 0, 2, SPACE_PRIORITY_BOARD, false);
    space_map(b->board.ports, 4, &d->elcr, 0, 2, SPACE_PRIORITY_BOARD, false);
    for (; size >= 16; data += 16, size -= 16) {
        irq_set(pic_irq(d, data[0] & 15), data[0] & 16);
        if (data[0] & 32)
            pic_acknowledge(d);
        test_register_storm(b, b->board.ports, 0, 6, data + 4, 12);
    }
    device_free(&d->device);
    return 0;
}
