/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Draws the picture of a VGA into its display's surface.
 *
 * A line is drawn when memory under it changed (dirty pages) or anything else might have
 * (`redraw`), and compared with what the surface shows: only the difference is damage. Bytes are
 * read while the guest may be writing them; a torn line is drawn again at the next refresh.
 */
#include "device/video/vga_private.h"

#include "base/bits.h"

/* ---- colours --------------------------------------------------------------------------------- */

static uint32_t dac_color(const Vga *vga, unsigned index)
{
    const uint8_t *dac = vga->dac + (index & vga->dac_mask) * 3;
    uint32_t r = dac[0], g = dac[1], b = dac[2];
    if (!(vga->dispi[VGA_DISPI_ENABLE] & DISPI_8BIT_DAC)) {
        r = r << 2 | r >> 4;
        g = g << 2 | g >> 4;
        b = b << 2 | b >> 4;
    }
    return (r & 0xff) << 16 | (g & 0xff) << 8 | (b & 0xff);
}

/* Four bits of memory to a colour: plane enable, palette, colour select, DAC. */
static uint32_t attribute_color(const Vga *vga, unsigned index)
{
    unsigned select = vga->attr[ATTR_COLOR_SELECT];
    unsigned color = vga->attr[index & vga->attr[ATTR_PLANES] & 0xf];
    if (vga->attr[ATTR_MODE] & ATTR_MODE_COLOR_SELECT)
        color = (color & 0x0f) | (select & 3) << 4;
    return dac_color(vga, (color & 0x3f) | (select >> 2 & 3) << 6);
}

static void fill_palette(const Vga *vga, const VgaGeometry *g, uint32_t palette[256])
{
    bool direct = g->mode == VGA_INDEXED || g->mode == VGA_LINEAR;
    for (unsigned i = 0; i < (direct ? 256 : 16); i++)
        palette[i] = direct ? dac_color(vga, i) : attribute_color(vga, i);
}

/* ---- lines of planes ------------------------------------------------------------------------- */

static void draw_planar_cell(uint32_t planes, const uint32_t *palette, uint32_t *pixels)
{
    for (unsigned x = 0; x < 8; x++, planes <<= 1)
        pixels[x] = palette[(planes >> 7 & 1) | (planes >> 14 & 2) | (planes >> 21 & 4) |
                            (planes >> 28 & 8)];
}

/* Planes 0 and 1 hold the low bits of four pixels each, 2 and 3 the high ones. */
static void draw_interleaved_cell(uint32_t planes, const uint32_t *palette, uint32_t *pixels)
{
    for (unsigned x = 0; x < 8; x++) {
        unsigned low = planes >> (x < 4 ? 0 : 8) & 0xff, high = planes >> (x < 4 ? 16 : 24) & 0xff;
        unsigned shift = 6 - 2 * (x & 3);
        pixels[x] = palette[(low >> shift & 3) | (high >> shift & 3) << 2];
    }
}

static void draw_indexed_cell(uint32_t planes, const uint32_t *palette, uint32_t *pixels)
{
    for (unsigned x = 0; x < 4; x++, planes >>= 8)
        pixels[x] = palette[planes & 0xff];
}

typedef void (*DrawCellFn)(uint32_t planes, const uint32_t *palette, uint32_t *pixels);
static const DrawCellFn draw_cell[] = {
    [VGA_PLANAR] = draw_planar_cell,
    [VGA_INTERLEAVED] = draw_interleaved_cell,
    [VGA_INDEXED] = draw_indexed_cell,
};

/* One column more than shown: panning brings it into sight. */
static void draw_plane_line(const Vga *vga, const VgaGeometry *g, const VgaLine *line,
                            const uint32_t *palette, uint32_t *pixels)
{
    for (unsigned i = 0; i <= g->columns; i++, pixels += g->cell_width) {
        uint64_t address = vga_plane_address(vga, g, line->address + i, line->scan);
        draw_cell[g->mode](load_le32(vga->vram->host + address * 4), palette, pixels);
    }
}

/* ---- linear lines ---------------------------------------------------------------------------- */

static uint32_t from_555(uint32_t p)
{
    uint32_t r = p >> 10 & 0x1f, g = p >> 5 & 0x1f, b = p & 0x1f;
    return (r << 3 | r >> 2) << 16 | (g << 3 | g >> 2) << 8 | (b << 3 | b >> 2);
}

