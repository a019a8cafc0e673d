/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Register storm on the test device. */
#include "device/fuzz.h"
#include "device/guest/testdev.h"
#include "device/test_board.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(TestBoard) b = test_board_new();
    Testdev *d = device_new(&testdev_type, &b->board, "fuzz");
    for (unsigned n = 0; n < TESTDEV_IRQS; n++)
        d->irq[n] = test_board_irq(b, n);
    device_create(&d->device, NULL);
    device_reset(&d->device);
    space_map(b->board.ports, 0, &d->ports, 0, 8, SPACE_PRIORITY_BOARD, false);
    space_map(b->board.ports, 8, &d->lines, 0, TESTDEV_IRQS, SPACE_PRIORITY_BOARD, false);
    space_map(b->board.ports, 32, &d->memory, 0, 0x1000, SPACE_PRIORITY_BOARD, false);
    test_register_storm(b, b->board.ports, 0, 4096, data, size);
    device_free(&d->device);
    return 0;
}
