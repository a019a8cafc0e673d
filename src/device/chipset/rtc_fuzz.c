/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Register storm on the real-time clock. */
#include "device/chipset/rtc.h"
#include "device/fuzz.h"
#include "device/test_board.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(TestBoard) b = test_board_new();
    Rtc *d = device_new(&rtc_type, &b->board, "fuzz");
    d->irq = test_board_irq(b, 0);
    device_create(&d->device, NULL);
    device_reset(&d->device);
    space_map(b->board.ports, 0, &d->io, 0, 2, SPACE_PRIORITY_BOARD, false);
    test_register_storm(b, b->board.ports, 0, 2, data, size);
    device_free(&d->device);
    return 0;
}
