/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Register storm on the I/O APIC. */
#include "base/bits.h"
#include "device/chipset/ioapic.h"
#include "device/fuzz.h"
#include "device/test_board.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(TestBoard) b = test_board_new();
    IoApic *d = device_new(&ioapic_type, &b->board, "fuzz");
    d->deliver = b->board.send_msi;
    d->deliver_obj = b->board.obj;
    device_create(&d->device, NULL);
    device_reset(&d->device);
    space_map(b->board.memory, MIB(32), &d->io, 0, 0x1000, SPACE_PRIORITY_BOARD, false);
    for (; size >= 16; data += 16, size -= 16) {
        irq_set(ioapic_irq(d, data[0] % IOAPIC_PINS), data[1] & 1);
        if (data[1] & 2)
            ioapic_eoi(d, data[2]);
        test_register_storm(b, b->board.memory, MIB(32), 0x48, data + 4, 12);
    }
    device_free(&d->device);
    return 0;
}
