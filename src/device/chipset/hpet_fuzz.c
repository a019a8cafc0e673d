/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Register storm on the HPET. */
#include "base/bits.h"
#include "device/chipset/hpet.h"
#include "device/fuzz.h"
#include "device/test_board.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(TestBoard) b = test_board_new();
    Hpet *d = device_new(&hpet_type, &b->board, "fuzz");
    for (unsigned n = 0; n < 32; n++)
        d->irq[n] = test_board_irq(b, n);
    device_create(&d->device, NULL);
    device_reset(&d->device);
    space_map(b->board.memory, MIB(32), &d->io, 0, 0x400, SPACE_PRIORITY_BOARD, false);
    test_register_storm(b, b->board.memory, MIB(32), 0x180, data, size);
    device_free(&d->device);
    return 0;
}
