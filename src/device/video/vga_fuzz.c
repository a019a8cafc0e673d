/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Register storms on the VGA's ports, windows and BARs, with the screen drawn in between. */
#include "device/test_board.h"
#include "device/video/vga.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MMIO_BASE UINT64_C(0xfebf0000)
#define LFB_BASE  UINT64_C(0xfd000000)

static const struct {
    bool memory;
    uint64_t base, span;
} targets[] = {
    {false, 0x3b0, 0x30},      {false, 0x3c0, 0x20},      {false, 0x1ce, 4},
    {true, 0xa0000, 0x10000},  {true, 0xb0000, 0x10000},  {true, MMIO_BASE + 0x400, 0x220},
    {true, MMIO_BASE, 0x1000}, {true, LFB_BASE, 0x10000},
};

static void draw(Display *display)
{
    g_autofree char *text = NULL;
    display_refresh(display);
    text = display_text(display);
    g_assert_true(!text || g_utf8_validate(text, -1, NULL));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(TestBoard) board = test_board_new();
    g_autoptr(Display) display = display_new(NULL, &board->lock);
    Vga *vga = device_new(&vga_type, &board->board, "vga");
    vga->display = display;
    g_assert_true(device_set(&vga->pci.device, "vram-size", "1048576", NULL));
    g_assert_true(device_create(&vga->pci.device, NULL));
    space_map(board->board.memory, MMIO_BASE, &vga->mmio, 0, 0x1000, SPACE_PRIORITY_PCI, false);
    space_map(board->board.memory, LFB_BASE, &vga->lfb, 0, vga->lfb.size, SPACE_PRIORITY_PCI,
              false);
    device_reset(&vga->pci.device);
    if (size && data[0] & 1)
        vga_set_text_mode(vga);
    for (; size > 97; data += 97, size -= 97) {
        unsigned target = data[0] % G_N_ELEMENTS(targets);
        test_register_storm(board,
                            targets[target].memory ? board->board.memory : board->board.ports,
                            targets[target].base, targets[target].span, data + 1, 96);
        if (data[0] & 0x80)
            draw(display);
    }
    draw(display);
    test_state_round_trip(&vga->pci.device);
    draw(display);
    device_free(&vga->pci.device);
    return 0;
}
