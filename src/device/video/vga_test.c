/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The VGA against independent models: planes as four arrays for the data path, font bits for text,
 * colours computed from the pattern that was drawn.
 */
#include "base/bits.h"
#include "device/test_board.h"
#include "device/video/vga.h"

#define VGA_BIOS "/usr/share/seabios/vgabios-stdvga.bin"
#define LFB      UINT64_C(0xfd000000)
#define MMIO     UINT64_C(0xfebf0000)

typedef struct Box {
    unsigned x, y, right, bottom;
} Box;

typedef struct Fixture {
    TestBoard *board;
    PciBus *bus;
    Display *display;
    Vga *vga;
    Box damage; /* around all damage since clear_damage() */
    unsigned damages, resizes;
} Fixture;

/* ---- fixture --------------------------------------------------------------------------------- */

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

static void clear_damage(Fixture *f)
{
    f->damage = (Box){UINT_MAX, UINT_MAX, 0, 0};
    f->damages = 0;
}

static void set_up(Fixture *f, gconstpointer unused)
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
    clear_damage(f);
}

static void tear_down(Fixture *f, gconstpointer unused)
{
    display_remove_listener(f->display, &listener, f);
    pci_bus_free(f->bus);
    device_free(&f->vga->pci.device);
    display_free(f->display);
    test_board_free(f->board);
}

static void out(Fixture *f, unsigned port, uint8_t value)
{
    test_out(f->board, port, 1, value);
}

static uint8_t in(Fixture *f, unsigned port)
{
    return test_in(f->board, port, 1);
}

static void seq(Fixture *f, uint8_t index, uint8_t value)
{
    test_out(f->board, 0x3c4, 2, index | value << 8);
}

static void gfx(Fixture *f, uint8_t index, uint8_t value)
{
    test_out(f->board, 0x3ce, 2, index | value << 8);
}

static void crtc(Fixture *f, uint8_t index, uint8_t value)
{
    test_out(f->board, 0x3d4, 2, index | value << 8);
}

static void attr(Fixture *f, uint8_t index, uint8_t value)
{
    in(f, 0x3da);
    out(f, 0x3c0, index);
    out(f, 0x3c0, value);
    out(f, 0x3c0, 0x20);
}

static void dispi(Fixture *f, uint16_t index, uint16_t value)
{
    test_out(f->board, 0x1ce, 2, index);
    test_out(f->board, 0x1cf, 2, value);
}

static uint16_t dispi_get(Fixture *f, uint16_t index)
{
    test_out(f->board, 0x1ce, 2, index);
    return test_in(f->board, 0x1d0, 2);
}

static void poke(Fixture *f, uint64_t address, uint8_t value)
{
    space_store(f->board->board.memory, address, 1, value);
}

static uint8_t peek(Fixture *f, uint64_t address)
{
    return space_load(f->board->board.memory, address, 1);
}

static uint32_t pixel(Fixture *f, unsigned x, unsigned y)
{
    const Surface *s = display_surface(f->display);
    g_assert_cmpuint(x, <, s->width);
    g_assert_cmpuint(y, <, s->height);
    return s->pixels[y * s->stride + x];
}

static void assert_size(Fixture *f, unsigned width, unsigned height)
{
    const Surface *s = display_surface(f->display);
    g_assert_cmpuint(s->width, ==, width);
    g_assert_cmpuint(s->height, ==, height);
}

/* Registers of a BIOS mode (IBM VGA, "Video Mode Register Values"). */
typedef struct ModeTable {
    uint8_t misc, seq[5], crtc[25], gfx[9], attr[21];
} ModeTable;

