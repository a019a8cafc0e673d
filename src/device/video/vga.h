/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * "stdvga": a PCI VGA adapter (1234:1111) with the Bochs VBE extension (DISPI), as vgabios-stdvga,
 * Linux bochs-drm, vesafb, GRUB and OVMF drive it.
 *
 * It decodes the fixed legacy addresses of a VGA itself (window 0xa0000, ports 0x3b4 to 0x3df and
 * 0x1ce to 0x1d1); BAR 0 is the frame buffer, BAR 2 the same registers in memory.
 *
 * Video memory holds the four planes interleaved: byte 4 * address + plane. Chain-4 and banked
 * linear modes are then plain memory, and the legacy window becomes RAM while the data path does
 * nothing to the bytes.
 *
 * Invariant: every address computed from a register is masked to the video memory, a power of two.
 * Threads: board lock held. The guest may write video memory at any time.
 */
#pragma once

#include "device/bus/pci.h"
#include "display/surface.h"

enum {
    VGA_DISPI_ID,
    VGA_DISPI_XRES,
    VGA_DISPI_YRES,
    VGA_DISPI_BPP,
    VGA_DISPI_ENABLE,
    VGA_DISPI_BANK,
    VGA_DISPI_VIRT_WIDTH,
    VGA_DISPI_VIRT_HEIGHT,
    VGA_DISPI_X_OFFSET,
    VGA_DISPI_Y_OFFSET,
    VGA_DISPI_MEMORY_64K,
    VGA_DISPI_COUNT,
};

typedef struct Vga {
    PciDevice pci;
    Display *display; /* set before device_create; NULL: nobody looks */

    /* Options. */
    uint64_t vram_size; /* bytes */
    char *rom_path;     /* VGA BIOS, shown as expansion ROM; NULL: none */

    Ram *vram; /* not part of the device's state: saved with the guest's memory */
    Region lfb, window, window_ram, ports, dispi_ports, mmio;
    SpaceMapping *window_mapping, *port_mappings[5], *dispi_mapping;
    SpaceMapping *alias;   /* window_ram over the legacy window … */
    uint64_t alias_offset; /* … at this byte of vram, while `alias` */

    /* Registers: miscellaneous output, feature control, sequencer, graphics, CRT, attribute. */
    uint8_t misc, feature;
    uint8_t seq_index, seq[5];
    uint8_t gfx_index, gfx[9];
    uint8_t crtc_index, crtc[25];
    uint8_t attr_index, attr[21];
    bool attr_data;   /* the flip-flop: the next write to 0x3c0 is data */
    uint32_t latch;   /* plane 0 in the low byte */
    uint8_t dac[768]; /* 6 or 8 bits each, as DISPI's DAC bit says */
    uint8_t dac_mask, dac_read_index, dac_write_index, dac_component;
    bool dac_reading;
    uint16_t dispi_index, dispi[VGA_DISPI_COUNT];
    bool big_endian; /* order of pixels wider than a byte */

    /* Drawing: what the surface was drawn from. */
    bool redraw; /* a register changed that is not known to be harmless */
    unsigned blink_phase;
    uint32_t *line;
} Vga;

extern const DeviceType vga_type;

/*
 * Puts the adapter into mode 3 (80×25 text, 720×400) as a VGA BIOS would, for kernels booted
 * without one. The 8×16 font comes out of the VGA BIOS of option "rom"; false when there is none to
 * be found: the mode is set, but the characters have no shapes.
 */
bool vga_set_text_mode(Vga *vga);
