/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a screen shows: a surface of pixels that a video device draws into, and listeners (VNC, RDP,
 * window, screenshot, test) that see its damage. All calls: main loop thread with the board lock
 * held.
 */
#pragma once

#include <gio/gio.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct Display Display;

/* Pixels are 0xXXRRGGBB in host order, `stride` pixels per row. */
typedef struct Surface {
    uint32_t *pixels;
    unsigned width, height, stride; /* pixels */
} Surface;

typedef struct DisplayListener {
    const char *name;
    /* The surface was replaced (new size or mode); everything is damaged. */
    void (*resized)(void *obj, const Surface *surface);
    /* A rectangle changed. Clipped to the surface. */
    void (*damaged)(void *obj, const Surface *surface, unsigned x, unsigned y, unsigned w,
                    unsigned h);
    /* Hardware cursor; NULL if not wanted. `argb` is width*height pixels, NULL: hidden. */
    void (*cursor)(void *obj, const uint32_t *argb, unsigned width, unsigned height, int hot_x,
                   int hot_y);
} DisplayListener;

/* What a video device offers. */
typedef struct DisplaySource {
    /* Draws what changed into the surface and calls display_damage(). Asked for at the refresh rate
     * while someone listens, and before a screenshot. */
    void (*refresh)(void *obj);
    /* In text mode: the characters on the screen as lines of UTF-8 (new), else NULL. */
    char *(*text)(void *obj);
} DisplaySource;

/*
 * While someone listens the source is asked to draw 30 times a second, by a timer on `context`
 * (NULL: the default one) that takes `lock`.
 */
Display *display_new(GMainContext *context, GRecMutex *lock);
/* NULL is allowed. */
void display_free(Display *display);
/* NULL takes the source away. */
void display_set_source(Display *display, const DisplaySource *source, void *obj);
/* It is shown at once what there is. */
void display_add_listener(Display *display, const DisplayListener *listener, void *obj);
void display_remove_listener(Display *display, const DisplayListener *listener, void *obj);
bool display_has_listeners(const Display *display);
/* Video device: a new surface of this size, black (capped at 8192 × 8192). */
Surface *display_resize(Display *display, unsigned width, unsigned height);
/* NULL before the first display_resize(). */
Surface *display_surface(Display *display);
/* Video device: this rectangle was drawn (clipped here). */
void display_damage(Display *display, int64_t x, int64_t y, int64_t w, int64_t h);
void display_set_cursor(Display *display, const uint32_t *argb, unsigned w, unsigned h, int hot_x,
                        int hot_y);
/* Asks the source to draw now. */
void display_refresh(Display *display);
/* See DisplaySource.text; NULL in a graphics mode. */
char *display_text(Display *display);
/*
 * Draws, and writes the screen as PNG (display/png/): beside `path` first, then renamed, so that
 * whoever reads `path` sees a whole picture.
 */
bool display_write_png(Display *display, const char *path, GError **error);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Display, display_free)
