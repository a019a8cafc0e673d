/* SPDX-License-Identifier: GPL-3.0-or-later */
/* `vm console` and `events`: what a WebSocket says, in this terminal. */
#include <errno.h>
#include <glib-unix.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "cli/command.h"
#include "client/ospite_client.h"

#define LEAVE_KEY 0x1d /* Ctrl-] */

typedef struct Session {
    SoupWebsocketConnection *socket;
    GMainLoop *loop;
    bool json, left;
    guint input;
} Session;

static void on_closed(SoupWebsocketConnection *socket, gpointer data)
{
    Session *session = data;

    g_main_loop_quit(session->loop);
}

static gboolean on_signal(gpointer data)
{
    Session *session = data;

    session->left = true;
    g_main_loop_quit(session->loop);
    return G_SOURCE_CONTINUE;
}

static void run_session(Session *session)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    guint sources[G_N_ELEMENTS(signals)];

    for (unsigned i = 0; i < G_N_ELEMENTS(signals); i++)
        sources[i] = g_unix_signal_add(signals[i], on_signal, session);
    g_signal_connect(session->socket, "closed", G_CALLBACK(on_closed), session);
    if (soup_websocket_connection_get_state(session->socket) == SOUP_WEBSOCKET_STATE_OPEN)
        g_main_loop_run(session->loop);
    for (unsigned i = 0; i < G_N_ELEMENTS(signals); i++)
        g_source_remove(sources[i]);
}

static bool open_session(Session *session, OspiteClient *client, const char *path, GError **error)
{
    session->socket = client ? ospite_client_open(client, path, error) : NULL;
    if (!session->socket)
        return false;
    soup_websocket_connection_set_max_incoming_payload_size(session->socket, 1024 * 1024);
    session->loop = g_main_loop_new(NULL, FALSE);
    return true;
}

static void close_session(Session *session)
{
    g_main_loop_unref(session->loop);
    g_object_unref(session->socket);
}

/* ---- the console ----------------------------------------------------------------------------- */

static void on_output(SoupWebsocketConnection *socket, int type, GBytes *message, gpointer data)
{
    gsize size;
    const char *bytes = g_bytes_get_data(message, &size);

    while (size) {
        ssize_t written = write(STDOUT_FILENO, bytes, size);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return;
        bytes += written;
        size -= (gsize)written;
    }
}

/* The end of standard input is no reason to stop listening. */
static gboolean on_input(int fd, GIOCondition condition, gpointer data)
{
    Session *session = data;
    char keys[1024];
    ssize_t got = read(fd, keys, sizeof(keys));
    char *leave = got > 0 && isatty(fd) ? memchr(keys, LEAVE_KEY, (size_t)got) : NULL;

    if (got < 0 && errno == EINTR)
        return G_SOURCE_CONTINUE;
    if (leave)
        got = leave - keys;
    if (got > 0 &&
        soup_websocket_connection_get_state(session->socket) == SOUP_WEBSOCKET_STATE_OPEN)
        soup_websocket_connection_send_binary(session->socket, keys, (gsize)got);
    if (leave)
        on_signal(session);
    if (got > 0)
        return G_SOURCE_CONTINUE;
    session->input = 0;
    return G_SOURCE_REMOVE;
}

bool vm_console(CommandLine *line, GError **error)
{
    g_autoptr(OspiteClient) client = ospite_client_new(error);
    g_autofree char *path = ospite_client_vm_path(line->words[0], "/console");
    struct termios before, raw;
    bool terminal = tcgetattr(STDIN_FILENO, &before) == 0;
    Session session = {0};

    if (!open_session(&session, client, path, error))
        return false;
    if (terminal) {
        fprintf(stderr, "The console of '%s'; Ctrl-] leaves it.\r\n", line->words[0]);
        raw = before;
        cfmakeraw(&raw);
        tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
    }
    g_signal_connect(session.socket, "message", G_CALLBACK(on_output), &session);
    session.input = g_unix_fd_add(STDIN_FILENO, G_IO_IN | G_IO_HUP, on_input, &session);
    run_session(&session);
    if (session.input)
        g_source_remove(session.input);
    if (terminal) {
        tcsetattr(STDIN_FILENO, TCSADRAIN, &before);
        fprintf(stderr, "\n");
    }
    close_session(&session);
    return true;
}

/* ---- events ---------------------------------------------------------------------------------- */

static void on_event(SoupWebsocketConnection *socket, int type, GBytes *message, gpointer data)
{
    Session *session = data;
    g_autofree char *text = g_strndup(g_bytes_get_data(message, NULL), g_bytes_get_size(message));
    g_autoptr(JsonNode) node = json_from_string(text, NULL);
    JsonObject *event = node && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;

    if (session->json)
        puts(text);
    else if (event)
        printf("%s %s %s %s %s\n", json_object_get_string_member_with_default(event, "time", ""),
               json_object_get_string_member_with_default(event, "kind", ""),
               json_object_get_string_member_with_default(event, "name", ""),
               json_object_get_string_member_with_default(event, "state", ""),
               json_object_get_string_member_with_default(event, "problem", ""));
    fflush(stdout);
}

bool watch_events(CommandLine *line, GError **error)
{
    g_autoptr(OspiteClient) client = ospite_client_new(error);
    Session session = {.json = line->json};

    if (!open_session(&session, client, "/events", error))
        return false;
    g_signal_connect(session.socket, "message", G_CALLBACK(on_event), &session);
    run_session(&session);
    if (!session.left)
        g_set_error(error, OSPITE_ERROR, OSPITE_ERROR_FAILED, "the daemon has left");
    close_session(&session);
    return session.left;
}
