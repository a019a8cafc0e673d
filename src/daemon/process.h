/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The process `ospite-vm` of one running machine, as the daemon sees it: started, or found again
 * after another daemon's death.
 *
 * A process has a folder in the runtime folder, vms/UUID, with
 *
 *     config    the configuration it was started with; locked (flock) by the process while it lives
 *     live      that configuration with what it has taken since; not there: nothing
 *     control   its control socket (docs/control.md)
 *     console   its first console
 *
 * so that nothing about a process needs to be remembered by a daemon. Its standard error is the
 * machine's log; its last line there says how it ended (runner/main.c).
 *
 * Main thread.
 */
#pragma once

#include <gio/gio.h>
#include <stdbool.h>

typedef struct Process Process;

typedef struct ProcessEnd {
    const char *reason; /* guest, plug, exit, error, crash */
    char *message;      /* its own words; NULL: it had none (process_end_text()) */
    int code, status;   /* without words: as siginfo_t has them; code 0: nobody knows */
    gint64 at;          /* seconds since 1970 */
    char **log;         /* the log's last lines; empty unless it was an error or a crash */
} ProcessEnd;
/* Why it ended, in the language of whoever asks (new). */
char *process_end_text(const ProcessEnd *end);
void process_end_free(ProcessEnd *end);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ProcessEnd, process_end_free)

typedef struct ProcessEvents {
    /* The guest runs or is paused; `why` says what of the host stopped it, NULL without. The first
     * call comes when it is ready to be asked, none when it ends before. */
    void (*state)(void *obj, bool paused, const char *why);
    /* It is gone: its files, locks and memory are free again. `end` is owned by the callee, who
     * frees the process. */
    void (*ended)(void *obj, ProcessEnd *end);
} ProcessEvents;

typedef struct ProcessSpec {
    const char *folder;  /* vms/UUID */
    const char *machine; /* the machine's folder, for relative paths */
    const char *log;     /* file; the last run's becomes LOG.1 */
    const char *name;    /* of the machine, for `ps` */
} ProcessSpec;

/* The program is `ospite-vm` beside our own, or $OSPITE_VM. */
Process *process_start(const ProcessSpec *spec, const char *config, const ProcessEvents *events,
                       void *obj, GError **error);
/*
 * Whose process lives in this folder; NULL when it does not. What a dead one left is removed, and
 * *ret_end says how it ended (owned; NULL when there was none).
 */
Process *process_adopt(const ProcessSpec *spec, const ProcessEvents *events, void *obj,
                       ProcessEnd **ret_end);
/* Leaves the process alone. */
void process_free(Process *process);
int process_pid(const Process *process);
gint64 process_started_at(const Process *process);
/* The configuration it runs with (new), or NULL. */
char *process_config(const Process *process);
/* It has taken changes: what process_config() says from now on. */
void process_keep_config(const Process *process, const char *config);

/*
 * Sends a line to the control socket. `done` gets the value after "ok", or the text lines, or an
 * error (owned by the caller of `done`).
 */
typedef void (*ProcessAnswer)(void *obj, const char *answer, const GError *error);
void process_ask(Process *process, const char *line, ProcessAnswer done, void *obj);
/* The same, and sends a descriptor before it (not taken; -1: none). */
void process_ask_with(Process *process, const char *line, int fd, ProcessAnswer done, void *obj);
/* Takes the news that have arrived: those of a change come before the answer that tells of it. */
void process_catch_up(Process *process);
/* Ends it: politely first, by SIGKILL when it does not listen. `ended` is called. */
void process_end(Process *process);
/* A stream to the console; NULL with an error. */
GSocketConnection *process_console(const Process *process, GError **error);

/* The last lines of a file (new, NULL at the end; empty when it cannot be read). */
char **process_log_tail(const char *path, unsigned lines);
