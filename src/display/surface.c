/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The display: one surface, one source, any number of listeners (see surface.h). */
#include "display/surface.h"

#include <string.h>

#define REFRESH_MS 33 /* 30 Hz */
#define MAX_SIDE   8192

typedef struct Listener {
    const DisplayListener *ops;
    void *obj;
} Listener;

typedef struct Cursor {
    uint32_t *argb; /* NULL: hidden */
    unsigned width, height;
    int hot_x, hot_y;
} Cursor;

struct Display {
    GMainContext *context;
    GRecMutex *lock;
    Surface surface; /* no pixels before the first resize */
    Cursor cursor;
    const DisplaySource *source;
    void *source_obj;
    GArray *listeners; /* of Listener */
    GSource *timer;    /* while there are listeners */
};

Display *display_new(GMainContext *context, GRecMutex *lock)
{
    Display *display = g_new0(Display, 1);
    display->context = context;
    display->lock = lock;
    display->listeners = g_array_new(FALSE, FALSE, sizeof(Listener));
    return display;
}

static void stop_timer(Display *display)
{
    if (!display->timer)
        return;
    g_source_destroy(display->timer);
    g_clear_pointer(&display->timer, g_source_unref);
}

void display_free(Display *display)
{
    if (!display)
        return;
    stop_timer(display);
    g_array_unref(display->listeners);
    g_free(display->surface.pixels);
    g_free(display->cursor.argb);
    g_free(display);
}

void display_set_source(Display *display, const DisplaySource *source, void *obj)
{
    display->source = source;
    display->source_obj = obj;
}

/* ---- listeners ------------------------------------------------------------------------------- */

static gboolean refresh_time(void *obj)
{
    Display *display = obj;
    if (display->lock)
        g_rec_mutex_lock(display->lock);
    if (!g_source_is_destroyed(g_main_current_source()))
        display_refresh(display);
    if (display->lock)
        g_rec_mutex_unlock(display->lock);
    return G_SOURCE_CONTINUE;
}

static void start_timer(Display *display)
{
    if (display->timer)
        return;
    display->timer = g_timeout_source_new(REFRESH_MS);
    g_source_set_callback(display->timer, refresh_time, display, NULL);
    g_source_attach(display->timer, display->context);
}

static void show_cursor(Display *display, const Listener *listener)
{
    const Cursor *c = &display->cursor;
    if (listener->ops->cursor)
        listener->ops->cursor(listener->obj, c->argb, c->width, c->height, c->hot_x, c->hot_y);
}

void display_add_listener(Display *display, const DisplayListener *ops, void *obj)
{
    Listener listener = {ops, obj};
    g_array_append_val(display->listeners, listener);
    start_timer(display);
    if (display->surface.pixels && ops->resized)
        ops->resized(obj, &display->surface);
    if (display->cursor.argb)
        show_cursor(display, &listener);
}

void display_remove_listener(Display *display, const DisplayListener *ops, void *obj)
{
    for (unsigned i = 0; i < display->listeners->len; i++) {
        Listener *listener = &g_array_index(display->listeners, Listener, i);
        if (listener->ops == ops && listener->obj == obj) {
            g_array_remove_index(display->listeners, i);
            break;
        }
    }
    if (!display->listeners->len)
        stop_timer(display);
}

bool display_has_listeners(const Display *display)
{
    return display->listeners->len > 0;
}

/* ---- the surface ----------------------------------------------------------------------------- */

Surface *display_resize(Display *display, unsigned width, unsigned height)
{
    Surface *surface = &display->surface;
    width = CLAMP(width, 1, MAX_SIDE);
    height = CLAMP(height, 1, MAX_SIDE);
    g_free(surface->pixels);
    *surface = (Surface){g_new0(uint32_t, (size_t)width * height), width, height, width};
    for (unsigned i = 0; i < display->listeners->len; i++) {
        const Listener *listener = &g_array_index(display->listeners, Listener, i);
        if (listener->ops->resized)
            listener->ops->resized(listener->obj, surface);
    }
    return surface;
}

Surface *display_surface(Display *display)
{
    return display->surface.pixels ? &display->surface : NULL;
}

/* The part of [start, start + size) within [0, limit); false when it is empty. */
static bool clip(int64_t start, int64_t size, unsigned limit, unsigned *ret_start,
                 unsigned *ret_size)
{
    int64_t end;
    if (size <= 0 || __builtin_add_overflow(start, size, &end))
        return false;
    start = MAX(start, 0);
    end = MIN(end, (int64_t)limit);
    if (start >= end)
        return false;
    *ret_start = start;
    *ret_size = end - start;
    return true;
}

void display_damage(Display *display, int64_t x, int64_t y, int64_t w, int64_t h)
{
    unsigned left, top, width, height;
    if (!clip(x, w, display->surface.width, &left, &width) ||
        !clip(y, h, display->surface.height, &top, &height))
        return;
    for (unsigned i = 0; i < display->listeners->len; i++) {
        const Listener *listener = &g_array_index(display->listeners, Listener, i);
        if (listener->ops->damaged)
            listener->ops->damaged(listener->obj, &display->surface, left, top, width, height);
    }
}

#define CURSOR_MAX_SIDE 256

void display_set_cursor(Display *display, const uint32_t *argb, unsigned w, unsigned h, int hot_x,
                        int hot_y)
{
    g_clear_pointer(&display->cursor.argb, g_free);
    display->cursor = (Cursor){0};
    if (argb && w && h && w <= CURSOR_MAX_SIDE && h <= CURSOR_MAX_SIDE)
        display->cursor =
            (Cursor){g_memdup2(argb, (size_t)w * h * sizeof(*argb)), w, h, hot_x, hot_y};
    for (unsigned i = 0; i < display->listeners->len; i++)
        show_cursor(display, &g_array_index(display->listeners, Listener, i));
}

/* ---- the source ------------------------------------------------------------------------------ */

void display_refresh(Display *display)
{
    if (display->source && display->source->refresh)
        display->source->refresh(display->source_obj);
}

char *display_text(Display *display)
{
    if (!display->source || !display->source->text)
        return NULL;
    return display->source->text(display->source_obj);
}
