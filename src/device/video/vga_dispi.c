/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * DISPI, the interface of the Bochs VBE extension, and BAR 2, which shows all registers in memory.
 * Sources: Bochs "VBE display driver API" (vbe_display_api.txt); QEMU docs/specs/standard-vga.txt.
 *
 *   BAR 2:  0x000  EDID        0x400  ports 0x3c0 to 0x3df
 *           0x500  DISPI registers, 16 bits each
 *           0x600  size of this block (8), 0x604 byte order of pixels
 */
#include "device/video/vga_private.h"

#include "base/bits.h"

#define DISPI_ID_FIRST 0xb0c0
#define DISPI_ID_LAST  0xb0c5
#define ORDER_BIG      UINT32_C(0xbebebebe)
#define ORDER_LITTLE   UINT32_C(0x1e1e1e1e)

/* ---- modes ----------------------------------------------------------------------------------- */

uint32_t vga_dispi_pitch(const uint16_t dispi[VGA_DISPI_COUNT])
{
    unsigned bpp = dispi[VGA_DISPI_BPP];
    return bpp == 4 ? dispi[VGA_DISPI_VIRT_WIDTH] / 8u
                    : dispi[VGA_DISPI_VIRT_WIDTH] * ((bpp + 7) / 8);
}

static bool known_bpp(unsigned bpp)
{
    return bpp == 4 || bpp == 8 || bpp == 15 || bpp == 16 || bpp == 24 || bpp == 32;
}

/* The smallest memory (1 MiB) holds at least one line of the widest mode, so lines >= 1. */
void vga_dispi_clamp(const Vga *vga, uint16_t dispi[VGA_DISPI_COUNT])
{
    if (!known_bpp(dispi[VGA_DISPI_BPP]))
        dispi[VGA_DISPI_BPP] = 8;
    bool planar = dispi[VGA_DISPI_BPP] == 4;
    unsigned width = CLAMP(dispi[VGA_DISPI_XRES], 8, VGA_MAX_SIDE);
    unsigned stride = MAX(dispi[VGA_DISPI_VIRT_WIDTH], width);
    dispi[VGA_DISPI_XRES] = planar ? align_down(width, 8) : width;
    dispi[VGA_DISPI_VIRT_WIDTH] = planar ? align_down(stride, 8) : stride;
    uint64_t memory = planar ? vga->vram_size / 4 : vga->vram_size;
    uint64_t lines = memory / vga_dispi_pitch(dispi);
    dispi[VGA_DISPI_YRES] = CLAMP(dispi[VGA_DISPI_YRES], 1, MIN(lines, VGA_MAX_SIDE));
    dispi[VGA_DISPI_VIRT_HEIGHT] = MIN(lines, UINT16_MAX);
}

static void set_dac_width(Vga *vga, bool wide)
{
    for (unsigned i = 0; i < sizeof(vga->dac); i++)
        vga->dac[i] = wide ? vga->dac[i] << 2 | vga->dac[i] >> 4 : vga->dac[i] >> 2;
}

static void write_enable(Vga *vga, uint16_t value)
{
    uint16_t *dispi = vga->dispi, before = dispi[VGA_DISPI_ENABLE];
    if ((before ^ value) & DISPI_8BIT_DAC)
        set_dac_width(vga, value & DISPI_8BIT_DAC);
    dispi[VGA_DISPI_ENABLE] = value & 0xe3;
    dispi[VGA_DISPI_BANK] = 0;
    if (!(value & DISPI_ENABLED))
        return;
    if (!(before & DISPI_ENABLED))
        dispi[VGA_DISPI_VIRT_WIDTH] = dispi[VGA_DISPI_X_OFFSET] = dispi[VGA_DISPI_Y_OFFSET] = 0;
    vga_dispi_clamp(vga, dispi);
    if (!(value & DISPI_NO_CLEAR) && !(before & DISPI_ENABLED)) {
        uint64_t bytes = (uint64_t)vga_dispi_pitch(dispi) * dispi[VGA_DISPI_YRES];
        bytes = MIN(dispi[VGA_DISPI_BPP] == 4 ? bytes * 4 : bytes, vga->vram_size);
        memset(vga->vram->host, 0, bytes);
        ram_written(vga->vram, 0, bytes);
    }
}

/* ---- registers ------------------------------------------------------------------------------- */

static uint16_t read_caps(unsigned index, uint16_t value)
{
    switch (index) {
    case VGA_DISPI_XRES:
    case VGA_DISPI_YRES:
        return VGA_MAX_SIDE;
    case VGA_DISPI_BPP:
        return 32;
    default:
        return value;
    }
}

uint16_t vga_dispi_read(Vga *vga, unsigned index)
{
    if (index == VGA_DISPI_MEMORY_64K)
        return vga->vram_size >> 16;
    if (index >= VGA_DISPI_COUNT)
        return 0;
    if (vga->dispi[VGA_DISPI_ENABLE] & DISPI_GET_CAPS)
        return read_caps(index, vga->dispi[index]);
    return vga->dispi[index];
}

