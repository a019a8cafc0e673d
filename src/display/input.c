/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The input router: a list of sinks, searched from the latest for one that takes the kind of event.
 * Board lock. */
#include "display/input.h"

typedef struct Sink {
    const InputSink *ops;
    void *obj;
} Sink;

struct InputRouter {
    GArray *sinks;
};

InputRouter *input_router_new(void)
{
    InputRouter *router = g_new0(InputRouter, 1);
    router->sinks = g_array_new(FALSE, FALSE, sizeof(Sink));
    return router;
}

void input_router_free(InputRouter *router)
{
    if (!router)
        return;
    g_array_free(router->sinks, TRUE);
    g_free(router);
}

void input_add_sink(InputRouter *router, const InputSink *sink, void *obj)
{
    Sink entry = {sink, obj};
    g_array_append_val(router->sinks, entry);
}

void input_remove_sink(InputRouter *router, void *obj)
{
    for (guint i = router->sinks->len; i-- > 0;) {
        if (g_array_index(router->sinks, Sink, i).obj == obj)
            g_array_remove_index(router->sinks, i);
    }
}

/* Calls `event` of the latest sink that has it. */
#define ROUTE(router, event, ...)                            \
    for (guint i = (router)->sinks->len; i-- > 0;) {         \
        Sink sink = g_array_index((router)->sinks, Sink, i); \
        if (sink.ops->event) {                               \
            sink.ops->event(sink.obj, __VA_ARGS__);          \
            return;                                          \
        }                                                    \
    }

void input_key(InputRouter *router, unsigned key, bool down)
{
    ROUTE(router, key, key, down)
}

void input_motion(InputRouter *router, int dx, int dy)
{
    ROUTE(router, motion, dx, dy)
}

void input_position(InputRouter *router, unsigned x, unsigned y)
{
    ROUTE(router, position, x, y)
}

void input_buttons(InputRouter *router, unsigned mask)
{
    ROUTE(router, buttons, mask)
}

void input_wheel(InputRouter *router, int steps)
{
    ROUTE(router, wheel, steps)
}
