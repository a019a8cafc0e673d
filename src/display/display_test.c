/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The display: damage is clipped, listeners drive the refresh, screenshots are whole files. */
#include <glib/gstdio.h>
#include <png.h>
#include <string.h>

#include "display/surface.h"

typedef struct Watch {
    unsigned resizes, damages, cursors;
    unsigned x, y, w, h;
    bool cursor_shown;
} Watch;

static void on_resized(void *obj, const Surface *surface)
{
    ((Watch *)obj)->resizes++;
}

static void on_damaged(void *obj, const Surface *surface, unsigned x, unsigned y, unsigned w,
                       unsigned h)
{
    Watch *watch = obj;
    watch->damages++;
    watch->x = x, watch->y = y, watch->w = w, watch->h = h;
}

static void on_cursor(void *obj, const uint32_t *argb, unsigned w, unsigned h, int hot_x, int hot_y)
{
    ((Watch *)obj)->cursors++;
    ((Watch *)obj)->cursor_shown = argb != NULL;
}

static const DisplayListener listener = {
    .name = "test",
    .resized = on_resized,
    .damaged = on_damaged,
    .cursor = on_cursor,
};

static void test_damage(void)
{
    static const struct {
        int64_t x, y, w, h;
        unsigned damages, rx, ry, rw, rh;
    } rows[] = {
        {10, 20, 30, 40, 1, 10, 20, 30, 40},
        {-5, -6, 10, 10, 1, 0, 0, 5, 4},
        {90, 50, INT64_MAX - 90, INT64_MAX - 50, 1, 90, 50, 10, 10},
        {0, 0, INT64_MAX, INT64_MAX, 1, 0, 0, 100, 60},
        {100, 0, 5, 5, 0, 0, 0, 0, 0},
        {0, 60, 5, 5, 0, 0, 0, 0, 0},
        {5, 5, 0, 5, 0, 0, 0, 0, 0},
        {5, 5, -1, 5, 0, 0, 0, 0, 0},
        {INT64_MAX, 5, INT64_MAX, 5, 0, 0, 0, 0, 0},
        {INT64_MIN, 5, 5, 5, 0, 0, 0, 0, 0},
    };
    g_autoptr(Display) display = display_new(NULL, NULL);
    g_assert_null(display_surface(display));
    display_damage(display, 0, 0, 1, 1);
    display_resize(display, 100, 60);
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        Watch watch = {0};
        display_add_listener(display, &listener, &watch);
        g_assert_cmpuint(watch.resizes, ==, 1); /* shown what there is */
        display_damage(display, rows[i].x, rows[i].y, rows[i].w, rows[i].h);
        g_assert_cmpuint(watch.damages, ==, rows[i].damages);
        g_assert_cmpuint(watch.x, ==, rows[i].rx);
        g_assert_cmpuint(watch.y, ==, rows[i].ry);
        g_assert_cmpuint(watch.w, ==, rows[i].rw);
        g_assert_cmpuint(watch.h, ==, rows[i].rh);
        display_remove_listener(display, &listener, &watch);
    }
    g_assert_false(display_has_listeners(display));
}

static void test_resize_caps(void)
{
    g_autoptr(Display) display = display_new(NULL, NULL);
    Surface *surface = display_resize(display, 0, 100000);
    g_assert_cmpuint(surface->width, ==, 1);
    g_assert_cmpuint(surface->height, ==, 8192);
    g_assert_cmphex(surface->pixels[8191], ==, 0);
}

static void test_cursor(void)
{
    static const uint32_t argb[4] = {1, 2, 3, 4};
    g_autoptr(Display) display = display_new(NULL, NULL);
    Watch watch = {0}, late = {0};
    display_add_listener(display, &listener, &watch);
    display_set_cursor(display, argb, 2, 2, 0, 0);
    g_assert_true(watch.cursor_shown);
    display_add_listener(display, &listener, &late);
    g_assert_true(late.cursor_shown);
    display_set_cursor(display, argb, 100000, 100000, 0, 0);
    g_assert_false(watch.cursor_shown);
    display_set_cursor(display, NULL, 0, 0, 0, 0);
    g_assert_cmpuint(watch.cursors, ==, 3);
    display_remove_listener(display, &listener, &watch);
    display_remove_listener(display, &listener, &late);
}

