/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Keyboard controller, keyboard and mouse against the PS/2 technical reference. */
#include <linux/input-event-codes.h>

#include "device/fuzz.h"
#include "device/input/i8042.h"
#include "device/test_board.h"

typedef struct Fixture {
    TestBoard *b;
    I8042 *c;
    InputRouter *router;
} Fixture;

static void set_up(Fixture *f, gconstpointer data)
{
    f->b = test_board_new();
    f->c = device_new(&i8042_type, &f->b->board, "i8042");
    f->c->irq_keyboard = test_board_irq(f->b, 1);
    f->c->irq_mouse = test_board_irq(f->b, 12);
    g_assert_true(device_create(&f->c->device, NULL));
    device_reset(&f->c->device);
    space_map(f->b->board.ports, 0x60, &f->c->data, 0, 1, SPACE_PRIORITY_BOARD, false);
    space_map(f->b->board.ports, 0x64, &f->c->control, 0, 1, SPACE_PRIORITY_BOARD, false);
    f->router = input_router_new();
    i8042_connect(f->c, f->router);
}

static void tear_down(Fixture *f, gconstpointer data)
{
    input_router_free(f->router);
    device_free(&f->c->device);
    test_board_free(f->b);
}

static void command(Fixture *f, uint8_t value)
{
    test_out(f->b, 0x64, 1, value);
}

static void data_out(Fixture *f, uint8_t value)
{
    test_out(f->b, 0x60, 1, value);
}

/* The next byte, or -1 when there is none within 2 ms. */
static int take(Fixture *f)
{
    for (unsigned i = 0; i < 20; i++) {
        if (test_in(f->b, 0x64, 1) & 1)
            return test_in(f->b, 0x60, 1);
        clock_advance(f->b->board.clock, 100 * NS_PER_US);
    }
    return -1;
}

static void expect(Fixture *f, const char *hex)
{
    g_autoptr(GString) seen = g_string_new(NULL);
    for (int byte; (byte = take(f)) >= 0;)
        g_string_append_printf(seen, "%s%02x", seen->len ? " " : "", byte);
    g_assert_cmpstr(seen->str, ==, hex);
}

static void set_mode(Fixture *f, uint8_t mode)
{
    command(f, 0x60);
    data_out(f, mode);
}

static void keyboard(Fixture *f, uint8_t byte, const char *answer)
{
    data_out(f, byte);
    expect(f, answer);
}

static void mouse(Fixture *f, uint8_t byte, const char *answer)
{
    command(f, 0xd4);
    data_out(f, byte);
    expect(f, answer);
}

static void key(Fixture *f, unsigned code, const char *make, const char *brk)
{
    input_key(f->router, code, true);
    expect(f, make);
    input_key(f->router, code, false);
    expect(f, brk);
}

static void test_controller(Fixture *f, gconstpointer data)
{
    command(f, 0xaa);
    expect(f, "55");
    g_assert_cmphex(test_in(f->b, 0x64, 1) & 4, ==, 4);
    command(f, 0xab);
    expect(f, "00");
    command(f, 0xa9);
    expect(f, "00");
    set_mode(f, 0x45);
    command(f, 0x20);
    expect(f, "45");
    command(f, 0xa7);
    command(f, 0x20);
    expect(f, "65");
    command(f, 0xa8);
    command(f, 0xad);
    command(f, 0x20);
    expect(f, "55");
    command(f, 0x73); /* RAM byte 0x13 */
    data_out(f, 0x99);
    command(f, 0x33);
    expect(f, "99");
    command(f, 0xd2);
    data_out(f, 0x12);
    g_assert_true(f->b->irq_level[1]);
    expect(f, "12");
    g_assert_false(f->b->irq_level[1]);
    command(f, 0xd3);
    data_out(f, 0x34);
    g_assert_cmphex(test_in(f->b, 0x64, 1) & 0x21, ==, 0x21);
    expect(f, "34");
}

/* What is sent to a device whose interface is off turns it on, or its answer would be stuck. */
static void test_sending_enables(Fixture *f, gconstpointer data)
{
    set_mode(f, 0x30);
    mouse(f, 0xf2, "fa 00");
    command(f, 0x20);
    expect(f, "10");
    keyboard(f, 0xee, "ee");
    command(f, 0x20);
    expect(f, "00");
}

