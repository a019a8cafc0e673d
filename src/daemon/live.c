/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * See live.h. A step is one command of docs/control.md; steps are asked one after another. A medium
 * goes as an open descriptor, because the process may open nothing (runner/sandbox.c).
 */
#include "daemon/live.h"
#include "base/address.h"
#include "base/i18n.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/fd.h"
#include "vm/path.h"

typedef struct Step {
    GPtrArray *names, *values; /* settings that it brings (of char *; a default's value is NULL) */
    char *line;                /* the command */
    int fd;                    /* to send with it; -1: none */
    char *refuse;              /* why it need not be asked; NULL: it can be */
} Step;

typedef struct Live {
    Registry *registry;
    char *uuid;
    LiveDone done;
    void *obj;
    GQueue steps; /* of Step; the first is being asked */
    GHashTable *refused;
} Live;

static void step_free(gpointer data)
{
    Step *step = data;

    g_ptr_array_unref(step->names);
    g_ptr_array_unref(step->values);
    g_free(step->line);
    g_free(step->refuse);
    fd_clear(&step->fd);
    g_free(step);
}

/* ---- what there is to do --------------------------------------------------------------------- */

/* The names below `place` ("storage.ide0.2") whose values differ; NULL when none does. */
static GPtrArray *differing(const Machine *machine, const char *place, const char *const *fields)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);

    for (; *fields; fields++) {
        g_autofree char *name = g_strconcat(place, ".", *fields, NULL);
        g_autofree char *from = vm_tree_string(machine->started, "%s", name);
        g_autofree char *to = vm_tree_string(machine->config, "%s", name);
        if (strcmp(from, to))
            g_ptr_array_add(names, g_steal_pointer(&name));
    }
    return names->len ? g_steal_pointer(&names) : NULL;
}

static Step *add_step(Live *live, const Machine *machine, GPtrArray *names, char *line)
{
    Step *step = g_new0(Step, 1);

    step->names = names;
    step->values = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < names->len; i++)
        g_ptr_array_add(step->values,
                        vm_tree_has(machine->config, names->pdata[i])
                            ? vm_tree_string(machine->config, "%s", (const char *)names->pdata[i])
                            : NULL);
    step->line = line;
    step->fd = -1;
    g_queue_push_tail(&live->steps, step);
    return step;
}

static void plan_engine(Live *live, const Machine *machine)
{
    static const char *const fields[] = {"engine", NULL};
    GPtrArray *names = differing(machine, "system", fields);
    g_autofree char *engine = vm_tree_string(machine->config, "system.engine");

    if (names)
        add_step(live, machine, names, g_strconcat("engine ", engine, NULL));
}

/* Of the whole machine. */
static void plan_limits(Live *live, const Machine *machine)
{
    static const struct {
        const char *field, *word;
    } limits[] = {{"cpu", "cpu"}, {"disk", "disks"}};

    for (unsigned i = 0; i < G_N_ELEMENTS(limits); i++) {
        const char *const fields[] = {limits[i].field, NULL};
        GPtrArray *names = differing(machine, "limits", fields);
        if (names)
            add_step(
                live, machine, names,
                g_strdup_printf("limit %s %" G_GUINT64_FORMAT, limits[i].word,
                                vm_tree_number(machine->config, "limits.%s", limits[i].field)));
    }
}

static void plan_throttle(Live *live, const Machine *machine, const char *place, const char *drive)
{
    static const char *const fields[] = {"iops", "bandwidth", NULL};
    GPtrArray *names = differing(machine, place, fields);
    const VmConfig *config = machine->config;

    if (names)
        add_step(live, machine, names,
                 g_strdup_printf("throttle %s %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT, drive,
                                 vm_tree_number(config, "%s.iops", place),
                                 vm_tree_number(config, "%s.bandwidth", place)));
}

/* The medium's file, open, and the command that brings it; else why that cannot be. */
static void open_medium(Step *step, const Machine *machine, const char *place, const char *drive)
{
    g_autofree char *medium = vm_tree_string(machine->config, "%s.medium", place);
    g_autofree char *type = vm_tree_string(machine->config, "%s.type", place);
    g_autofree char *format = vm_tree_string(machine->config, "%s.format", place);
    g_autofree char *mode = vm_tree_string(machine->config, "%s.mode", place);
    bool read_only = !strcmp(type, "cdrom") || !strcmp(mode, "readonly");
    g_autoptr(GError) error = NULL;
    g_autofree char *path = vm_path_resolve(machine->folder, medium, &error);

    if (strcmp(type, "cdrom") && !read_only && strcmp(mode, "normal") &&
        strcmp(mode, "writethrough")) {
        step->refuse = g_strdup_printf(_("a medium of mode '%s' cannot come in now"), mode);
        return;
    }
    if (path && strchr(path, '\n')) {
        step->refuse = g_strdup(_("its name has more than one line"));
        return;
    }
    if (is_address(medium)) {
        step->refuse = g_strdup(_("a disk of another machine comes in when this one starts"));
        return;
    }
    step->fd = path ? open(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK) : -1;
    if (step->fd < 0)
        step->refuse = g_strdup_printf(_("cannot open '%s': %s"), path ? path : medium,
                                       path ? g_strerror(errno) : error->message);
    else
        step->line = g_strdup_printf("medium %s %s %s %s", drive, *format ? format : "raw",
                                     read_only ? "ro" : "rw", path);
}