/* ---- the source ------------------------------------------------------------------------------ */

typedef struct Source {
    Display *display;
    unsigned refreshes;
} Source;

static void source_refresh(void *obj)
{
    Source *source = obj;
    Surface *surface = display_surface(source->display);
    if (!surface)
        surface = display_resize(source->display, 3, 2);
    for (unsigned i = 0; i < 6; i++)
        surface->pixels[i] = 0xff000000 | i * 0x102030;
    source->refreshes++;
}

static char *source_text(void *obj)
{
    return g_strdup("text");
}

static const DisplaySource source_ops = {.refresh = source_refresh, .text = source_text};

static gboolean stop(void *loop)
{
    g_main_loop_quit(loop);
    return G_SOURCE_REMOVE;
}

static void run_for_ms(GMainContext *context, unsigned ms)
{
    g_autoptr(GMainLoop) loop = g_main_loop_new(context, FALSE);
    g_autoptr(GSource) end = g_timeout_source_new(ms);
    g_source_set_callback(end, stop, loop, NULL);
    g_source_attach(end, context);
    g_main_loop_run(loop);
}

static void test_refresh_timer(void)
{
    g_autoptr(GMainContext) context = g_main_context_new();
    GRecMutex lock;
    g_rec_mutex_init(&lock);
    Display *display = display_new(context, &lock);
    Source source = {display, 0};
    Watch watch = {0};
    display_set_source(display, &source_ops, &source);
    run_for_ms(context, 100);
    g_assert_cmpuint(source.refreshes, ==, 0); /* nobody looks */
    display_add_listener(display, &listener, &watch);
    run_for_ms(context, 400);
    g_assert_cmpuint(source.refreshes, >=, 2);
    g_assert_cmpuint(source.refreshes, <=, 13);
    display_remove_listener(display, &listener, &watch);
    unsigned before = source.refreshes;
    run_for_ms(context, 100);
    g_assert_cmpuint(source.refreshes, ==, before);
    g_autofree char *text = display_text(display);
    g_assert_cmpstr(text, ==, "text");
    display_free(display);
    g_rec_mutex_clear(&lock);
}

static void test_png(void)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *folder = g_dir_make_tmp("ospite-display-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(folder, "shot.png", NULL);
    g_autofree char *nowhere = g_build_filename(folder, "none", "shot.png", NULL);
    g_autoptr(Display) display = display_new(NULL, NULL);
    g_assert_false(display_write_png(display, path, &error));
    g_assert_nonnull(strstr(error->message, "no picture"));
    g_clear_error(&error);

    Source source = {display, 0};
    display_set_source(display, &source_ops, &source);
    g_assert_true(display_write_png(display, path, &error));
    g_assert_cmpuint(source.refreshes, ==, 1);
    png_image image = {.version = PNG_IMAGE_VERSION};
    uint8_t rgb[18];
    g_assert_true(png_image_begin_read_from_file(&image, path));
    g_assert_cmpuint(image.width, ==, 3);
    g_assert_cmpuint(image.height, ==, 2);
    image.format = PNG_FORMAT_RGB;
    g_assert_true(png_image_finish_read(&image, NULL, rgb, 0, NULL));
    for (unsigned i = 0; i < 6; i++)
        g_assert_cmphex((unsigned)(rgb[i * 3] << 16 | rgb[i * 3 + 1] << 8 | rgb[i * 3 + 2]), ==,
                        i * 0x102030);

    g_assert_false(display_write_png(display, nowhere, &error));
    g_assert_nonnull(strstr(error->message, nowhere));
    g_assert_cmpint(g_unlink(path), ==, 0);
    g_assert_cmpint(g_rmdir(folder), ==, 0); /* nothing else was left behind */
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/display/damage", test_damage);
    g_test_add_func("/display/resize-caps", test_resize_caps);
    g_test_add_func("/display/cursor", test_cursor);
    g_test_add_func("/display/refresh-timer", test_refresh_timer);
    g_test_add_func("/display/png", test_png);
    return g_test_run();
}
