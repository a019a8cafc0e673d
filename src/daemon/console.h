/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A bridge between a WebSocket and a machine's console. It lives until either end goes. What one
 * end does not take is not read from the other, but for keys, of which there are few. Main thread.
 */
#pragma once

#include <gio/gio.h>
#include <libsoup/soup.h>

typedef struct Console Console;

/* Takes the stream; console_begin() must follow. */
Console *console_new(GSocketConnection *stream);
/* A RequestUpgraded with a Console. */
void console_begin(void *obj, SoupWebsocketConnection *socket);
