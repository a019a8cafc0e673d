/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A registered machine: its file, its configuration as it was last read, and its process while it
 * runs. Main thread.
 */
#pragma once

#include "daemon/events.h"
#include "daemon/process.h"
#include "vm/config.h"
#include "vm/folder_copy.h"
#include "vm/snapshot.h"

typedef enum MachineState {
    MACHINE_OFF,
    MACHINE_STARTING,
    MACHINE_RUNNING,
    MACHINE_PAUSED,
    MACHINE_CRASHED,      /* off after an end that nobody asked for */
    MACHINE_INACCESSIBLE, /* its file cannot be read */
    MACHINE_STATES
} MachineState;

typedef struct Machine Machine;

/* What somebody waits for; called once, with an error when it cannot come any more. */
typedef void (*MachineDone)(void *obj, Machine *machine, const GError *error);

struct Machine {
    char *uuid, *name;
    char *file, *folder; /* NAME.ospite and where it is */
    char *runtime;       /* the folder of its process */
    VmConfig *config;    /* NULL: inaccessible */
    bool media_known;    /* the registry of media knows what this configuration uses */
    char *problem;       /* why it is inaccessible, or paused though nobody asked for it */
    struct {
        gint64 mtime_ns, size, inode;
    } seen; /* the file when it was read */
    MachineState state;
    Process *process;  /* NULL: there is none */
    VmConfig *started; /* the configuration of the process; NULL: none, or not readable */
    ProcessEnd *end;   /* the last one; NULL: none known */
    GArray *waiters;   /* of MachineWaiter */
    FolderCopy *copy;  /* its folder is on the way to another file system; NULL: it is not */
    VmSnapshotDelete *merging; /* a snapshot's images are being merged; NULL: they are not */
    guint autostart;           /* the source that starts it after its delay; 0: none */
    Events *events;
};

Machine *machine_new(const char *file, const char *uuid, const char *runtime, Events *events);
void machine_free(Machine *machine);
/* Reads the file if it changed. */
void machine_refresh(Machine *machine);
/* Puts a changed configuration in the place of the old: checked, saved, told. */
bool machine_save(Machine *machine, const VmConfig *config, GError **error);
/* Finds the process that another daemon has started, or what became of it. */
void machine_adopt(Machine *machine);

bool machine_is_on(const Machine *machine);
/* It is on, or will be by itself. */
bool machine_is_busy(const Machine *machine);
char *machine_log(const Machine *machine);
const char *machine_state_name(MachineState state);
/* MACHINE_STATES: there is no such state. */
MachineState machine_state_find(const char *name);

/* Begins to start; `done` follows when the guest runs, or with the reason why not. */
bool machine_start(Machine *machine, MachineDone done, void *obj, GError **error);
/* If it is off and to start by itself: starts it, after its delay. False: it need not be. */
bool machine_autostart(Machine *machine);
/* Pulls the plug; `done` follows when the process is gone. */
bool machine_power_off(Machine *machine, MachineDone done, void *obj, GError **error);
/* Asks the process; `doing` is what for, for messages. */
bool machine_command(Machine *machine, const char *doing, const char *line, ProcessAnswer done,
                     void *obj, GError **error);
/* What its process has told by now counts: after an answer of it that changes the state. */
void machine_catch_up(Machine *machine);
/* An event about it, or about one of its snapshots. */
void machine_tell(const Machine *machine, const char *kind);
void machine_tell_snapshot(const Machine *machine, const char *kind, const char *snapshot);

/* `done` once the machine is in `state` (MACHINE_OFF: crashed or inaccessible, too), perhaps at
 * once. */
void machine_wait(Machine *machine, MachineState state, MachineDone done, void *obj);
/* Nobody waits with this `obj` any more; `done` is not called. */
void machine_forget_waiter(Machine *machine, void *obj);

/* Nothing is being done to its files; else BUSY, as below. */
/* Why it did not start, in the language that is set now. */
GError *machine_start_failed(const Machine *machine);
bool machine_is_settled(const Machine *machine, const char *doing, GError **error);
/* Sets BUSY: "cannot DOING 'NAME': it is STATE; HINT". */
bool machine_wrong_state(const Machine *machine, const char *doing, const char *hint,
                         GError **error);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Machine, machine_free)
