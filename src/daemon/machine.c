/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A machine's life as the daemon sees it; see machine.h. */
#include "daemon/machine.h"
#include "base/i18n.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/machine_json.h"
#include "vm/build.h"

typedef struct MachineWaiter {
    MachineState state;
    bool start; /* any end is a failure */
    MachineDone done;
    void *obj;
} MachineWaiter;

static const char *const state_names[MACHINE_STATES] = {
    [MACHINE_OFF] = "off",         [MACHINE_STARTING] = "starting",
    [MACHINE_RUNNING] = "running", [MACHINE_PAUSED] = "paused",
    [MACHINE_CRASHED] = "crashed", [MACHINE_INACCESSIBLE] = "inaccessible",
};

static const char *const state_phrases[MACHINE_STATES] = {
    [MACHINE_OFF] = N_("it is off"),         [MACHINE_STARTING] = N_("it is starting"),
    [MACHINE_RUNNING] = N_("it is running"), [MACHINE_PAUSED] = N_("it is paused"),
    [MACHINE_CRASHED] = N_("it is crashed"), [MACHINE_INACCESSIBLE] = N_("it is inaccessible"),
};

const char *machine_state_name(MachineState state)
{
    return state_names[state];
}

MachineState machine_state_find(const char *name)
{
    MachineState state = 0;

    while (state < MACHINE_STATES && strcmp(state_names[state], name))
        state++;
    return state;
}

bool machine_is_on(const Machine *machine)
{
    return machine->process != NULL;
}

char *machine_log(const Machine *machine)
{
    return g_build_filename(machine->folder, "ospite.log", NULL);
}

bool machine_is_busy(const Machine *machine)
{
    return machine->process || machine->autostart;
}

bool machine_wrong_state(const Machine *machine, const char *doing, const char *hint,
                         GError **error)
{
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_BUSY, "%s '%s': %s; %s", _(doing), machine->name,
                _(state_phrases[machine->state]), hint);
    return false;
}

bool machine_is_settled(const Machine *machine, const char *doing, GError **error)
{
    if (machine->copy)
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_BUSY,
                    _("cannot %s '%s': its folder is being copied; try again when that is done"),
                    _(doing), machine->name);
    else if (machine->merging)
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_BUSY,
                    _("cannot %s '%s': the images of a snapshot are being merged; try again when "
                      "that is done"),
                    _(doing), machine->name);
    return !machine->copy && !machine->merging;
}

/* ---- waiting --------------------------------------------------------------------------------- */

static bool is_reached(const Machine *machine, MachineState wanted)
{
    return machine->state == wanted || (wanted == MACHINE_OFF && !machine_is_on(machine));
}

void machine_wait(Machine *machine, MachineState state, MachineDone done, void *obj)
{
    MachineWaiter waiter = {state, false, done, obj};

    if (is_reached(machine, state))
        done(obj, machine, NULL);
    else
        g_array_append_val(machine->waiters, waiter);
}

void machine_forget_waiter(Machine *machine, void *obj)
{
    for (guint i = machine->waiters->len; i-- > 0;) {
        if (g_array_index(machine->waiters, MachineWaiter, i).obj == obj)
            g_array_remove_index(machine->waiters, i);
    }
}

GError *machine_start_failed(const Machine *machine)
{
    g_autofree char *why = machine->end ? process_end_text(machine->end) : NULL;

    return g_error_new(G_IO_ERROR, G_IO_ERROR_FAILED, _("cannot start '%s': %s"), machine->name,
                       why ? why : _("it ended at once"));
}

/* The first waiter whose wish has come true, or never will, taken out of the list. */
static bool next_waiter(Machine *machine, MachineWaiter *ret_waiter, GError **ret_error)
{
    for (guint i = 0; i < machine->waiters->len; i++) {
        *ret_waiter = g_array_index(machine->waiters, MachineWaiter, i);
        bool reached = is_reached(machine, ret_waiter->state);
        if (!reached && (!ret_waiter->start || machine_is_on(machine)))
            continue;
        if (!reached)
            *ret_error = machine_start_failed(machine);
        g_array_remove_index(machine->waiters, i);
        return true;
    }
    return false;
}

static void tell_state(const Machine *machine)
{
    bool ended = !machine_is_on(machine) && machine->end;
    Event event = {.kind = "vm-state",
                   .name = machine->name,
                   .uuid = machine->uuid,
                   .state = state_names[machine->state],
                   .problem = machine->problem,
                   .end = ended ? machine_end_json(machine->end) : NULL};

    events_tell(machine->events, &event);
}

static void set_state(Machine *machine, MachineState state)
{
    MachineWaiter waiter;
    GError *error = NULL;

    if (machine->state == state)
        return;
    machine->state = state;
    tell_state(machine);
    while (next_waiter(machine, &waiter, &error)) {
        waiter.done(waiter.obj, machine, error);
        g_clear_error(&error);
    }
}

/* ---- the file -------------------------------------------------------------------------------- */

