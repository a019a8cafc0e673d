/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The VGA as a device: options, mappings, reset, state, and mode 3 without a BIOS (see vga.h).
 */
#include "device/video/vga_private.h"

#include "base/bits.h"

#define VRAM_MIN MIB(1)
#define VRAM_MAX MIB(256)
#define ROM_MAX  KIB(256)

/* ---- reset ----------------------------------------------------------------------------------- */

/* Sized like the memory it lives in: QEMU's numbers for the adapter's identity. */
#define VGA_VENDOR   0x1234
#define VGA_DEVICE   0x1111
#define VGA_REVISION 2 /* says that BAR 2 has the block at 0x600 */
#define VGA_CLASS    0x0300

static void clear_registers(Vga *vga)
{
    vga->misc = vga->feature = 0;
    vga->seq_index = vga->gfx_index = vga->crtc_index = vga->attr_index = 0;
    memset(vga->seq, 0, sizeof(vga->seq));
    memset(vga->gfx, 0, sizeof(vga->gfx));
    memset(vga->crtc, 0, sizeof(vga->crtc));
    memset(vga->attr, 0, sizeof(vga->attr));
    memset(vga->dac, 0, sizeof(vga->dac));
    memset(vga->dispi, 0, sizeof(vga->dispi));
    vga->attr_data = vga->dac_reading = vga->big_endian = false;
    vga->latch = 0;
    vga->dac_read_index = vga->dac_write_index = vga->dac_component = 0;
    vga->dac_mask = 0xff;
    vga->dispi_index = 0;
    vga->dispi[VGA_DISPI_ID] = 0xb0c5;
}

/* Colour ports decode from power-on, so that firmware finds the adapter where it looks first. */
static void vga_reset(Device *device)
{
    Vga *vga = (Vga *)device;
    pci_device_reset(&vga->pci);
    clear_registers(vga);
    vga->misc = MISC_COLOR | MISC_RAM;
    vga->redraw = true;
    vga_update_window(vga);
}

/* ---- create, destroy ------------------------------------------------------------------------- */

/* Pieces of the register block: 0x3bc to 0x3bf belong to a parallel port. */
static const struct {
    uint16_t port, count;
} port_pieces[] = {{0x3b4, 2}, {0x3ba, 1}, {0x3c0, 16}, {0x3d4, 2}, {0x3da, 1}};
G_STATIC_ASSERT(G_N_ELEMENTS(port_pieces) == G_N_ELEMENTS(((Vga *)0)->port_mappings));

static void map_legacy(Vga *vga)
{
    Board *board = vga->pci.device.board;
    vga->window_mapping = space_map(board->memory, VGA_WINDOW_BASE, &vga->window, 0,
                                    VGA_WINDOW_SIZE, SPACE_PRIORITY_BOARD, false);
    space_begin(board->ports);
    for (unsigned i = 0; i < G_N_ELEMENTS(port_pieces); i++)
        vga->port_mappings[i] = space_map(board->ports, port_pieces[i].port, &vga->ports,
                                          port_pieces[i].port - VGA_PORT_BASE, port_pieces[i].count,
                                          SPACE_PRIORITY_BOARD, false);
    vga->dispi_mapping =
        space_map(board->ports, 0x1ce, &vga->dispi_ports, 0, 4, SPACE_PRIORITY_BOARD, false);
    space_commit(board->ports);
}

static bool load_rom(Vga *vga, GError **error)
{
    g_autofree char *data = NULL;
    gsize size = 0;
    if (!g_file_get_contents(vga->rom_path, &data, &size, error)) {
        g_prefix_error(error, "VGA BIOS: ");
        return false;
    }
    if (size == 0 || size > ROM_MAX) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "VGA BIOS %s: is %" G_GSIZE_FORMAT " bytes long; an option ROM has 1 to %u",
                    vga->rom_path, size, (unsigned)ROM_MAX);
        return false;
    }
    return pci_add_rom(&vga->pci, (const uint8_t *)data, size, error);
}

static void make_regions(Vga *vga)
{
    GRecMutex *lock = vga->pci.device.board->lock;
    region_init_ram(&vga->lfb, REGION_RAM, vga->vram, 0, vga->vram_size);
    region_init_ram(&vga->window_ram, REGION_RAM, vga->vram, 0, vga->vram_size);
    region_init_io(&vga->window, &vga_window_ops, vga, lock, VGA_WINDOW_SIZE);
    region_init_io(&vga->ports, &vga_port_ops, vga, lock, VGA_PORT_COUNT);
    region_init_io(&vga->dispi_ports, &vga_dispi_ops, vga, lock, 4);
    region_init_io(&vga->mmio, &vga_mmio_ops, vga, lock, 0x1000);
}