static const ModeTable mode_04 = {
    0x63,
    {0x03, 0x09, 0x03, 0x00, 0x02},
    {0x2d, 0x27, 0x28, 0x90, 0x2b, 0x80, 0xbf, 0x1f, 0x00, 0xc1, 0x00, 0x00, 0x00,
     0x00, 0x00, 0x00, 0x9c, 0x8e, 0x8f, 0x14, 0x00, 0x96, 0xb9, 0xa2, 0xff},
    {0x00, 0x00, 0x00, 0x00, 0x00, 0x30, 0x0f, 0x0f, 0xff},
    {0x00, 0x13, 0x15, 0x17, 0x02, 0x04, 0x06, 0x07, 0x10, 0x11, 0x12,
     0x13, 0x14, 0x15, 0x16, 0x17, 0x01, 0x00, 0x03, 0x00, 0x00},
};
static const ModeTable mode_12 = {
    0xe3,
    {0x03, 0x01, 0x0f, 0x00, 0x06},
    {0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0x0b, 0x3e, 0x00, 0x40, 0x00, 0x00, 0x00,
     0x00, 0x00, 0x00, 0xea, 0x8c, 0xdf, 0x28, 0x00, 0xe7, 0x04, 0xe3, 0xff},
    {0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x05, 0x0f, 0xff},
    {0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x14, 0x07, 0x38, 0x39, 0x3a,
     0x3b, 0x3c, 0x3d, 0x3e, 0x3f, 0x01, 0x00, 0x0f, 0x00, 0x00},
};
static const ModeTable mode_13 = {
    0x63,
    {0x03, 0x01, 0x0f, 0x00, 0x0e},
    {0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0xbf, 0x1f, 0x00, 0x41, 0x00, 0x00, 0x00,
     0x00, 0x00, 0x00, 0x9c, 0x8e, 0x8f, 0x28, 0x40, 0x96, 0xb9, 0xa3, 0xff},
    {0x00, 0x00, 0x00, 0x00, 0x00, 0x40, 0x05, 0x0f, 0xff},
    {0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a,
     0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 0x41, 0x00, 0x0f, 0x00, 0x00},
};

/* DAC entry n shows as this: distinct for each n. */
static uint32_t test_color(unsigned n)
{
    uint32_t r = n & 0x3f, g = (n >> 2 & 0x3f) ^ 0x15, b = (n * 5 + 9) & 0x3f;
    return (r << 2 | r >> 4) << 16 | (g << 2 | g >> 4) << 8 | (b << 2 | b >> 4);
}

static void fill_dac(Fixture *f)
{
    out(f, 0x3c8, 0);
    for (unsigned n = 0; n < 256; n++) {
        out(f, 0x3c9, n & 0x3f);
        out(f, 0x3c9, (n >> 2 & 0x3f) ^ 0x15);
        out(f, 0x3c9, (n * 5 + 9) & 0x3f);
    }
}

static void set_mode(Fixture *f, const ModeTable *mode)
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
    fill_dac(f);
}

/* ---- the data path --------------------------------------------------------------------------- */

typedef struct PlaneModel {
    uint8_t plane[4][65536], latch[4];
    uint8_t set_reset, enable, compare, function, rotate, read_map, write_mode, read_mode, care,
        bit_mask, map_mask;
} PlaneModel;

static uint8_t model_rotate(const PlaneModel *m, uint8_t value)
{
    for (unsigned i = 0; i < m->rotate; i++)
        value = value >> 1 | (value & 1) << 7;
    return value;
}

/* One bit at a time, as the data sheet tells it. */
static bool model_bit(const PlaneModel *m, uint8_t value, unsigned p, unsigned bit)
{
    bool latch = m->latch[p] >> bit & 1, mask = m->bit_mask >> bit & 1, data;
    bool set = m->set_reset >> p & 1;
    switch (m->write_mode) {
    case 0:
        data = m->enable >> p & 1 ? set : model_rotate(m, value) >> bit & 1;
        break;
    case 1:
        return latch;
    case 2:
        data = value >> p & 1;
        break;
    default:
        data = set;
        mask = mask && (model_rotate(m, value) >> bit & 1);
        break;
    }
    bool results[4] = {data, data && latch, data || latch, data != latch};
    return mask ? results[m->function] : latch;
}

static void model_write(PlaneModel *m, unsigned address, uint8_t value)
{
    for (unsigned p = 0; p < 4; p++) {
        uint8_t byte = 0;
        for (unsigned bit = 0; bit < 8; bit++)
            byte |= model_bit(m, value, p, bit) ? 1u << bit : 0;
        if (m->map_mask >> p & 1)
            m->plane[p][address] = byte;
    }
}