static void set_config(Machine *machine, VmConfig *config)
{
    g_clear_pointer(&machine->config, vm_tree_free);
    g_clear_pointer(&machine->problem, g_free);
    machine->config = config;
    machine->media_known = false;
    g_free(machine->name);
    machine->name = vm_tree_string(config, "general.name");
}

static void set_problem(Machine *machine, const char *problem)
{
    g_free(machine->problem);
    machine->problem = g_strdup(problem);
    g_clear_pointer(&machine->config, vm_tree_free);
}

static void read_file(Machine *machine)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VmConfig) config = vm_config_load(machine->file, &error);
    g_autofree char *uuid = config ? vm_tree_string(config, "general.uuid") : NULL;

    if (!config)
        set_problem(machine, error->message);
    else if (strcmp(uuid, machine->uuid))
        set_problem(machine, _("the file is that of another machine now"));
    else
        set_config(machine, g_steal_pointer(&config));
    if (machine->process)
        return;
    if (!machine->config)
        set_state(machine, MACHINE_INACCESSIBLE);
    else if (machine->state == MACHINE_INACCESSIBLE)
        set_state(machine, MACHINE_OFF);
}

/* True when the file is not as it was when this was asked last. */
static bool file_changed(Machine *machine)
{
    struct stat st = {0};
    bool there = stat(machine->file, &st) == 0;
    gint64 mtime = st.st_mtim.tv_sec * G_GINT64_CONSTANT(1000000000) + st.st_mtim.tv_nsec;
    bool same = there && machine->seen.mtime_ns == mtime && machine->seen.size == st.st_size &&
                machine->seen.inode == (gint64)st.st_ino;

    machine->seen.mtime_ns = mtime;
    machine->seen.size = st.st_size;
    machine->seen.inode = (gint64)st.st_ino;
    return !same;
}

void machine_refresh(Machine *machine)
{
    if (file_changed(machine))
        read_file(machine);
}

bool machine_save(Machine *machine, const VmConfig *config, GError **error)
{
    if (!vm_config_check(config, error) || !vm_config_save(config, machine->file, error))
        return false;
    file_changed(machine);
    set_config(machine, vm_tree_copy(config));
    machine_tell(machine, "vm-changed");
    return true;
}

void machine_tell(const Machine *machine, const char *kind)
{
    events_tell(machine->events,
                &(Event){.kind = kind, .name = machine->name, .uuid = machine->uuid});
}

void machine_tell_snapshot(const Machine *machine, const char *kind, const char *snapshot)
{
    events_tell(
        machine->events,
        &(Event){.kind = kind, .name = machine->name, .uuid = machine->uuid, .snapshot = snapshot});
}

/* ---- the process ----------------------------------------------------------------------------- */

/* A new reason is news, too. */
static void on_state(void *obj, bool paused, const char *why)
{
    Machine *machine = obj;
    g_autofree char *problem =
        why ? g_strdup_printf("%s; make room for it or mend it, then 'ospite vm resume'", why)
            : NULL;
    bool same = !g_strcmp0(machine->problem, problem);

    if (machine->config) {
        g_free(machine->problem);
        machine->problem = g_steal_pointer(&problem);
    }
    if (paused && machine->state == MACHINE_PAUSED && !same)
        tell_state(machine);
    set_state(machine, paused ? MACHINE_PAUSED : MACHINE_RUNNING);
}

static void take_end(Machine *machine, ProcessEnd *end)
{
    bool bad = !strcmp(end->reason, "crash") || !strcmp(end->reason, "error");

    g_clear_pointer(&machine->end, process_end_free);
    machine->end = end;
    g_clear_pointer(&machine->process, process_free);
    g_clear_pointer(&machine->started, vm_tree_free);
    if (machine->config)
        g_clear_pointer(&machine->problem, g_free);
    set_state(machine, !machine->config ? MACHINE_INACCESSIBLE
                       : bad            ? MACHINE_CRASHED
                                        : MACHINE_OFF);
}

static void on_ended(void *obj, ProcessEnd *end)
{
    take_end(obj, end);
}

static const ProcessEvents process_events = {.state = on_state, .ended = on_ended};

/* All that this version lacks at once; no process is needed to find that out. */
static bool can_be_built(const Machine *machine, GError **error)
{
    g_autoptr(GPtrArray) missing = vm_build_missing(machine->config);
    const char *first = missing->len ? missing->pdata[0] : "", *hint = g_strrstr(first, "; ");
    g_autofree char *why = hint ? g_strndup(first, (gsize)(hint - first)) : g_strdup(first);
    g_autoptr(GString) others = g_string_new(NULL);

    for (guint i = 1; i < missing->len; i++) {
        const char *line = missing->pdata[i];
        g_string_append_printf(others, "%s%.*s", i > 1 ? ", " : "", (int)strcspn(line, ":"), line);
    }
    if (others->len)
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                    _("cannot start '%s': %s, nor what %s ask for; change these settings"),
                    machine->name, why, others->str);
    else if (missing->len)
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED, _("cannot start '%s': %s"),
                    machine->name, first);
    return !missing->len;
}