static bool vga_create(Device *device, GError **error)
{
    Vga *vga = (Vga *)device;
    pci_device_init(&vga->pci, VGA_VENDOR, VGA_DEVICE, VGA_CLASS, 0, VGA_REVISION);
    if (!is_power_of_two(vga->vram_size) || vga->vram_size < VRAM_MIN ||
        vga->vram_size > VRAM_MAX) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    "VGA: %" G_GUINT64_FORMAT " bytes of video memory; choose a power of two from "
                    "1 MiB (1048576) to 256 MiB (268435456)",
                    vga->vram_size);
        return false;
    }
    vga->vram = ram_new("vga-vram", vga->vram_size, error);
    if (!vga->vram)
        return false;
    vga->line = g_new0(uint32_t, VGA_MAX_SIDE + 32);
    make_regions(vga);
    pci_add_bar(&vga->pci, 0, PCI_BAR_MEM32_PREFETCH, &vga->lfb);
    pci_add_bar(&vga->pci, 2, PCI_BAR_MEM32, &vga->mmio);
    if (vga->rom_path && !load_rom(vga, error))
        return false;
    map_legacy(vga);
    if (vga->display)
        display_set_source(vga->display, &vga_display_source, vga);
    return true;
}

static void vga_destroy(Device *device)
{
    Vga *vga = (Vga *)device;
    Board *board = device->board;
    if (vga->display)
        display_set_source(vga->display, NULL, NULL);
    space_unmap(board->memory, vga->alias);
    space_unmap(board->memory, vga->window_mapping);
    for (unsigned i = 0; i < G_N_ELEMENTS(vga->port_mappings); i++)
        space_unmap(board->ports, vga->port_mappings[i]);
    space_unmap(board->ports, vga->dispi_mapping);
    g_clear_pointer(&vga->vram, ram_free);
    g_clear_pointer(&vga->line, g_free);
}

/* ---- state ----------------------------------------------------------------------------------- */

static const StateField vga_state[] = {
    STATE_ONE_STRUCT(Vga, pci, pci_state_fields, 1),
    STATE_FIELD(Vga, misc, STATE_U8, 1),
    STATE_FIELD(Vga, feature, STATE_U8, 1),
    STATE_FIELD(Vga, seq_index, STATE_U8, 1),
    STATE_ARRAY(Vga, seq, STATE_U8, 1),
    STATE_FIELD(Vga, gfx_index, STATE_U8, 1),
    STATE_ARRAY(Vga, gfx, STATE_U8, 1),
    STATE_FIELD(Vga, crtc_index, STATE_U8, 1),
    STATE_ARRAY(Vga, crtc, STATE_U8, 1),
    STATE_FIELD(Vga, attr_index, STATE_U8, 1),
    STATE_ARRAY(Vga, attr, STATE_U8, 1),
    STATE_FIELD(Vga, attr_data, STATE_BOOL, 1),
    STATE_FIELD(Vga, latch, STATE_U32, 1),
    {.name = "dac",
     .type = STATE_BYTES,
     .offset = offsetof(Vga, dac),
     .count = 768,
     .stride = 1,
     .since = 1},
    STATE_FIELD(Vga, dac_mask, STATE_U8, 1),
    STATE_FIELD(Vga, dac_read_index, STATE_U8, 1),
    STATE_FIELD(Vga, dac_write_index, STATE_U8, 1),
    STATE_FIELD(Vga, dac_component, STATE_U8, 1),
    STATE_FIELD(Vga, dac_reading, STATE_BOOL, 1),
    STATE_FIELD(Vga, dispi_index, STATE_U16, 1),
    STATE_ARRAY(Vga, dispi, STATE_U16, 1),
    STATE_FIELD(Vga, big_endian, STATE_BOOL, 1),
    STATE_LIST_END,
};

static bool dispi_valid(const Vga *vga)
{
    uint16_t dispi[VGA_DISPI_COUNT];
    memcpy(dispi, vga->dispi, sizeof(dispi));
    if (vga_dispi_enabled(vga))
        vga_dispi_clamp(vga, dispi);
    return !memcmp(dispi, vga->dispi, sizeof(dispi)) &&
           dispi[VGA_DISPI_BANK] < vga->vram_size >> 16;
}

/* All addresses are masked where they are used; these values index or divide. */
static bool vga_loaded(Device *device, GError **error)
{
    Vga *vga = (Vga *)device;
    if (!pci_device_loaded(&vga->pci, error))
        return false;
    if (vga->dac_component > 2 || !dispi_valid(vga)) {
        g_set_error(
            error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
            "%s: the saved VGA state has registers that no guest can have set (or was saved "
            "with another size of video memory)",
            device->id);
        return false;
    }
    vga->redraw = true;
    vga_update_window(vga);
    return true;
}