void vga_dispi_write(Vga *vga, unsigned index, uint16_t value)
{
    switch (index) {
    case VGA_DISPI_ID:
        if (value >= DISPI_ID_FIRST && value <= DISPI_ID_LAST)
            vga->dispi[index] = value;
        return;
    case VGA_DISPI_ENABLE:
        write_enable(vga, value);
        break;
    case VGA_DISPI_BANK:
        vga->dispi[index] = value & ((vga->vram_size >> 16) - 1);
        break;
    case VGA_DISPI_XRES:
    case VGA_DISPI_YRES:
    case VGA_DISPI_BPP:
    case VGA_DISPI_VIRT_WIDTH:
    case VGA_DISPI_X_OFFSET:
    case VGA_DISPI_Y_OFFSET:
        vga->dispi[index] = value;
        if (vga_dispi_enabled(vga))
            vga_dispi_clamp(vga, vga->dispi);
        break;
    default: /* VIRT_HEIGHT follows from the others, MEMORY_64K is fixed */
        return;
    }
    vga->redraw |= index != VGA_DISPI_BANK;
    vga_update_window(vga);
}

/* 0x1ce: index; 0x1cf and 0x1d0: data. Bytes are the low halves of words. */
static uint64_t dispi_ports_read(void *obj, uint64_t offset, unsigned size)
{
    Vga *vga = obj;
    return offset == 0 ? vga->dispi_index : vga_dispi_read(vga, vga->dispi_index);
}

static void dispi_ports_write(void *obj, uint64_t offset, unsigned size, uint64_t value)
{
    Vga *vga = obj;
    if (offset == 0)
        vga->dispi_index = value;
    else
        vga_dispi_write(vga, vga->dispi_index, value);
}

const RegionOps vga_dispi_ops = {
    .name = "vga-dispi",
    .read = dispi_ports_read,
    .write = dispi_ports_write,
    .max_access = 2,
};

/* ---- EDID ------------------------------------------------------------------------------------ */

/* VESA E-EDID 1.3: a monitor for 1280×800 at 60 Hz (CVT), with the usual sizes besides. */
static const uint8_t edid[128] = {
    0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00, /* header */
    0x3e, 0x70, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, /* "OSP", product 1 */
    0x01, 0x22, 0x01, 0x03,                         /* week 1 of 2024, version 1.3 */
    0x80, 0x20, 0x14, 0x78, 0x0a,                   /* digital, 32 × 20 cm, gamma 2.2, sRGB-like */
    0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54, /* chromaticity of sRGB */
    0x21, 0x08, 0x00, /* 640×480, 800×600, 1024×768 at 60 Hz */
    0x81, 0x80, 0x81, 0x40, 0x95, 0x00, 0xa9, 0x40, 0xb3, 0x00, 0xd1, 0xc0, 0x01, 0x01, 0x01, 0x01,
    /* 83.5 MHz, 1280 + 400, 800 + 31, sync 72/128 and 3/6 */
    0x9e, 0x20, 0x00, 0x90, 0x51, 0x20, 0x1f, 0x30, 0x48, 0x80, 0x36, 0x00, 0x40, 0xc8, 0x10, 0x00,
    0x00, 0x1a, 0x00, 0x00, 0x00, 0xfd, 0x00, 0x32, 0x7d, 0x1e, 0xa0, 0x1e, 0x00, 0x0a, 0x20, 0x20,
    0x20, 0x20, 0x20, 0x20, /* 50 to 125 Hz, 30 to 160 kHz, up to 300 MHz */
    0x00, 0x00, 0x00, 0xfc, 0x00, 'O', 's', 'p', 'i', 't', 'e', '\n', 0x20, 0x20, 0x20, 0x20, 0x20,
    0x20, 0x00, 0x00, 0x00, 0x10, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, /* no extensions; the checksum is computed */
};

static uint8_t edid_byte(unsigned offset)
{
    if (offset < 127)
        return edid[offset];
    uint8_t sum = 0;
    for (unsigned i = 0; i < 127; i++)
        sum += edid[i];
    return offset == 127 ? -sum : 0;
}

/* ---- BAR 2 ----------------------------------------------------------------------------------- */

static uint8_t mmio_read_byte(Vga *vga, unsigned offset)
{
    uint32_t order = vga->big_endian ? ORDER_BIG : ORDER_LITTLE;
    if (offset < 0x400)
        return edid_byte(offset);
    if (offset < 0x420)
        return vga_read_port(vga, offset - 0x400 + 0x10);
    if (offset >= 0x500 && offset < 0x500 + 2 * VGA_DISPI_COUNT)
        return vga_dispi_read(vga, (offset - 0x500) / 2) >> (offset & 1 ? 8 : 0);
    if (offset >= 0x600 && offset < 0x608)
        return offset < 0x604 ? (offset == 0x600 ? 8 : 0) : order >> (8 * (offset & 3));
    return 0xff;
}

static uint64_t mmio_read(void *obj, uint64_t offset, unsigned size)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < size; i++)
        value |= (uint64_t)mmio_read_byte(obj, offset + i) << (8 * i);
    return value;
}

static void write_order(Vga *vga, uint32_t value)
{
    if (value != ORDER_BIG && value != ORDER_LITTLE)
        return;
    vga->big_endian = value == ORDER_BIG;
    vga->redraw = true;
}

static void mmio_write(void *obj, uint64_t offset, unsigned size, uint64_t value)
{
    Vga *vga = obj;
    if (offset == 0x604 && size == 4)
        write_order(vga, value);
    for (unsigned i = 0; i < size; i++) {
        uint64_t at = offset + i;
        if (at >= 0x400 && at < 0x420)
            vga_write_port(vga, at - 0x400 + 0x10, value >> (8 * i));
    }
    if (offset < 0x500 || offset >= 0x600 || offset & 1)
        return;
    for (unsigned i = 0; i + 2 <= size; i += 2)
        vga_dispi_write(vga, (offset + i - 0x500) / 2, value >> (8 * i));
}

const RegionOps vga_mmio_ops = {.name = "vga-mmio", .read = mmio_read, .write = mmio_write};
