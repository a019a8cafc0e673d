/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Prints what a guest writes on its serial port, until it is off. Usage: watch_console NAME */
#include <ospite/ospite.h>
#include <stdio.h>

static void on_message(OspiteStream *stream, GBytes *message, void *data)
{
    GMainLoop *loop = data;
    gsize size;
    const void *text;

    if (!message) {
        g_main_loop_quit(loop);
        return;
    }
    text = g_bytes_get_data(message, &size);
    fwrite(text, 1, size, stdout);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(OspiteClient) client = argc == 2 ? ospite_client_new(&error) : NULL;
    OspiteStream *console = client ? ospite_vm_console_open(client, argv[1], &error) : NULL;
    GMainLoop *loop = g_main_loop_new(NULL, FALSE);

    if (console) {
        ospite_stream_watch(console, on_message, loop);
        g_main_loop_run(loop);
        ospite_stream_free(console);
    } else {
        fprintf(stderr, "watch_console: %s\n", error ? error->message : "it takes a NAME");
    }
    g_main_loop_unref(loop);
    return console ? 0 : 1;
}
