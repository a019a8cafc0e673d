/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The VGA against independent models: planes as four arrays for the data path, colours
 * computed from the pattern that was drawn.
 */
#include "base/bits.h"
#include "device/video/vga_kit.h"

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
    vga_kit_set_mode(f, &vga_mode_12);
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
    vga_kit_set_mode(f, &vga_mode_12);
    for (unsigned p = 0; p < 4; p++) {
        seq(f, 2, 1 << p);
        for (unsigned i = 0; i < 38400; i++)
            poke(f, 0xa0000 + i, (i * 7 + (i >> 8) * (p + 3)) >> p);
    }
    display_refresh(f->display);
    vga_kit_assert_size(f, 640, 480);
    for (unsigned y = 0; y < 480; y++) {
        for (unsigned x = 0; x < 640; x++) {
            unsigned i = y * 80 + x / 8, color = 0;
            for (unsigned p = 0; p < 4; p++)
                color |= (((i * 7 + (i >> 8) * (p + 3)) >> p) >> (7 - x % 8) & 1) << p;
            g_assert_cmphex(vga_kit_pixel(f, x, y), ==, vga_kit_color(vga_mode_12.attr[color]));
        }
    }
    /* Plane enable, PEL mask and colour select are on the way to the DAC. */
    attr(f, 0x12, 0x03);
    attr(f, 0x10, 0x81);
    attr(f, 0x14, 0x0e);
    out(f, 0x3c6, 0x7f);
    display_refresh(f->display);
    unsigned color = (7 >> 7 & 1); /* byte 1 of planes 0 and 1 is 7 and 3 */
    g_assert_cmphex(vga_kit_pixel(f, 8, 0), ==,
                    vga_kit_color((vga_mode_12.attr[color] & 0xf) | 0x60));
    g_assert_cmphex(vga_kit_pixel(f, 13, 0), ==, vga_kit_color((vga_mode_12.attr[1] & 0xf) | 0x60));
    g_assert_cmphex(vga_kit_pixel(f, 14, 0), ==, vga_kit_color((vga_mode_12.attr[3] & 0xf) | 0x60));
}

static void test_split_and_pan(Fixture *f, gconstpointer unused)
{
    vga_kit_set_mode(f, &vga_mode_12);
    seq(f, 2, 0x0f);
    for (unsigned y = 0; y < 480; y++)
        poke(f, 0xa0000 + y * 80, y == 100 ? 0x80 : y == 0 ? 0x40 : 0); /* a dot in lines 0, 100 */
    crtc(f, 0x0c, 100 * 80 >> 8);
    crtc(f, 0x0d, 100 * 80 & 0xff);
    crtc(f, 0x18, 199); /* address 0 is shown from scan line 200 on */
    crtc(f, 0x07, 0x2e);
    crtc(f, 0x09, 0x00);
    display_refresh(f->display);
    uint32_t white = vga_kit_color(vga_mode_12.attr[15]),
             black = vga_kit_color(vga_mode_12.attr[0]);
    g_assert_cmphex(vga_kit_pixel(f, 0, 0), ==, white);
    g_assert_cmphex(vga_kit_pixel(f, 1, 0), ==, black);
    g_assert_cmphex(vga_kit_pixel(f, 1, 199), ==, black);
    g_assert_cmphex(vga_kit_pixel(f, 1, 200), ==, white);
    g_assert_cmphex(vga_kit_pixel(f, 0, 300), ==, white);
    attr(f, 0x13, 1); /* pan by one: the split half too, unless told otherwise */
    display_refresh(f->display);
    g_assert_cmphex(vga_kit_pixel(f, 0, 0), ==, black);
    g_assert_cmphex(vga_kit_pixel(f, 0, 200), ==, white);
    attr(f, 0x10, 0x21);
    display_refresh(f->display);
    g_assert_cmphex(vga_kit_pixel(f, 0, 200), ==, black);
    g_assert_cmphex(vga_kit_pixel(f, 1, 200), ==, white);
}

static void test_cga(Fixture *f, gconstpointer unused)
{
    vga_kit_set_mode(f, &vga_mode_04);
    gfx(f, 6, 0x0f); /* window at 0xb8000 */
    for (unsigned i = 0; i < 0x4000; i++)
        poke(f, 0xb8000 + i, i * 11 + (i >> 13) * 5);
    display_refresh(f->display);
    vga_kit_assert_size(f, 320, 200);
    for (unsigned y = 0; y < 200; y++) {
        for (unsigned x = 0; x < 320; x++) {
            unsigned i = (y & 1) * 0x2000 + y / 2 * 80 + x / 4;
            uint8_t byte = i * 11 + (i >> 13) * 5;
            unsigned color = byte >> (6 - x % 4 * 2) & 3;
            g_assert_cmphex(vga_kit_pixel(f, x, y), ==, vga_kit_color(vga_mode_04.attr[color]));
        }
    }
    g_assert_cmphex(peek(f, 0xb8003), ==, 33);
    g_assert_cmphex(peek(f, 0xa0003), ==, 0xff);
}

static void test_mode_13(Fixture *f, gconstpointer unused)
{
    vga_kit_set_mode(f, &vga_mode_13);
    g_assert_true(space_lookup(f->board->board.memory, 0xa0000).region->kind == REGION_RAM);
    for (unsigned i = 0; i < 64000; i++)
        poke(f, 0xa0000 + i, i * 13 >> 3);
    display_refresh(f->display);
    vga_kit_assert_size(f, 320, 200);
    for (unsigned i = 0; i < 64000; i++)
        g_assert_cmphex(vga_kit_pixel(f, i % 320, i / 320), ==, vga_kit_color(i * 13 >> 3 & 0xff));
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
    vga_kit_set_mode(f, &vga_mode_13);
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
    vga_kit_assert_size(f, 320, 400);
    for (unsigned y = 0; y < 400; y++) {
        for (unsigned x = 0; x < 320; x++) {
            unsigned i = y * 80 + x / 4;
            g_assert_cmphex(vga_kit_pixel(f, x, y), ==,
                            vga_kit_color((i * 3 + x % 4 * 64 + (i >> 8)) & 0xff));
        }
    }
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
    vga_kit_set_mode(f, &vga_mode_12);
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

/* ---- options, storms ------------------------------------------------------------------ */

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

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    VGA_KIT_ADD(data_path);
    VGA_KIT_ADD(planar);
    VGA_KIT_ADD(split_and_pan);
    VGA_KIT_ADD(cga);
    VGA_KIT_ADD(mode_13);
    VGA_KIT_ADD(mode_x);
    vga_text_tests();
    vga_vbe_tests();
    VGA_KIT_ADD(registers);
    VGA_KIT_ADD(retrace);
    g_test_add_func("/vga/options", test_options);
    g_test_add_func("/vga/storm", test_storm);
    return g_test_run();
}
