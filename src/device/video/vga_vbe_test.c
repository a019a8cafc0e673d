/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The Bochs VBE's modes, the registers' mapping and PCI. */
#include "base/bits.h"
#include "device/video/vga_kit.h"

static void vbe_mode(Fixture *f, unsigned width, unsigned height, unsigned bpp, unsigned flags)
{
    dispi(f, VGA_DISPI_ENABLE, 0);
    dispi(f, VGA_DISPI_XRES, width);
    dispi(f, VGA_DISPI_YRES, height);
    dispi(f, VGA_DISPI_BPP, bpp);
    dispi(f, VGA_DISPI_ENABLE, 0x41 | flags);
    in(f, 0x3da);
    out(f, 0x3c0, 0x20);
}

static void test_vbe_identity(Fixture *f, gconstpointer unused)
{
    g_assert_cmphex(dispi_get(f, VGA_DISPI_ID), ==, 0xb0c5);
    dispi(f, VGA_DISPI_ID, 0xb0c0);
    g_assert_cmphex(dispi_get(f, VGA_DISPI_ID), ==, 0xb0c0);
    dispi(f, VGA_DISPI_ID, 0x1234);
    g_assert_cmphex(dispi_get(f, VGA_DISPI_ID), ==, 0xb0c0);
    g_assert_cmpuint(dispi_get(f, VGA_DISPI_MEMORY_64K), ==, 256);
    dispi(f, VGA_DISPI_ENABLE, 2);
    g_assert_cmpuint(dispi_get(f, VGA_DISPI_XRES), >=, 2560);
    g_assert_cmpuint(dispi_get(f, VGA_DISPI_BPP), ==, 32);
    dispi(f, VGA_DISPI_ENABLE, 0);
    g_assert_cmpuint(dispi_get(f, VGA_DISPI_XRES), ==, 0);
}

typedef struct DepthRow {
    unsigned bpp;
    uint32_t value, color;
} DepthRow;

static void test_vbe_depths(Fixture *f, gconstpointer unused)
{
    static const DepthRow rows[] = {
        {15, 0x7c00, 0xff0000},     {15, 0x03e0, 0x00ff00}, {15, 0x001f, 0x0000ff},
        {15, 0x4210, 0x848484},     {16, 0xf800, 0xff0000}, {16, 0x07e0, 0x00ff00},
        {16, 0x001f, 0x0000ff},     {16, 0x8410, 0x848284}, {24, 0x123456, 0x123456},
        {32, 0xff987654, 0x987654},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        unsigned bytes = (rows[i].bpp + 7) / 8;
        vbe_mode(f, 640, 480, rows[i].bpp, 0);
        for (unsigned b = 0; b < bytes; b++)
            poke(f, LFB + (479 * 640 + 639) * bytes + b, rows[i].value >> (8 * b));
        display_refresh(f->display);
        vga_kit_assert_size(f, 640, 480);
        g_assert_cmphex(vga_kit_pixel(f, 639, 479), ==, rows[i].color);
        g_assert_cmphex(vga_kit_pixel(f, 638, 479), ==, 0);
    }
    space_store(f->board->board.memory, MMIO + 0x604, 4, 0xbebebebe);
    g_assert_cmphex(space_load(f->board->board.memory, MMIO + 0x604, 4), ==, 0xbebebebe);
    display_refresh(f->display);
    g_assert_cmphex(vga_kit_pixel(f, 639, 479), ==, 0x7698ff);
}

static void test_vbe_damage(Fixture *f, gconstpointer unused)
{
    vbe_mode(f, 1024, 768, 32, 0);
    display_refresh(f->display);
    vga_kit_assert_size(f, 1024, 768);
    vga_kit_clear_damage(f);
    display_refresh(f->display);
    g_assert_cmpuint(f->damages, ==, 0);
    for (unsigned y = 100; y < 110; y++)
        for (unsigned x = 200; x < 230; x++)
            space_store(f->board->board.memory, LFB + (y * 1024 + x) * 4, 4, 0x00c0ffee);
    ram_written(f->vga->vram, 0, f->vga->vram_size); /* no engine here that would notice */
    display_refresh(f->display);
    g_assert_cmpuint(f->damages, ==, 1);
    g_assert_cmpuint(f->damage.x, ==, 200);
    g_assert_cmpuint(f->damage.y, ==, 100);
    g_assert_cmpuint(f->damage.right, ==, 230);
    g_assert_cmpuint(f->damage.bottom, ==, 110);
    g_assert_cmphex(vga_kit_pixel(f, 229, 109), ==, 0xc0ffee);
}