static uint8_t model_read(PlaneModel *m, unsigned address)
{
    uint8_t result = 0;
    for (unsigned p = 0; p < 4; p++)
        m->latch[p] = m->plane[p][address];
    if (!m->read_mode)
        return m->latch[m->read_map];
    for (unsigned bit = 0; bit < 8; bit++) {
        bool equal = true;
        for (unsigned p = 0; p < 4; p++)
            if (m->care >> p & 1 && (m->latch[p] >> bit & 1) != (m->compare >> p & 1))
                equal = false;
        result |= equal << bit;
    }
    return result;
}

static void randomize(Fixture *f, PlaneModel *m)
{
    uint32_t r = g_test_rand_int(), s = g_test_rand_int();
    m->set_reset = r & 15, m->enable = r >> 4 & 15, m->compare = r >> 8 & 15;
    m->function = r >> 12 & 3, m->rotate = r >> 14 & 7, m->read_map = r >> 17 & 3;
    m->write_mode = r >> 19 & 3, m->read_mode = r >> 21 & 1, m->care = r >> 22 & 15;
    m->map_mask = r >> 26 & 15, m->bit_mask = s;
    uint8_t values[9] = {m->set_reset, m->enable,
                         m->compare,   m->function << 3 | m->rotate,
                         m->read_map,  m->read_mode << 3 | m->write_mode,
                         0x05,         m->care,
                         m->bit_mask};
    for (unsigned i = 0; i < 9; i++)
        gfx(f, i, values[i]);
    seq(f, 2, m->map_mask);
}

static void test_data_path(Fixture *f, gconstpointer unused)
{
    g_autofree PlaneModel *m = g_new0(PlaneModel, 1);
    set_mode(f, &mode_12);
    for (unsigned i = 0; i < 20000; i++) {
        unsigned address = g_test_rand_int_range(0, 8) * 0x2001;
        uint8_t value = g_test_rand_int();
        if (i % 8 == 0)
            randomize(f, m);
        if (g_test_rand_bit()) {
            poke(f, 0xa0000 + address, value);
            model_write(m, address, value);
        } else {
            g_assert_cmphex(peek(f, 0xa0000 + address), ==, model_read(m, address));
        }
    }
}

/* ---- modes ----------------------------------------------------------------------------------- */

static void test_planar(Fixture *f, gconstpointer unused)
{
    set_mode(f, &mode_12);
    for (unsigned p = 0; p < 4; p++) {
        seq(f, 2, 1 << p);
        for (unsigned i = 0; i < 38400; i++)
            poke(f, 0xa0000 + i, (i * 7 + (i >> 8) * (p + 3)) >> p);
    }
    display_refresh(f->display);
    assert_size(f, 640, 480);
    for (unsigned y = 0; y < 480; y++) {
        for (unsigned x = 0; x < 640; x++) {
            unsigned i = y * 80 + x / 8, color = 0;
            for (unsigned p = 0; p < 4; p++)
                color |= (((i * 7 + (i >> 8) * (p + 3)) >> p) >> (7 - x % 8) & 1) << p;
            g_assert_cmphex(pixel(f, x, y), ==, test_color(mode_12.attr[color]));
        }
    }
    /* Plane enable, PEL mask and colour select are on the way to the DAC. */
    attr(f, 0x12, 0x03);
    attr(f, 0x10, 0x81);
    attr(f, 0x14, 0x0e);
    out(f, 0x3c6, 0x7f);
    display_refresh(f->display);
    unsigned color = (7 >> 7 & 1); /* byte 1 of planes 0 and 1 is 7 and 3 */
    g_assert_cmphex(pixel(f, 8, 0), ==, test_color((mode_12.attr[color] & 0xf) | 0x60));
    g_assert_cmphex(pixel(f, 13, 0), ==, test_color((mode_12.attr[1] & 0xf) | 0x60));
    g_assert_cmphex(pixel(f, 14, 0), ==, test_color((mode_12.attr[3] & 0xf) | 0x60));
}

