/* SPDX-License-Identifier: GPL-3.0-or-later */
/* `vm console` and `events`: what a stream says, in this terminal. */
#include <errno.h>
#include <glib-unix.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "base/i18n.h"
#include "cli/call.h"

#define LEAVE_KEY   0x1d /* Ctrl-] */
#define END_SECONDS 5    /* in which the daemon sees that a machine has ended */

typedef struct Session {
    OspiteStream *stream;
    GMainLoop *loop;
    bool json, left, ended;
    guint input;
} Session;

static void on_end(Session *session)
{
    session->ended = true;
    g_main_loop_quit(session->loop);
}

static gboolean on_signal(gpointer data)
{
    Session *session = data;

    session->left = true;
    g_main_loop_quit(session->loop);
    return G_SOURCE_CONTINUE;
}

/* Until the stream ends, or a signal does it. */
static void run_session(Session *session, OspiteStreamFunc on_message)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    guint sources[G_N_ELEMENTS(signals)];

    session->loop = g_main_loop_new(NULL, FALSE);
    for (unsigned i = 0; i < G_N_ELEMENTS(signals); i++)
        sources[i] = g_unix_signal_add(signals[i], on_signal, session);
    ospite_stream_watch(session->stream, on_message, session);
    if (!session->ended)
        g_main_loop_run(session->loop);
    for (unsigned i = 0; i < G_N_ELEMENTS(signals); i++)
        g_source_remove(sources[i]);
    ospite_stream_free(session->stream);
    g_main_loop_unref(session->loop);
}

/* ---- the console ----------------------------------------------------------------------------- */

static void on_output(OspiteStream *stream, GBytes *message, void *data)
{
    gsize size = 0;
    const char *bytes = message ? g_bytes_get_data(message, &size) : NULL;

    if (!message)
        on_end(data);
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
    if (got > 0)
        ospite_stream_send(session->stream, keys, (gsize)got, NULL);
    if (leave)
        on_signal(session);
    if (got > 0)
        return G_SOURCE_CONTINUE;
    session->input = 0;
    return G_SOURCE_REMOVE;
}

/* A console ends with its machine; one that ends with its daemon says so. */
static bool explain_end(const CommandLine *line, GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(JsonNode) off =
        ospite_vm_wait(line->client, line->words[0], "off", END_SECONDS, &why);

    if (off || g_error_matches(why, OSPITE_ERROR, OSPITE_ERROR_NOT_FOUND))
        return true;
    g_set_error(error, OSPITE_ERROR, OSPITE_ERROR_UNREACHABLE,
                _("the daemon has left, and '%s' goes on without it; open its console again"),
                line->words[0]);
    return false;
}

bool run_vm_console(CommandLine *line, GError **error)
{
    struct termios before, raw;
    bool terminal = tcgetattr(STDIN_FILENO, &before) == 0;
    Session session = {.stream = ospite_vm_console_open(line->client, line->words[0], error)};

    if (!session.stream)
        return false;
    if (terminal) {
        fprintf(stderr, _("The console of '%s'; Ctrl-] leaves it."), line->words[0]);
        fprintf(stderr, "\r\n");
        raw = before;
        cfmakeraw(&raw);
        tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
    }
    session.input = g_unix_fd_add(STDIN_FILENO, G_IO_IN | G_IO_HUP, on_input, &session);
    run_session(&session, on_output);
    if (session.input)
        g_source_remove(session.input);
    if (terminal) {
        tcsetattr(STDIN_FILENO, TCSADRAIN, &before);
        fprintf(stderr, "\n");
    }
    return session.left || explain_end(line, error);
}

/* ---- events ---------------------------------------------------------------------------------- */

static void print_event(GBytes *message, bool json)
{
    g_autofree char *text = g_strndup(g_bytes_get_data(message, NULL), g_bytes_get_size(message));
    g_autoptr(JsonNode) event = json ? NULL : json_from_string(text, NULL);

    if (json)
        puts(text);
    else if (event)
        printf("%s %s %s %s %s\n", ospite_text(event, "time"), ospite_text(event, "kind"),
               ospite_text(event, "name"), call_state(ospite_text(event, "state")),
               ospite_text(event, "problem"));
    fflush(stdout);
}

static void on_event(OspiteStream *stream, GBytes *message, void *data)
{
    Session *session = data;

    if (message)
        print_event(message, session->json);
    else
        on_end(session);
}

bool watch_events(CommandLine *line, GError **error)
{
    Session session = {.json = line->json, .stream = ospite_events_open(line->client, error)};

    if (!session.stream)
        return false;
    run_session(&session, on_event);
    if (!session.left)
        g_set_error(error, OSPITE_ERROR, OSPITE_ERROR_UNREACHABLE, _("the daemon has left"));
    return session.left;
}