bool machine_start(Machine *machine, MachineDone done, void *obj, GError **error)
{
    g_autofree char *log = machine_log(machine);
    ProcessSpec spec = {machine->runtime, machine->folder, log, machine->name};
    MachineWaiter waiter = {MACHINE_RUNNING, true, done, obj};
    g_autofree char *text = NULL;

    machine_refresh(machine);
    if (machine->process)
        return machine_wrong_state(machine, N_("cannot start"), _("nothing needs to be done"),
                                   error);
    if (!machine->config)
        return machine_wrong_state(machine, N_("cannot start"), machine->problem, error);
    if (!machine_is_settled(machine, N_("start"), error) || !can_be_built(machine, error))
        return false;
    text = vm_tree_text(machine->config, NULL);
    machine->process = process_start(&spec, text, &process_events, machine, error);
    if (!machine->process)
        return false;
    machine->started = vm_tree_copy(machine->config);
    g_array_append_val(machine->waiters, waiter);
    set_state(machine, MACHINE_STARTING);
    return true;
}

static void on_autostarted(void *obj, Machine *machine, const GError *error)
{
    if (error)
        g_warning("%s", error->message);
}

static gboolean on_autostart(gpointer data)
{
    Machine *machine = data;
    g_autoptr(GError) error = NULL;

    machine->autostart = 0;
    if (!machine->process && !machine_start(machine, on_autostarted, NULL, &error))
        g_warning("%s", error->message);
    return G_SOURCE_REMOVE;
}

bool machine_autostart(Machine *machine)
{
    if (!machine->config || machine_is_busy(machine) ||
        !vm_tree_bool(machine->config, "autostart.enabled"))
        return false;
    machine->autostart = g_timeout_add_seconds(
        (guint)vm_tree_number(machine->config, "autostart.delay"), on_autostart, machine);
    return true;
}

static void read_started(Machine *machine)
{
    g_autofree char *text = process_config(machine->process);

    machine->started = text ? vm_config_parse(text, strlen(text), "running", NULL) : NULL;
}

void machine_adopt(Machine *machine)
{
    g_autofree char *log = machine_log(machine);
    ProcessSpec spec = {machine->runtime, machine->folder, log, machine->name};
    ProcessEnd *end;

    machine->process = process_adopt(&spec, &process_events, machine, &end);
    if (machine->process) {
        read_started(machine);
        set_state(machine, MACHINE_STARTING);
    } else if (end) {
        take_end(machine, end);
    }
}

bool machine_power_off(Machine *machine, MachineDone done, void *obj, GError **error)
{
    if (!machine->process)
        return machine_wrong_state(machine, N_("cannot turn off"), _("nothing needs to be done"),
                                   error);
    process_end(machine->process);
    machine_wait(machine, MACHINE_OFF, done, obj);
    return true;
}

bool machine_command(Machine *machine, const char *doing, const char *line, ProcessAnswer done,
                     void *obj, GError **error)
{
    if (machine->state != MACHINE_RUNNING && machine->state != MACHINE_PAUSED)
        return machine_wrong_state(machine, doing, _("start it first"), error);
    process_ask(machine->process, line, done, obj);
    return true;
}

void machine_catch_up(Machine *machine)
{
    if (machine->process)
        process_catch_up(machine->process);
}

/* ---- life ------------------------------------------------------------------------------------ */

Machine *machine_new(const char *file, const char *uuid, const char *runtime, Events *events)
{
    Machine *machine = g_new0(Machine, 1);
    g_autofree char *base = g_path_get_basename(file);

    if (g_str_has_suffix(base, VM_CONFIG_SUFFIX))
        base[strlen(base) - strlen(VM_CONFIG_SUFFIX)] = '\0';
    machine->uuid = g_strdup(uuid);
    machine->name = g_strdup(base);
    machine->file = g_strdup(file);
    machine->folder = g_path_get_dirname(file);
    machine->runtime = g_build_filename(runtime, "vms", uuid, NULL);
    machine->waiters = g_array_new(FALSE, FALSE, sizeof(MachineWaiter));
    machine->events = events;
    file_changed(machine);
    read_file(machine);
    return machine;
}

void machine_free(Machine *machine)
{
    g_autoptr(GError) gone = NULL;

    if (!machine)
        return;
    gone = g_error_new(G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "'%s' was deleted", machine->name);
    while (machine->waiters->len) {
        MachineWaiter waiter = g_array_index(machine->waiters, MachineWaiter, 0);
        g_array_remove_index(machine->waiters, 0);
        waiter.done(waiter.obj, machine, gone);
    }
    if (machine->autostart)
        g_source_remove(machine->autostart);
    g_clear_pointer(&machine->process, process_free);
    g_clear_pointer(&machine->config, vm_tree_free);
    g_clear_pointer(&machine->started, vm_tree_free);
    g_clear_pointer(&machine->end, process_end_free);
    g_array_unref(machine->waiters);
    g_free(machine->uuid);
    g_free(machine->name);
    g_free(machine->file);
    g_free(machine->folder);
    g_free(machine->runtime);
    g_free(machine->problem);
    g_free(machine);
}
