/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the registers of a VGA mean as a picture: size, where a line's bytes are, and where the beam
 * is now. Pure functions of the registers and the clock.
 * Source: IBM VGA, "CRT Controller Registers".
 */
#include "device/video/vga_private.h"

#include "base/bits.h"

static unsigned overflow_bit(const Vga *vga, unsigned bit, unsigned to)
{
    return (vga->crtc[CRTC_OVERFLOW] >> bit & 1u) << to;
}

/* CRTC mode bit 2: vertical values count two scan lines each. */
static unsigned vertical(const Vga *vga, unsigned value)
{
    return vga->crtc[CRTC_MODE] & 0x04 ? value * 2 : value;
}

static unsigned display_lines(const Vga *vga)
{
    unsigned end =
        vga->crtc[CRTC_V_DISPLAY_END] | overflow_bit(vga, 1, 8) | overflow_bit(vga, 6, 9);
    return vertical(vga, end + 1);
}

static VgaMode legacy_mode(const Vga *vga)
{
    if (!(vga->gfx[GFX_MISC] & 1))
        return VGA_TEXT;
    if (vga->gfx[GFX_MODE] & GFX_MODE_256)
        return VGA_INDEXED;
    return vga->gfx[GFX_MODE] & GFX_MODE_INTERLEAVE ? VGA_INTERLEAVED : VGA_PLANAR;
}

/* Pixel panning, register 0x13: 9-dot text begins counting at 8, 256 colours count half pixels. */
static unsigned pan_pixels(const Vga *vga, VgaMode mode, unsigned cell_width)
{
    unsigned pan = vga->attr[ATTR_PAN];
    if (mode == VGA_INDEXED)
        return pan >> 1 & 3;
    if (cell_width == 9)
        return pan >= 8 ? 0 : pan + 1;
    return pan & 7;
}

/* With CRTC mode bits 0 and 1 clear, row scans choose banks (CGA): each shows other bytes. */
static bool scan_in_address(const Vga *vga, VgaMode mode)
{
    return mode == VGA_TEXT || (vga->crtc[CRTC_MODE] & 3) != 3;
}

static VgaGeometry legacy_geometry(const Vga *vga)
{
    const uint8_t *crtc = vga->crtc;
    VgaMode mode = legacy_mode(vga);
    bool nine = mode == VGA_TEXT && !(vga->seq[SEQ_CLOCKING] & CLOCKING_8_DOTS);
    VgaGeometry g = {
        .mode = mode,
        .columns = crtc[CRTC_H_DISPLAY_END] + 1u,
        .cell_width = mode == VGA_INDEXED ? 4
                      : nine              ? 9
                                          : 8,
        .doubling = crtc[CRTC_MAX_ROW] & 0x80 ? 2 : 1,
        .row_scans = (crtc[CRTC_MAX_ROW] & 0x1f) + 1u,
        .preset_scan = crtc[CRTC_PRESET_ROW] & 0x1f,
        .start =
            (crtc[CRTC_START_HIGH] << 8 | crtc[CRTC_START_LOW]) + (crtc[CRTC_PRESET_ROW] >> 5 & 3),
        .pitch = crtc[CRTC_OFFSET] * 2u,
        .mask = VGA_PLANE_MASK,
    };
    g.repeat = g.doubling * (scan_in_address(vga, mode) ? 1 : g.row_scans);
    g.width = g.columns * g.cell_width;
    g.height = MAX(display_lines(vga) / g.repeat, 1);
    g.split = vertical(vga, crtc[CRTC_LINE_COMPARE] | overflow_bit(vga, 4, 8) |
                                (crtc[CRTC_MAX_ROW] >> 6 & 1u) << 9);
    g.pan = pan_pixels(vga, mode, g.cell_width);
    g.split_pan = vga->attr[ATTR_MODE] & ATTR_MODE_PAN_COMPAT ? 0 : g.pan;
    return g;
}

static VgaGeometry dispi_geometry(const Vga *vga)
{
    const uint16_t *dispi = vga->dispi;
    bool planar = dispi[VGA_DISPI_BPP] == 4;
    unsigned x = dispi[VGA_DISPI_X_OFFSET], width = dispi[VGA_DISPI_XRES];
    VgaGeometry g = {
        .mode = planar ? VGA_PLANAR : VGA_LINEAR,
        .width = width,
        .height = dispi[VGA_DISPI_YRES],
        .columns = planar ? width / 8 : width,
        .cell_width = planar ? 8 : 1,
        .repeat = 1,
        .doubling = 1,
        .row_scans = 1,
        .split = UINT_MAX,
        .bytes = (dispi[VGA_DISPI_BPP] + 7) / 8,
        .pan = planar ? x & 7 : 0,
        .pitch = vga_dispi_pitch(dispi),
        .mask = vga_plane_mask(vga),
    };
    g.start = g.pitch * dispi[VGA_DISPI_Y_OFFSET] + (planar ? x / 8 : (uint64_t)x * g.bytes);
    return g;
}

