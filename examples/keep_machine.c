/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a program that looks after machines does with one: it makes one of another product's file,
 * runs it, looks at it, copies it, and takes the copy away.
 * Usage: keep_machine FILE NAME FOLDER
 */
#include <ospite/ospite.h>
#include <stdio.h>
#include <string.h>

/* Takes the answer: whether there is one. */
static gboolean done(JsonNode *answer)
{
    if (answer)
        json_node_unref(answer);
    return answer != NULL;
}

static gboolean print_lines(JsonNode *answer, const char *what)
{
    JsonArray *lines = answer ? ospite_list(answer, "lines") : NULL;

    printf("%s: %u lines\n", what, lines ? json_array_get_length(lines) : 0);
    return done(answer);
}

/* What it wrote up to now, and a key for it. */
static gboolean use_console(OspiteClient *client, const char *name, GError **error)
{
    OspiteStream *console = ospite_vm_console_open(client, name, error);
    g_autoptr(GError) silent = NULL;
    g_autoptr(GBytes) message = NULL;
    gboolean typed;

    if (!console)
        return FALSE;
    message = ospite_stream_next(console, 100, &silent); /* it may have nothing to say */
    typed = ospite_stream_send(console, "\r", 1, error);
    ospite_stream_free(console);
    return typed;
}

static gboolean look(OspiteClient *client, const char *name, GError **error)
{
    g_autoptr(JsonNode) vm = ospite_vm_show_stats(client, name, error);

    if (!vm)
        return FALSE;
    printf("%s runs with the engine %s\n", ospite_text(vm, "vm.name"),
           ospite_text(vm, "vm.stats.engine"));
    return done(ospite_vm_pause(client, name, error)) &&
           done(ospite_vm_resume(client, name, error)) &&
           done(ospite_vm_reset(client, name, error)) &&
           done(ospite_vm_type(client, name, "a", error)) && use_console(client, name, error) &&
           print_lines(ospite_vm_screen(client, name, error), "screen") &&
           print_lines(ospite_vm_log(client, name, 10, error), "log");
}

/* The power button, and the plug for one that does not mind it. */
static gboolean turn_off(OspiteClient *client, const char *name, GError **error)
{
    g_autoptr(JsonNode) off = NULL;

    if (!done(ospite_vm_stop(client, name, error)))
        return FALSE;
    off = ospite_vm_wait(client, name, "off", 1, error);
    if (off || !g_error_matches(*error, OSPITE_ERROR, OSPITE_ERROR_TIMED_OUT))
        return off != NULL;
    g_clear_error(error);
    return done(ospite_vm_poweroff(client, name, error));
}

/* Its file, with a word added; then a copy elsewhere, which is forgotten and made known again. */
static gboolean copy(OspiteClient *client, const char *name, const char *folder, GError **error)
{
    g_autofree char *xml = ospite_vm_get_file(client, name, error);
    g_autofree char *clone = g_strconcat(name, "-copy", NULL), *inner = NULL;
    g_autoptr(JsonNode) shown = NULL;

    if (!xml || !done(ospite_vm_put_file(client, name, xml, error)) ||
        !done(ospite_vm_clone(client, name, clone, folder, FALSE, error)))
        return FALSE;
    inner = g_build_filename(folder, "moved", NULL);
    if (!done(ospite_vm_move(client, clone, inner, error)))
        return FALSE;
    shown = ospite_vm_show(client, clone, error);
    return shown && done(ospite_vm_delete(client, clone, OSPITE_DELETE_UNREGISTER, error)) &&
           done(ospite_vm_register(client, ospite_text(shown, "vm.file"), error)) &&
           done(ospite_vm_delete(client, clone, OSPITE_DELETE_ALL, error));
}

static gboolean keep(OspiteClient *client, char **argv, GError **error)
{
    g_autoptr(JsonNode) version = ospite_daemon_version(client, error);
    g_autoptr(JsonNode) made =
        version ? ospite_vm_import(client, argv[1], argv[2], argv[3], error) : NULL;
    JsonArray *report = made ? ospite_list(made, "report") : NULL;
    g_autofree char *path = g_strdup_printf("/vms/%s", argv[2]);

    if (!made)
        return FALSE;
    for (guint i = 0; i < json_array_get_length(report); i++)
        printf("lost: %s\n", json_array_get_string_element(report, i));
    return done(ospite_vm_start(client, argv[2], error)) && look(client, argv[2], error) &&
           turn_off(client, argv[2], error) && copy(client, argv[2], argv[3], error) &&
           done(ospite_vm_autostart(client, error)) &&
           /* What has no function of its own: any operation of the description. */
           done(ospite_client_call(client, "GET", path, NULL, error));
}

int main(int argc, char **argv)
{
    GError *error = NULL;
    g_autoptr(OspiteClient) client = argc == 4 ? ospite_client_new(&error) : NULL;
    gboolean ok = client && keep(client, argv, &error);

    if (!ok)
        fprintf(stderr, "keep_machine: %s\n", error ? error->message : "it takes FILE NAME FOLDER");
    g_clear_error(&error);
    return ok ? 0 : 1;
}
