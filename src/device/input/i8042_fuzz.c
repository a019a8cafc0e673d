/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Register storm on the keyboard controller, with keys and motion in between. */
#include "base/bits.h"
#include "device/fuzz.h"
#include "device/input/i8042.h"
#include "device/test_board.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(TestBoard) b = test_board_new();
    I8042 *d = device_new(&i8042_type, &b->board, "fuzz");
    device_create(&d->device, NULL);
    device_reset(&d->device);
    space_map(b->board.ports, 0, &d->data, 0, 1, SPACE_PRIORITY_BOARD, false);
    space_map(b->board.ports, 1, &d->control, 0, 1, SPACE_PRIORITY_BOARD, false);
    for (; size >= 16; data += 16, size -= 16) {
        if (data[0] & 1)
            ps2_keyboard_key(&d->keyboard, load_le16(data + 1) & 0x1ff, data[0] & 2);
        if (data[0] & 4)
            ps2_mouse_move(&d->mouse, (int)load_le32(data), (int)load_le32(data + 8),
                           (int8_t)data[3]);
        if (data[0] & 8)
            ps2_mouse_buttons(&d->mouse, data[1]);
        test_register_storm(b, b->board.ports, 0, 2, data + 4, 12);
    }
    device_free(&d->device);
    return 0;
}