VgaGeometry vga_geometry(const Vga *vga)
{
    VgaGeometry g = vga_dispi_enabled(vga) ? dispi_geometry(vga) : legacy_geometry(vga);
    if (!(vga->attr_index & ATTR_INDEX_SHOW) || vga->seq[SEQ_CLOCKING] & CLOCKING_SCREEN_OFF)
        g.mode = VGA_BLANK, g.pan = g.split_pan = 0;
    return g;
}

VgaLine vga_line_at(const VgaGeometry *g, unsigned y)
{
    uint64_t scan_line = (uint64_t)y * g->repeat;
    VgaLine line = {g->start, g->preset_scan, g->pan};
    if (scan_line > g->split) {
        scan_line -= (uint64_t)g->split + 1;
        line = (VgaLine){0, 0, g->split_pan};
    }
    uint64_t scan = scan_line / g->doubling + line.scan;
    line.address += scan / g->row_scans * g->pitch;
    line.scan = scan % g->row_scans;
    return line;
}

/* Row scan bits replace bits 13 and 14 of the memory address, at `shift` bits less when packed. */
static uint32_t with_banks(const Vga *vga, uint32_t address, unsigned scan, unsigned shift)
{
    if (!(vga->crtc[CRTC_MODE] & 1))
        address = bits_set(address, 13 - shift, 1, scan);
    if (!(vga->crtc[CRTC_MODE] & 2))
        address = bits_set(address, 14 - shift, 1, scan >> 1);
    return address;
}

uint32_t vga_plane_address(const Vga *vga, const VgaGeometry *g, uint64_t counter, unsigned scan)
{
    uint32_t address = counter & g->mask;
    bool packed = !(vga->seq[SEQ_MEMORY] & MEMORY_SEQUENTIAL);
    if (g->mode == VGA_TEXT || vga_dispi_enabled(vga))
        return address;
    if (vga->seq[SEQ_MEMORY] & MEMORY_CHAIN4)
        return with_banks(vga, address, scan, 2) & g->mask;
    if (vga->crtc[CRTC_UNDERLINE] & 0x40) /* doubleword mode */
        address = address << 2 | (address >> 12 & 3);
    else if (!(vga->crtc[CRTC_MODE] & 0x40) && !packed) /* word mode */
        address = address << 1 | (address >> (vga->crtc[CRTC_MODE] & 0x20 ? 15 : 13) & 1);
    else if (!(vga->crtc[CRTC_MODE] & 0x40))
        return with_banks(vga, address, scan, 1) & g->mask;
    return with_banks(vga, address, scan, 0) & g->mask;
}

/* ---- the beam -------------------------------------------------------------------------------- */

/* A frame that no monitor shows counts as one of 60 Hz. */
#define FRAME_MIN_NS (NS_PER_S / 400)
#define FRAME_MAX_NS (NS_PER_S / 10)

static int64_t dots_ns(const Vga *vga, unsigned dots)
{
    int64_t hz = (vga->misc >> 2 & 3) == 1 ? 28322000 : 25175000;
    if (vga->seq[SEQ_CLOCKING] & CLOCKING_HALF)
        hz /= 2;
    return dots * NS_PER_S / hz;
}

uint8_t vga_retrace_status(const Vga *vga)
{
    const uint8_t *crtc = vga->crtc;
    unsigned cell = vga->seq[SEQ_CLOCKING] & CLOCKING_8_DOTS ? 8 : 9;
    int64_t line_ns = dots_ns(vga, (crtc[CRTC_H_TOTAL] + 5u) * cell);
    int64_t shown_ns = dots_ns(vga, (crtc[CRTC_H_DISPLAY_END] + 1u) * cell);
    unsigned total = crtc[CRTC_V_TOTAL] | overflow_bit(vga, 0, 8) | overflow_bit(vga, 5, 9);
    unsigned sync = crtc[CRTC_V_SYNC_START] | overflow_bit(vga, 2, 8) | overflow_bit(vga, 7, 9);
    unsigned lines = vertical(vga, total + 2), shown = display_lines(vga);
    int64_t frame_ns = line_ns * lines;
    if (frame_ns < FRAME_MIN_NS || frame_ns > FRAME_MAX_NS || shown >= lines) {
        lines = 449, shown = 400, sync = 412;
        frame_ns = NS_PER_S / 60;
        line_ns = frame_ns / lines;
        shown_ns = line_ns * 4 / 5;
    }
    int64_t now = clock_now_ns(vga->pci.device.board->clock) % frame_ns;
    int64_t line = now / line_ns;
    unsigned sync_lines = (crtc[CRTC_V_SYNC_END] - sync) & 0xf;
    int64_t sync_start = vertical(vga, sync);
    bool retrace = line >= sync_start && line < sync_start + vertical(vga, MAX(sync_lines, 2));
    bool blank = line >= shown || now % line_ns >= shown_ns;
    return (retrace ? 0x08 : 0) | (blank || retrace ? 0x01 : 0);
}
