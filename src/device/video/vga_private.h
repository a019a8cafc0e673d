/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the files of the VGA share: register names, and the entry points of its parts.
 * Source: IBM VGA Technical Reference (PS/2 Hardware Interface, "Video Subsystem", 1988).
 */
#pragma once

#include "device/video/vga.h"

#define VGA_WINDOW_BASE 0xa0000
#define VGA_WINDOW_SIZE 0x20000
#define VGA_PORT_BASE   0x3b0
#define VGA_PORT_COUNT  0x30
#define VGA_PLANE_MASK  0xffff /* addresses in a plane of a VGA of 256 KiB */
#define VGA_MAX_SIDE    8192   /* pixels, of a DISPI mode */

enum { MISC_COLOR = 0x01, MISC_RAM = 0x02 };
enum { SEQ_CLOCKING = 1, SEQ_MAP_MASK = 2, SEQ_FONTS = 3, SEQ_MEMORY = 4 };
enum { CLOCKING_8_DOTS = 0x01, CLOCKING_HALF = 0x08, CLOCKING_SCREEN_OFF = 0x20 };
enum { MEMORY_SEQUENTIAL = 0x04, MEMORY_CHAIN4 = 0x08 };
enum {
    GFX_SET_RESET,
    GFX_ENABLE_SET_RESET,
    GFX_COMPARE,
    GFX_ROTATE,
    GFX_READ_MAP,
    GFX_MODE,
    GFX_MISC,
    GFX_DONT_CARE,
    GFX_BIT_MASK,
};
enum {
    GFX_MODE_READ1 = 0x08,
    GFX_MODE_ODD_EVEN = 0x10,
    GFX_MODE_INTERLEAVE = 0x20,
    GFX_MODE_256 = 0x40
};
enum {
    CRTC_H_TOTAL = 0x00,
    CRTC_H_DISPLAY_END = 0x01,
    CRTC_V_TOTAL = 0x06,
    CRTC_OVERFLOW = 0x07,
    CRTC_PRESET_ROW = 0x08,
    CRTC_MAX_ROW = 0x09,
    CRTC_CURSOR_START = 0x0a,
    CRTC_CURSOR_END = 0x0b,
    CRTC_START_HIGH = 0x0c,
    CRTC_START_LOW = 0x0d,
    CRTC_CURSOR_HIGH = 0x0e,
    CRTC_CURSOR_LOW = 0x0f,
    CRTC_V_SYNC_START = 0x10,
    CRTC_V_SYNC_END = 0x11,
    CRTC_V_DISPLAY_END = 0x12,
    CRTC_OFFSET = 0x13,
    CRTC_UNDERLINE = 0x14,
    CRTC_MODE = 0x17,
    CRTC_LINE_COMPARE = 0x18,
};
enum { ATTR_MODE = 0x10, ATTR_PLANES = 0x12, ATTR_PAN = 0x13, ATTR_COLOR_SELECT = 0x14 };
enum {
    ATTR_MODE_LINE_GRAPHICS = 0x04,
    ATTR_MODE_BLINK = 0x08,
    ATTR_MODE_PAN_COMPAT = 0x20,
    ATTR_MODE_256 = 0x40,
    ATTR_MODE_COLOR_SELECT = 0x80,
};
#define ATTR_INDEX_SHOW 0x20 /* of 0x3c0: the screen is fed, not the palette */
enum { DISPI_ENABLED = 0x01, DISPI_GET_CAPS = 0x02, DISPI_8BIT_DAC = 0x20, DISPI_NO_CLEAR = 0x80 };

/* Four bits, one for each plane, as a mask of four bytes. */
static inline uint32_t vga_plane_bytes(unsigned planes)
{
    uint32_t spread = ((planes & 1) | (planes & 2) << 7 | (planes & 4) << 14 | (planes & 8) << 21);
    return spread * 0xff;
}

static inline bool vga_dispi_enabled(const Vga *vga)
{
    return vga->dispi[VGA_DISPI_ENABLE] & DISPI_ENABLED;
}