static void test_a20_and_reset(Fixture *f, gconstpointer data)
{
    command(f, 0xd0);
    g_assert_cmphex(take(f) & 3, ==, 3);
    command(f, 0xd1);
    data_out(f, 0xdd);
    g_assert_false(f->b->a20);
    command(f, 0xdf);
    g_assert_true(f->b->a20);
    command(f, 0xff); /* pulses nothing */
    g_assert_cmpint(f->b->last_request, ==, -1);
    command(f, 0xfe);
    g_assert_cmpint(f->b->last_request, ==, BOARD_RESET);
}

static void test_translated_keys(Fixture *f, gconstpointer data)
{
    set_mode(f, 0x41);
    key(f, KEY_A, "1e", "9e");
    key(f, KEY_F7, "41", "c1");
    key(f, KEY_F12, "58", "d8");
    key(f, KEY_RIGHTCTRL, "e0 1d", "e0 9d");
    key(f, KEY_DELETE, "e0 53", "e0 d3");
    key(f, KEY_VOLUMEUP, "e0 30", "e0 b0");
    key(f, KEY_SYSRQ, "e0 2a e0 37", "e0 b7 e0 aa");
    key(f, KEY_PAUSE, "e1 1d 45 e1 9d c5", "");
    input_key(f->router, KEY_LEFTALT, true);
    expect(f, "38");
    key(f, KEY_SYSRQ, "54", "d4");
    input_key(f->router, KEY_LEFTALT, false);
    input_key(f->router, KEY_LEFTCTRL, true);
    expect(f, "b8 1d");
    key(f, KEY_PAUSE, "e0 46 e0 c6", "");
    /* Linux's codes of the main block were taken from set 1. */
    for (unsigned code = KEY_ESC; code <= KEY_KPDOT; code++)
        g_assert_cmphex(ps2_scan_code(1, code), ==, code);
}

static void test_sets(Fixture *f, gconstpointer data)
{
    set_mode(f, 0x00);
    keyboard(f, 0xf0, "fa");
    keyboard(f, 0x00, "fa 02");
    key(f, KEY_A, "1c", "f0 1c");
    key(f, KEY_UP, "e0 75", "e0 f0 75");
    key(f, KEY_SYSRQ, "e0 12 e0 7c", "e0 f0 7c e0 f0 12");
    key(f, KEY_PAUSE, "e1 14 77 e1 f0 14 f0 77", "");
    keyboard(f, 0xf0, "fa");
    keyboard(f, 0x01, "fa");
    key(f, KEY_A, "1e", "9e");
    keyboard(f, 0xf0, "fa");
    keyboard(f, 0x03, "fa");
    key(f, KEY_UP, "63", ""); /* repeats, sends no break */
    key(f, KEY_LEFTCTRL, "11", "f0 11");
    keyboard(f, 0xf8, "fa");
    key(f, KEY_UP, "63", "f0 63");
    keyboard(f, 0xfd, "fa"); /* make only, for one key */
    keyboard(f, 0x63, "fa");
    keyboard(f, 0xf4, "fa");
    key(f, KEY_UP, "63", "");
    key(f, KEY_DOWN, "60", "f0 60");
}

static void test_keyboard_commands(Fixture *f, gconstpointer data)
{
    set_mode(f, 0x41);
    keyboard(f, 0xff, "fa aa");
    keyboard(f, 0xf2, "fa ab 41"); /* through the translation */
    keyboard(f, 0xee, "ee");
    keyboard(f, 0xfe, "ee");
    keyboard(f, 0xed, "fa");
    keyboard(f, 0x07, "fa");
    g_assert_cmphex(f->c->keyboard.leds, ==, 7);
    keyboard(f, 0xf3, "fa");
    keyboard(f, 0x20, "fa");
    keyboard(f, 0x01, "fe");
    keyboard(f, 0xf5, "fa");
    key(f, KEY_A, "", "");
    keyboard(f, 0xf4, "fa");
    key(f, KEY_A, "1e", "9e");
    command(f, 0xad); /* held while the interface is off */
    input_key(f->router, KEY_B, true);
    expect(f, "");
    command(f, 0xae);
    expect(f, "30");
}

