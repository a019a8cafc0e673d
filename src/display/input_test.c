/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The input router gives each kind of event to the latest sink that takes it. */
#include "display/input.h"

typedef struct Seen {
    unsigned key, keys, x, y, mask;
    int dx, dy, steps;
    bool down;
} Seen;

static void on_key(void *obj, unsigned key, bool down)
{
    Seen *seen = obj;
    seen->key = key;
    seen->down = down;
    seen->keys++;
}

static void on_motion(void *obj, int dx, int dy)
{
    ((Seen *)obj)->dx = dx;
    ((Seen *)obj)->dy = dy;
}

static void on_position(void *obj, unsigned x, unsigned y)
{
    ((Seen *)obj)->x = x;
    ((Seen *)obj)->y = y;
}

static void on_buttons(void *obj, unsigned mask)
{
    ((Seen *)obj)->mask = mask;
}

static void on_wheel(void *obj, int steps)
{
    ((Seen *)obj)->steps = steps;
}

static const InputSink keyboard_and_mouse = {
    .name = "ps2", .key = on_key, .motion = on_motion, .buttons = on_buttons, .wheel = on_wheel};
static const InputSink tablet = {
    .name = "tablet", .position = on_position, .buttons = on_buttons, .wheel = on_wheel};

static void test_routes(void)
{
    InputRouter *router = input_router_new();
    Seen ps2 = {0}, pad = {0};
    input_key(router, 30, true); /* nobody there: nothing happens */
    input_position(router, 1, 2);

    input_add_sink(router, &keyboard_and_mouse, &ps2);
    input_buttons(router, 1);
    g_assert_cmpuint(ps2.mask, ==, 1);

    input_add_sink(router, &tablet, &pad);
    input_key(router, 30, true);
    input_motion(router, -3, 4);
    input_position(router, 65535, 7);
    input_buttons(router, 6);
    input_wheel(router, -1);
    g_assert_cmpuint(ps2.key, ==, 30);
    g_assert_true(ps2.down);
    g_assert_cmpint(ps2.dx, ==, -3);
    g_assert_cmpint(ps2.dy, ==, 4);
    g_assert_cmpuint(ps2.mask, ==, 1);
    g_assert_cmpuint(pad.mask, ==, 6);
    g_assert_cmpuint(pad.x, ==, 65535);
    g_assert_cmpint(pad.steps, ==, -1);
    g_assert_cmpint(ps2.steps, ==, 0);
    g_assert_cmpuint(pad.keys, ==, 0);

    input_remove_sink(router, &pad);
    input_buttons(router, 2);
    g_assert_cmpuint(ps2.mask, ==, 2);
    g_assert_cmpuint(pad.mask, ==, 6);
    input_router_free(router);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/display/input/routes", test_routes);
    return g_test_run();
}
