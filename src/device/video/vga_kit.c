/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See vga_kit.h. */
#include "device/video/vga_kit.h"

static void on_resized(void *obj, const Surface *surface)
{
    ((Fixture *)obj)->resizes++;
}

static void on_damaged(void *obj, const Surface *surface, unsigned x, unsigned y, unsigned w,
                       unsigned h)
{
    Fixture *f = obj;
    g_assert_cmpuint(x + w, <=, surface->width);
    g_assert_cmpuint(y + h, <=, surface->height);
    f->damage = (Box){MIN(f->damage.x, x), MIN(f->damage.y, y), MAX(f->damage.right, x + w),
                      MAX(f->damage.bottom, y + h)};
    f->damages++;
}

static const DisplayListener listener = {
    .name = "test", .resized = on_resized, .damaged = on_damaged};

void vga_kit_clear_damage(Fixture *f)
{
    f->damage = (Box){UINT_MAX, UINT_MAX, 0, 0};
    f->damages = 0;
}

void vga_kit_set_up(Fixture *f, gconstpointer unused)
{
    f->board = test_board_new();
    f->display = display_new(NULL, &f->board->lock);
    f->vga = device_new(&vga_type, &f->board->board, "vga");
    f->vga->display = f->display;
    if (g_file_test(VGA_BIOS, G_FILE_TEST_EXISTS))
        g_assert_true(device_set(&f->vga->pci.device, "rom", VGA_BIOS, NULL));
    g_assert_true(device_create(&f->vga->pci.device, NULL));
    f->bus = pci_bus_new(&f->board->board, NULL, NULL);
    g_assert_true(pci_bus_add(f->bus, &f->vga->pci, -1, NULL));
    device_reset(&f->vga->pci.device);
    pci_config_write(&f->vga->pci, PCI_BAR0, 4, LFB);
    pci_config_write(&f->vga->pci, PCI_BAR0 + 8, 4, MMIO);
    pci_config_write(&f->vga->pci, PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MEMORY);
    display_add_listener(f->display, &listener, f);
    vga_kit_clear_damage(f);
}

void vga_kit_tear_down(Fixture *f, gconstpointer unused)
{
    display_remove_listener(f->display, &listener, f);
    pci_bus_free(f->bus);
    device_free(&f->vga->pci.device);
    display_free(f->display);
    test_board_free(f->board);
}

uint32_t vga_kit_pixel(Fixture *f, unsigned x, unsigned y)
{
    const Surface *s = display_surface(f->display);
    g_assert_cmpuint(x, <, s->width);
    g_assert_cmpuint(y, <, s->height);
    return s->pixels[y * s->stride + x];
}

void vga_kit_assert_size(Fixture *f, unsigned width, unsigned height)
{
    const Surface *s = display_surface(f->display);
    g_assert_cmpuint(s->width, ==, width);
    g_assert_cmpuint(s->height, ==, height);
}

const ModeTable vga_mode_04 = {
    0x63,
    {0x03, 0x09, 0x03, 0x00, 0x02},
    {0x2d, 0x27, 0x28, 0x90, 0x2b, 0x80, 0xbf, 0x1f, 0x00, 0xc1, 0x00, 0x00, 0x00,
     0x00, 0x00, 0x00, 0x9c, 0x8e, 0x8f, 0x14, 0x00, 0x96, 0xb9, 0xa2, 0xff},
    {0x00, 0x00, 0x00, 0x00, 0x00, 0x30, 0x0f, 0x0f, 0xff},
    {0x00, 0x13, 0x15, 0x17, 0x02, 0x04, 0x06, 0x07, 0x10, 0x11, 0x12,
     0x13, 0x14, 0x15, 0x16, 0x17, 0x01, 0x00, 0x03, 0x00, 0x00},
};
const ModeTable vga_mode_12 = {
    0xe3,
    {0x03, 0x01, 0x0f, 0x00, 0x06},
    {0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0x0b, 0x3e, 0x00, 0x40, 0x00, 0x00, 0x00,
     0x00, 0x00, 0x00, 0xea, 0x8c, 0xdf, 0x28, 0x00, 0xe7, 0x04, 0xe3, 0xff},
    {0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x05, 0x0f, 0xff},
    {0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x14, 0x07, 0x38, 0x39, 0x3a,
     0x3b, 0x3c, 0x3d, 0x3e, 0x3f, 0x01, 0x00, 0x0f, 0x00, 0x00},
};
const ModeTable vga_mode_13 = {
    0x63,
    {0x03, 0x01, 0x0f, 0x00, 0x0e},
    {0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0xbf, 0x1f, 0x00, 0x41, 0x00, 0x00, 0x00,
     0x00, 0x00, 0x00, 0x9c, 0x8e, 0x8f, 0x28, 0x40, 0x96, 0xb9, 0xa3, 0xff},
    {0x00, 0x00, 0x00, 0x00, 0x00, 0x40, 0x05, 0x0f, 0xff},
    {0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a,
     0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 0x41, 0x00, 0x0f, 0x00, 0x00},
};

uint32_t vga_kit_color(unsigned n)
{
    uint32_t r = n & 0x3f, g = (n >> 2 & 0x3f) ^ 0x15, b = (n * 5 + 9) & 0x3f;
    return (r << 2 | r >> 4) << 16 | (g << 2 | g >> 4) << 8 | (b << 2 | b >> 4);
}

void vga_kit_fill_dac(Fixture *f)
{
    out(f, 0x3c8, 0);
    for (unsigned n = 0; n < 256; n++) {
        out(f, 0x3c9, n & 0x3f);
        out(f, 0x3c9, (n >> 2 & 0x3f) ^ 0x15);
        out(f, 0x3c9, (n * 5 + 9) & 0x3f);
    }
}

void vga_kit_set_mode(Fixture *f, const ModeTable *mode)
{
    out(f, 0x3c2, mode->misc);
    for (unsigned i = 0; i < 5; i++)
        seq(f, i, mode->seq[i]);
    crtc(f, 0x11, mode->crtc[0x11] & 0x7f);
    for (unsigned i = 0; i < 25; i++)
        crtc(f, i, mode->crtc[i]);
    for (unsigned i = 0; i < 9; i++)
        gfx(f, i, mode->gfx[i]);
    for (unsigned i = 0; i < 21; i++)
        attr(f, i, mode->attr[i]);
    vga_kit_fill_dac(f);
}