static void test_split_and_pan(Fixture *f, gconstpointer unused)
{
    set_mode(f, &mode_12);
    seq(f, 2, 0x0f);
    for (unsigned y = 0; y < 480; y++)
        poke(f, 0xa0000 + y * 80, y == 100 ? 0x80 : y == 0 ? 0x40 : 0); /* a dot in lines 0, 100 */
    crtc(f, 0x0c, 100 * 80 >> 8);
    crtc(f, 0x0d, 100 * 80 & 0xff);
    crtc(f, 0x18, 199); /* address 0 is shown from scan line 200 on */
    crtc(f, 0x07, 0x2e);
    crtc(f, 0x09, 0x00);
    display_refresh(f->display);
    uint32_t white = test_color(mode_12.attr[15]), black = test_color(mode_12.attr[0]);
    g_assert_cmphex(pixel(f, 0, 0), ==, white);
    g_assert_cmphex(pixel(f, 1, 0), ==, black);
    g_assert_cmphex(pixel(f, 1, 199), ==, black);
    g_assert_cmphex(pixel(f, 1, 200), ==, white);
    g_assert_cmphex(pixel(f, 0, 300), ==, white);
    attr(f, 0x13, 1); /* pan by one: the split half too, unless told otherwise */
    display_refresh(f->display);
    g_assert_cmphex(pixel(f, 0, 0), ==, black);
    g_assert_cmphex(pixel(f, 0, 200), ==, white);
    attr(f, 0x10, 0x21);
    display_refresh(f->display);
    g_assert_cmphex(pixel(f, 0, 200), ==, black);
    g_assert_cmphex(pixel(f, 1, 200), ==, white);
}

static void test_cga(Fixture *f, gconstpointer unused)
{
    set_mode(f, &mode_04);
    gfx(f, 6, 0x0f); /* window at 0xb8000 */
    for (unsigned i = 0; i < 0x4000; i++)
        poke(f, 0xb8000 + i, i * 11 + (i >> 13) * 5);
    display_refresh(f->display);
    assert_size(f, 320, 200);
    for (unsigned y = 0; y < 200; y++) {
        for (unsigned x = 0; x < 320; x++) {
            unsigned i = (y & 1) * 0x2000 + y / 2 * 80 + x / 4;
            uint8_t byte = i * 11 + (i >> 13) * 5;
            unsigned color = byte >> (6 - x % 4 * 2) & 3;
            g_assert_cmphex(pixel(f, x, y), ==, test_color(mode_04.attr[color]));
        }
    }
    g_assert_cmphex(peek(f, 0xb8003), ==, 33);
    g_assert_cmphex(peek(f, 0xa0003), ==, 0xff);
}

static void test_mode_13(Fixture *f, gconstpointer unused)
{
    set_mode(f, &mode_13);
    g_assert_true(space_lookup(f->board->board.memory, 0xa0000).region->kind == REGION_RAM);
    for (unsigned i = 0; i < 64000; i++)
        poke(f, 0xa0000 + i, i * 13 >> 3);
    display_refresh(f->display);
    assert_size(f, 320, 200);
    for (unsigned i = 0; i < 64000; i++)
        g_assert_cmphex(pixel(f, i % 320, i / 320), ==, test_color(i * 13 >> 3 & 0xff));
    gfx(f, 8, 0x0f); /* the data path does something: no RAM any more */
    g_assert_true(space_lookup(f->board->board.memory, 0xa0000).region->kind == REGION_IO);
    poke(f, 0xa0000, 0x00);
    peek(f, 0xa0004);
    poke(f, 0xa0005, 0xaa); /* low half from the CPU, high half from the latch of plane 1 */
    g_assert_cmphex(peek(f, 0xa0005), ==, 0x0a | ((5 * 13 >> 3) & 0xf0));
    gfx(f, 8, 0xff);
    g_assert_true(space_lookup(f->board->board.memory, 0xa0000).region->kind == REGION_RAM);
}

/* Unchained: four pixels at an address, one in each plane; 400 lines by turning doubling off. */
static void test_mode_x(Fixture *f, gconstpointer unused)
{
    set_mode(f, &mode_13);
    seq(f, 4, 0x06);
    crtc(f, 0x14, 0x00);
    crtc(f, 0x17, 0xe3);
    crtc(f, 0x09, 0x40);
    for (unsigned p = 0; p < 4; p++) {
        seq(f, 2, 1 << p);
        for (unsigned i = 0; i < 32000; i++)
            poke(f, 0xa0000 + i, i * 3 + p * 64 + (i >> 8));
    }
    display_refresh(f->display);
    assert_size(f, 320, 400);
    for (unsigned y = 0; y < 400; y++) {
        for (unsigned x = 0; x < 320; x++) {
            unsigned i = y * 80 + x / 4;
            g_assert_cmphex(pixel(f, x, y), ==, test_color((i * 3 + x % 4 * 64 + (i >> 8)) & 0xff));
        }
    }
}

