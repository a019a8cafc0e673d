/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Making a machine from elsewhere one that this version can start; see build.h. */
#include <string.h>

#include "base/i18n.h"
#include "vm/build.h"

#define ROUNDS_MAX 8

typedef struct Reducer {
    VmConfig *config;
    GPtrArray *report;
} Reducer;

static void G_GNUC_PRINTF(2, 3) say(const Reducer *r, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_ptr_array_add(r->report, g_strdup_vprintf(format, args));
    va_end(args);
}

/* ---- drives ---------------------------------------------------------------------------------- */

/* The IDE controller that takes them; made where there is none. */
static char *ide_controller(const Reducer *r)
{
    g_auto(GStrv) names = vm_tree_keys(r->config, "storage");

    for (char **name = names; *name; name++) {
        g_autofree char *type = vm_tree_string(r->config, "storage.%s.type", *name);
        if (!strcmp(type, "ide"))
            return g_strdup(*name);
    }
    vm_tree_set(r->config, "storage.ide0.type", "ide", NULL);
    return g_strdup("ide0");
}

/* Hard disks come first where firmware looks first, CD-ROMs where they usually are. NULL: full. */
static char *free_place(const Reducer *r, const char *type)
{
    static const unsigned disks[] = {0, 1, 3, 2}, discs[] = {2, 3, 1, 0};
    const unsigned *slots = strcmp(type, "cdrom") ? disks : discs;
    g_autofree char *ide = ide_controller(r);

    for (unsigned i = 0; i < 4; i++) {
        g_autofree char *place = g_strdup_printf("storage.%s.%u", ide, slots[i]);
        if (!vm_tree_has(r->config, place))
            return g_steal_pointer(&place);
    }
    return NULL;
}

static void move_drive(const Reducer *r, const char *from, const char *kind)
{
    static const char *const fields[] = {"type",      "medium",         "format",        "key-file",
                                         "mode",      "on-write-error", "on-read-error", "iops",
                                         "bandwidth", "difference",     "trust-backing"};
    g_autofree char *type = vm_tree_string(r->config, "%s.type", from);
    g_autofree char *medium = vm_tree_string(r->config, "%s.medium", from);
    g_autofree char *what = g_strconcat(type, *medium ? " " : "", medium, NULL);
    g_autofree char *to = strcmp(type, "floppy") ? free_place(r, type) : NULL;

    if (!to)
        say(r,
            _("%s (%s) is left out: this version has no '%s' controllers, and no place is free "
              "on its IDE controller"),
            from, what, kind);
    else
        say(r, _("%s (%s) is at %s now: this version has no '%s' controllers"), from, what, to,
            kind);
    for (unsigned i = 0; to && i < G_N_ELEMENTS(fields); i++) {
        g_autofree char *old = g_strdup_printf("%s.%s", from, fields[i]);
        g_autofree char *new = g_strdup_printf("%s.%s", to, fields[i]);
        g_autofree char *value =
            vm_tree_has(r->config, old) ? vm_tree_string(r->config, "%s", old) : NULL;
        if (value)
            vm_tree_set(r->config, new, value, NULL);
    }
}

/* Hard disks go first: without its CD-ROM drive a machine still boots. */
static void move_controller(const Reducer *r, const char *controller)
{
    static const char *const order[] = {"disk", "cdrom", "floppy"};
    g_autofree char *kind = vm_tree_string(r->config, "storage.%s.type", controller);
    g_autofree char *path = g_strconcat("storage.", controller, NULL);
    g_auto(GStrv) slots = vm_tree_keys(r->config, "storage.%s", controller);

    for (unsigned i = 0; i < G_N_ELEMENTS(order); i++) {
        for (char **slot = slots; *slot; slot++) {
            g_autofree char *place = g_strdup_printf("%s.%s", path, *slot);
            g_autofree char *type = vm_tree_string(r->config, "%s.type", place);
            if (!strcmp(type, order[i]))
                move_drive(r, place, kind);
        }
    }
    vm_tree_remove(r->config, path, NULL);
}

/* ---- all else -------------------------------------------------------------------------------- */

static void say_forwards(const Reducer *r, const char *adapter)
{
    g_auto(GStrv) names = vm_tree_keys(r->config, "%s.forward", adapter);

    for (char **name = names; *name; name++)
        say(r,
            _("port forwarding '%s' (host port %u to guest port %u) is left out with its network "
              "adapter"),
            *name, (unsigned)vm_tree_number(r->config, "%s.forward.%s.host-port", adapter, *name),
            (unsigned)vm_tree_number(r->config, "%s.forward.%s.guest-port", adapter, *name));
}

/* What must not be forgotten of a setting that goes (new). */
static char *known_of(const Reducer *r, const char *path)
{
    static const struct {
        const char *prefix, *field;
    } kinds[] = {
        {"network.", ".mac"}, {"shared.", ".path"}, {"display.vnc", ""}, {"display.rdp", ""}};

    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        if (g_str_has_prefix(path, kinds[i].prefix))
            return vm_tree_string(r->config, "%s%s", path, kinds[i].field);
    }
    return g_strdup("");
}

/* "PATH: why; what to do" becomes a report of what was done. */
static void take_out(const Reducer *r, const char *line, const char *path)
{
    const char *hint = g_strrstr(line, "; ");
    g_autofree char *why = hint ? g_strndup(line, (gsize)(hint - line)) : g_strdup(line);
    g_autofree char *known = known_of(r, path);

    if (g_str_has_prefix(path, "network."))
        say_forwards(r, path);
    if (!vm_tree_remove(r->config, path, NULL))
        vm_tree_set(r->config, path, NULL, NULL);
    if (*known && g_str_has_prefix(path, "network."))
        say(r, _("%s; left out (its address was %s)"), why, known);
    else if (*known)
        say(r, _("%s; left out (it was %s)"), why, known);
    else
        say(r, _("%s; left out"), why);
    if (!strcmp(path, "system.firmware"))
        say(r,
            _("a system that was installed for UEFI alone does not start from its disk with a "
              "BIOS; boot its kernel directly (kernel.file), or install a boot loader for BIOS"));
}

static void reduce(const Reducer *r, const char *line)
{
    g_autofree char *path = g_strndup(line, strcspn(line, ":"));
    g_auto(GStrv) words = g_strsplit(path, ".", -1);
    bool storage = !strcmp(words[0], "storage") && words[1];

    if (storage && (!words[2] || !strcmp(words[2], "type")))
        move_controller(r, words[1]);
    else
        take_out(r, line, path);
}

void vm_build_reduce(VmConfig *config, GPtrArray *report)
{
    Reducer r = {config, report};

    for (unsigned round = 0; round < ROUNDS_MAX; round++) {
        g_autoptr(GPtrArray) missing = vm_build_missing(config);
        if (!missing->len)
            return;
        for (guint i = 0; i < missing->len; i++)
            reduce(&r, missing->pdata[i]);
    }
}
