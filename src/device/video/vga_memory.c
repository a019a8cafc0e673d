/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The legacy window of a VGA: how the host's bytes reach the four planes.
 *
 *   address → plane address, planes     chain-4: address >> 2, plane address & 3
 *                                       odd/even: address >> 1, planes 0,2 or 1,3
 *                                       sequential: address, all planes
 *   write: rotate → set/reset → function with latch → bit mask → map mask
 *   read:  latch, then one plane or the colour compare
 *
 * Addresses of chain-4 and odd/even are packed (a real VGA leaves holes in the planes); the CRT
 * side (vga_geometry.c) undoes it. Source: IBM VGA, "Graphics Controller Registers".
 */
#include "device/video/vga_private.h"

#include "base/bits.h"

/* The windows of graphics register 6, bits 2 and 3. */
static const struct {
    uint32_t base, size;
} windows[4] = {{0, 0x20000}, {0, 0x10000}, {0x10000, 0x8000}, {0x18000, 0x8000}};

typedef struct PlaneAddress {
    uint32_t address;
    unsigned planes; /* that a write may reach */
    unsigned read_plane;
} PlaneAddress;

static PlaneAddress decode(const Vga *vga, uint32_t offset)
{
    unsigned read_plane = vga->gfx[GFX_READ_MAP] & 3;
    PlaneAddress at = {offset, 0xf, read_plane};
    if (vga->seq[SEQ_MEMORY] & MEMORY_CHAIN4) {
        at = (PlaneAddress){offset >> 2, 1 << (offset & 3), offset & 3};
    } else if (!(vga->seq[SEQ_MEMORY] & MEMORY_SEQUENTIAL)) {
        if (vga->gfx[GFX_MODE] & GFX_MODE_ODD_EVEN)
            read_plane = (read_plane & 2) | (offset & 1);
        at = (PlaneAddress){offset >> 1, offset & 1 ? 0xa : 0x5, read_plane};
    }
    if (vga_dispi_enabled(vga))
        at.address += (uint32_t)vga->dispi[VGA_DISPI_BANK] << 16;
    at.address &= vga_plane_mask(vga);
    return at;
}

static uint8_t rotated(const Vga *vga, uint8_t value)
{
    unsigned count = vga->gfx[GFX_ROTATE] & 7;
    return value >> count | value << (8 - count);
}

static uint32_t combine(const Vga *vga, uint32_t value)
{
    switch (vga->gfx[GFX_ROTATE] >> 3 & 3) {
    case 1:
        return value & vga->latch;
    case 2:
        return value | vga->latch;
    case 3:
        return value ^ vga->latch;
    default:
        return value;
    }
}

/* The four bytes that a host byte becomes. */
static uint32_t data_path(const Vga *vga, uint8_t value)
{
    uint32_t bit_mask = vga->gfx[GFX_BIT_MASK] * 0x01010101u;
    uint32_t set_reset = vga_plane_bytes(vga->gfx[GFX_SET_RESET] & 0xf);
    uint32_t enable, data;
    switch (vga->gfx[GFX_MODE] & 3) {
    case 0:
        enable = vga_plane_bytes(vga->gfx[GFX_ENABLE_SET_RESET] & 0xf);
        data = rotated(vga, value) * 0x01010101u;
        data = (data & ~enable) | (set_reset & enable);
        break;
    case 1:
        return vga->latch;
    case 2:
        data = vga_plane_bytes(value & 0xf);
        break;
    default:
        data = set_reset;
        bit_mask &= rotated(vga, value) * 0x01010101u;
        break;
    }
    data = combine(vga, data);
    return (data & bit_mask) | (vga->latch & ~bit_mask);
}

static void mark_written(Vga *vga, uint64_t offset)
{
    if (atomic_load_explicit(&vga->vram->page_flags[offset >> GUEST_PAGE_SHIFT],
                             memory_order_relaxed))
        ram_written(vga->vram, offset, 4);
}

/* Offset in the window of a host address (0 to 0x1ffff), or false when it is not decoded. */
static bool window_offset(const Vga *vga, uint32_t address, uint32_t *ret_offset)
{
    unsigned window = vga_linear(vga) ? 1 : vga->gfx[GFX_MISC] >> 2 & 3;
    *ret_offset = address - windows[window].base;
    return vga->misc & MISC_RAM && *ret_offset < windows[window].size;
}