static void test_interrupts(Fixture *f, gconstpointer data)
{
    set_mode(f, 0x43);
    input_key(f->router, KEY_UP, true);
    clock_advance(f->b->board.clock, NS_PER_MS);
    g_assert_cmpuint(f->b->irq_edges[1], ==, 1);
    g_assert_cmphex(test_in(f->b, 0x60, 1), ==, 0xe0);
    g_assert_cmphex(test_in(f->b, 0x60, 1), ==, 0xe0); /* the next byte takes its time */
    clock_advance(f->b->board.clock, NS_PER_MS);
    g_assert_cmpuint(f->b->irq_edges[1], ==, 2);
    g_assert_cmphex(test_in(f->b, 0x60, 1), ==, 0x48);
    g_assert_cmpuint(f->b->irq_edges[12], ==, 0);
}

static void test_overrun(Fixture *f, gconstpointer data)
{
    set_mode(f, 0x00);
    for (unsigned i = 0; i < 200; i++)
        input_key(f->router, KEY_A, true);
    int last = -1, bytes = 0;
    for (int byte; (byte = take(f)) >= 0; bytes++)
        last = byte;
    g_assert_cmphex(last, ==, 0x00);
    g_assert_cmpint(bytes, ==, 64);
}

static void test_mouse(Fixture *f, gconstpointer data)
{
    set_mode(f, 0x02);
    mouse(f, 0xff, "fa aa 00");
    input_motion(f->router, 5, 3);
    expect(f, ""); /* not enabled */
    mouse(f, 0xf4, "fa");
    input_motion(f->router, 5, 3); /* down is negative */
    g_assert_false(f->b->irq_level[12]);
    clock_advance(f->b->board.clock, NS_PER_MS);
    g_assert_true(f->b->irq_level[12]);
    expect(f, "28 05 fd");
    input_motion(f->router, 200, 0); /* more than a packet holds */
    expect(f, "08 7f 00 08 49 00");
    input_buttons(f->router, 5);
    expect(f, "0d 00 00");
    mouse(f, 0xe9, "fa 26 02 64");
    mouse(f, 0xe8, "fa");
    mouse(f, 0x03, "fa");
    mouse(f, 0xe7, "fa");
    input_motion(f->router, 4, -10);
    expect(f, "0d 06 14");
    mouse(f, 0xf0, "fa"); /* remote: no scaling, only when asked */
    input_motion(f->router, -4, 0);
    expect(f, "");
    mouse(f, 0xeb, "fa 1d fc 00");
    mouse(f, 0xee, "fa");
    mouse(f, 0x55, "55");
    mouse(f, 0xec, "fa");
    mouse(f, 0xe1, "fe");
}

static void knock(Fixture *f, unsigned a, unsigned b, unsigned c)
{
    const uint8_t rates[3] = {a, b, c};
    for (unsigned i = 0; i < 3; i++) {
        mouse(f, 0xf3, "fa");
        mouse(f, rates[i], "fa");
    }
}

static void test_wheel(Fixture *f, gconstpointer data)
{
    set_mode(f, 0x02);
    mouse(f, 0xf2, "fa 00");
    knock(f, 200, 100, 80);
    mouse(f, 0xf2, "fa 03");
    mouse(f, 0xf4, "fa");
    input_wheel(f->router, 1);
    expect(f, "08 00 00 ff");
    knock(f, 200, 200, 80);
    mouse(f, 0xf2, "fa 04");
    input_buttons(f->router, 8);
    expect(f, "08 00 00 10");
    input_wheel(f->router, -2);
    expect(f, "08 00 00 12");
}

static void test_state(Fixture *f, gconstpointer data)
{
    set_mode(f, 0x43);
    data_out(f, 0xf0);
    clock_advance(f->b->board.clock, NS_PER_MS);
    input_key(f->router, KEY_UP, true);
    command(f, 0xd4);
    test_state_round_trip(&f->c->device);
}

static void test_storm(void)
{
    fuzz_random(20);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function) \
    g_test_add("/input/i8042/" name, Fixture, NULL, set_up, function, tear_down)
    ADD("controller", test_controller);
    ADD("a20", test_a20_and_reset);
    ADD("translated", test_translated_keys);
    ADD("sets", test_sets);
    ADD("keyboard-commands", test_keyboard_commands);
    ADD("interrupts", test_interrupts);
    ADD("overrun", test_overrun);
    ADD("mouse", test_mouse);
    ADD("sending-enables", test_sending_enables);
    ADD("wheel", test_wheel);
    ADD("state", test_state);
    g_test_add_func("/input/i8042/storm", test_storm);
    return g_test_run();
}