static void plan_medium(Live *live, const Machine *machine, const char *place, const char *drive)
{
    static const char *const fields[] = {"medium", "format", "mode", NULL};
    GPtrArray *names = differing(machine, place, fields);
    g_autofree char *medium = vm_tree_string(machine->config, "%s.medium", place);

    if (names && *medium)
        open_medium(add_step(live, machine, names, NULL), machine, place, drive);
    else if (names)
        add_step(live, machine, names, g_strconcat("eject ", drive, NULL));
}

static bool same_value(const Machine *machine, const char *name)
{
    g_autofree char *from = vm_tree_string(machine->started, "%s", name);
    g_autofree char *to = vm_tree_string(machine->config, "%s", name);

    return !strcmp(from, to);
}

/* Drives that are there and stay what they are. */
static void plan_drive(Live *live, const Machine *machine, const char *controller, const char *slot)
{
    g_autofree char *parent = g_strconcat("storage.", controller, NULL);
    g_autofree char *place = g_strconcat(parent, ".", slot, NULL);
    g_autofree char *parent_type = g_strconcat(parent, ".type", NULL);
    g_autofree char *place_type = g_strconcat(place, ".type", NULL);
    g_autofree char *drive = NULL, *type = NULL, *bus = NULL;

    if (!vm_tree_has(machine->started, place) || !same_value(machine, parent_type) ||
        !same_value(machine, place_type))
        return;
    bus = vm_tree_string(machine->config, "%s", parent_type);
    type = vm_tree_string(machine->config, "%s", place_type);
    drive = g_strconcat(bus, " ", slot, NULL);
    plan_throttle(live, machine, place, drive);
    if (strcmp(type, "disk"))
        plan_medium(live, machine, place, drive);
}

static void plan(Live *live, const Machine *machine)
{
    g_auto(GStrv) controllers = vm_tree_keys(machine->config, "storage");

    plan_engine(live, machine);
    plan_limits(live, machine);
    for (char **c = controllers; *c; c++) {
        g_auto(GStrv) slots = vm_tree_keys(machine->config, "storage.%s", *c);
        g_autofree char *parent = g_strconcat("storage.", *c, NULL);
        for (char **slot = slots; vm_tree_has(machine->started, parent) && *slot; slot++)
            plan_drive(live, machine, *c, *slot);
    }
}

/* ---- doing it -------------------------------------------------------------------------------- */

static void next(Live *live);

/* NULL: it was deleted, or is off by now. */
static Machine *find_running(const Live *live)
{
    Machine *machine = registry_find(live->registry, live->uuid, NULL);

    return machine && machine->started && machine->process ? machine : NULL;
}

static void finish(Live *live)
{
    live->done(live->obj, registry_find(live->registry, live->uuid, NULL), live->refused);
    g_queue_clear_full(&live->steps, step_free);
    g_hash_table_unref(live->refused);
    g_free(live->uuid);
    g_free(live);
}

static void refuse(Live *live, const Step *step, const char *why)
{
    for (guint i = 0; i < step->names->len; i++)
        g_hash_table_insert(live->refused, g_strdup(step->names->pdata[i]), g_strdup(why));
}

/* Its process has these values now, whatever was set meanwhile. */
static void keep(Machine *machine, const Step *step)
{
    g_autofree char *text = NULL;

    for (guint i = 0; i < step->names->len; i++)
        vm_tree_set(machine->started, step->names->pdata[i], step->values->pdata[i], NULL);
    text = vm_tree_text(machine->started, NULL);
    process_keep_config(machine->process, text);
}

static void on_step_answer(void *obj, const char *answer, const GError *error)
{
    Live *live = obj;
    Step *step = g_queue_pop_head(&live->steps);
    Machine *machine = find_running(live);

    if (error)
        refuse(live, step, error->message);
    else if (machine)
        keep(machine, step);
    step_free(step);
    next(live);
}

static void next(Live *live)
{
    Step *step = g_queue_peek_head(&live->steps);
    Machine *machine = find_running(live);

    while (step && step->refuse) {
        refuse(live, step, step->refuse);
        step_free(g_queue_pop_head(&live->steps));
        step = g_queue_peek_head(&live->steps);
    }
    if (step && machine)
        process_ask_with(machine->process, step->line, step->fd, on_step_answer, live);
    else
        finish(live);
}

void live_apply(Registry *registry, Machine *machine, LiveDone done, void *obj)
{
    Live *live = g_new0(Live, 1);
    bool can = machine->state == MACHINE_RUNNING || machine->state == MACHINE_PAUSED;

    live->registry = registry;
    live->uuid = g_strdup(machine->uuid);
    live->done = done;
    live->obj = obj;
    live->refused = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    g_queue_init(&live->steps);
    if (can && machine->config && machine->started)
        plan(live, machine);
    next(live);
}
