/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Text modes of a VGA: characters from planes 0 and 1, shapes from plane 2.
 * Source: IBM VGA, "Alphanumeric Modes", "Character Map Select", "Attribute Mode Control".
 */
#include "device/video/vga_private.h"

#include "base/bits.h"

/* ---- pixels ---------------------------------------------------------------------------------- */

/* A frame of 60 Hz; the cursor blinks every 8 of them, characters every 16. */
unsigned vga_blink_phase(const Vga *vga)
{
    int64_t frame = clock_now_ns(vga->pci.device.board->clock) * 60 / NS_PER_S;
    return frame / 8 & 3;
}

typedef struct TextStyle {
    uint32_t fonts[2]; /* plane 2 address, for attribute bit 3 clear and set */
    uint32_t cursor;   /* plane address of the cell */
    bool cursor_shown; /* on this row scan, in this blink phase */
    bool blink, blink_off;
    bool line_graphics, underline;
    unsigned width;
} TextStyle;

/* Map n is 16 KiB * (n & 3), plus 8 KiB for bit 2. */
static uint32_t font_address(unsigned map)
{
    return (map & 3) * 0x4000 + (map >> 2) * 0x2000;
}

static TextStyle text_style(const Vga *vga, const VgaGeometry *g, unsigned scan)
{
    const uint8_t *crtc = vga->crtc;
    unsigned fonts = vga->seq[SEQ_FONTS];
    unsigned first = crtc[CRTC_CURSOR_START] & 0x1f, last = crtc[CRTC_CURSOR_END] & 0x1f;
    bool off = crtc[CRTC_CURSOR_START] & 0x20;
    return (TextStyle){
        .fonts = {font_address((fonts & 3) | (fonts >> 2 & 4)),
                  font_address((fonts >> 2 & 3) | (fonts >> 3 & 4))},
        .cursor = (crtc[CRTC_CURSOR_HIGH] << 8 | crtc[CRTC_CURSOR_LOW]) & g->mask,
        .cursor_shown = !off && scan >= first && scan <= last && !(vga->blink_phase & 1),
        .blink = vga->attr[ATTR_MODE] & ATTR_MODE_BLINK,
        .blink_off = vga->blink_phase & 2,
        .line_graphics = vga->attr[ATTR_MODE] & ATTR_MODE_LINE_GRAPHICS,
        .underline = scan == (crtc[CRTC_UNDERLINE] & 0x1f),
        .width = g->cell_width,
    };
}

/* The dots of a cell on one row scan, the leftmost in bit 8. */
static unsigned cell_dots(const Vga *vga, const TextStyle *style, uint32_t address, uint8_t c,
                          uint8_t attribute, unsigned scan)
{
    uint32_t shape = (style->fonts[attribute >> 3 & 1] + c * 32 + scan) & VGA_PLANE_MASK;
    unsigned dots = vga->vram->host[shape * 4 + 2] << 1;
    if (style->line_graphics && c >= 0xc0 && c <= 0xdf)
        dots |= dots >> 1 & 1;
    if (style->blink && style->blink_off && attribute & 0x80)
        dots = 0;
    if (style->underline && (attribute & 0x77) == 0x01)
        dots = 0x1ff;
    if (style->cursor_shown && address == style->cursor)
        dots = 0x1ff;
    return dots;
}

void vga_draw_text_line(const Vga *vga, const VgaGeometry *g, const VgaLine *line,
                        const uint32_t palette[16], uint32_t *pixels)
{
    TextStyle style = text_style(vga, g, line->scan);
    for (unsigned i = 0; i <= g->columns; i++) {
        uint32_t address = (line->address + i) & g->mask;
        const uint8_t *cell = vga->vram->host + (uint64_t)address * 4;
        uint8_t c = cell[0], attribute = cell[1];
        unsigned dots = cell_dots(vga, &style, address, c, attribute, line->scan);
        uint32_t ink = palette[attribute & 0xf];
        uint32_t paper = palette[attribute >> 4 & (style.blink ? 7 : 15)];
        for (unsigned x = 0; x < style.width; x++)
            *pixels++ = dots << x & 0x100 ? ink : paper;
    }
}