/* ---- the type -------------------------------------------------------------------------------- */

static const DeviceOption vga_options[] = {
    {.name = "vram-size",
     .type = OPTION_U64,
     .offset = offsetof(Vga, vram_size),
     .default_value = "16777216",
     .max = VRAM_MAX,
     .help = "bytes of video memory, a power of two from 1 MiB to 256 MiB"},
    {.name = "rom",
     .type = OPTION_STRING,
     .offset = offsetof(Vga, rom_path),
     .help = "file of the VGA BIOS, shown to the guest as expansion ROM"},
    {0},
};

const DeviceType vga_type = {
    .name = "vga",
    .description = "PCI VGA adapter with Bochs VBE (stdvga)",
    .instance_size = sizeof(Vga),
    .options = vga_options,
    .create = vga_create,
    .reset = vga_reset,
    .destroy = vga_destroy,
    .state_version = 1,
    .state = vga_state,
    .loaded = vga_loaded,
};

/* ---- mode 3 ---------------------------------------------------------------------------------- */

/* Source: IBM VGA, "Video Mode 3+" register values. */
static const uint8_t mode3_seq[5] = {0x03, 0x00, 0x03, 0x00, 0x02};
static const uint8_t mode3_crtc[25] = {
    0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0x00, 0x4f, 0x0d, 0x0e, 0x00,
    0x00, 0x00, 0x00, 0x9c, 0x8e, 0x8f, 0x28, 0x1f, 0x96, 0xb9, 0xa3, 0xff,
};
static const uint8_t mode3_gfx[9] = {0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x0e, 0x0f, 0xff};
static const uint8_t mode3_attr[21] = {
    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x14, 0x07, 0x38, 0x39, 0x3a,
    0x3b, 0x3c, 0x3d, 0x3e, 0x3f, 0x0c, 0x00, 0x0f, 0x08, 0x00,
};

/* Colours 0 to 63 are rgbRGB: an EGA's bits, capitals two thirds and small letters one third. */
static void set_ega_colors(uint8_t dac[768])
{
    for (unsigned i = 0; i < 64; i++)
        for (unsigned c = 0; c < 3; c++)
            dac[i * 3 + c] = (i >> (2 - c) & 1) * 0x2a + (i >> (5 - c) & 1) * 0x15;
}

#define FONT_HEIGHT 16
#define FONT_BYTES  (256 * FONT_HEIGHT)

/* Characters 0 to 2 (nothing, and two smiling faces) tell the 8×16 font from any other bytes. */
static const uint8_t font_begin[3 * FONT_HEIGHT] = {
    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0, 0, 0, 0,
    0x00, 0x00, 0x7e, 0x81, 0xa5, 0x81, 0x81, 0xbd, 0x99, 0x81, 0x81, 0x7e, 0, 0, 0, 0,
    0x00, 0x00, 0x7e, 0xff, 0xdb, 0xff, 0xff, 0xc3, 0xe7, 0xff, 0xff, 0x7e, 0, 0, 0, 0,
};

static bool load_font(Vga *vga)
{
    g_autofree char *rom = NULL;
    gsize size = 0;
    if (!vga->rom_path || !g_file_get_contents(vga->rom_path, &rom, &size, NULL))
        return false;
    const uint8_t *font = memmem(rom, size, font_begin, sizeof(font_begin));
    if (!font || size - (font - (const uint8_t *)rom) < FONT_BYTES)
        return false;
    for (unsigned i = 0; i < FONT_BYTES; i++)
        vga->vram->host[(i / FONT_HEIGHT * 32 + i % FONT_HEIGHT) * 4 + 2] = font[i];
    return true;
}

bool vga_set_text_mode(Vga *vga)
{
    clear_registers(vga);
    vga->misc = 0x67;
    memcpy(vga->seq, mode3_seq, sizeof(vga->seq));
    memcpy(vga->crtc, mode3_crtc, sizeof(vga->crtc));
    memcpy(vga->gfx, mode3_gfx, sizeof(vga->gfx));
    memcpy(vga->attr, mode3_attr, sizeof(vga->attr));
    vga->attr_index = ATTR_INDEX_SHOW;
    set_ega_colors(vga->dac);
    for (unsigned i = 0; i < 0x4000; i++)
        store_le32(vga->vram->host + i * 4, 0x0720);
    bool font = load_font(vga);
    ram_written(vga->vram, 0, KIB(256));
    vga->redraw = true;
    vga_update_window(vga);
    return font;
}
