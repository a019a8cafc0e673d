/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * `ospite-vm`: the process of one running machine, started by ospited. It builds the machine from
 * the configuration it was handed, opens its sockets in its runtime folder, shuts itself in
 * (sandbox.h), and runs the guest until the end, with or without a daemon.
 *
 * Its last line on standard error, the machine's log, is "ospite-vm: end REASON: MESSAGE" with one
 * of the reasons guest, plug, exit and error; without it, it crashed.
 */
#include <glib-unix.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/i18n.h"
#include "runner/control.h"
#include "runner/remote_disk.h"
#include "runner/sandbox.h"
#include "vm/build.h"

#define CONFIG_MAX_BYTES (8 * 1024 * 1024)

typedef struct Runner {
    int config_fd, ready_fd;
    char *folder, *runtime, *name;
    Pc *pc;
    Control *control;
    GMainLoop *loop;
    const char *reason;
    char *message;
} Runner;

static void runner_clear(Runner *runner)
{
    control_free(runner->control);
    pc_free(runner->pc);
    g_clear_pointer(&runner->loop, g_main_loop_unref);
    g_free(runner->folder);
    g_free(runner->runtime);
    g_free(runner->name);
    g_free(runner->message);
}

static void finish(Runner *runner, const char *reason, const char *message)
{
    if (!runner->reason) {
        runner->reason = reason;
        runner->message = g_strdup(message);
    }
    g_main_loop_quit(runner->loop);
}

static void on_event(void *obj, PcEvent event, int value, const char *text)
{
    Runner *runner = obj;
    g_autofree char *status = NULL;

    switch (event) {
    case PC_EVENT_POWEROFF:
        finish(runner, "guest", N_("the guest turned the machine off"));
        return;
    case PC_EVENT_EXIT:
        status = g_strdup_printf(_("the guest left by the debug exit port with %d"), value);
        finish(runner, "exit", status);
        return;
    case PC_EVENT_RESET:
        control_tell(runner->control, "reset");
        return;
    case PC_EVENT_ERROR:
        finish(runner, "error", text);
        return;
    case PC_EVENT_ENGINE:
        g_printerr("ospite-vm: %s\n", text);
        return;
    case PC_EVENT_DISK:
        g_printerr("ospite-vm: %s\n", text);
        control_tell_state(runner->control);
        return;
    }
}

static void on_quit(void *obj)
{
    finish(obj, "plug", N_("the machine was turned off"));
}

static gboolean on_signal(gpointer obj)
{
    finish(obj, "plug", N_("the process was asked to end by a signal"));
    return G_SOURCE_CONTINUE;
}

/* ---- from the configuration to a machine ------------------------------------------------------
 */

static VmConfig *read_config(int fd, GError **error)
{
    g_autoptr(GByteArray) text = g_byte_array_new();
    guint8 chunk[4096];
    ssize_t got;

    while ((got = read(fd, chunk, sizeof(chunk))) > 0 && text->len < CONFIG_MAX_BYTES)
        g_byte_array_append(text, chunk, (guint)got);
    return vm_config_parse((const char *)text->data, text->len, "the configuration handed over",
                           error);
}

static Pc *build(const Runner *runner, GError **error)
{
    g_autoptr(VmConfig) config = read_config(runner->config_fd, error);
    g_autofree char *console = g_strdup_printf("console:%s/console", runner->runtime);
    VmBuildOptions options = {.folder = runner->folder, .console = console};
    g_autoptr(VmBuild) machine = config ? vm_build(config, &options, error) : NULL;

    int sockets[PC_DRIVE_MAX];

    if (!machine || !remote_disks_start(&machine->pc, sockets, error))
        return NULL;
    if (machine->engine_note)
        g_printerr("ospite-vm: %s\n", machine->engine_note);
    return pc_new(&machine->pc, NULL, error);
}

static bool prepare(Runner *runner, GError **error)
{
    g_autofree char *control = g_build_filename(runner->runtime, "control", NULL);

    runner->pc = build(runner, error);
    runner->control = runner->pc ? control_new(runner->pc, control, error) : NULL;
    if (!runner->control)
        return false;
    control_set_quit(runner->control, on_quit, runner);
    pc_set_event_handler(runner->pc, on_event, runner);
    engine_keep_all();
    return sandbox_enter(error);
}

static bool tell_ready(Runner *runner)
{
    bool told = write(runner->ready_fd, "ready\n", 6) == 6;

    fd_clear(&runner->ready_fd);
    return told; /* a daemon that died meanwhile does not matter */
}

static void run(Runner *runner)
{
    g_autoptr(GError) error = NULL;

    if (!prepare(runner, &error)) {
        finish(runner, "error", error->message);
        return;
    }
    pc_resume(runner->pc);
    if (!tell_ready(runner))
        g_printerr("ospite-vm: nobody waits for this machine; it runs all the same\n");
    g_main_loop_run(runner->loop);
    pc_pause(runner->pc);
}

/* ---- the program ----------------------------------------------------------------------------- */

static bool parse(Runner *runner, int argc, char **argv)
{
    const GOptionEntry entries[] = {
        {"config", 0, 0, G_OPTION_ARG_INT, &runner->config_fd, "descriptor of the configuration",
         "FD"},
        {"ready", 0, 0, G_OPTION_ARG_INT, &runner->ready_fd, "descriptor to tell that it runs",
         "FD"},
        {"runtime", 0, 0, G_OPTION_ARG_FILENAME, &runner->runtime, "folder for sockets", "FOLDER"},
        {"folder", 0, 0, G_OPTION_ARG_FILENAME, &runner->folder, "the machine's folder", "FOLDER"},
        {"name", 0, 0, G_OPTION_ARG_FILENAME, &runner->name, "for the list of processes", "NAME"},
        {NULL},
    };
    g_autoptr(GOptionContext) context = g_option_context_new("- the process of one machine");
    g_autoptr(GError) error = NULL;

    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        g_printerr("ospite-vm: %s\n", error->message);
        return false;
    }
    if (runner->config_fd >= 0 && runner->runtime && runner->folder)
        return true;
    g_printerr("ospite-vm: ospited starts this program; use 'ospite vm start NAME'\n");
    return false;
}

int main(int argc, char **argv)
{
    Runner runner = {.config_fd = -1, .ready_fd = -1};
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP};

    i18n_serve();
    signal(SIGPIPE, SIG_IGN);
    if (argc > 1 && g_str_equal(argv[1], REMOTE_DISK_OPTION))
        return remote_disk_main(argc, argv);
    if (!parse(&runner, argc, argv))
        return 2;
    setsid(); /* the terminal of whoever started the daemon is none of our business */
    runner.loop = g_main_loop_new(NULL, FALSE);
    for (unsigned i = 0; i < G_N_ELEMENTS(signals); i++)
        g_unix_signal_add(signals[i], on_signal, &runner);
    run(&runner);
    g_strdelimit(runner.message, "\n", ' ');
    g_printerr("ospite-vm: end %s: %s\n", runner.reason, runner.message);
    runner_clear(&runner);
    return g_str_equal(runner.reason, "error");
}