static void test_vbe_pan(Fixture *f, gconstpointer unused)
{
    vbe_mode(f, 640, 480, 8, 0);
    vga_kit_fill_dac(f);
    dispi(f, VGA_DISPI_VIRT_WIDTH, 1000);
    g_assert_cmpuint(dispi_get(f, VGA_DISPI_VIRT_HEIGHT), ==, 16777216 / 1000);
    dispi(f, VGA_DISPI_X_OFFSET, 17);
    dispi(f, VGA_DISPI_Y_OFFSET, 33);
    for (unsigned y = 0; y < 600; y++)
        for (unsigned x = 0; x < 1000; x += 50)
            poke(f, LFB + y * 1000 + x, x / 50 + y);
    display_refresh(f->display);
    g_assert_cmphex(vga_kit_pixel(f, 50 - 17, 0), ==, vga_kit_color(1 + 33));
    g_assert_cmphex(vga_kit_pixel(f, 100 - 17, 400), ==, vga_kit_color((2 + 433) & 0xff));
    dispi(f, VGA_DISPI_Y_OFFSET, 0xffff); /* beyond the end it wraps */
    dispi(f, VGA_DISPI_X_OFFSET, 0xffff);
    display_refresh(f->display);
}

static void test_vbe_dac(Fixture *f, gconstpointer unused)
{
    vbe_mode(f, 640, 480, 8, 0x20);
    out(f, 0x3c8, 1);
    out(f, 0x3c9, 0x81), out(f, 0x3c9, 0x42), out(f, 0x3c9, 0xff);
    poke(f, LFB, 1);
    display_refresh(f->display);
    g_assert_cmphex(vga_kit_pixel(f, 0, 0), ==, 0x8142ff);
    out(f, 0x3c7, 1);
    g_assert_cmphex(in(f, 0x3c9), ==, 0x81);
}

static void test_vbe_bank_and_clear(Fixture *f, gconstpointer unused)
{
    vbe_mode(f, 1024, 768, 8, 0);
    dispi(f, VGA_DISPI_BANK, 5);
    poke(f, 0xa0000 + 0x1234, 0x77);
    g_assert_cmphex(peek(f, LFB + 5 * 65536 + 0x1234), ==, 0x77);
    g_assert_cmphex(peek(f, 0xb0000), ==, 0xff);
    vbe_mode(f, 1024, 768, 8, 0x80);
    g_assert_cmphex(peek(f, LFB + 5 * 65536 + 0x1234), ==, 0x77);
    vbe_mode(f, 1024, 768, 8, 0);
    g_assert_cmphex(peek(f, LFB + 5 * 65536 + 0x1234), ==, 0);
    dispi(f, VGA_DISPI_BANK, 0xffff);
    g_assert_cmpuint(dispi_get(f, VGA_DISPI_BANK), ==, 255);
}

static void test_vbe_planar(Fixture *f, gconstpointer unused)
{
    vga_kit_set_mode(f, &vga_mode_12);
    vbe_mode(f, 800, 600, 4, 0);
    seq(f, 2, 0x05);
    poke(f, 0xa0000 + 599 * 100 + 99, 0x01);
    display_refresh(f->display);
    vga_kit_assert_size(f, 800, 600);
    g_assert_cmphex(vga_kit_pixel(f, 799, 599), ==, vga_kit_color(vga_mode_12.attr[5]));
    g_assert_cmphex(vga_kit_pixel(f, 798, 599), ==, vga_kit_color(vga_mode_12.attr[0]));
}

