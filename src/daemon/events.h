/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What happens, told to every WebSocket that listens (api/openapi.yaml: Event). Main thread. */
#pragma once

#include <json-glib/json-glib.h>
#include <libsoup/soup.h>

typedef struct Events Events;

Events *events_new(void);
void events_free(Events *events);
/* A RequestUpgraded: `obj` is the Events; takes the socket. */
void events_add(void *obj, SoupWebsocketConnection *socket);
typedef struct Event {
    const char *kind, *name, *uuid, *state, *problem; /* all but `kind` may be NULL */
    const char *snapshot;                             /* its UUID; NULL */
    JsonNode *end;                                    /* taken; NULL: none */
} Event;
void events_tell(Events *events, const Event *event);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Events, events_free)