/* ---- text ------------------------------------------------------------------------------------ */

/* A made-up font: what row `scan` of character `c` looks like. */
static uint8_t font_row(unsigned c, unsigned scan)
{
    return c * 29 + scan * 71 + (c ^ scan);
}

static void load_font(Fixture *f)
{
    seq(f, 2, 0x04);
    seq(f, 4, 0x07);
    gfx(f, 5, 0x00);
    gfx(f, 6, 0x04);
    for (unsigned c = 0; c < 256; c++)
        for (unsigned scan = 0; scan < 16; scan++)
            poke(f, 0xa0000 + c * 32 + scan, font_row(c, scan));
    seq(f, 2, 0x03);
    seq(f, 4, 0x02);
    gfx(f, 5, 0x10);
    gfx(f, 6, 0x0e);
}

static void put_cell(Fixture *f, unsigned x, unsigned y, uint8_t c, uint8_t attribute)
{
    poke(f, 0xb8000 + (y * 80 + x) * 2, c);
    poke(f, 0xb8000 + (y * 80 + x) * 2 + 1, attribute);
}

static void assert_cell(Fixture *f, unsigned x, unsigned y, uint8_t c, uint8_t ink, uint8_t paper)
{
    static const uint8_t ega[16] = {0, 1, 2, 3, 4, 5, 20, 7, 56, 57, 58, 59, 60, 61, 62, 63};
    for (unsigned scan = 0; scan < 16; scan++) {
        uint8_t row = font_row(c, scan);
        for (unsigned dot = 0; dot < 9; dot++) {
            bool set = dot < 8 ? row >> (7 - dot) & 1 : c >= 0xc0 && c < 0xe0 && row & 1;
            g_assert_cmphex(pixel(f, x * 9 + dot, y * 16 + scan), ==,
                            test_color(ega[set ? ink : paper]));
        }
    }
}

static void start_text(Fixture *f)
{
    vga_set_text_mode(f->vga);
    fill_dac(f);
    load_font(f);
    crtc(f, 0x0a, 0x20); /* no cursor */
}

static void test_text(Fixture *f, gconstpointer unused)
{
    start_text(f);
    for (unsigned i = 0; i < 2000; i++)
        put_cell(f, i % 80, i / 80, i * 7, i & 0x7f);
    display_refresh(f->display);
    assert_size(f, 720, 400);
    for (unsigned i = 0; i < 2000; i++)
        assert_cell(f, i % 80, i / 80, i * 7, i & 0xf, i >> 4 & 7);
    g_assert_cmphex(peek(f, 0xb8000 + 6), ==, 21);
    clear_damage(f);
    put_cell(f, 10, 3, 'Q', 0x1e);
    put_cell(f, 12, 3, 'Q', 0x1e);
    display_refresh(f->display);
    assert_cell(f, 10, 3, 'Q', 14, 1);
    g_assert_cmpuint(f->damage.x, >=, 90);
    g_assert_cmpuint(f->damage.right, <=, 117);
    g_assert_cmpuint(f->damage.y, ==, 48);
    g_assert_cmpuint(f->damage.bottom, ==, 64);
    clear_damage(f);
    display_refresh(f->display);
    g_assert_cmpuint(f->damages, ==, 0);
}

static void test_text_cursor_and_blink(Fixture *f, gconstpointer unused)
{
    start_text(f);
    put_cell(f, 5, 2, 'A', 0x07);
    put_cell(f, 6, 2, 'B', 0x87);
    crtc(f, 0x0a, 0x0d);
    crtc(f, 0x0b, 0x0e);
    crtc(f, 0x0f, 165);
    display_refresh(f->display);
    for (unsigned dot = 0; dot < 9; dot++) {
        g_assert_cmphex(pixel(f, 45 + dot, 32 + 13), ==, test_color(7));
        g_assert_cmphex(pixel(f, 45 + dot, 32 + 14), ==, test_color(7));
    }
    g_assert_cmphex(pixel(f, 45 + 8, 32 + 12), ==, test_color(0));
    g_assert_cmphex(pixel(f, 45 + 8, 32 + 15), ==, test_color(0));
    assert_cell(f, 6, 2, 'B', 7, 0);
    clear_damage(f);
    clock_advance(f->board->board.clock, 140 * NS_PER_MS); /* 8 frames of 60 Hz */
    display_refresh(f->display);
    assert_cell(f, 5, 2, 'A', 7, 0);
    g_assert_cmpuint(f->damage.y, ==, 32 + 13);
    g_assert_cmpuint(f->damage.bottom, ==, 32 + 15);
    clock_advance(f->board->board.clock, 135 * NS_PER_MS); /* 16 frames: characters, too */
    display_refresh(f->display);
    assert_cell(f, 6, 2, 'B', 0, 0);
    attr(f, 0x10, 0x04); /* no blinking: bit 7 is the brightness of the paper */
    display_refresh(f->display);
    assert_cell(f, 6, 2, 'B', 7, 8);
}