static void test_vbe_hostile(Fixture *f, gconstpointer unused)
{
    vbe_mode(f, 0xffff, 0xffff, 32, 0);
    g_assert_cmpuint(dispi_get(f, VGA_DISPI_XRES), ==, 8192);
    g_assert_cmpuint(dispi_get(f, VGA_DISPI_YRES), ==, 512);
    display_refresh(f->display);
    vga_kit_assert_size(f, 8192, 512);
    vbe_mode(f, 0, 0, 99, 0);
    display_refresh(f->display);
    vga_kit_assert_size(f, 8, 1);
}

static void test_mmio(Fixture *f, gconstpointer unused)
{
    AddressSpace *memory = f->board->board.memory;
    space_store(memory, MMIO + 0x502, 2, 800);
    space_store(memory, MMIO + 0x504, 2, 600);
    space_store(memory, MMIO + 0x506, 2, 32);
    space_store(memory, MMIO + 0x508, 2, 0x41);
    space_store(memory, MMIO + 0x400, 1, 0x20);
    display_refresh(f->display);
    vga_kit_assert_size(f, 800, 600);
    g_assert_cmphex(space_load(memory, MMIO + 0x500, 2), ==, 0xb0c5);
    g_assert_cmphex(space_load(memory, MMIO + 0x600, 4), ==, 8);
    g_assert_cmphex(space_load(memory, MMIO + 0x604, 4), ==, 0x1e1e1e1e);
    uint8_t sum = 0;
    for (unsigned i = 0; i < 128; i++)
        sum += peek(f, MMIO + i);
    g_assert_cmpuint(sum, ==, 0);
    g_assert_cmphex(space_load(memory, MMIO, 8), ==, UINT64_C(0x00ffffffffffff00));
}

/* What firmware and drivers look for: IDs, class, revision, BAR sizes, the BIOS as expansion ROM.
 */
static void test_pci(Fixture *f, gconstpointer unused)
{
    PciDevice *pci = &f->vga->pci;
    g_assert_cmphex(pci_config_read(pci, PCI_VENDOR_ID, 4), ==, 0x11111234);
    g_assert_cmphex(pci_config_read(pci, PCI_REVISION, 4), ==, 0x03000002);
    pci_config_write(pci, PCI_BAR0, 4, 0xffffffff);
    g_assert_cmphex(pci_config_read(pci, PCI_BAR0, 4), ==, 0xff000008);
    pci_config_write(pci, PCI_BAR0 + 8, 4, 0xffffffff);
    g_assert_cmphex(pci_config_read(pci, PCI_BAR0 + 8, 4), ==, 0xfffff000);
    if (!f->vga->rom_path)
        return;
    pci_config_write(pci, PCI_ROM_ADDRESS, 4, 0xfea00001);
    g_assert_cmphex(space_load(f->board->board.memory, 0xfea00000, 2), ==, 0xaa55);
}

static void test_state(Fixture *f, gconstpointer unused)
{
    vga_kit_set_mode(f, &vga_mode_13);
    test_state_round_trip(&f->vga->pci.device);
    g_assert_true(space_lookup(f->board->board.memory, 0xa0000).region->kind == REGION_RAM);
    vbe_mode(f, 800, 600, 24, 0x20);
    dispi(f, VGA_DISPI_BANK, 3);
    test_state_round_trip(&f->vga->pci.device);
    g_autoptr(GError) error = NULL;
    f->vga->dispi[VGA_DISPI_YRES] = 0xffff;
    g_autoptr(GVariant) state = g_variant_ref_sink(device_save(&f->vga->pci.device));
    f->vga->dispi[VGA_DISPI_YRES] = 600;
    g_assert_false(device_load(&f->vga->pci.device, state, &error));
    g_assert_nonnull(error);
}

void vga_vbe_tests(void)
{
    VGA_KIT_ADD(vbe_identity);
    VGA_KIT_ADD(vbe_depths);
    VGA_KIT_ADD(vbe_damage);
    VGA_KIT_ADD(vbe_pan);
    VGA_KIT_ADD(vbe_dac);
    VGA_KIT_ADD(vbe_bank_and_clear);
    VGA_KIT_ADD(vbe_planar);
    VGA_KIT_ADD(vbe_hostile);
    VGA_KIT_ADD(mmio);
    VGA_KIT_ADD(pci);
    VGA_KIT_ADD(state);
}