static uint32_t from_565(uint32_t p)
{
    uint32_t r = p >> 11 & 0x1f, g = p >> 5 & 0x3f, b = p & 0x1f;
    return (r << 3 | r >> 2) << 16 | (g << 2 | g >> 4) << 8 | (b << 3 | b >> 2);
}

static void convert_16(const Vga *vga, const uint8_t *from, unsigned count, uint32_t *pixels)
{
    bool five = vga->dispi[VGA_DISPI_BPP] == 15;
    for (unsigned x = 0; x < count; x++, from += 2) {
        uint32_t p = vga->big_endian ? load_be16(from) : load_le16(from);
        pixels[x] = five ? from_555(p) : from_565(p);
    }
}

static void convert_24(const Vga *vga, const uint8_t *from, unsigned count, uint32_t *pixels)
{
    unsigned red = vga->big_endian ? 0 : 2;
    for (unsigned x = 0; x < count; x++, from += 3)
        pixels[x] = (uint32_t)from[red] << 16 | from[1] << 8 | from[2 - red];
}

static void convert_32(const Vga *vga, const uint8_t *from, unsigned count, uint32_t *pixels)
{
    for (unsigned x = 0; x < count; x++, from += 4)
        pixels[x] = (vga->big_endian ? load_be32(from) : load_le32(from)) & 0xffffff;
}

static void convert_linear(const Vga *vga, const uint8_t *from, unsigned count,
                           const uint32_t *palette, uint32_t *pixels)
{
    switch (vga->dispi[VGA_DISPI_BPP]) {
    case 15:
    case 16:
        convert_16(vga, from, count, pixels);
        break;
    case 24:
        convert_24(vga, from, count, pixels);
        break;
    case 32:
        convert_32(vga, from, count, pixels);
        break;
    default:
        for (unsigned x = 0; x < count; x++)
            pixels[x] = palette[from[x]];
        break;
    }
}

/* The frame buffer wraps at the end of memory, in the middle of a line or even of a pixel. */
static void draw_linear_line(const Vga *vga, const VgaGeometry *g, const VgaLine *line,
                             const uint32_t *palette, uint32_t *pixels)
{
    uint64_t offset = line->address & (vga->vram_size - 1), bytes = (uint64_t)g->width * g->bytes;
    if (offset + bytes <= vga->vram_size) {
        convert_linear(vga, vga->vram->host + offset, g->width, palette, pixels);
        return;
    }
    uint64_t head = vga->vram_size - offset;
    g_autofree uint8_t *joined = g_malloc(bytes);
    memcpy(joined, vga->vram->host + offset, head);
    memcpy(joined + head, vga->vram->host, bytes - head);
    convert_linear(vga, joined, g->width, palette, pixels);
}

/* ---- damage ---------------------------------------------------------------------------------- */

/* Changed lines that follow each other become one rectangle. */
typedef struct Damage {
    unsigned left, right, top, bottom; /* right and bottom are the first outside */
} Damage;

static void damage_flush(Vga *vga, Damage *damage)
{
    if (damage->top < damage->bottom)
        display_damage(vga->display, damage->left, damage->top, damage->right - damage->left,
                       damage->bottom - damage->top);
    *damage = (Damage){0};
}

static void damage_add(Vga *vga, Damage *damage, unsigned y, unsigned left, unsigned right)
{
    if (damage->bottom != y)
        damage_flush(vga, damage);
    if (damage->top == damage->bottom)
        *damage = (Damage){left, right, y, y + 1};
    *damage = (Damage){MIN(damage->left, left), MAX(damage->right, right), damage->top, y + 1};
}

static void show_line(Vga *vga, Surface *surface, unsigned y, const uint32_t *pixels,
                      Damage *damage)
{
    uint32_t *to = surface->pixels + (size_t)y * surface->stride;
    unsigned left = 0, right = surface->width;
    if (!memcmp(to, pixels, right * sizeof(*to)))
        return;
    while (to[left] == pixels[left])
        left++;
    while (to[right - 1] == pixels[right - 1])
        right--;
    memcpy(to + left, pixels + left, (right - left) * sizeof(*to));
    damage_add(vga, damage, y, left, right);
}

/* ---- refresh --------------------------------------------------------------------------------- */