static void test_text_scroll(Fixture *f, gconstpointer unused)
{
    start_text(f);
    for (unsigned y = 0; y < 26; y++)
        put_cell(f, 0, y, 'a' + y, 0x07);
    crtc(f, 0x0d, 80);
    display_refresh(f->display);
    assert_cell(f, 0, 0, 'b', 7, 0);
    assert_cell(f, 0, 24, 'z', 7, 0);
    crtc(f, 0x08, 3); /* smooth: three rows of dots up */
    display_refresh(f->display);
    g_assert_cmphex(pixel(f, 0, 0), ==, test_color(font_row('b', 3) & 0x80 ? 7 : 0));
    g_assert_cmphex(pixel(f, 3, 13), ==, test_color(font_row('c', 0) & 0x10 ? 7 : 0));
}

static void test_text_second_font(Fixture *f, gconstpointer unused)
{
    start_text(f);
    seq(f, 2, 0x04);
    seq(f, 4, 0x07);
    gfx(f, 6, 0x04);
    gfx(f, 5, 0x00);
    poke(f, 0xa2000 + 'x' * 32, 0xa5); /* map 4: bit 2 of the number is 8 KiB */
    seq(f, 2, 0x03);
    seq(f, 4, 0x02);
    gfx(f, 5, 0x10);
    gfx(f, 6, 0x0e);
    seq(f, 3, 0x20); /* attribute bit 3 chooses map 4 */
    put_cell(f, 0, 0, 'x', 0x0f);
    display_refresh(f->display);
    for (unsigned dot = 0; dot < 8; dot++)
        g_assert_cmphex(pixel(f, dot, 0), ==, test_color(0xa5 << dot & 0x80 ? 63 : 0));
}

static void test_text_utf8(Fixture *f, gconstpointer unused)
{
    static const uint8_t cells[] = {'H', 0x84, 'n', 0xc9, 0xcd, 0xbb, ' ', 0xe1, ' ', ' '};
    start_text(f);
    for (unsigned i = 0; i < sizeof(cells); i++)
        put_cell(f, i, 1, cells[i], 7);
    g_autofree char *text = display_text(f->display);
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    g_assert_cmpuint(g_strv_length(lines), ==, 26); /* 25 and what follows the last newline */
    g_assert_cmpstr(lines[0], ==, "");
    g_assert_cmpstr(lines[1], ==, "H\u00e4n\u2554\u2550\u2557 \u00df");
    set_mode(f, &mode_13);
    g_assert_null(display_text(f->display));
}

/* The BIOS's own font: the letter A is the familiar one. */
static void test_bios_font(Fixture *f, gconstpointer unused)
{
    static const uint8_t a[16] = {0, 0, 0x10, 0x38, 0x6c, 0xc6, 0xc6, 0xfe, 0xc6, 0xc6, 0xc6, 0xc6};
    if (!f->vga->rom_path) {
        g_test_skip("no " VGA_BIOS);
        return;
    }
    g_assert_true(vga_set_text_mode(f->vga));
    crtc(f, 0x0a, 0x20);
    put_cell(f, 0, 0, 'A', 0x0f);
    display_refresh(f->display);
    for (unsigned scan = 0; scan < 16; scan++)
        for (unsigned dot = 0; dot < 8; dot++)
            g_assert_cmphex(pixel(f, dot, scan), ==, a[scan] << dot & 0x80 ? 0xffffff : 0);
    /* As in the BIOS's palette: brown is no dark yellow. */
    put_cell(f, 0, 0, 0xdb, 0x06);
    display_refresh(f->display);
    g_assert_cmphex(pixel(f, 0, 0), ==, 0xaa5500);
}