/* A DISPI mode whose window and frame buffer are linear (all but 4 bits per pixel). */
static inline bool vga_linear(const Vga *vga)
{
    return vga_dispi_enabled(vga) && vga->dispi[VGA_DISPI_BPP] > 4;
}

/* Plane addresses wrap here: at 64 Ki on a VGA, at the end of memory in a DISPI mode of 16 colours.
 */
static inline uint32_t vga_plane_mask(const Vga *vga)
{
    return vga_dispi_enabled(vga) ? (uint32_t)(vga->vram_size / 4 - 1) : VGA_PLANE_MASK;
}

/* Registers changed: show the window as RAM when that is what it is now (vga_memory.c). */
void vga_update_window(Vga *vga);
void vga_write_memory(Vga *vga, uint32_t address, uint8_t value);
uint8_t vga_read_memory(Vga *vga, uint32_t address);
extern const RegionOps vga_window_ops;

/* `port` counts from 0x3b0 (vga_ports.c). */
uint8_t vga_read_port(Vga *vga, unsigned port);
void vga_write_port(Vga *vga, unsigned port, uint8_t value);
extern const RegionOps vga_port_ops;

/* DISPI registers, and BAR 2 (vga_dispi.c). */
uint16_t vga_dispi_read(Vga *vga, unsigned index);
void vga_dispi_write(Vga *vga, unsigned index, uint16_t value);
/* Forces the registers of a mode into what the memory can show. */
void vga_dispi_clamp(const Vga *vga, uint16_t dispi[VGA_DISPI_COUNT]);
/* Bytes from one line to the next (of one plane with 4 bits per pixel). */
uint32_t vga_dispi_pitch(const uint16_t dispi[VGA_DISPI_COUNT]);
extern const RegionOps vga_dispi_ops, vga_mmio_ops;

/* ---- geometry (vga_geometry.c) --------------------------------------------------------------- */

typedef enum VgaMode {
    VGA_BLANK,
    VGA_TEXT,
    VGA_PLANAR,      /* 16 colours, one bit in each plane */
    VGA_INTERLEAVED, /* CGA: 4 colours, two bits of a byte */
    VGA_INDEXED,     /* 256 colours, four pixels at an address */
    VGA_LINEAR,      /* DISPI, 8 to 32 bits per pixel */
} VgaMode;

/* The registers, read as a picture. */
typedef struct VgaGeometry {
    VgaMode mode;
    unsigned width, height; /* pixels of the surface */
    unsigned columns;       /* characters, or addresses, of a line */
    unsigned cell_width;    /* pixels of a column */
    unsigned repeat;        /* scan lines that show the same */
    unsigned doubling;      /* scan lines for one row scan */
    unsigned row_scans;     /* row scans of a character row */
    unsigned preset_scan;
    unsigned split;          /* the last scan line before address 0 is shown */
    unsigned pan, split_pan; /* pixels */
    uint64_t start, pitch;   /* plane addresses; bytes when linear */
    uint32_t mask;           /* of plane addresses */
    unsigned bytes;          /* of a linear pixel */
} VgaGeometry;

/* A line of the surface. */
typedef struct VgaLine {
    uint64_t address; /* counter value of its first column; byte when linear */
    unsigned scan;    /* row scan in the character row */
    unsigned pan;
} VgaLine;

VgaGeometry vga_geometry(const Vga *vga);
VgaLine vga_line_at(const VgaGeometry *geometry, unsigned y);
/* Where the CRT controller's counter `address` points in the planes. */
uint32_t vga_plane_address(const Vga *vga, const VgaGeometry *geometry, uint64_t address,
                           unsigned scan);
/* Input status 1 without the diagnostic bits: display disabled (0), vertical retrace (3). */
uint8_t vga_retrace_status(const Vga *vga);

/* ---- drawing (vga_draw.c, vga_text.c) -------------------------------------------------------- */

extern const DisplaySource vga_display_source;
/* Blink phase from the clock: bit 0 the cursor's, bit 1 the characters'. */
unsigned vga_blink_phase(const Vga *vga);
void vga_draw_text_line(const Vga *vga, const VgaGeometry *geometry, const VgaLine *line,
                        const uint32_t palette[16], uint32_t *pixels);
char *vga_text(const Vga *vga);