/* The pages that changed since the last refresh, as a flag for each page of memory. */
static bool take_dirty(Vga *vga, const VgaGeometry *g, uint8_t *dirty)
{
    uint64_t start = 0, size = MIN(vga->vram_size, KIB(256));
    if (vga_dispi_enabled(vga)) {
        start = align_down(g->mode == VGA_LINEAR ? g->start : g->start * 4, GUEST_PAGE_SIZE);
        size =
            align_up(g->pitch * g->height * (g->mode == VGA_LINEAR ? 1 : 4) + GUEST_PAGE_SIZE * 2,
                     GUEST_PAGE_SIZE);
    }
    if (start >= vga->vram_size || size > vga->vram_size - start) {
        start = 0;
        size = vga->vram_size;
    }
    g_autoptr(GArray) pages = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    ram_take_dirty(vga->vram, RAM_CLEAN_DISPLAY, start, size, pages);
    for (unsigned i = 0; i < pages->len; i++)
        dirty[g_array_index(pages, uint64_t, i)] = 1;
    return pages->len > 0;
}

static bool linear_line_dirty(const Vga *vga, const VgaGeometry *g, const VgaLine *line,
                              const uint8_t *dirty)
{
    uint64_t first = line->address >> GUEST_PAGE_SHIFT;
    uint64_t last = (line->address + (uint64_t)g->width * g->bytes - 1) >> GUEST_PAGE_SHIFT;
    uint64_t mask = (vga->vram_size >> GUEST_PAGE_SHIFT) - 1;
    for (uint64_t page = first; page <= last; page++)
        if (dirty[page & mask])
            return true;
    return false;
}

static void draw_line(Vga *vga, const VgaGeometry *g, const VgaLine *line, const uint32_t *palette)
{
    switch (g->mode) {
    case VGA_BLANK:
        memset(vga->line, 0, g->width * sizeof(*vga->line));
        break;
    case VGA_TEXT:
        vga_draw_text_line(vga, g, line, palette, vga->line);
        break;
    case VGA_LINEAR:
        draw_linear_line(vga, g, line, palette, vga->line);
        break;
    default:
        draw_plane_line(vga, g, line, palette, vga->line);
        break;
    }
}

static void draw_lines(Vga *vga, const VgaGeometry *g, Surface *surface, const uint8_t *dirty)
{
    uint32_t palette[256];
    Damage damage = {0};
    fill_palette(vga, g, palette);
    for (unsigned y = 0; y < g->height; y++) {
        VgaLine line = vga_line_at(g, y);
        if (dirty && g->mode == VGA_LINEAR && !linear_line_dirty(vga, g, &line, dirty))
            continue;
        draw_line(vga, g, &line, palette);
        show_line(vga, surface, y, vga->line + line.pan, &damage);
    }
    damage_flush(vga, &damage);
}

/* Blank screens keep their size: modes are set with the screen off, in many steps. */
static Surface *fitting_surface(Vga *vga, VgaGeometry *g, bool *ret_new)
{
    Surface *surface = display_surface(vga->display);
    if (surface && g->mode == VGA_BLANK) {
        g->width = surface->width;
        g->height = surface->height;
    } else if (!surface && g->mode == VGA_BLANK) {
        g->width = 720;
        g->height = 400;
    }
    *ret_new = !surface || surface->width != g->width || surface->height != g->height;
    return *ret_new ? display_resize(vga->display, g->width, g->height) : surface;
}

static void vga_refresh(void *obj)
{
    Vga *vga = obj;
    VgaGeometry g = vga_geometry(vga);
    bool all = false;
    Surface *surface = fitting_surface(vga, &g, &all);
    g_autofree uint8_t *dirty = g_malloc0(vga->vram_size >> GUEST_PAGE_SHIFT);
    bool memory_changed = take_dirty(vga, &g, dirty);
    unsigned phase = vga_blink_phase(vga);
    all |= vga->redraw || (g.mode == VGA_TEXT && phase != vga->blink_phase);
    vga->blink_phase = phase;
    vga->redraw = false;
    if (all || memory_changed)
        draw_lines(vga, &g, surface, all ? NULL : dirty);
}

static char *source_text(void *obj)
{
    return vga_text(obj);
}

const DisplaySource vga_display_source = {.refresh = vga_refresh, .text = source_text};
