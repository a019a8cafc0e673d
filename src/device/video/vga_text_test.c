/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Text modes against font bits that are computed. */
#include "base/bits.h"
#include "device/video/vga_kit.h"

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
            g_assert_cmphex(vga_kit_pixel(f, x * 9 + dot, y * 16 + scan), ==,
                            vga_kit_color(ega[set ? ink : paper]));
        }
    }
}

static void start_text(Fixture *f)
{
    vga_set_text_mode(f->vga);
    vga_kit_fill_dac(f);
    load_font(f);
    crtc(f, 0x0a, 0x20); /* no cursor */
}

static void test_text(Fixture *f, gconstpointer unused)
{
    start_text(f);
    for (unsigned i = 0; i < 2000; i++)
        put_cell(f, i % 80, i / 80, i * 7, i & 0x7f);
    display_refresh(f->display);
    vga_kit_assert_size(f, 720, 400);
    for (unsigned i = 0; i < 2000; i++)
        assert_cell(f, i % 80, i / 80, i * 7, i & 0xf, i >> 4 & 7);
    g_assert_cmphex(peek(f, 0xb8000 + 6), ==, 21);
    vga_kit_clear_damage(f);
    put_cell(f, 10, 3, 'Q', 0x1e);
    put_cell(f, 12, 3, 'Q', 0x1e);
    display_refresh(f->display);
    assert_cell(f, 10, 3, 'Q', 14, 1);
    g_assert_cmpuint(f->damage.x, >=, 90);
    g_assert_cmpuint(f->damage.right, <=, 117);
    g_assert_cmpuint(f->damage.y, ==, 48);
    g_assert_cmpuint(f->damage.bottom, ==, 64);
    vga_kit_clear_damage(f);
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
        g_assert_cmphex(vga_kit_pixel(f, 45 + dot, 32 + 13), ==, vga_kit_color(7));
        g_assert_cmphex(vga_kit_pixel(f, 45 + dot, 32 + 14), ==, vga_kit_color(7));
    }
    g_assert_cmphex(vga_kit_pixel(f, 45 + 8, 32 + 12), ==, vga_kit_color(0));
    g_assert_cmphex(vga_kit_pixel(f, 45 + 8, 32 + 15), ==, vga_kit_color(0));
    assert_cell(f, 6, 2, 'B', 7, 0);
    vga_kit_clear_damage(f);
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
    g_assert_cmphex(vga_kit_pixel(f, 0, 0), ==, vga_kit_color(font_row('b', 3) & 0x80 ? 7 : 0));
    g_assert_cmphex(vga_kit_pixel(f, 3, 13), ==, vga_kit_color(font_row('c', 0) & 0x10 ? 7 : 0));
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
        g_assert_cmphex(vga_kit_pixel(f, dot, 0), ==, vga_kit_color(0xa5 << dot & 0x80 ? 63 : 0));
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
    vga_kit_set_mode(f, &vga_mode_13);
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
            g_assert_cmphex(vga_kit_pixel(f, dot, scan), ==, a[scan] << dot & 0x80 ? 0xffffff : 0);
    /* As in the BIOS's palette: brown is no dark yellow. */
    put_cell(f, 0, 0, 0xdb, 0x06);
    display_refresh(f->display);
    g_assert_cmphex(vga_kit_pixel(f, 0, 0), ==, 0xaa5500);
}

static void test_blank(Fixture *f, gconstpointer unused)
{
    start_text(f);
    put_cell(f, 0, 0, 1, 0x70);
    display_refresh(f->display);
    unsigned resizes = f->resizes;
    seq(f, 1, 0x20);
    display_refresh(f->display);
    vga_kit_assert_size(f, 720, 400);
    g_assert_cmpuint(f->resizes, ==, resizes);
    for (unsigned x = 0; x < 720; x++)
        g_assert_cmphex(vga_kit_pixel(f, x, 0), ==, 0);
    seq(f, 1, 0x00);
    display_refresh(f->display);
    assert_cell(f, 0, 0, 1, 0, 7);
}

void vga_text_tests(void)
{
    VGA_KIT_ADD(text);
    VGA_KIT_ADD(text_cursor_and_blink);
    VGA_KIT_ADD(text_scroll);
    VGA_KIT_ADD(text_second_font);
    VGA_KIT_ADD(text_utf8);
    VGA_KIT_ADD(bios_font);
    VGA_KIT_ADD(blank);
}
