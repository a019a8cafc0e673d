/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Keys and pointers on their way into the guest: front ends (VNC, RDP, window, tests) post events,
 * the router gives each to the device that takes it. Board lock held.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* Keys are Linux input event codes (KEY_A = 30 …, linux/input-event-codes.h). */
typedef struct InputSink {
    const char *name;
    void (*key)(void *obj, unsigned key, bool down);     /* NULL: takes no keys */
    void (*motion)(void *obj, int dx, int dy);           /* relative; NULL: none */
    void (*position)(void *obj, unsigned x, unsigned y); /* absolute, 0 to 65535; NULL: none */
    void (*buttons)(void *obj, unsigned mask);           /* 1 left, 2 right, 4 middle */
    void (*wheel)(void *obj, int steps);                 /* positive: away from the user */
} InputSink;

typedef struct InputRouter InputRouter;
InputRouter *input_router_new(void);
void input_router_free(InputRouter *router);
/* The last sink that takes a kind of event gets it (a tablet added later wins over the mouse). */
void input_add_sink(InputRouter *router, const InputSink *sink, void *obj);
void input_remove_sink(InputRouter *router, void *obj);
void input_key(InputRouter *router, unsigned key, bool down);
void input_motion(InputRouter *router, int dx, int dy);
void input_position(InputRouter *router, unsigned x, unsigned y);
void input_buttons(InputRouter *router, unsigned mask);
void input_wheel(InputRouter *router, int steps);