static uint64_t linear_offset(const Vga *vga, uint32_t offset)
{
    return (((uint64_t)vga->dispi[VGA_DISPI_BANK] << 16) + offset) & (vga->vram_size - 1);
}

void vga_write_memory(Vga *vga, uint32_t address, uint8_t value)
{
    uint32_t offset;
    if (!window_offset(vga, address, &offset))
        return;
    if (vga_linear(vga)) {
        uint64_t byte = linear_offset(vga, offset);
        vga->vram->host[byte] = value;
        mark_written(vga, byte & ~UINT64_C(3));
        return;
    }
    PlaneAddress at = decode(vga, offset);
    uint32_t mask = vga_plane_bytes(at.planes & vga->seq[SEQ_MAP_MASK]);
    uint8_t *cell = vga->vram->host + (uint64_t)at.address * 4;
    store_le32(cell, (load_le32(cell) & ~mask) | (data_path(vga, value) & mask));
    mark_written(vga, (uint64_t)at.address * 4);
}

/* Read mode 1: a bit for each pixel whose colour is the wanted one, in the planes that matter. */
static uint8_t color_compare(const Vga *vga)
{
    uint32_t wanted = vga_plane_bytes(vga->gfx[GFX_COMPARE] & 0xf);
    uint32_t care = vga_plane_bytes(vga->gfx[GFX_DONT_CARE] & 0xf);
    uint32_t differ = (vga->latch ^ wanted) & care;
    differ |= differ >> 16;
    return ~(differ | differ >> 8);
}

uint8_t vga_read_memory(Vga *vga, uint32_t address)
{
    uint32_t offset;
    if (!window_offset(vga, address, &offset))
        return 0xff;
    if (vga_linear(vga))
        return vga->vram->host[linear_offset(vga, offset)];
    PlaneAddress at = decode(vga, offset);
    vga->latch = load_le32(vga->vram->host + (uint64_t)at.address * 4);
    if (vga->gfx[GFX_MODE] & GFX_MODE_READ1)
        return color_compare(vga);
    return vga->latch >> (8 * at.read_plane);
}

static uint64_t window_read(void *obj, uint64_t offset, unsigned size)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < size; i++)
        value |= (uint64_t)vga_read_memory(obj, offset + i) << (8 * i);
    return value;
}

static void window_write(void *obj, uint64_t offset, unsigned size, uint64_t value)
{
    for (unsigned i = 0; i < size; i++)
        vga_write_memory(obj, offset + i, value >> (8 * i));
}

const RegionOps vga_window_ops = {
    .name = "vga-window",
    .read = window_read,
    .write = window_write,
    .max_access = 8,
};

/* Chain-4 with a data path that passes bytes on unchanged. */
static bool plain_chain4(const Vga *vga)
{
    return vga->seq[SEQ_MEMORY] & MEMORY_CHAIN4 && (vga->seq[SEQ_MAP_MASK] & 0xf) == 0xf &&
           (vga->gfx[GFX_MODE] & (3 | GFX_MODE_READ1)) == 0 && vga->gfx[GFX_ROTATE] == 0 &&
           (vga->gfx[GFX_ENABLE_SET_RESET] & 0xf) == 0 && vga->gfx[GFX_BIT_MASK] == 0xff &&
           (vga->gfx[GFX_MISC] >> 2 & 3) == 1 && !vga_dispi_enabled(vga);
}

void vga_update_window(Vga *vga)
{
    bool wanted = vga->misc & MISC_RAM && (vga_linear(vga) || plain_chain4(vga));
    uint64_t offset = vga_linear(vga) ? linear_offset(vga, 0) : 0;
    if (wanted == (vga->alias != NULL) && (!wanted || offset == vga->alias_offset))
        return;
    AddressSpace *memory = vga->pci.device.board->memory;
    space_begin(memory);
    space_unmap(memory, vga->alias);
    vga->alias = NULL;
    if (wanted) {
        vga->alias = space_map(memory, VGA_WINDOW_BASE, &vga->window_ram, offset, 0x10000,
                               SPACE_PRIORITY_BOARD, false);
        vga->alias_offset = offset;
    }
    space_commit(memory);
}