/* ---- VBE ------------------------------------------------------------------------------------- */

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
        assert_size(f, 640, 480);
        g_assert_cmphex(pixel(f, 639, 479), ==, rows[i].color);
        g_assert_cmphex(pixel(f, 638, 479), ==, 0);
    }
    space_store(f->board->board.memory, MMIO + 0x604, 4, 0xbebebebe);
    g_assert_cmphex(space_load(f->board->board.memory, MMIO + 0x604, 4), ==, 0xbebebebe);
    display_refresh(f->display);
    g_assert_cmphex(pixel(f, 639, 479), ==, 0x7698ff);
}

static void test_vbe_damage(Fixture *f, gconstpointer unused)
{
    vbe_mode(f, 1024, 768, 32, 0);
    display_refresh(f->display);
    assert_size(f, 1024, 768);
    clear_damage(f);
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
    g_assert_cmphex(pixel(f, 229, 109), ==, 0xc0ffee);
}

static void test_vbe_pan(Fixture *f, gconstpointer unused)
{
    vbe_mode(f, 640, 480, 8, 0);
    fill_dac(f);
    dispi(f, VGA_DISPI_VIRT_WIDTH, 1000);
    g_assert_cmpuint(dispi_get(f, VGA_DISPI_VIRT_HEIGHT), ==, 16777216 / 1000);
    dispi(f, VGA_DISPI_X_OFFSET, 17);
    dispi(f, VGA_DISPI_Y_OFFSET, 33);
    for (unsigned y = 0; y < 600; y++)
        for (unsigned x = 0; x < 1000; x += 50)
            poke(f, LFB + y * 1000 + x, x / 50 + y);
    display_refresh(f->display);
    g_assert_cmphex(pixel(f, 50 - 17, 0), ==, test_color(1 + 33));
    g_assert_cmphex(pixel(f, 100 - 17, 400), ==, test_color((2 + 433) & 0xff));
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
    g_assert_cmphex(pixel(f, 0, 0), ==, 0x8142ff);
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
    set_mode(f, &mode_12);
    vbe_mode(f, 800, 600, 4, 0);
    seq(f, 2, 0x05);
    poke(f, 0xa0000 + 599 * 100 + 99, 0x01);
    display_refresh(f->display);
    assert_size(f, 800, 600);
    g_assert_cmphex(pixel(f, 799, 599), ==, test_color(mode_12.attr[5]));
    g_assert_cmphex(pixel(f, 798, 599), ==, test_color(mode_12.attr[0]));
}

