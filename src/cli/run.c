/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * `ospite run`: one VM in the foreground, from its options to its exit status. Everything but the
 * vCPUs runs on the main thread's default context.
 */
#include "cli/run.h"
#include "base/i18n.h"

#include <glib-unix.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "cli/options.h"
#include "runner/control.h"
#include "runner/gdb.h"
#include "runner/stats.h"

typedef struct Run {
    const RunOptions *options;
    Pc *pc;
    Control *control; /* NULL: none */
    GMainLoop *loop;
    int status;
} Run;

static void finish(Run *run, int status)
{
    run->status = status;
    g_main_loop_quit(run->loop);
}

static void on_event(void *obj, PcEvent event, int value, const char *text)
{
    Run *run = obj;

    switch (event) {
    case PC_EVENT_POWEROFF:
        finish(run, 0);
        return;
    case PC_EVENT_EXIT:
        finish(run, value & 0xff);
        return;
    case PC_EVENT_RESET:
        if (run->options->no_reboot)
            finish(run, 0);
        return;
    case PC_EVENT_ERROR:
        g_printerr("\r");
        g_printerr(_("ospite: the machine stopped: %s\n"), text);
        finish(run, 1);
        return;
    case PC_EVENT_ENGINE:
        g_printerr("\r");
        g_printerr(_("ospite: warning: %s\n"), text);
        return;
    case PC_EVENT_DISK:
        control_tell_state(run->control);
        g_printerr("\r");
        g_printerr(_("ospite: the machine is paused: %s; %s\n"), text,
                   run->options->control ? _("mend that, then say 'resume' on the control socket")
                                         : _("with --control it could go on after that is mended"));
        return;
    }
}

static gboolean on_signal(gpointer obj)
{
    finish(obj, 0);
    return G_SOURCE_CONTINUE;
}

static void on_gdb_kill(void *obj)
{
    finish(obj, 0);
}

static void print_escapes(void)
{
    static const char *const lines[] = {
        N_("Ctrl-A h  this help"),
        N_("Ctrl-A x  quit at once, as pulling the plug"),
        N_("Ctrl-A p  press the power button"),
        N_("Ctrl-A r  reset"),
        N_("Ctrl-A b  send a break"),
        N_("Ctrl-A Ctrl-A  send Ctrl-A"),
    };

    g_printerr("\r\n");
    for (unsigned i = 0; i < G_N_ELEMENTS(lines); i++)
        g_printerr("%s\r\n", _(lines[i]));
}

typedef struct Escape {
    Run *run;
    char command;
} Escape;

/* Out of the board lock, which the character backend holds. */
static gboolean do_escape(gpointer obj)
{
    Escape *escape = obj;
    Run *run = escape->run;
    g_autoptr(GError) error = NULL;

    switch (escape->command) {
    case 'x':
        finish(run, 0);
        break;
    case 'p':
        if (!pc_power_button(run->pc, &error))
            g_printerr("ospite run: %s\n", error->message);
        break;
    case 'r':
        if (!pc_reset(run->pc, &error))
            on_event(run, PC_EVENT_ERROR, 0, error->message);
        break;
    case 'b':
        pc_serial_break(run->pc);
        break;
    default:
        print_escapes();
    }
    return G_SOURCE_REMOVE;
}

static void on_escape(void *obj, char command)
{
    Escape *escape = g_new(Escape, 1);

    *escape = (Escape){obj, command};
    g_idle_add_full(G_PRIORITY_DEFAULT, do_escape, escape, g_free);
}

static int run_machine(Run *run)
{
    const RunOptions *options = run->options;
    g_autoptr(GError) error = NULL;
    g_autoptr(Control) control = NULL;
    Gdb *gdb = NULL;

    if (options->control) {
        control = control_new(run->pc, options->control, &error);
        if (!control) {
            g_printerr("ospite: %s\n", error->message);
            return 1;
        }
        run->control = control;
    }
    if (options->gdb) {
        gdb = gdb_new(run->pc, options->gdb, on_gdb_kill, run, &error);
        if (!gdb) {
            g_printerr("ospite: %s\n", error->message);
            return 1;
        }
    }
    for (guint i = 0; i < run->pc->chars->len; i++)
        char_stdio_set_escape(run->pc->chars->pdata[i], on_escape, run);
    pc_set_event_handler(run->pc, on_event, run);
    if (!options->gdb_wait)
        pc_resume(run->pc);
    g_main_loop_run(run->loop);
    pc_pause(run->pc);
    gdb_free(gdb, run->status);
    if (options->screenshot && !pc_screenshot(run->pc, options->screenshot, &error)) {
        g_printerr("\rospite: %s\n", error->message);
        return 1;
    }
    if (options->stats && !stats_write(run->pc->vm, options->stats, &error)) {
        g_printerr("\rospite: %s\n", error->message);
        return 1;
    }
    return run->status;
}

static int build_and_run(const RunOptions *options)
{
    static const VmBuildOptions as_given = {.probe = true};
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP};
    g_autoptr(GError) error = NULL;
    g_autoptr(VmBuild) build = NULL;
    g_autoptr(Trace) trace = NULL; /* these outlive the machine */
    g_autoptr(PerfMap) perf_map = NULL;
    g_autoptr(Pc) pc = NULL;
    Run run = {.options = options};

    run.loop = g_main_loop_new(NULL, FALSE);
    for (unsigned i = 0; i < G_N_ELEMENTS(signals); i++)
        g_unix_signal_add(signals[i], on_signal, &run);
    if (options->trace)
        trace = trace_new(options->trace, &error);
    if (options->perf_map && !error)
        perf_map = perf_map_new(strcmp(options->perf_map, "-") ? options->perf_map : NULL, &error);
    if (!error)
        build = vm_build(options->config, &as_given, &error);
    if (build)
        pc = pc_new(&build->pc, NULL, &error);
    if (pc && (!trace || vm_set_trace(pc->vm, trace, &error))) {
        if (build->engine_note)
            g_printerr("ospite: %s\n", build->engine_note);
        pc->vm->perf_map = perf_map;
        run.pc = pc;
        run.status = run_machine(&run);
    } else {
        g_printerr("ospite: %s\n", error->message);
        run.status = 1;
    }
    g_main_loop_unref(run.loop);
    return run.status;
}

int command_run(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    RunOptions options;
    int status = 2;

    if (!run_options_parse(&options, argc, argv, &error)) {
        g_printerr("ospite run: %s\n", error->message);
        status = error->domain == G_OPTION_ERROR ? 2 : 1;
    } else if (options.help) {
        printf(_("Usage: ospite run [OPTION]...\nBoots a virtual machine in this terminal. Ctrl-A "
                 "x leaves it.\n\n"));
        run_options_print_help();
        status = 0;
    } else {
        status = build_and_run(&options);
    }
    run_options_clear(&options);
    return status;
}
