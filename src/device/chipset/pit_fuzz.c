/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Register storm on the 8254. */
#include "device/chipset/pit.h"
#include "device/fuzz.h"
#include "device/test_board.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(TestBoard) b = test_board_new();
    Pit *d = device_new(&pit_type, &b->board, "fuzz");
    d->irq = test_board_irq(b, 0);
    device_create(&d->device, NULL);
    device_reset(&d->device);
    space_map(b->board.ports, 0, &d->io, 0, 4, SPACE_PRIORITY_BOARD, false);
    space_map(b->board.ports, 4, &d->port61, 0, 1, SPACE_PRIORITY_BOARD, false);
    test_register_storm(b, b->board.ports, 0, 5, data, size);
    device_free(&d->device);
    return 0;
}