static void test_vbe_hostile(Fixture *f, gconstpointer unused)
{
    vbe_mode(f, 0xffff, 0xffff, 32, 0);
    g_assert_cmpuint(dispi_get(f, VGA_DISPI_XRES), ==, 8192);
    g_assert_cmpuint(dispi_get(f, VGA_DISPI_YRES), ==, 512);
    display_refresh(f->display);
    assert_size(f, 8192, 512);
    vbe_mode(f, 0, 0, 99, 0);
    display_refresh(f->display);
    assert_size(f, 8, 1);
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
    assert_size(f, 800, 600);
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

/* ---- ports ----------------------------------------------------------------------------------- */

static void test_registers(Fixture *f, gconstpointer unused)
{
    out(f, 0x3c2, 0x63);
    g_assert_cmphex(in(f, 0x3cc), ==, 0x63);
    g_assert_cmphex(in(f, 0x3b5), ==, 0xff); /* the monochrome half is dead */
    out(f, 0x3c2, 0x62);
    out(f, 0x3b4, 0x0f);
    out(f, 0x3b5, 0x5a);
    g_assert_cmphex(in(f, 0x3b5), ==, 0x5a);
    g_assert_cmphex(in(f, 0x3d5), ==, 0xff);
    out(f, 0x3c2, 0x63);
    crtc(f, 0x11, 0x80); /* protects 0 to 7 */
    crtc(f, 0x00, 0x55);
    g_assert_cmphex(in(f, 0x3d5), ==, 0x00);
    crtc(f, 0x07, 0xff);
    g_assert_cmphex(in(f, 0x3d5), ==, 0x10);
    in(f, 0x3da);
    out(f, 0x3c0, 0x0b);
    out(f, 0x3c0, 0x2a);
    out(f, 0x3c0, 0x0b);
    g_assert_cmphex(in(f, 0x3c1), ==, 0x2a);
    out(f, 0x3c8, 7);
    for (unsigned i = 0; i < 6; i++)
        out(f, 0x3c9, i + 0x40);
    out(f, 0x3c7, 7);
    g_assert_cmphex(in(f, 0x3c7), ==, 3);
    for (unsigned i = 0; i < 6; i++)
        g_assert_cmphex(in(f, 0x3c9), ==, i);
    g_assert_cmphex(in(f, 0x3be), ==, 0xff);
}

/* Mode 12h: 59.94 frames a second, 525 lines of which 480 are shown. */
static void test_retrace(Fixture *f, gconstpointer unused)
{
    unsigned retraces = 0, shown = 0, samples = 100000;
    uint8_t before = 0;
    set_mode(f, &mode_12);
    for (unsigned i = 0; i < samples; i++) {
        uint8_t status = in(f, 0x3da);
        retraces += ~before & status & 0x08 ? 1 : 0;
        shown += !(status & 1);
        before = status;
        clock_advance(f->board->board.clock, 10 * NS_PER_US + 7);
    }
    g_assert_cmpuint(retraces, >=, 59);
    g_assert_cmpuint(retraces, <=, 60);
    double part = 480.0 / 525 * 80 / 100;
    g_assert_cmpfloat_with_epsilon((double)shown / samples, part, 0.02);
}

static void test_blank(Fixture *f, gconstpointer unused)
{
    start_text(f);
    put_cell(f, 0, 0, 1, 0x70);
    display_refresh(f->display);
    unsigned resizes = f->resizes;
    seq(f, 1, 0x20);
    display_refresh(f->display);
    assert_size(f, 720, 400);
    g_assert_cmpuint(f->resizes, ==, resizes);
    for (unsigned x = 0; x < 720; x++)
        g_assert_cmphex(pixel(f, x, 0), ==, 0);
    seq(f, 1, 0x00);
    display_refresh(f->display);
    assert_cell(f, 0, 0, 1, 0, 7);
}

/* ---- state, options, storms ------------------------------------------------------------------ */

static void test_state(Fixture *f, gconstpointer unused)
{
    set_mode(f, &mode_13);
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

static void test_options(void)
{
    static const char *const bad[] = {"0", "3145728", "65536"};
    g_autoptr(TestBoard) board = test_board_new();
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        Vga *vga = device_new(&vga_type, &board->board, "vga");
        g_assert_true(device_set(&vga->pci.device, "vram-size", bad[i], NULL));
        g_assert_false(device_create(&vga->pci.device, &error));
        g_assert_nonnull(strstr(error->message, "power of two"));
        device_free(&vga->pci.device);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void test_storm(void)
{
    uint8_t data[97 * 60];
    for (unsigned round = 0; round < 12; round++) {
        for (unsigned i = 0; i < sizeof(data); i++)
            data[i] = g_test_rand_int();
        LLVMFuzzerTestOneInput(data, sizeof(data));
    }
}

#define ADD(name) g_test_add("/vga/" #name, Fixture, NULL, set_up, test_##name, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD(data_path);
    ADD(planar);
    ADD(split_and_pan);
    ADD(cga);
    ADD(mode_13);
    ADD(mode_x);
    ADD(text);
    ADD(text_cursor_and_blink);
    ADD(text_scroll);
    ADD(text_second_font);
    ADD(text_utf8);
    ADD(bios_font);
    ADD(vbe_identity);
    ADD(vbe_depths);
    ADD(vbe_damage);
    ADD(vbe_pan);
    ADD(vbe_dac);
    ADD(vbe_bank_and_clear);
    ADD(vbe_planar);
    ADD(vbe_hostile);
    ADD(mmio);
    ADD(pci);
    ADD(registers);
    ADD(retrace);
    ADD(blank);
    ADD(state);
    g_test_add_func("/vga/options", test_options);
    g_test_add_func("/vga/storm", test_storm);
    return g_test_run();
}