/* ---- characters ------------------------------------------------------------------------------ */

static const uint16_t cp437_low[32] = {
    ' ',    0x263a, 0x263b, 0x2665, 0x2666, 0x2663, 0x2660, 0x2022, 0x25d8, 0x25cb, 0x25d9,
    0x2642, 0x2640, 0x266a, 0x266b, 0x263c, 0x25ba, 0x25c4, 0x2195, 0x203c, 0x00b6, 0x00a7,
    0x25ac, 0x21a8, 0x2191, 0x2193, 0x2192, 0x2190, 0x221f, 0x2194, 0x25b2, 0x25bc,
};
static const uint16_t cp437_high[128] = {
    0x00c7, 0x00fc, 0x00e9, 0x00e2, 0x00e4, 0x00e0, 0x00e5, 0x00e7, 0x00ea, 0x00eb, 0x00e8, 0x00ef,
    0x00ee, 0x00ec, 0x00c4, 0x00c5, 0x00c9, 0x00e6, 0x00c6, 0x00f4, 0x00f6, 0x00f2, 0x00fb, 0x00f9,
    0x00ff, 0x00d6, 0x00dc, 0x00a2, 0x00a3, 0x00a5, 0x20a7, 0x0192, 0x00e1, 0x00ed, 0x00f3, 0x00fa,
    0x00f1, 0x00d1, 0x00aa, 0x00ba, 0x00bf, 0x2310, 0x00ac, 0x00bd, 0x00bc, 0x00a1, 0x00ab, 0x00bb,
    0x2591, 0x2592, 0x2593, 0x2502, 0x2524, 0x2561, 0x2562, 0x2556, 0x2555, 0x2563, 0x2551, 0x2557,
    0x255d, 0x255c, 0x255b, 0x2510, 0x2514, 0x2534, 0x252c, 0x251c, 0x2500, 0x253c, 0x255e, 0x255f,
    0x255a, 0x2554, 0x2569, 0x2566, 0x2560, 0x2550, 0x256c, 0x2567, 0x2568, 0x2564, 0x2565, 0x2559,
    0x2558, 0x2552, 0x2553, 0x256b, 0x256a, 0x2518, 0x250c, 0x2588, 0x2584, 0x258c, 0x2590, 0x2580,
    0x03b1, 0x00df, 0x0393, 0x03c0, 0x03a3, 0x03c3, 0x00b5, 0x03c4, 0x03a6, 0x0398, 0x03a9, 0x03b4,
    0x221e, 0x03c6, 0x03b5, 0x2229, 0x2261, 0x00b1, 0x2265, 0x2264, 0x2320, 0x2321, 0x00f7, 0x2248,
    0x00b0, 0x2219, 0x00b7, 0x221a, 0x207f, 0x00b2, 0x25a0, ' ',
};

static gunichar from_cp437(uint8_t c)
{
    if (c < 32)
        return cp437_low[c];
    if (c == 127)
        return 0x2302;
    return c < 128 ? c : cp437_high[c - 128];
}

static void append_row(const Vga *vga, const VgaGeometry *g, uint64_t address, GString *text)
{
    gsize last = text->len;
    for (unsigned i = 0; i < g->columns; i++) {
        gunichar c = from_cp437(vga->vram->host[((address + i) & g->mask) * 4]);
        g_string_append_unichar(text, c);
        if (c != ' ')
            last = text->len;
    }
    g_string_truncate(text, last);
    g_string_append_c(text, '\n');
}

/* Lines end where their last visible character does. */
char *vga_text(const Vga *vga)
{
    VgaGeometry g = vga_geometry(vga);
    if (g.mode != VGA_TEXT)
        return NULL;
    GString *text = g_string_new(NULL);
    for (unsigned y = 0; y < g.height; y += g.row_scans)
        append_row(vga, &g, vga_line_at(&g, y).address, text);
    return g_string_free(text, FALSE);
}
